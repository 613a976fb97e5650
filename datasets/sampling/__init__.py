"""Which images come in which order, and how they form batches."""
