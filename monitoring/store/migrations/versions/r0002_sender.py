"""The name of the model and the sender of each decision. Decisions from before have neither."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("decisions", sa.Column("model_name", sa.Text))
    op.add_column("decisions", sa.Column("sender", sa.Text))
