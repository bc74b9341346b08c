"""Algorithms as adaptors of one training loop, whoever trains: a command, a comparison, a study."""
