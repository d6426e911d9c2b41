"""The answers that were given under an idempotency key."""

import sqlalchemy as sa
from alembic import op

from monitoring.store.tables import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "answers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("time", UtcTime, nullable=False),
        sa.Column("log", sa.Text),
        sa.Column("prediction_ids", sa.Text, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Index("answers_by_time", "time"),
    )
