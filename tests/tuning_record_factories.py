"""Records of searches, trials and promotions, for tests of where they are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from sqlalchemy import Engine

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.promotions import PromotionRecord
from fxcast.adapters.storage.tuning import TrialRecord, TuningFoldRecord, TuningRun

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
APRIL = datetime(2024, 4, 1, tzinfo=UTC)
MAY = datetime(2024, 5, 1, tzinfo=UTC)
NOON = datetime(2024, 6, 3, 12, 0, 0, 125_000, tzinfo=UTC)
SYMBOLS = ("EURUSD", "USDJPY")

Answer = TypeVar("Answer")


def tuning_run() -> TuningRun:
    """A search over three months that is judged on April, just begun."""
    return TuningRun(
        name="majors",
        begun_at=NOON,
        symbols=SYMBOLS,
        timeframe="1h",
        level="trading",
        regime=None,
        searcher="tpe",
        seed=7,
        start=JANUARY,
        stop=APRIL,
        hold_out_start=APRIL,
        hold_out_stop=MAY,
        trials=100,
        data_hash="da7a" * 16,
        settings_hash="5ea7c4",
        settings='{"space": {"trading.min_strength": [0.2, 0.5]}, "folds": 3, "words": "½"}',
        code_version="0.1.0",
        study="majors",
        command="python -m jobs.tune --name majors",
    )


def trial_record(number: int = 0) -> TrialRecord:
    """A trial without folds; what nothing forecast can't be told."""
    return TrialRecord(
        kind="search",
        number=number,
        state="complete",
        values={
            "trading.ldm4ts_horizons": (15, 60, 240),
            "trading.min_strength": 0.1 + 0.2,  # no short decimal is this float
            "trading.whole": 1.0,  # and no integer
            "trading.max_positions": 3,
            "trading.exits": True,
            "trading.management.stop_multiple": None,
            "trading.source": "both",
        },
        began_at=NOON,
        finished_at=NOON + timedelta(minutes=1),
        score=0.5,
        sharpe=1 / 3,
        max_drawdown=0.0213,
        total_return=-0.00317,
        trades=12,
    )


def tuning_fold(fold: int = 1, *, seed: int = 0, days: int = 21) -> TuningFoldRecord:
    """A month of trading, of which no float is round."""
    random = np.random.default_rng([seed, fold])
    returns = random.normal(0.0, 0.01, days)
    return TuningFoldRecord(
        fold=fold,
        trades=4,
        seconds=0.7,
        horizons=({"minutes": 60, "windows": 500, "crps": 0.1 + 0.2, "walk_crps": 0.4, "inside": 447},),
        days=np.arange(19_000, 19_000 + days, dtype=np.int64),
        returns=returns,
        lows=1.0 + np.minimum(returns, 0.0) / 3.0,
        highs=1.0 + np.maximum(returns, 0.0) / 3.0,
        falls=np.abs(returns) / 7.0,
    )


def promotion_record(run: TuningRun, symbol: str = "EURUSD", *, trial: int = 3, regime: str | None = None) -> PromotionRecord:
    return PromotionRecord(
        symbol=symbol,
        timeframe="1h",
        regime=regime,
        run_id=run.id,
        run_name=run.name,
        trial=trial,
        values={"trading.ldm4ts_horizons": (15, 60), "trading.min_strength": 0.25},
        promoted_at=NOON + timedelta(hours=trial),
        guard_passed=True,
        by="anna",
        reason="the search says so",
    )


def told(record: TrialRecord | TuningFoldRecord) -> dict[str, object]:
    """Return all that a record holds, to the last bit, so that two can be compared."""

    def one(value: object) -> object:
        if isinstance(value, np.ndarray):
            return (value.dtype, value.tobytes())
        if isinstance(value, tuple):
            return tuple(told(each) if isinstance(each, TuningFoldRecord) else each for each in value)
        return value

    return {each.name: one(getattr(record, each.name)) for each in fields(record)}


def at_once(url: str, count: int, call: Callable[[Engine, int], Answer]) -> list[Answer]:
    """Call with 0, 1, … from threads with an engine of their own, all at the same moment."""
    start = threading.Barrier(count)

    def one(number: int) -> Answer:
        engine = open_database(url)
        start.wait()
        try:
            return call(engine, number)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
