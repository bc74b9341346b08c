"""Graphs: readers, splits, and features multiplied by powers of the normalised adjacency."""
