"""Writers that die, writers that meet, readers that look on: the candle store holds what was committed, whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fxcast.data import store as store_module
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe

HOUR = Timeframe("1h")
FIRST = np.datetime64("2017-01-02T00:00:00", "s")
KILLS = 4

_WRITER = """
import sys
from fxcast.data.store import CandleStore
from tests.unit.test_store_concurrency import candles
store = CandleStore(sys.argv[1])
for hour in range(int(sys.argv[2]), 5000):
    store.append(candles([hour]))
    print(hour, flush=True)
"""


def candles(hours: list[int], price: float = 1.1) -> CandleSeries:
    closes = price + np.array(hours, dtype=np.float64) / 1e5
    return CandleSeries(
        symbol="EURUSD",
        timeframe=HOUR,
        open_times=FIRST + np.array(hours, dtype=np.int64) * np.timedelta64(3600, "s"),
        values=np.column_stack([closes, closes, closes, closes, np.ones(len(hours))]),
    )


def stored_hours(root: Path) -> list[int]:
    times = CandleStore(root).read("EURUSD", HOUR).open_times
    return ((times - FIRST) // np.timedelta64(3600, "s")).astype(int).tolist()


def test_a_writer_killed_at_any_moment_leaves_all_that_it_had_committed(tmp_path: Path) -> None:
    begin = 0
    for kill in range(KILLS):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(begin)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        committed = begin
        for line in writer.stdout:
            committed = int(line)
            if committed >= begin + 10 + 13 * kill:  # before, during and after files are put together
                break
        writer.send_signal(signal.SIGKILL)
        rest = [int(line) for line in writer.communicate()[0].splitlines()]
        committed = max([committed, *rest])
        hours = stored_hours(tmp_path)
        assert hours[: committed + 1] == list(range(committed + 1))
        assert len(hours) <= committed + 2  # the one in hand may have been committed without being told
        begin = len(hours)
    assert CandleStore(tmp_path).append(candles(list(range(begin)))) == AppendResult(
        added=0, completed=0, already_there=begin, conflicting=()
    )


def test_a_reader_sees_every_committed_candle_while_files_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY_PARTS", 3)
    committed, total, seen = [0], 120, list[tuple[int, list[int]]]()
    CandleStore(tmp_path).append(candles([0]))

    def write() -> None:
        for hour in range(1, total):
            CandleStore(tmp_path).append(candles([hour]))
            committed[0] = hour

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        at_least = committed[0]
        seen.append((at_least, stored_hours(tmp_path)))
    writer.join()
    assert stored_hours(tmp_path) == list(range(total))
    assert seen
    for at_least, hours in seen:
        assert hours == list(range(len(hours)))
        assert len(hours) > at_least


def _together(*works: Callable[[], list[AppendResult]]) -> list[list[AppendResult]]:
    """Run works at the same time, each in its own thread, and return what each gave."""
    results: list[list[AppendResult]] = [[] for _ in works]
    barrier = threading.Barrier(len(works))

    def run(position: int, work: Callable[[], list[AppendResult]]) -> None:
        barrier.wait()
        results[position] += work()

    threads = [threading.Thread(target=run, args=(position, work)) for position, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_two_writers_with_different_candles_none_loses_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY_PARTS", 4)

    def writes(hours: list[int]) -> Callable[[], list[AppendResult]]:
        return lambda: [CandleStore(tmp_path).append(candles([hour])) for hour in hours]

    one, other = _together(writes(list(range(0, 60, 2))), writes(list(range(1, 60, 2))))
    assert sum(result.added for result in one + other) == 60
    assert stored_hours(tmp_path) == list(range(60))


def test_of_two_writers_with_conflicting_candles_the_one_whose_candle_did_not_stay_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_MANY_PARTS", 4)
    prices = (1.1, 1.2)

    def writes(price: float) -> Callable[[], list[AppendResult]]:
        return lambda: [CandleStore(tmp_path).append(candles([hour], price)) for hour in range(40)]

    results = _together(*(writes(price) for price in prices))
    closes = CandleStore(tmp_path).read("EURUSD", HOUR).closes
    assert len(closes) == 40
    for hour in range(40):
        stayed = [bool(np.isclose(closes[hour], price + hour / 1e5)) for price in prices]
        told = [bool(each[hour].conflicting) for each in results]
        assert sorted(stayed) == [False, True]
        assert told == [not each for each in stayed]


def test_temporary_files_of_the_dead_are_swept_up_when_they_are_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY_PARTS", 1)
    CandleStore(tmp_path).append(candles([0]))
    leftover = tmp_path / "EURUSD" / "1h" / ".2017-01.0123.parquet.tmp"
    leftover.write_bytes(b"half a file")
    monkeypatch.setattr("fxcast.data.parts._STALE_S", -1.0)
    CandleStore(tmp_path).append(candles([1]))
    assert not leftover.exists()
    assert stored_hours(tmp_path) == [0, 1]
