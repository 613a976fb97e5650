"""Parts of the export of models."""
