"""Telling people about runs: one module per way to reach them."""
