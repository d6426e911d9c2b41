"""Decisions, their log lines, their outcomes, and how far each log has been shipped."""

import sqlalchemy as sa
from alembic import op

from monitoring.store.tables import IDENTIFIER, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "decisions",
        sa.Column("prediction_id", IDENTIFIER, primary_key=True),
        sa.Column("time", UtcTime, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("threshold", sa.Double, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("risk_level", sa.Text, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Index("decisions_of_client", "client_id", "time"),
        sa.Index("decisions_by_time", "time"),
    )
    op.create_table(
        "records",
        sa.Column("prediction_id", IDENTIFIER, sa.ForeignKey("decisions.prediction_id"), primary_key=True),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "outcomes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("prediction_id", IDENTIFIER, sa.ForeignKey("decisions.prediction_id"), nullable=False),
        sa.Column("defaulted", sa.Boolean, nullable=False),
        sa.Column("observed_at", UtcTime, nullable=False),
        sa.Column("received_at", UtcTime, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Index("outcomes_of_decision", "prediction_id", "id"),
    )
    op.create_table(
        "shipping",
        sa.Column("log", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
    )
