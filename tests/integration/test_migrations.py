"""The schema: migrated, checked when a database is opened, and the same as the models."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from fxcast.adapters.storage.backtests import BacktestRecords
from fxcast.adapters.storage.database import (
    ROOT,
    alembic_config,
    make_engine,
    migrate,
    open_database,
    revision_of,
    show_url,
)
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.revision import VERSION_TABLE
from fxcast.adapters.storage.tables import SCHEMA_REVISION, Base
from fxcast.domain.order import Financing, ProtectionChange
from fxcast.domain.signal import SignalKind
from fxcast.errors import BadSetup
from fxcast.trading.ports import DecisionRecord, LedgerBatch, RiskEvent, RiskEventKind
from fxcast.trading.state import EngineState
from tests.backtest_record_factories import backtest_record, fold_record, trade_record, walk_forward_record
from tests.databases import DATABASES, new_database


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'fx.db'}"


@pytest.fixture
def database(url: str) -> Engine:
    migrate(url)
    return open_database(url)


def pragma(engine: Engine, name: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar_one()


@pytest.mark.parametrize("kind", DATABASES)
def test_the_migrated_schema_is_the_one_of_the_models(kind: str, tmp_path: Path) -> None:
    url = new_database(kind, tmp_path)
    migrate(url)
    engine = open_database(url)

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        differences = compare_metadata(context, Base.metadata)

    engine.dispose()
    assert differences == []


def test_the_comparison_notices_a_missing_column(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE fills DROP COLUMN profit"))
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        differences = compare_metadata(context, Base.metadata)

    assert [difference[0] for difference in differences] == ["add_column"]


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    heads = ScriptDirectory.from_config(alembic_config("sqlite://")).get_heads()

    assert heads == [SCHEMA_REVISION]


def test_downgrading_to_base_leaves_no_table(database: Engine, url: str) -> None:
    command.downgrade(alembic_config(url), "base")

    assert inspect(database).get_table_names() == [VERSION_TABLE]
    assert revision_of(url) is None


def test_the_three_ldm4ts_tables_have_exactly_seven_indexes(database: Engine) -> None:
    inspector = inspect(database)
    tables = ["ldm4ts_predictions", "ldm4ts_model_metadata", "ldm4ts_inference_metrics"]
    indexes = {index["name"] for table in tables for index in inspector.get_indexes(table)}

    assert indexes == {
        "ix_ldm4ts_predictions_made_at",
        "ix_ldm4ts_predictions_model_version",
        "ix_ldm4ts_predictions_symbol_horizon",
        "ix_ldm4ts_predictions_resolved_at",
        "ix_ldm4ts_model_metadata_active",
        "ix_ldm4ts_model_metadata_created_at",
        "ix_ldm4ts_inference_metrics_version",
    }


@pytest.mark.parametrize("kind", DATABASES)
def test_what_an_engine_recorded_before_0004_survives_the_upgrade_and_the_way_back(kind: str, tmp_path: Path) -> None:
    url = new_database(kind, tmp_path)
    if kind == "sqlite":
        make_engine(url).connect().close()
    command.upgrade(alembic_config(url), "0003")
    engine = make_engine(url)
    with engine.begin() as connection:
        record_at_0003(connection)

    migrate(url)

    check_what_was_recorded(SqlLedger(engine, "demo"))
    add_what_0004_can_hold(SqlLedger(engine, "demo"))

    command.downgrade(alembic_config(url), "0003")

    assert revision_of(url) == "0003"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT signal_id FROM signals ORDER BY 1")).scalars().all() == ["calm", "wild"]
        assert connection.execute(text("SELECT sequence FROM fills ORDER BY 1")).scalars().all() == [1, 2]
        assert connection.execute(text("SELECT reason FROM orders")).scalars().all() == ["at market"]

    migrate(url)

    check_what_was_recorded(SqlLedger(engine, "demo"))
    engine.dispose()


def record_at_0003(connection: Connection) -> None:
    """Write rows as the schema was then; values in the order of its columns."""
    at = "2024-03-04 12:00:00.000000"
    prices = "240, 'bull', 0.55, 1.0846, 1.0801, 1.0899, 0.12"
    quality = "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.35, 0.2, 0.28"
    verdict = "'accepted', 'within limits', '20000', '15000'"
    opinion = {"symbol": "EURUSD", "made_at": "2024-03-04T12:00:00+00:00", "horizon_minutes": 240, "direction": "bull"}
    opinion |= {"strength": 0.5, "price": 1.0846, "stop": 1.0801, "target": 1.0899}
    members = [{"source": source, **opinion} for source in ("sssd_forecast", "mean_reversion")]
    signals = f"INSERT INTO signals VALUES ('demo', :id, 'EURUSD', '{at}', {prices}, :regime, {quality}, :members, {verdict})"  # noqa: S608 (constants)
    order = f"'EURUSD', 'buy', '15000', 'open', '1.08010', NULL, '{at}', 0, 'filled', 'b-7', 'at market'"
    connection.execute(text(f"INSERT INTO engine_states VALUES ('demo', '{{}}', '{at}')"))  # noqa: S608 (constants)
    connection.execute(
        text(signals),
        [
            {"id": "calm", "regime": "ranging", "members": "[]"},
            {"id": "wild", "regime": "volatile", "members": json.dumps(members)},
        ],
    )
    connection.execute(text(f"INSERT INTO orders VALUES ('demo', 'EURUSD-open', 'wild', {order})"))  # noqa: S608 (constants)
    fill = f"1, 'EURUSD-open', 'EURUSD', 'buy', '15000', '1.08465', 'market', '0.00', '{at}'"
    connection.execute(text(f"INSERT INTO fills VALUES ('demo', {fill})"))  # noqa: S608 (constants)


def check_what_was_recorded(ledger: SqlLedger) -> None:
    calm, wild = ledger.signals()
    assert [member.kind for member in wild.signal.members] == [SignalKind.FORECAST, SignalKind.MEAN_REVERSION]
    # What the scorer weighed with then, by regime.
    assert calm.signal.quality.weights == (0.15, 0.1, 0.15, 0.15, 0.25, 0.2)
    assert wild.signal.quality.weights == (0.25, 0.15, 0.1, 0.25, 0.15, 0.1)
    assert (wild.explanation, wild.arithmetic) == ((), ())
    (order,) = ledger.orders()
    assert (order.intent.reason, order.reason) == ("", "at market")
    assert ledger.fills()[0].commission == 0
    assert str(ledger.fills()[0].price) == "1.08465"


def add_what_0004_can_hold(ledger: SqlLedger) -> None:
    noon = datetime(2024, 3, 4, 12, tzinfo=UTC)
    batch = LedgerBatch(
        changes=(
            ProtectionChange(
                change_id="EURUSD-open-p1",
                client_order_id="EURUSD-open",
                symbol="EURUSD",
                stop=Decimal("1.082"),
                target=None,
                reason="trailing stop",
                created_at=noon,
            ),
        ),
        transactions=(
            replace(ledger.fills()[0], sequence=2, commission=Decimal("0.5")),
            Financing(sequence=3, client_order_id="EURUSD-open", symbol="EURUSD", amount=Decimal(-1), booked_at=noon),
        ),
        risk_events=(RiskEvent(kind=RiskEventKind.HALT, at=noon, symbol="", detail="drawdown"),),
        decisions=(DecisionRecord(symbol="EURUSD", at=noon, settings_hash="c0ffee", inputs="{}", commands="[]"),),
    )
    ledger.commit(EngineState(), batch)
    ledger.keep_settings("c0ffee", "{}")


@pytest.mark.parametrize("kind", DATABASES)
def test_what_was_recorded_before_0005_survives_the_upgrade_and_the_way_back_which_takes_the_backtests_away(
    kind: str, tmp_path: Path
) -> None:
    url = new_database(kind, tmp_path)
    if kind == "sqlite":
        make_engine(url).connect().close()
    command.upgrade(alembic_config(url), "0004")
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO engine_settings VALUES ('c0ffee', '{}')"))
        connection.execute(text("INSERT INTO engine_states VALUES ('demo', '{}', '2024-03-04 12:00:00.000000')"))
        connection.execute(text("INSERT INTO equity VALUES ('demo', '2024-03-04 12:00:00.000000', '10000.10', '-3.20')"))

    migrate(url)

    check_equity_and_settings(engine)
    backtests = BacktestRecords(engine)
    backtest, walk_forward = replace(backtest_record(), settings_hash="c0ffee", settings="{}"), walk_forward_record()
    backtests.save(backtest, [trade_record()])
    backtests.begin(walk_forward, [fold_record()])
    assert backtests.backtests() == (backtest,)

    command.downgrade(alembic_config(url), "0004")

    assert revision_of(url) == "0004"
    check_equity_and_settings(engine)
    assert not {"backtests", "backtest_trades", "walk_forwards", "walk_forward_folds"} & set(inspect(engine).get_table_names())

    migrate(url)

    check_equity_and_settings(engine)
    assert backtests.backtests() == backtests.trades_of(backtest.id) == backtests.folds(walk_forward.id) == ()
    engine.dispose()


def check_equity_and_settings(engine: Engine) -> None:
    ledger = SqlLedger(engine, "demo")
    (point,) = ledger.equity_curve()
    assert (str(point.balance), str(point.open_profit), ledger.settings("c0ffee")) == ("10000.10", "-3.20", "{}")


def test_migrating_again_changes_nothing(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO engine_states VALUES ('demo', '{}', '2024-03-01 00:00:00.000000')"))

    migrate(url)

    with database.connect() as connection:
        assert connection.execute(text("SELECT engine_id FROM engine_states")).scalars().all() == ["demo"]


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str) -> None:
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE signals (mine TEXT)"))  # created last by the migration

    with pytest.raises(OperationalError, match="signals already exists"):
        migrate(url)

    assert inspect(engine).get_table_names() == ["signals"]


def test_sqlite_is_opened_with_wal_foreign_keys_and_patience(database: Engine) -> None:
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "synchronous") == 1  # NORMAL
    assert pragma(database, "busy_timeout") == 10_000


def test_an_outdated_database_is_refused_with_its_revision_and_the_command(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE fxcast_version SET version_num = '0000'"))

    with pytest.raises(BadSetup) as refusal:
        open_database(url)

    assert str(refusal.value) == (
        f"database {url}: found schema revision 0000, expected {SCHEMA_REVISION}; mend it with "
        f"`python -m jobs.migrate --database-url {url}` or `FXCAST_DATABASE_URL={url} alembic upgrade head`"
    )


def test_a_database_without_a_schema_is_refused(url: str) -> None:
    with make_engine(url).connect() as connection:
        connection.execute(text("SELECT 1"))

    with pytest.raises(BadSetup, match=rf"found no schema revision, expected {SCHEMA_REVISION}; .*jobs\.migrate"):
        open_database(url)


def test_a_database_newer_than_the_code_is_refused_and_not_migrated(database: Engine, url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE fxcast_version SET version_num = '9999'"))

    for attempt in (open_database, migrate):
        with pytest.raises(BadSetup, match=r"found schema revision 9999.*this fxcast is older than the database"):
            attempt(url)


def test_opening_a_missing_file_is_refused_and_does_not_create_it(tmp_path: Path) -> None:
    with pytest.raises(BadSetup, match=r"there is no such file; mend it with `python -m jobs\.migrate"):
        open_database(f"sqlite:///{tmp_path / 'typo.db'}")

    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_reached_is_refused_by_its_url(tmp_path: Path) -> None:
    for attempt in (open_database, migrate, revision_of):
        with pytest.raises(BadSetup, match=f"database sqlite:///{tmp_path} can't be reached: unable to open"):
            attempt(f"sqlite:///{tmp_path}")  # a folder


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fx.db").write_text("time,open,high,low,close\n" * 50)

    with pytest.raises(BadSetup, match=r"fx\.db can't be reached: file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'fx.db'}")


@pytest.mark.parametrize(
    "url",
    ["postgresql+nodriver://trader:s3cret@localhost/fx", "nosuch://trader:s3cret@localhost/fx", "trader:s3cret@localhost"],
)
def test_no_refusal_shows_the_password(url: str) -> None:
    with pytest.raises(BadSetup) as refusal:
        open_database(url)

    assert "s3cret" not in str(refusal.value)
    assert "database" in str(refusal.value)


def test_a_password_among_the_options_is_hidden_too() -> None:
    assert "s3cret" not in show_url("postgresql://localhost/fx?user=trader&password=s3cret")


def test_a_password_with_a_per_cent_sign_survives_alembic() -> None:
    url = "postgresql://trader:a%40b@localhost/fx"

    assert alembic_config(url).get_main_option("sqlalchemy.url") == url


def test_the_job_creates_the_folder_and_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs' / 'deep' / 'fx.db'}"

    ran = run_module("jobs.migrate", "--database-url", url)

    assert ran.returncode == 0, ran.stderr
    assert revision_of(url) == SCHEMA_REVISION


def test_the_job_refuses_in_one_sentence(tmp_path: Path) -> None:
    ran = run_module("jobs.migrate", "--database-url", f"sqlite:///{tmp_path}")

    assert ran.returncode == 2
    assert "can't be reached" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_alembic_itself_migrates_the_database_of_the_environment(url: str) -> None:
    ran = run_module("alembic", "upgrade", "head", FXCAST_DATABASE_URL=url)

    assert ran.returncode == 0, ran.stderr
    assert revision_of(url) == SCHEMA_REVISION


def run_module(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": "platform", "PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
