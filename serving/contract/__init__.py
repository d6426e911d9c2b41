"""The JSON of the HTTP contract: bytes to rows, and rows with their scores to answers and records."""
