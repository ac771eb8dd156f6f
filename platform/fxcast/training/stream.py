"""Batches of windows from shards: an order that follows from seed and epoch, a position that follows from the step.

The shards of all epochs, each epoch in an order of its own, make one endless list. Its entries are dealt in turn to lanes: every
worker has as many as it holds shards open. A batch takes the same number of rows from each of the worker's lanes, so what a lane
has read after some steps follows from their number, and a run that is resumed draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, cast

import numpy as np
import torch

from fxcast.training.latents import LatentWindows, join_latents
from fxcast.training.workers import rank, world_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """How the endless list is dealt from some step on.

    Attributes:
        since_step: First step of this deal.
        workers: How many there are.
        batch: Rows a step of each worker.
        lanes: Of each worker.
        pending: Entries that an earlier deal left over, as (position in the endless list, rows of it already consumed).
        frontier: Position of the first entry that no earlier deal has touched; comes after those pending.
    """

    since_step: int
    workers: int
    batch: int
    lanes: int
    pending: tuple[tuple[int, int], ...] = ()
    frontier: int = 0

    @classmethod
    def first(cls, *, workers: int, batch: int, open_shards: int) -> Self:
        """Return the deal of a run that begins."""
        return cls(since_step=0, workers=workers, batch=batch, lanes=min(open_shards, batch))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {name: getattr(self, name) for name in self.__slots__} | {"pending": [list(entry) for entry in self.pending]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return what `to_json` was given."""
        values: dict[str, Any] = {**content, "pending": tuple((int(entry), int(row)) for entry, row in content["pending"])}
        return cls(**values)

    def entry(self, number: int) -> tuple[int, int]:
        """Return the number-th entry that is dealt: its position in the endless list, and the row it begins with."""
        if number < len(self.pending):
            return self.pending[number]
        return self.frontier + number - len(self.pending), 0

    def quota(self, lane: int) -> int:
        """Return how many rows of a batch come from a lane of a worker."""
        return self.batch // self.lanes + (lane < self.batch % self.lanes)


class ShardOrder:
    """The endless list of shards.

    Args:
        rows: Of each shard, one or more.
    """

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        if not rows or min(rows) < 1:
            raise ValueError(f"every shard needs a row, found {list(rows)}")
        self.rows = tuple(rows)
        self.seed = seed
        self._epoch = lru_cache(maxsize=4)(self._shuffled)

    def shard(self, entry: int) -> int:
        """Return the shard at a position of the endless list."""
        epoch, position = divmod(entry, len(self.rows))
        return int(self._epoch(epoch)[position])

    def row_order(self, entry: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the order in which an entry's rows are read: another one in each epoch."""
        draws = np.random.default_rng([self.seed, 1, entry])
        return draws.permutation(self.rows[self.shard(entry)])

    def _shuffled(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.rows))

    def place(self, deal: Deal, worker: int, lane: int, rows_read: int) -> tuple[int, int]:
        """Return where a lane is after it has read some rows: the number of the entry dealt to it, and the next row of that."""
        number, left = worker * deal.lanes + lane, rows_read
        while True:
            entry, start = deal.entry(number)
            there = self.rows[self.shard(entry)] - start
            if left < there:
                return number, start + left
            number, left = number + deal.workers * deal.lanes, left - there

    def deal_again(self, deal: Deal, step: int, *, workers: int, batch: int, open_shards: int) -> Deal:
        """Return how to go on from a step with another number of workers: nothing consumed comes again, nothing is left out."""
        steps = step - deal.since_step
        reached: dict[int, int] = {}  # by number of the entry dealt: the next row of those that lanes are in
        for worker in range(deal.workers):
            for lane in range(deal.lanes):
                number, row = self.place(deal, worker, lane, steps * deal.quota(lane))
                reached[number] = row
        stride = deal.workers * deal.lanes
        of_lane = {number % stride: number for number in reached}
        last = max(reached)
        pending: list[tuple[int, int]] = []
        for number in range(max(last + 1, len(deal.pending))):
            if number < of_lane[number % stride]:
                continue  # read to its end
            entry, start = deal.entry(number)
            pending.append((entry, reached.get(number, start)))
        untouched = deal.frontier + max(last + 1 - len(deal.pending), 0)
        return Deal(
            since_step=step,
            workers=workers,
            batch=batch,
            lanes=min(open_shards, batch),
            pending=tuple(sorted(pending)),
            frontier=untouched,
        )


