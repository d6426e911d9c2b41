"""Settings, schema and deployment files."""
