"""Performance: how good the decisions were, realised and estimated."""
