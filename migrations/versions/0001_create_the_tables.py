"""Create the tables.

Revision 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fxcast.adapters.storage import types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "engine_states",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("saved_at", types.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("engine_id", name="pk_engine_states"),
    )
    op.create_table(
        "ldm4ts_inference_metrics",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("minute", types.UtcDateTime(), nullable=False),
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("average_ms", sa.Double(), nullable=True),
        sa.Column("p50_ms", sa.Double(), nullable=True),
        sa.Column("p95_ms", sa.Double(), nullable=True),
        sa.Column("p99_ms", sa.Double(), nullable=True),
        sa.Column("max_ms", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ldm4ts_inference_metrics"),
        sa.UniqueConstraint("minute", "model_version", "replica", name="uq_ldm4ts_inference_metrics"),
    )
    op.create_index("ix_ldm4ts_inference_metrics_version", "ldm4ts_inference_metrics", ["model_version", "minute"])
    op.create_table(
        "ldm4ts_model_metadata",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("preset", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("data_hash", sa.String(length=128), nullable=False),
        sa.Column("data_start", types.UtcDateTime(), nullable=False),
        sa.Column("data_end", types.UtcDateTime(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ldm4ts_model_metadata"),
        sa.UniqueConstraint("version", name="uq_ldm4ts_model_metadata"),
    )
    op.create_index(
        "ix_ldm4ts_model_metadata_active",
        "ldm4ts_model_metadata",
        ["symbol", "timeframe"],
        unique=True,
        sqlite_where=sa.text("is_active"),
        postgresql_where=sa.text("is_active"),
    )
    op.create_index("ix_ldm4ts_model_metadata_created_at", "ldm4ts_model_metadata", ["created_at"])
    op.create_table(
        "ldm4ts_predictions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("made_at", types.UtcDateTime(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("std", sa.Double(), nullable=False),
        sa.Column("q05", sa.Double(), nullable=False),
        sa.Column("q50", sa.Double(), nullable=False),
        sa.Column("q95", sa.Double(), nullable=False),
        sa.Column("samples", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("uncertainty_pct", sa.Double(), nullable=False),
        sa.Column("inference_time_ms", sa.Double(), nullable=False),
        sa.Column("num_samples", sa.Integer(), nullable=False),
        sa.Column("model_version", sa.String(length=128), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("target_at", types.UtcDateTime(), nullable=True),
        sa.Column("actual_price", sa.Double(), nullable=True),
        sa.Column("error", sa.Double(), nullable=True),
        sa.Column("absolute_error", sa.Double(), nullable=True),
        sa.Column("inside_90", sa.Boolean(), nullable=True),
        sa.Column("direction_right", sa.Boolean(), nullable=True),
        sa.Column("resolved_at", types.UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ldm4ts_predictions"),
        sa.UniqueConstraint(
            "symbol", "timeframe", "made_at", "horizon_minutes", "model_version", "num_samples", name="uq_ldm4ts_predictions"
        ),
    )
    op.create_index("ix_ldm4ts_predictions_made_at", "ldm4ts_predictions", ["made_at"])
    op.create_index("ix_ldm4ts_predictions_model_version", "ldm4ts_predictions", ["model_version", "made_at"])
    op.create_index("ix_ldm4ts_predictions_resolved_at", "ldm4ts_predictions", ["resolved_at", "symbol", "timeframe"])
    op.create_index("ix_ldm4ts_predictions_symbol_horizon", "ldm4ts_predictions", ["symbol", "horizon_minutes", "made_at"])
    op.create_table(
        "equity",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("balance", types.ExactDecimal(), nullable=False),
        sa.Column("open_profit", types.ExactDecimal(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_equity_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "at", name="pk_equity"),
    )
    op.create_table(
        "fills",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client_order_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("units", types.ExactDecimal(), nullable=False),
        sa.Column("price", types.ExactDecimal(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("profit", types.ExactDecimal(), nullable=False),
        sa.Column("filled_at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_fills_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "sequence", name="pk_fills"),
    )
    op.create_table(
        "orders",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("client_order_id", sa.String(length=128), nullable=False),
        sa.Column("signal_id", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("units", types.ExactDecimal(), nullable=False),
        sa.Column("purpose", sa.String(length=8), nullable=False),
        sa.Column("stop", types.ExactDecimal(), nullable=True),
        sa.Column("target", types.ExactDecimal(), nullable=True),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("place_in_batch", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("broker_order_id", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_orders_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "client_order_id", name="pk_orders"),
    )
    op.create_index("ix_orders_status", "orders", ["engine_id", "status"])
    op.create_table(
        "positions",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("client_order_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("units", types.ExactDecimal(), nullable=False),
        sa.Column("entry_price", types.ExactDecimal(), nullable=False),
        sa.Column("stop", types.ExactDecimal(), nullable=False),
        sa.Column("target", types.ExactDecimal(), nullable=True),
        sa.Column("opened_at", types.UtcDateTime(), nullable=False),
        sa.Column("closed_at", types.UtcDateTime(), nullable=True),
        sa.Column("exit_price", types.ExactDecimal(), nullable=True),
        sa.Column("profit", types.ExactDecimal(), nullable=True),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_positions_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "client_order_id", name="pk_positions"),
    )
    op.create_table(
        "signals",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("signal_id", sa.String(length=64), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("made_at", types.UtcDateTime(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("stop", sa.Double(), nullable=False),
        sa.Column("target", sa.Double(), nullable=False),
        sa.Column("uncertainty_pct", sa.Double(), nullable=True),
        sa.Column("regime", sa.String(length=16), nullable=False),
        sa.Column("quality_consistency", sa.Double(), nullable=False),
        sa.Column("quality_confirmation", sa.Double(), nullable=False),
        sa.Column("quality_strength", sa.Double(), nullable=False),
        sa.Column("quality_timing", sa.Double(), nullable=False),
        sa.Column("quality_risk_reward", sa.Double(), nullable=False),
        sa.Column("quality_regime_alignment", sa.Double(), nullable=False),
        sa.Column("quality_weighted_mean", sa.Double(), nullable=False),
        sa.Column("quality_uncertainty_penalty", sa.Double(), nullable=False),
        sa.Column("quality_total", sa.Double(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("base_units", types.ExactDecimal(), nullable=False),
        sa.Column("units", types.ExactDecimal(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_signals_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "signal_id", name="pk_signals"),
    )


def downgrade() -> None:
    op.drop_table("signals")
    op.drop_table("positions")
    op.drop_index("ix_orders_status", table_name="orders")
    op.drop_table("orders")
    op.drop_table("fills")
    op.drop_table("equity")
    op.drop_index("ix_ldm4ts_predictions_symbol_horizon", table_name="ldm4ts_predictions")
    op.drop_index("ix_ldm4ts_predictions_resolved_at", table_name="ldm4ts_predictions")
    op.drop_index("ix_ldm4ts_predictions_model_version", table_name="ldm4ts_predictions")
    op.drop_index("ix_ldm4ts_predictions_made_at", table_name="ldm4ts_predictions")
    op.drop_table("ldm4ts_predictions")
    op.drop_index("ix_ldm4ts_model_metadata_created_at", table_name="ldm4ts_model_metadata")
    op.drop_index("ix_ldm4ts_model_metadata_active", table_name="ldm4ts_model_metadata")
    op.drop_table("ldm4ts_model_metadata")
    op.drop_index("ix_ldm4ts_inference_metrics_version", table_name="ldm4ts_inference_metrics")
    op.drop_table("ldm4ts_inference_metrics")
    op.drop_table("engine_states")
