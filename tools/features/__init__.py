"""What the tools for feature files share."""
