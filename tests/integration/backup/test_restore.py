"""What a restore refuses, before it writes anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

import jobs.backup
from fxcast.adapters.storage.backup_files import Place
from fxcast.adapters.storage.backup_manifest import MANIFEST, Manifest, object_name, read_manifest
from fxcast.adapters.storage.database import alembic_config, migrate, open_database, revision_of
from fxcast.adapters.storage.registry import registered_model
from fxcast.adapters.storage.studies import open_studies
from fxcast.adapters.storage.tables import SCHEMA_REVISION
from tests.integration.backed_up import Fxcast, back_up, forge, restore
from tests.integration.filled_database import rows_of, study, study_rows_of

# What is refused, before anything is written.


def test_a_place_that_is_not_empty_is_refused_with_what_was_found(
    here: Fxcast, there: Fxcast, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = back_up(here, to)
    before = rows_of(open_database(here.url))

    for taken, found in (
        (replace(there, url=here.url), "found rows: 3 in access_tokens, 2 in backtest_trades"),
        (replace(there, store=here.store), "found EURUSD/1h/2017-03."),
        (replace(there, models=here.models), "found tiny-2/model_index.json, tiny-2/unet/weights.safetensors; allowed"),
    ):
        capsys.readouterr()
        assert restore(taken, to, "--backup", name) == 2
        assert found in capsys.readouterr().err
        assert not Path(there.store).exists()
        assert not there.models.exists()
        assert revision_of(there.url) is None
    assert rows_of(open_database(here.url)) == before


def test_a_half_written_backup_is_refused_by_name(here: Fxcast, there: Fxcast, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = back_up(here, to)
    half = back_up(here, to)
    first, half = sorted((name, half))
    Path(to, half, MANIFEST).unlink()

    assert restore(there, to) == 2
    assert f"{half}, has no manifest.json: it was never finished; choose another with --backup: {first}" in capsys.readouterr().err
    assert restore(there, to, "--backup", half) == 2
    assert f"{half}: it has no manifest.json" in capsys.readouterr().err
    assert restore(there, to, "--backup", "nowhere") == 2
    assert "found nowhere; allowed:" in capsys.readouterr().err
    assert revision_of(there.url) is None
    assert restore(there, to, "--backup", first) == 0


@pytest.mark.parametrize("harm", ["a table", "a candle file", "a candle file that is gone", "the manifest"])
def test_a_damaged_backup_is_refused_with_the_file_and_nothing_is_restored(
    here: Fxcast, there: Fxcast, to: str, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = back_up(here, to)
    manifest = read_manifest(Place(to, "backup"), name)
    assert manifest.store is not None
    candles = manifest.store.files[0]
    file = {
        "a table": Path(to, name, "tables", "orders.parquet"),
        "the manifest": Path(to, name, MANIFEST),
    }.get(harm, Path(to, object_name(candles.sha256)))
    if harm.endswith("gone"):
        file.unlink()
    elif harm == "the manifest":
        file.write_text(file.read_text().replace('"rows": 1,', '"rows": 2,', 1))
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    for options in ((), ("--check",)):
        assert restore(there, to, *options) == 2
        error = capsys.readouterr().err
        assert file.name in error
        assert ("missing" if harm.endswith("gone") else "damaged") in error
    assert not Path(there.store).exists()
    assert revision_of(there.url) is None


def test_a_backup_of_a_newer_schema_is_refused(here: Fxcast, there: Fxcast, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = back_up(here, to)

    def newer(manifest: Manifest) -> Manifest:
        assert manifest.database is not None
        return manifest.model_copy(update={"database": manifest.database.model_copy(update={"schema_revision": "9999"})})

    forge(to, name, newer)

    assert restore(there, to) == 2
    assert "found schema revision 9999" in capsys.readouterr().err


def test_a_name_that_leads_out_of_the_store_is_refused(
    here: Fxcast, there: Fxcast, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = back_up(here, to)

    def leads_out(manifest: Manifest) -> Manifest:
        assert manifest.store is not None
        files = (manifest.store.files[0].model_copy(update={"name": "../../elsewhere"}),)
        return manifest.model_copy(update={"store": manifest.store.model_copy(update={"files": files})})

    forge(to, name, leads_out)

    assert restore(there, to) == 2
    assert "not a name below the folder" in capsys.readouterr().err


def test_a_part_that_is_not_there_is_refused_and_one_that_is_left_out_is_not_missed(
    here: Fxcast, there: Fxcast, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs.backup.main(["--to", to, *there.options]) == 2
    assert jobs.backup.main(["--to", to, *replace(here, store=here.store + "x").options]) == 2
    assert "there is no such folder; leave it out with --only" in capsys.readouterr().err
    assert jobs.backup.main(["--to", to, *here.options, "--only", "database"]) == 0

    assert restore(there, to) == 2
    assert "it was made without store, models" in capsys.readouterr().err
    assert restore(there, to, "--only", "database") == 0
    assert registered_model(open_database(there.url), "tiny-2") is not None


def test_a_restore_that_fails_leaves_no_row_and_can_be_done_again(here: Fxcast, there: Fxcast, to: str) -> None:
    study(here.url)
    back_up(here, to)
    migrate(there.url)
    open_studies(there.url).engine.dispose()
    database = open_database(there.url)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE promotions ADD COLUMN mine TEXT"))

    assert restore(there, to, "--only", "database") == 2
    assert not any(rows_of(database).values())
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE promotions DROP COLUMN mine"))
    assert restore(there, to, "--only", "database") == 0
    assert study_rows_of(database)["trials"]
    database.dispose()


def test_a_database_at_another_schema_is_not_backed_up(here: Fxcast, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    command.downgrade(alembic_config(here.url), "0005")

    assert jobs.backup.main(["--to", to, *here.options]) == 2
    assert f"found schema revision 0005, expected {SCHEMA_REVISION}" in capsys.readouterr().err
