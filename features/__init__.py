"""Schema and features: what an application is, and how it becomes numbers."""
