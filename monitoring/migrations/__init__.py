"""Migrations of the store's tables, run by Alembic; `monitoring.database.upgrade` starts them."""
