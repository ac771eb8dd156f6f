"""Add searches with their trials and folds, and what was promoted from them.

Revision 0006, after 0005. Optuna's own tables are none of ours: `adapters.storage.studies` makes them when a search begins.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fxcast.adapters.storage import types

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tuning_runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("begun_at", types.UtcDateTime(), nullable=False),
        sa.Column("symbols", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=True),
        sa.Column("searcher", sa.String(length=32), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("start", types.UtcDateTime(), nullable=False),
        sa.Column("stop", types.UtcDateTime(), nullable=False),
        sa.Column("hold_out_start", types.UtcDateTime(), nullable=False),
        sa.Column("hold_out_stop", types.UtcDateTime(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("data_hash", sa.String(length=128), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("code_version", sa.String(length=128), nullable=False),
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("finished_at", types.UtcDateTime(), nullable=True),
        sa.Column("winner", sa.Integer(), nullable=True),
        sa.Column("winner_values", sa.Text(), nullable=True),
        sa.Column("promotes", sa.Boolean(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("hold_out_sharpe", sa.Double(), nullable=True),
        sa.Column("default_hold_out_sharpe", sa.Double(), nullable=True),
        sa.Column("deflated_sharpe", sa.Double(), nullable=True),
        sa.Column("overfitting_probability", sa.Double(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.Column("report_folder", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["settings_hash"], ["engine_settings.settings_hash"], name="fk_tuning_runs_settings_hash"),
        sa.PrimaryKeyConstraint("id", name="pk_tuning_runs"),
        sa.UniqueConstraint("name", name="uq_tuning_runs"),
    )
    op.create_index("ix_tuning_runs_market", "tuning_runs", ["symbols", "timeframe"])
    op.create_table(
        "tuning_trials",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("sharpe", sa.Double(), nullable=True),
        sa.Column("max_drawdown", sa.Double(), nullable=True),
        sa.Column("total_return", sa.Double(), nullable=True),
        sa.Column("trades", sa.Integer(), nullable=True),
        sa.Column("crps_skill", sa.Double(), nullable=True),
        sa.Column("coverage", sa.Double(), nullable=True),
        sa.Column("coverage_error", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("began_at", types.UtcDateTime(), nullable=False),
        sa.Column("finished_at", types.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["tuning_runs.id"], name="fk_tuning_trials_run_id"),
        sa.PrimaryKeyConstraint("run_id", "kind", "number", name="pk_tuning_trials"),
    )
    op.create_table(
        "tuning_folds",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fold", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trades", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("horizons", sa.Text(), nullable=False),
        sa.Column("days", sa.LargeBinary(), nullable=False),
        sa.Column("returns", sa.LargeBinary(), nullable=False),
        sa.Column("lows", sa.LargeBinary(), nullable=False),
        sa.Column("highs", sa.LargeBinary(), nullable=False),
        sa.Column("falls", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "kind", "number"],
            ["tuning_trials.run_id", "tuning_trials.kind", "tuning_trials.number"],
            name="fk_tuning_folds_run_id",
        ),
        sa.PrimaryKeyConstraint("run_id", "kind", "number", "fold", name="pk_tuning_folds"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("run_name", sa.Text(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("values", sa.Text(), nullable=False),
        sa.Column("promoted_at", types.UtcDateTime(), nullable=False),
        sa.Column("retired_at", types.UtcDateTime(), nullable=True),
        sa.Column("guard_passed", sa.Boolean(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("rolled_back_by", sa.Text(), nullable=True),
        sa.Column("rolled_back_because", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["tuning_runs.id"], name="fk_promotions_run_id"),
        sa.ForeignKeyConstraint(["restores"], ["promotions.id"], name="fk_promotions_restores"),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )
    op.create_index(
        "ix_promotions_active",
        "promotions",
        ["symbol", "timeframe", "regime"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_promotions_active", table_name="promotions")
    op.drop_table("promotions")
    op.drop_table("tuning_folds")
    op.drop_table("tuning_trials")
    op.drop_index("ix_tuning_runs_market", table_name="tuning_runs")
    op.drop_table("tuning_runs")
