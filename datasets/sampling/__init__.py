"""Samplers: the order of the images of an epoch, and its batches."""
