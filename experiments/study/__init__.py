"""What happens in runs: whether they converge as the theory says, and what their messages cost."""