class WindowStream:
    """One worker's batches; holds one shard a lane in memory, and prepares the next batch while the last one is trained on.

    Args:
        load: Reads a shard by its number.
        worker: This one's number.
    """

    def __init__(self, order: ShardOrder, load: Callable[[int], LatentWindows], deal: Deal, *, worker: int) -> None:
        self._order = order
        self._load = load
        self._worker = worker
        self.deal = deal
        self._held: list[tuple[int, LatentWindows, torch.Tensor] | None] = [None] * deal.lanes
        self._places: list[tuple[int, int]] = []  # of the lanes at the next step, if steps come in a row
        self._places_step = -1
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="windows")
        self._next: tuple[int, Any] | None = None

    def batch(self, step: int) -> LatentWindows:
        """Return the windows of a step, (deal.batch, …) in float32 on the CPU; steps in a row are read ahead.

        Raises:
            ValueError: If the step lies before the deal.
        """
        if step < self.deal.since_step:
            raise ValueError(f"step {step} lies before the deal, which begins at {self.deal.since_step}")
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == step:
            rows = cast("LatentWindows", ahead[1].result())
        else:
            if ahead is not None:
                with suppress(Exception):  # of a batch that nobody asked for; asked for, it would be raised again
                    ahead[1].result()
            rows = self._ahead.submit(self._assemble, step).result()
        self._next = (step + 1, self._ahead.submit(self._assemble, step + 1))
        return rows

    def close(self) -> None:
        """Stop reading ahead."""
        self._ahead.shutdown(wait=True, cancel_futures=True)

    def _assemble(self, step: int) -> LatentWindows:
        parts: list[LatentWindows] = []
        places = self._places_at(step)
        self._places_step = -1
        for lane, (number, row) in enumerate(places):
            quota = self.deal.quota(lane)
            while True:
                entry, _ = self.deal.entry(number)
                parts.append(self._rows(lane, entry, row, quota))
                quota, row = quota - len(parts[-1]), row + len(parts[-1])
                if row == self._order.rows[self._order.shard(entry)]:
                    number += self.deal.workers * self.deal.lanes
                    row = self.deal.entry(number)[1]
                if not quota:
                    break
            places[lane] = number, row
        self._places, self._places_step = places, step + 1
        return join_latents(parts).full_precision()

    def _places_at(self, step: int) -> list[tuple[int, int]]:
        if step == self._places_step:
            return list(self._places)
        steps = step - self.deal.since_step
        return [self._order.place(self.deal, self._worker, lane, steps * self.deal.quota(lane)) for lane in range(self.deal.lanes)]

    def _rows(self, lane: int, entry: int, first: int, most: int) -> LatentWindows:
        """Take up to some rows of an entry; nothing outside `_held` refers to a shard, so that what is let go of is gone."""
        held = self._held[lane]
        if held is None or held[0] != entry:
            self._held[lane] = held = None  # before the next one is read: never two of a lane
            order = torch.from_numpy(self._order.row_order(entry))
            self._held[lane] = held = (entry, self._load(self._order.shard(entry)), order)
        return held[1].take(held[2][first : first + most])


# Opens a worker's stream at a step, from the deal that a checkpoint has kept, or for a run that begins.
OpenStream = Callable[[Deal | None, int], WindowStream]


def stream_opener(
    rows: Sequence[int], load: Callable[[int], LatentWindows], *, seed: int, batch_size: int, open_shards: int
) -> OpenStream:
    """Return what opens this worker's stream of shards.

    Args:
        rows: Of each shard.
        load: Reads a shard by its number.
        seed: Of the order.
        batch_size: Rows a step, over all workers.
        open_shards: Shards that a worker holds at most.
    """
    order = ShardOrder(rows, seed)

    def opened(deal: Deal | None, step: int) -> WindowStream:
        batch = max(1, batch_size // world_size())
        if deal is None:
            deal = Deal.first(workers=world_size(), batch=batch, open_shards=open_shards)
        elif (deal.workers, deal.batch, deal.lanes) != (world_size(), batch, min(open_shards, batch)):
            deal = order.deal_again(deal, step, workers=world_size(), batch=batch, open_shards=open_shards)
        return WindowStream(order, load, deal, worker=rank())

    return opened
