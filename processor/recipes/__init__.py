"""The stages of each method."""
