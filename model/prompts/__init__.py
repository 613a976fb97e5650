"""Prompts: text as embeddings that learn."""
