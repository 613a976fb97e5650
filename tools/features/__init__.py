"""Shared parts of the tools for feature files."""
