"""Batches follow from seed and step, change with the number of workers without losing a window, and hold few shards in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxcast.models.features import ConditionFeatures
from fxcast.training.latents import LatentWindows
from fxcast.training.stream import Deal, ShardOrder, WindowStream

ROWS = (5, 7, 6, 4, 9)


def numbered(shard: int, rows: int) -> LatentWindows:
    """Windows that say of which shard and row they are: 1000 · shard + row."""
    number = (1000 * shard + torch.arange(rows)).to(torch.float32)
    features = ConditionFeatures(*(number.to(torch.int32) for _ in ConditionFeatures._fields))
    return LatentWindows(
        past=number, future=number, paths=number, outcomes=number, widths=number, volatility=number, features=features
    )


class Disk:
    """Counts the shards that are read, and how many of them are still held."""

    def __init__(self, rows: Iterable[int]) -> None:
        self.rows = tuple(rows)
        self.read = 0
        self.held = 0
        self.most_held = 0

    def load(self, shard: int) -> LatentWindows:
        disk = self

        class Held(LatentWindows):
            __slots__ = ()

            def __del__(self) -> None:
                disk.held -= 1

        self.read += 1
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        windows = numbered(shard, self.rows[shard])
        return Held(**windows.tensors(), features=windows.features)


def stream(deal: Deal, worker: int = 0, *, rows: Iterable[int] = ROWS, seed: int = 0, disk: Disk | None = None) -> WindowStream:
    disk = Disk(rows) if disk is None else disk
    return WindowStream(ShardOrder(disk.rows, seed), disk.load, deal, worker=worker)


def drawn(deal: Deal, steps: Iterable[int], worker: int = 0, *, seed: int = 0) -> list[list[int]]:
    one = stream(deal, worker, seed=seed)
    try:
        return [[int(number) for number in one.batch(step).future] for step in steps]
    finally:
        one.close()


def test_an_epoch_holds_every_window_once_in_another_order_than_the_last_and_shards_are_mixed() -> None:
    deal = Deal.first(workers=1, batch=1, open_shards=1)
    numbers = [number for (number,) in drawn(deal, range(2 * sum(ROWS)))]
    first, second = numbers[: sum(ROWS)], numbers[sum(ROWS) :]
    every = sorted(1000 * shard + row for shard, rows in enumerate(ROWS) for row in range(rows))
    assert sorted(first) == sorted(second) == every
    assert first != second
    assert drawn(deal, range(5), seed=1) != drawn(deal, range(5))
    mixed = drawn(Deal.first(workers=1, batch=4, open_shards=2), range(3))
    assert all(len({number // 1000 for number in batch}) == 2 for batch in mixed)


def test_a_batch_is_full_precision() -> None:
    one = stream(Deal.first(workers=1, batch=3, open_shards=2))
    windows = one.batch(0)
    one.close()
    assert windows.future.dtype == torch.float32
    assert windows.features.sentence.dtype == torch.int64
    assert len(windows) == 3


@pytest.mark.parametrize("step", [0, 1, 7, 40])
def test_a_stream_that_begins_at_a_step_draws_what_an_undisturbed_one_draws_there(step: int) -> None:
    deal = Deal.first(workers=2, batch=5, open_shards=3)
    for worker in (0, 1):
        assert drawn(deal, range(step, step + 6), worker) == drawn(deal, range(step + 6), worker)[step:]


def test_a_step_before_the_deal_is_refused() -> None:
    one = stream(Deal(since_step=3, workers=1, batch=2, lanes=1))
    with pytest.raises(ValueError, match="step 2 lies before the deal, which begins at 3"):
        one.batch(2)
    one.close()


def test_an_error_of_the_disk_reaches_the_loop() -> None:
    def broken(shard: int) -> LatentWindows:
        raise OSError(f"shard {shard} is gone")

    one = WindowStream(ShardOrder(ROWS, 0), broken, Deal.first(workers=1, batch=2, open_shards=1), worker=0)
    with pytest.raises(OSError, match="is gone"):
        one.batch(0)
    one.close()


def test_a_worker_holds_no_more_shards_than_it_may_and_reads_each_once_an_epoch() -> None:
    rows = (50,) * 12
    for workers, open_shards in ((1, 3), (2, 2)):
        disks = [Disk(rows) for _ in range(workers)]
        for worker, disk in enumerate(disks):
            one = stream(Deal.first(workers=workers, batch=6, open_shards=open_shards), worker, disk=disk)
            for step in range(2 * sum(rows) // (6 * workers)):
                one.batch(step)
            one.close()
            assert disk.most_held == open_shards
        read = sum(disk.read for disk in disks)
        assert 24 <= read <= 24 + workers * open_shards, "two epochs, and the shards that the next batch begins"


counts = st.integers(min_value=1, max_value=4)
segments = st.lists(st.tuples(counts, st.integers(1, 7), counts, st.integers(0, 12)), min_size=1, max_size=4)


@given(rows=st.lists(st.integers(1, 20), min_size=1, max_size=9), segments=segments, seed=st.integers(0, 100))
def test_whatever_the_workers_nothing_comes_twice_and_nothing_is_left_out(
    rows: list[int], segments: list[tuple[int, int, int, int]], seed: int
) -> None:
    order = ShardOrder(rows, seed)
    deal: Deal | None = None
    step, seen = 0, Counter[tuple[int, int]]()
    for workers, batch, open_shards, steps in segments:
        options = {"workers": workers, "batch": batch, "open_shards": open_shards}
        deal = Deal.first(**options) if deal is None else order.deal_again(deal, step, **options)
        assert Deal.from_json(deal.to_json()) == deal
        for worker in range(workers):
            for lane in range(deal.lanes):
                seen.update(rows_of_lane(order, deal, worker, lane, steps * deal.quota(lane)))
        step += steps
    assert deal is not None
    assert set(seen.values()) <= {1}
    assert seen.total() == sum(steps * workers * batch for workers, batch, _, steps in segments)
    after = order.deal_again(deal, step, workers=1, batch=1, open_shards=1)
    still_to_come = dict(after.pending)
    for entry in range(after.frontier):
        for row in range(rows[order.shard(entry)]):
            assert (seen[entry, row] == 1) != (entry in still_to_come and row >= still_to_come[entry])
    assert all(entry < after.frontier for entry, _ in seen)


def rows_of_lane(order: ShardOrder, deal: Deal, worker: int, lane: int, count: int) -> Iterable[tuple[int, int]]:
    """Walk a lane row by row."""
    number = worker * deal.lanes + lane
    entry, row = deal.entry(number)
    for _ in range(count):
        if row == order.rows[order.shard(entry)]:
            number += deal.workers * deal.lanes
            entry, row = deal.entry(number)
        yield entry, row
        row += 1


def test_a_shard_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="every shard needs a row"):
        ShardOrder((3, 0), 0)
