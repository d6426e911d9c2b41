"""Changes to uvicorn's connections: accept many at once, enforce size limits and timeouts, refuse early under overload."""
