"""Record everything the engine does: explanations, changes of protection, interest, risk events and decisions; and who trades.

Revision 0004, after 0003.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from fxcast.adapters.storage import types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What the scorer weighed the dimensions with before weights could be set: the rows that are there were made with these.
_WEIGHTS_BEFORE = {
    "trending": (0.15, 0.25, 0.20, 0.10, 0.10, 0.20),
    "ranging": (0.15, 0.10, 0.15, 0.15, 0.25, 0.20),
    "volatile": (0.25, 0.15, 0.10, 0.25, 0.15, 0.10),
}


def upgrade() -> None:
    op.add_column("signals", sa.Column("quality_weights", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
    op.add_column("signals", sa.Column("explanation", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
    op.add_column("signals", sa.Column("arithmetic", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
    for regime, weights in _WEIGHTS_BEFORE.items():
        op.execute(f"UPDATE signals SET quality_weights = '{json.dumps(weights)}' WHERE regime = '{regime}'")  # noqa: S608 (constants)
    op.create_index("ix_signals_made_at", "signals", ["engine_id", "made_at"])
    op.add_column("orders", sa.Column("purpose_reason", sa.Text(), server_default="", nullable=False))
    op.add_column("fills", sa.Column("commission", types.ExactDecimal(), server_default="0", nullable=False))
    if op.get_context().dialect.name == "postgresql":  # SQLite's integers have 64 bits anyway
        op.alter_column("fills", "sequence", type_=sa.BigInteger())
    op.create_table(
        "financings",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("client_order_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("amount", types.ExactDecimal(), nullable=False),
        sa.Column("booked_at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_financings_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "sequence", name="pk_financings"),
    )
    op.create_table(
        "protection_changes",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("change_id", sa.String(length=160), nullable=False),
        sa.Column("client_order_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("stop", types.ExactDecimal(), nullable=False),
        sa.Column("target", types.ExactDecimal(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_protection_changes_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "change_id", name="pk_protection_changes"),
    )
    op.create_table(
        "risk_events",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_risk_events_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "at", "kind", "symbol", name="pk_risk_events"),
    )
    op.create_table(
        "decisions",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("symbol", sa.String(length=16), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("commands", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["engine_id"], ["engine_states.engine_id"], name="fk_decisions_engine_id"),
        sa.PrimaryKeyConstraint("engine_id", "symbol", "at", name="pk_decisions"),
    )
    op.create_index("ix_decisions_at", "decisions", ["engine_id", "at"])
    op.create_table(
        "engine_settings",
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("settings_hash", name="pk_engine_settings"),
    )
    op.create_table(
        "kill_switch_requests",
        sa.Column("engine_id", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kill_switch", sa.String(length=16), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_at", types.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("engine_id", "sequence", name="pk_kill_switch_requests"),
    )
    op.create_table(
        "engine_leases",
        sa.Column("account", sa.String(length=256), nullable=False),
        sa.Column("holder", sa.String(length=256), nullable=False),
        sa.Column("process", sa.String(length=256), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("acquired_at", types.UtcDateTime(), nullable=False),
        sa.Column("expires_at", types.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_engine_leases"),
    )


def downgrade() -> None:
    op.drop_table("engine_leases")
    op.drop_table("kill_switch_requests")
    op.drop_table("engine_settings")
    op.drop_index("ix_decisions_at", table_name="decisions")
    op.drop_table("decisions")
    op.drop_table("risk_events")
    op.drop_table("protection_changes")
    op.drop_table("financings")
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("fills", "sequence", type_=sa.Integer())
    op.drop_column("fills", "commission")
    op.drop_column("orders", "purpose_reason")
    op.drop_index("ix_signals_made_at", table_name="signals")
    op.drop_column("signals", "arithmetic")
    op.drop_column("signals", "explanation")
    op.drop_column("signals", "quality_weights")
