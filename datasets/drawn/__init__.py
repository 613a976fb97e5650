"""Drawn people: a data set that needs no download."""
