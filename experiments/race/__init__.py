"""Seconds to an accuracy: sweeps, back-propagation and Algorithm 1, on one process and several."""
