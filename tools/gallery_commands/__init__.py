"""The commands of tools/gallery.py."""
