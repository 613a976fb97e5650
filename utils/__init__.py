"""Plumbing that knows nothing of re-identification: files, logging, seeds, meters."""
