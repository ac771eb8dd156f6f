"""Searches in a database as they are when they are done, for tests of what is promoted from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fxcast.adapters.storage.database import Database, migrate
from fxcast.adapters.storage.tuning import TrialRecord, TuningRecords, TuningRun
from fxcast.trading.parameters import Value, Values

BEGUN = datetime(2017, 1, 2, tzinfo=UTC)
SEARCHED = datetime(2017, 1, 2, tzinfo=UTC), datetime(2017, 4, 3, tzinfo=UTC)
HELD_OUT = datetime(2017, 4, 3, tzinfo=UTC), datetime(2017, 5, 1, tzinfo=UTC)
DEFAULTS: Mapping[str, Value] = {"trading.ldm4ts_min_strength": 0.3, "trading.sizing.kelly_fraction": 0.25}
WINNING: Mapping[str, Value] = {"trading.ldm4ts_min_strength": 0.2, "trading.sizing.kelly_fraction": 0.5}


def put_database(file: Path) -> None:
    """Make an empty SQLite database at the newest schema."""
    file.write_bytes(_empty())


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder, "empty.db")
        migrate(f"sqlite:///{file}")
        return file.read_bytes()


def searched(
    database: Database,
    name: str = "majors",
    *,
    symbols: tuple[str, ...] = ("EURUSD", "GBPUSD"),
    values: Values = WINNING,
    promotes: bool = True,
    finished: bool = True,
    regime: str | None = None,
    timeframe: str = "1h",
    level: str = "trading",
) -> TuningRun:
    """Keep a search of four trials: 0 the defaults, 1 the winner, 2 stopped early, 3 complete and worse."""
    records = TuningRecords(database)
    run = records.begin(
        TuningRun(
            name=name,
            begun_at=BEGUN,
            symbols=symbols,
            timeframe=timeframe,
            level=level,
            regime=regime,
            searcher="tpe",
            seed=7,
            start=SEARCHED[0],
            stop=SEARCHED[1],
            hold_out_start=HELD_OUT[0],
            hold_out_stop=HELD_OUT[1],
            trials=4,
            data_hash="da7a",
            settings_hash=f"5e77-{name}",
            settings="{}",
            code_version="0.1.0",
            study=name,
            command=f"python -m jobs.tune --name {name}",
        )
    )
    for trial in (
        _trial(0, DEFAULTS),
        _trial(1, values),
        _trial(2, values, state="pruned"),
        _trial(3, {**values, "trading.min_quality": 0.6}),
        replace(_trial(4, values), kind="random"),
    ):
        records.save_trial(run.id, trial)
    if finished:
        records.finish(run.id, **_came(values, promotes=promotes))
    found = records.run(name)
    assert found is not None, "it was kept"
    return found


def _trial(number: int, values: Values, state: str = "complete") -> TrialRecord:
    return TrialRecord(kind="search", number=number, state=state, values=values, began_at=BEGUN, finished_at=BEGUN, score=0.1)


def _came(values: Values, *, promotes: bool) -> dict[str, Any]:
    return {
        "at": BEGUN,
        "winner": 1,
        "winner_values": values,
        "promotes": promotes,
        "verdict": "Promote: it holds." if promotes else "Keep the default: it is luck.",
        "hold_out_sharpe": 0.5,
        "default_hold_out_sharpe": 0.2,
        "deflated_sharpe": 0.97,
        "overfitting_probability": 0.1,
        "findings": "{}",
        "report_folder": "runs/tune/majors",
    }
