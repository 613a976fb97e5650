"""From image files to the pixels that a tower gets."""
