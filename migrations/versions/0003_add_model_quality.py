"""Add the rolling quality of served models, with their online calibration.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fxcast.adapters.storage import types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ldm4ts_model_quality",
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("as_of", types.UtcDateTime(), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.Column("forecasts", sa.Integer(), nullable=False),
        sa.Column("coverage_90", sa.Double(), nullable=False),
        sa.Column("crps_pips", sa.Double(), nullable=True),
        sa.Column("pinball_pips", sa.Double(), nullable=False),
        sa.Column("mae_ratio", sa.Double(), nullable=True),
        sa.Column("direction_windows", sa.Integer(), nullable=False),
        sa.Column("direction_right", sa.Double(), nullable=True),
        sa.Column("log_width", sa.Double(), nullable=False),
        sa.Column("learned_until", types.UtcDateTime(), nullable=True),
        sa.Column("outcomes_learned", sa.Integer(), nullable=False),
        sa.Column("delay", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model_version", "symbol", "timeframe", "horizon_minutes", "as_of", name="pk_ldm4ts_model_quality"),
    )


def downgrade() -> None:
    op.drop_table("ldm4ts_model_quality")
