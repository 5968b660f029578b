"""Tasks that do something, one module per system."""
