"""Writers that die, writers that meet, readers that look on: the candle store holds what was committed, whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from fxcast.data import store as store_module
from fxcast.data.parts import Part, PartFiles, new_serial
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import MarketCandles, PriceSide, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

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


def test_of_two_writers_of_different_sides_one_is_refused_and_the_series_stays_readable(tmp_path: Path) -> None:
    refused: list[str] = []

    def writes(side: PriceSide) -> Callable[[], list[AppendResult]]:
        def write() -> list[AppendResult]:
            try:
                return [CandleStore(tmp_path).append(without_details(candles([hour]), side)) for hour in range(20)]
            except BadCandles as error:
                refused.append(str(error))
                return []

        return write

    results = _together(writes(PriceSide.BID), writes(PriceSide.ASK))
    assert sorted(len(each) for each in results) == [0, 20]
    assert len(refused) == 1
    assert stored_hours(tmp_path) == list(range(20))


def _nobody_waits(_files: PartFiles, _symbol: str, _timeframe: Timeframe) -> AbstractContextManager[None]:
    return nullcontext()


class _Unlocked(CandleStore):
    """A store whose writers can't be kept out, as those of an object store."""

    def __init__(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        before_write: Callable[[], None] | None = None,
        before_look: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(root)
        monkeypatch.setattr(PartFiles, "writing", _nobody_waits)
        monkeypatch.setattr(PartFiles, "is_locked_while_writing", False)
        acts = [before_write, before_look]
        plain = self._files.write

        def write(data: MarketCandles, month: str, serial: str) -> Part:
            before, after = acts
            acts[:] = [None, None]  # what is done meanwhile writes too
            if before is not None:
                before()
            written = plain(data, month, serial)
            if after is not None:
                after()
            return written

        self._files.write = write


@pytest.mark.parametrize("moment", ["before_write", "before_look"])
def test_without_turns_a_writer_whose_candle_did_not_stay_is_told_whenever_the_other_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    told: list[AppendResult] = []

    def meanwhile() -> None:
        told.append(CandleStore(tmp_path).append(candles([0], 1.2)))

    mine = _Unlocked(tmp_path, monkeypatch, **{moment: meanwhile}).append(candles([0], 1.1))
    answers = [bool(mine.conflicting), bool(told[0].conflicting)]
    closes = CandleStore(tmp_path).read("EURUSD", HOUR).closes
    assert len(closes) == 1
    assert answers == [closes[0] != pytest.approx(1.1), closes[0] != pytest.approx(1.2)]


def test_without_turns_the_side_is_looked_at_again_after_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile() -> None:
        CandleStore(tmp_path).append(without_details(candles([1500]), PriceSide.ASK))  # another month

    store = _Unlocked(tmp_path, monkeypatch, before_write=meanwhile)
    with pytest.raises(BadCandles, match="found bid prices; allowed: ask prices"):
        store.append(without_details(candles([0]), PriceSide.BID))
    assert stored_hours(tmp_path) == [1500]


def test_without_turns_only_parts_that_have_settled_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MANY_PARTS", 2)
    store = _Unlocked(tmp_path, monkeypatch)
    for hour in range(6):
        store.append(candles([hour]))
    assert len(list(tmp_path.rglob("*.parquet"))) == 6
    monkeypatch.setattr("fxcast.data.parts._SETTLED_NS", -1)
    store.append(candles([6]))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert stored_hours(tmp_path) == list(range(7))


def test_a_part_written_later_sorts_behind_those_that_were_seen_whatever_the_clock_says(tmp_path: Path) -> None:
    CandleStore(tmp_path).append(candles([0]))
    [first] = tmp_path.rglob("*.parquet")
    ahead = first.with_name(f"2017-01.{2**62:016x}-00000000.parquet")
    first.rename(ahead)  # as if a writer's clock were a century ahead
    CandleStore(tmp_path).append(candles([1]))
    assert min(path.name for path in tmp_path.rglob("*.parquet")) == ahead.name


def test_what_is_held_in_memory_stays_bounded_however_many_parts_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fxcast.data.parts._KEPT_PARTS", 6)
    files = PartFiles(tmp_path)
    written = [files.write(without_details(candles([hour])), "2017-01", new_serial(after="")) for hour in range(10)]
    assert files.held == (6, 6)
    files.delete(written[-1])
    files.delete(written[0])  # forgotten already
    assert files.held == (5, 5)
    assert files.read(written[-2], "EURUSD", HOUR) is not None
    assert files.read(written[1], "EURUSD", HOUR) is not None  # read anew
    assert files.held == (6, 6)
    monkeypatch.setattr("fxcast.data.parts._KEPT_CANDLES", 10)
    files.write(without_details(candles(list(range(20, 40)))), "2017-01", new_serial(after=""))
    assert files.held == (1, 20)  # the last one stays, however large
