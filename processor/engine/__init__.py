"""The training loop; it knows no method and no configuration."""
