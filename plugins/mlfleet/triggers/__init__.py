"""What waits in the triggerer, one module per system."""
