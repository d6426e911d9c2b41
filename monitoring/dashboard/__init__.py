"""The dashboard: signing in, and pages that ask the API."""
