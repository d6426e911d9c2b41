"""What Alembic runs: the revisions, within the transaction of the connection that `monitoring.store.database.upgrade` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
