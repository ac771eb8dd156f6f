"""Backups of a whole fxcast, restored into an empty place of either kind of database, and all that is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from fxcast.adapters.storage.backup import make_backup
from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.backup_manifest import Manifest, newest_backup
from fxcast.adapters.storage.database import migrate, open_database, revision_of
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.promotions import Promotions
from fxcast.adapters.storage.restore import Target, restore_backup
from fxcast.adapters.storage.tables import SCHEMA_REVISION
from fxcast.data.store import CandleStore
from fxcast.trading.ports import LedgerBatch
from fxcast.trading.state import EngineState
from tests.databases import DATABASES
from tests.factories import make_series
from tests.integration.backed_up import Fxcast, back_up, files_of, filled, forge, fxcast_in, restore
from tests.integration.filled_database import rows_of, study, study_rows_of
from tests.ledger_factories import NOON, equity, intent
from tests.ports import free_port
from tests.tuning_record_factories import promotion_record

AFTER_0005 = {"tuning_runs", "tuning_trials", "tuning_folds", "promotions", "settings_versions"}  # tables

POSTGRESQL = pytest.param("postgresql", "sqlite", marks=DATABASES[1].marks)  # pyright: ignore[reportAttributeAccessIssue]  # pytest.param


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patched.setenv(name, "test")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
        server.start()
        try:
            endpoint = "http://{}:{}".format(*server.get_host_and_port())
            boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="kept")
            yield f"s3://kept/{{}}?scheme=http&region=us-east-1&endpoint_override={urlsplit(endpoint).netloc}"
        finally:
            server.stop()


# Restored, everything is what it was.


@pytest.mark.parametrize(("kind", "other"), [pytest.param("sqlite", "postgresql", marks=POSTGRESQL.marks), POSTGRESQL])
def test_what_is_restored_into_the_other_kind_of_database_is_what_was_there_to_the_last_digit(
    kind: str, other: str, tmp_path: Path, bucket: str
) -> None:
    def place(name: str) -> str:  # once in an object store, and once in folders
        return bucket.format(name) if kind == "postgresql" else str(tmp_path / name)

    here = filled(fxcast_in(tmp_path / "here", kind, place("store")), studies=True)
    to = place("backups")
    back_up(here, to)
    there = fxcast_in(tmp_path / "there", other, place("restored"))

    assert restore(there, to) == 0

    before, after = open_database(here.url), open_database(there.url)
    rows, restored = rows_of(before), rows_of(after)
    (model,) = rows["ldm4ts_model_metadata"]
    model["folder"] = str(there.models / "tiny-2")  # where it is now
    assert all(rows.values()), "no table is empty"
    assert restored == rows
    assert [str(row["stop"]) for row in restored["orders"]] == [str(row["stop"]) for row in rows["orders"]] == ["1.08010"]
    assert len(study_rows_of(before)["trials"]) == 2
    assert study_rows_of(after) == study_rows_of(before)
    assert files_of(there.store) == files_of(here.store) != {}
    assert files_of(str(there.models)) == files_of(str(here.models)) != {}
    # And it goes on: ids count up from where they were, a search from its trials.
    (run,) = {row["run_id"] for row in rows["promotions"]}
    (latest, *_) = Promotions(after).promote([replace(promotion_record_of(run), symbol="GBPUSD")])
    assert latest.id == max(row["id"] for row in rows["promotions"]) + 1
    study(there.url)
    assert [row["number"] for row in study_rows_of(after)["trials"]] == [0, 1, 2, 3]
    before.dispose()
    after.dispose()


def promotion_record_of(run_id: str) -> Any:
    from tests.tuning_record_factories import tuning_run

    record = promotion_record(tuning_run())
    assert record.run_id == run_id
    return record


def test_of_backups_within_one_second_the_last_is_the_newest(to: str) -> None:
    place = Place(to, "backup")
    for moment in range(20):
        now = NOON + timedelta(microseconds=moment)
        made = make_backup(place, database=None, store=None, models=None, now=now, fxcast_version="0.1.0")
        assert newest_backup(place) == made.name


def test_a_second_backup_copies_only_new_files_and_leaves_the_first_as_it_was(here: Fxcast, there: Fxcast, to: str) -> None:
    first = back_up(here, to)
    objects = set(Path(to, "objects").rglob("*"))
    kept = files_of(f"{to}/{first}")
    CandleStore(here.store).append(make_series(bars=10, symbol="GBPUSD"))
    second = back_up(here, to)

    assert len([path for path in set(Path(to, "objects").rglob("*")) - objects if path.is_file()]) == 1
    assert files_of(f"{to}/{first}") == kept
    assert restore(there, to, "--backup", first) == 0
    assert CandleStore(there.store).symbols() == ("EURUSD",)
    newest = fxcast_in(there.models.parent.parent / "newest")
    assert restore(newest, to) == 0  # the newest, if none is named
    assert CandleStore(newest.store).symbols() == ("EURUSD", "GBPUSD")
    assert first < second


def test_a_backup_of_an_older_schema_is_restored_and_brought_up_to_date(here: Fxcast, there: Fxcast, to: str) -> None:
    name = back_up(here, to)
    forge(to, name, as_of_0005)

    assert restore(there, to) == 0

    database = open_database(there.url)
    rows, before = rows_of(database), rows_of(open_database(here.url))
    assert {name for name, found in rows.items() if not found} == AFTER_0005
    assert {name: rows[name] for name in rows.keys() - AFTER_0005 - {"ldm4ts_model_metadata"}} == {
        name: before[name] for name in rows.keys() - AFTER_0005 - {"ldm4ts_model_metadata"}
    }
    assert revision_of(there.url) == SCHEMA_REVISION
    database.dispose()


def as_of_0005(manifest: Manifest) -> Manifest:
    assert manifest.database is not None
    tables = tuple(each for each in manifest.database.tables if each.name not in AFTER_0005)
    database = manifest.database.model_copy(update={"schema_revision": "0005", "tables": tables})
    return manifest.model_copy(update={"database": database})


# One moment, while engines trade.


@pytest.mark.parametrize("kind", DATABASES)
def test_a_backup_that_is_made_while_an_engine_trades_is_of_one_moment(kind: str, tmp_path: Path, to: str) -> None:
    here, there = fxcast_in(tmp_path / "here", kind), fxcast_in(tmp_path / "there", kind)
    migrate(here.url)
    database = open_database(here.url)
    ledger, done = SqlLedger(database, "demo"), threading.Event()
    commit(ledger, 0)

    def go_on() -> None:
        number = 1
        while not done.is_set():
            commit(ledger, number)
            number += 1

    engine = threading.Thread(target=go_on)
    engine.start()
    seen: list[int] = []

    def wait_for_commits(table: str) -> None:
        """So that a backup which is not of one moment would have different numbers of rows."""
        if table not in {"engine_states", "equity", "orders"}:
            return
        seen.append(len(ledger.equity_curve()))
        while len(ledger.equity_curve()) == seen[-1]:
            assert engine.is_alive()

    made = make_backup(
        Place(to, "backup"), database=database, store=None, models=None, now=NOON, fxcast_version="0", at_table=wait_for_commits
    )
    done.set()
    engine.join()

    restore_backup(Place(to, "backup"), made.name, Target(database_url=there.url, store=None, models=None))
    restored = SqlLedger(open_database(there.url), "demo")
    state, orders, curve = restored.load_state(), restored.orders(), restored.equity_curve()
    assert state is not None
    assert state.candles["EURUSD"] == len(orders) == len(curve)
    assert len(curve) < len(ledger.equity_curve())
    assert seen[0] < seen[-1], "the engine traded meanwhile"
    database.dispose()


def commit(ledger: SqlLedger, number: int) -> None:
    at = NOON + timedelta(hours=number)
    batch = LedgerBatch(intents=(intent(f"EURUSD-{number}", at),), equity=replace(equity(at), balance=Decimal(number)))
    ledger.commit(EngineState(candles={"EURUSD": number + 1}), batch)
