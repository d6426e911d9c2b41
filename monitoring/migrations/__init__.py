"""Migrations of the store's tables, run by Alembic; `monitoring.store.upgrade` starts them."""
