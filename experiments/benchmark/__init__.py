"""Measurements of speed, of compiled programs, and of scaling."""
