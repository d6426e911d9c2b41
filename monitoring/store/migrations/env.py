"""Alembic's script: it runs the revisions in the transaction of the connection that `monitoring.store.database.upgrade` passes."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
