"""Put rows in order of time: of those that clash, the fewest are refused."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from fxcast.data.importing.result import Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.importing.rows import Rows
from fxcast.domain.candle import COLUMNS
from fxcast.domain.market import no_details


def joined(parts: Sequence[Rows]) -> Rows:
    """Join the rows of one file."""
    if not parts:
        return Rows(
            lines=np.empty(0, dtype=np.int64),
            times=np.empty(0, dtype="datetime64[s]"),
            values=np.empty((0, len(COLUMNS))),
            details=no_details(0),
            texts=[],
        )
    if len(parts) == 1:
        return parts[0]
    return Rows(
        lines=np.concatenate([part.lines for part in parts]),
        times=np.concatenate([part.times for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        details=np.concatenate([part.details for part in parts]),
        texts=[text for part in parts for text in part.texts],
    )


def put_in_order(rows: Rows, *, source: str, sort: bool, refused: list[RefusedRow], repaired: list[RepairedRow]) -> Rows:
    """Keep the longest run of rows whose times increase, and refuse the others as duplicates or out of order.

    Args:
        sort: Move rows to their place in time instead, naming each; duplicates are refused all the same.
    """
    seconds = rows.times.astype(np.int64)
    if not (np.diff(seconds) <= 0).any():
        return rows
    kept = np.array(_longest_increase(seconds.tolist()), dtype=np.int64)
    if sort:
        moved = np.setdiff1d(np.arange(len(seconds)), kept)
        first_of_time = np.unique(seconds, return_index=True)[1]
        for position in np.intersect1d(moved, first_of_time):
            detail = f"{rows.times[position]}Z moved to its place in time"
            repaired.append(RepairedRow(line=int(rows.lines[position]), repair=Repair.ORDER, detail=detail, source=source))
        kept = first_of_time
    _explain(rows, kept, source, refused)
    return rows.at(kept)


def _explain(rows: Rows, kept: np.ndarray, source: str, refused: list[RefusedRow]) -> None:
    seconds = rows.times.astype(np.int64)
    kept_seconds = seconds[kept]
    for position in np.setdiff1d(np.arange(len(seconds)), kept):
        after = int(np.searchsorted(kept_seconds, seconds[position]))
        if after < len(kept) and kept_seconds[after] == seconds[position]:
            stays = kept[after]
            identical = bool((rows.values[stays] == rows.values[position]).all()) and np.array_equal(
                rows.details[stays], rows.details[position], equal_nan=True
            )
            reason = Reason.IDENTICAL_DUPLICATE if identical else Reason.CONFLICTING_DUPLICATE
            detail = f"{rows.times[position]}Z is on line {rows.lines[stays]}"
        else:
            before = int(np.searchsorted(kept, position)) - 1
            clashes = before >= 0 and seconds[kept[before]] > seconds[position]
            other = kept[before if clashes else before + 1]
            reason = Reason.OUT_OF_ORDER
            detail = f"{rows.times[position]}Z, but {rows.times[other]}Z is on line {rows.lines[other]}"
        refused.append(
            RefusedRow(line=int(rows.lines[position]), reason=reason, detail=detail, text=rows.texts[position], source=source)
        )


def _longest_increase(numbers: Iterable[int]) -> list[int]:
    """Return the positions of a longest strictly increasing subsequence; of several, the one with the earliest positions.

    Source: patience sorting (Fredman 1975), run from the end so that ties fall to the earlier position.
    """
    negated = [-number for number in numbers]
    heads: list[int] = []  # by length − 1: the lowest negated number that starts a run of that length
    starts: list[int] = []  # and its position
    following = [-1] * len(negated)
    for position in range(len(negated) - 1, -1, -1):
        length = bisect_left(heads, negated[position])
        following[position] = starts[length - 1] if length else -1
        heads[length : length + 1] = [negated[position]]
        starts[length : length + 1] = [position]
    chosen: list[int] = []
    position = starts[-1] if starts else -1
    while position >= 0:
        chosen.append(position)
        position = following[position]
    return chosen
