"""The JSON of the HTTP contract: turns bytes into rows, and scored rows into answers and records."""
