"""Migrations of the store's tables, run by Alembic; `monitoring.store.database.upgrade` starts it."""
