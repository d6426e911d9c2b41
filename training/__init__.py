"""From tables to a bundle in the model store."""
