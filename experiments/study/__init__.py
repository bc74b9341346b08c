"""Methods side by side, and runs against the theory: the figures and tables of the paper."""
