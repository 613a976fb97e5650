"""Readers for files of unknown origin: nothing in them is executed."""
