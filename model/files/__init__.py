"""Weight files: reading, checking and describing them."""
