"""Distance thresholds: which distance means the same identity."""
