"""Add backtests with their trades, and walk-forwards with their folds.

Revision 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fxcast.adapters.storage import types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "walk_forwards",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("begun_at", types.UtcDateTime(), nullable=False),
        sa.Column("symbols", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("start", types.UtcDateTime(), nullable=False),
        sa.Column("stop", types.UtcDateTime(), nullable=False),
        sa.Column("scheme", sa.String(length=16), nullable=False),
        sa.Column("data_hash", sa.String(length=128), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("code_version", sa.String(length=128), nullable=False),
        sa.Column("finished_at", types.UtcDateTime(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=True),
        sa.Column("report_folder", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["settings_hash"], ["engine_settings.settings_hash"], name="fk_walk_forwards_settings_hash"),
        sa.PrimaryKeyConstraint("id", name="pk_walk_forwards"),
    )
    op.create_table(
        "backtests",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("walk_forward_id", sa.String(length=64), nullable=True),
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_benchmark", sa.Boolean(), nullable=False),
        sa.Column("made_at", types.UtcDateTime(), nullable=False),
        sa.Column("symbols", sa.Text(), nullable=False),
        sa.Column("timeframe", sa.String(length=8), nullable=False),
        sa.Column("start", types.UtcDateTime(), nullable=False),
        sa.Column("stop", types.UtcDateTime(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("model_hash", sa.Text(), nullable=True),
        sa.Column("seen_by_model", sa.Boolean(), nullable=False),
        sa.Column("data_hash", sa.String(length=128), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("code_version", sa.String(length=128), nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("starting_balance", types.ExactDecimal(), nullable=False),
        sa.Column("candles", sa.Integer(), nullable=False),
        sa.Column("trades", sa.Integer(), nullable=False),
        sa.Column("open_positions", sa.Integer(), nullable=False),
        sa.Column("net_profit", sa.Double(), nullable=False),
        sa.Column("total_return", sa.Double(), nullable=False),
        sa.Column("costs", sa.Double(), nullable=False),
        sa.Column("cagr", sa.Double(), nullable=True),
        sa.Column("sharpe", sa.Double(), nullable=True),
        sa.Column("daily_sharpe", sa.Double(), nullable=True),
        sa.Column("sortino", sa.Double(), nullable=True),
        sa.Column("calmar", sa.Double(), nullable=True),
        sa.Column("max_drawdown", sa.Double(), nullable=True),
        sa.Column("max_drawdown_days", sa.Double(), nullable=False),
        sa.Column("win_rate", sa.Double(), nullable=True),
        sa.Column("profit_factor", sa.Double(), nullable=True),
        sa.Column("expectancy", sa.Double(), nullable=True),
        sa.Column("turnover", sa.Double(), nullable=False),
        sa.Column("exposure", sa.Double(), nullable=False),
        sa.Column("probabilistic_sharpe", sa.Double(), nullable=True),
        sa.Column("deflated_sharpe", sa.Double(), nullable=True),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("report_folder", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["walk_forward_id"], ["walk_forwards.id"], name="fk_backtests_walk_forward_id"),
        sa.ForeignKeyConstraint(["settings_hash"], ["engine_settings.settings_hash"], name="fk_backtests_settings_hash"),
        sa.PrimaryKeyConstraint("id", name="pk_backtests"),
    )
    op.create_index("ix_backtests_market", "backtests", ["symbols", "timeframe"])
    op.create_table(
        "backtest_trades",
        sa.Column("backtest_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("units", types.ExactDecimal(), nullable=False),
        sa.Column("base_units", types.ExactDecimal(), nullable=False),
        sa.Column("opened_at", types.UtcDateTime(), nullable=False),
        sa.Column("closed_at", types.UtcDateTime(), nullable=False),
        sa.Column("entry_price", types.ExactDecimal(), nullable=False),
        sa.Column("exit_price", types.ExactDecimal(), nullable=False),
        sa.Column("exit_reason", sa.String(length=16), nullable=False),
        sa.Column("profit", types.ExactDecimal(), nullable=False),
        sa.Column("commission", types.ExactDecimal(), nullable=False),
        sa.Column("financing", types.ExactDecimal(), nullable=False),
        sa.Column("spread_cost", types.ExactDecimal(), nullable=False),
        sa.Column("slippage_cost", types.ExactDecimal(), nullable=False),
        sa.Column("risk", types.ExactDecimal(), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("signal_made_at", types.UtcDateTime(), nullable=False),
        sa.Column("horizon_minutes", sa.Integer(), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("signal_price", sa.Double(), nullable=False),
        sa.Column("signal_stop", sa.Double(), nullable=False),
        sa.Column("signal_target", sa.Double(), nullable=False),
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
        sa.Column("quality_weights", sa.JSON(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["backtest_id"], ["backtests.id"], name="fk_backtest_trades_backtest_id"),
        sa.PrimaryKeyConstraint("backtest_id", "number", name="pk_backtest_trades"),
    )
    op.create_table(
        "walk_forward_folds",
        sa.Column("walk_forward_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("train_start", types.UtcDateTime(), nullable=False),
        sa.Column("train_stop", types.UtcDateTime(), nullable=False),
        sa.Column("validation_start", types.UtcDateTime(), nullable=False),
        sa.Column("validation_stop", types.UtcDateTime(), nullable=False),
        sa.Column("test_start", types.UtcDateTime(), nullable=False),
        sa.Column("test_stop", types.UtcDateTime(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("backtest_id", sa.String(length=64), nullable=True),
        sa.Column("measures", sa.Text(), nullable=True),
        sa.Column("started_at", types.UtcDateTime(), nullable=True),
        sa.Column("finished_at", types.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["walk_forward_id"], ["walk_forwards.id"], name="fk_walk_forward_folds_walk_forward_id"),
        sa.ForeignKeyConstraint(["backtest_id"], ["backtests.id"], name="fk_walk_forward_folds_backtest_id"),
        sa.PrimaryKeyConstraint("walk_forward_id", "number", name="pk_walk_forward_folds"),
    )


def downgrade() -> None:
    op.drop_table("walk_forward_folds")
    op.drop_table("backtest_trades")
    op.drop_index("ix_backtests_market", table_name="backtests")
    op.drop_table("backtests")
    op.drop_table("walk_forwards")
