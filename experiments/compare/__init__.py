"""Methods side by side on the same data: tuning, trials, curves and tables."""
