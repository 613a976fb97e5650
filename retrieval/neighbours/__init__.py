"""Neighbours of features: re-ranking, Jaccard distance, clusters."""
