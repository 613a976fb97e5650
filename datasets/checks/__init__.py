"""Checks of image files and labels."""
