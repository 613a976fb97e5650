"""Which distance means the same identity."""
