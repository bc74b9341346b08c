"""Methods side by side, and the figures and tables of the paper."""
