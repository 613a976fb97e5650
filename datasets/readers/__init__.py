"""Readers: from the folder of a data set to its records."""
