"""Tasks that wait for something that somebody else started, one module per system."""
