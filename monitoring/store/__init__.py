"""The store: decisions and their outcomes in SQLite or PostgreSQL, and what writes them there."""
