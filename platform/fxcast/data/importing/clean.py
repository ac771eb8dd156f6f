"""Take out what can be no candle of its series, and, where it is asked for, what is doubtful."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fxcast.data.checks import SPIKE_Z, decimal_levels, far_off, spike_scores
from fxcast.data.importing.result import Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.importing.rows import Rows
from fxcast.domain.calendar import open_mask
from fxcast.errors import BadCandles

_SLIPS_IN_A_ROW = 3
_SLIPS_PERCENT = 1  # of the rows; one row may slip in a shorter file too


def clean(rows: Rows, *, source: str, repairs: frozenset[Repair], refused: list[RefusedRow], repaired: list[RepairedRow]) -> Rows:
    """Refuse prices far from their neighbours and flat fillers of the closed market; take out what repairs name.

    A filler is a candle of one price and without volume while the market is closed, as some vendors' exports have by the thousand.

    Args:
        rows: In order of time.
        repairs: `SPIKES` and `CLOSED_MARKET` take such candles out, each named; without them, they stay and are reported.

    Raises:
        BadCandles: If prices change to another unit, a power of ten away, for more than a few rows.
    """
    rows = _of_one_unit(rows, source, refused)
    taken = np.zeros(len(rows.lines), dtype=bool)
    for at in np.flatnonzero(far_off(rows.values)):
        low, high = rows.values[at, 2], rows.values[at, 1]
        near = " and ".join(f"{rows.values[other, 3]:g}" for other in (at - 1, at + 1))
        detail = f"{low:g} to {high:g} between closes of {near}"
        refused.append(
            RefusedRow(line=int(rows.lines[at]), reason=Reason.FAR_OFF, detail=detail, text=rows.texts[at], source=source)
        )
        taken[at] = True
    closed = ~open_mask(rows.times)
    flat = (rows.values[:, :4] == rows.values[:, :1]).all(axis=1) & (rows.values[:, 4] == 0)
    for at in np.flatnonzero(closed & flat & ~taken):
        detail = f"{rows.times[at]}Z, {rows.values[at, 3]:g}"
        refused.append(
            RefusedRow(line=int(rows.lines[at]), reason=Reason.FILLER, detail=detail, text=rows.texts[at], source=source)
        )
        taken[at] = True
    for repair, at, detail in _doubtful(rows, closed & ~taken, taken, repairs):
        repaired.append(RepairedRow(line=int(rows.lines[at]), repair=repair, detail=f"taken out: {detail}", source=source))
        taken[at] = True
    return rows if not taken.any() else rows.at(np.flatnonzero(~taken))


def not_after(rows: Rows, now: np.datetime64, step: np.timedelta64, *, source: str, refused: list[RefusedRow]) -> Rows:
    """Refuse candles that close after a moment: nobody can have seen them."""
    future = rows.times + step > now
    if not future.any():
        return rows
    for at in np.flatnonzero(future):
        detail = f"closes at {rows.times[at] + step}Z, and it is {now}Z"
        refused.append(
            RefusedRow(line=int(rows.lines[at]), reason=Reason.FUTURE, detail=detail, text=rows.texts[at], source=source)
        )
    return rows.at(np.flatnonzero(~future))


def _of_one_unit(rows: Rows, source: str, refused: list[RefusedRow]) -> Rows:
    """Refuse a few rows whose prices lie a power of ten off most others', or the file if they are many."""
    levels, broken = decimal_levels(rows.values)
    if not (levels.any() or broken.any()):
        return rows
    known, counts = np.unique(levels, return_counts=True)
    usual = int(known[counts.argmax()])
    off = (levels != usual) | broken
    edges = np.flatnonzero(np.diff(np.concatenate([[False], off, [False]])))
    starts, stops = edges[::2], edges[1::2]
    long = np.flatnonzero(stops - starts > _SLIPS_IN_A_ROW)
    many = int(off.sum()) > max(1, len(off) * _SLIPS_PERCENT // 100)
    if len(long) or many or 2 * int(off.sum()) >= len(off):
        first = int(long[0]) if len(long) else 0
        at = int(starts[first]) or int(stops[first]) % len(off)  # where a file begins in another unit, the change is its end
        factor = 10.0 ** int(levels[at] - levels[at - 1]) if at else 1.0
        found = (
            f"prices {factor:,g} times as high as before" if factor != 1 else "prices that differ by a power of ten within a candle"
        )
        allowed = "one unit throughout: split the file where it changes, and say price_scale for each part"
        raise BadCandles(f"{source}: line {rows.lines[at]}", f"{found}, and so in {off.sum():,} of {len(off):,} rows", allowed)
    for at in np.flatnonzero(off):
        detail = f"{rows.values[at, 2]:g} to {rows.values[at, 1]:g}, a power of ten off the others"
        refused.append(
            RefusedRow(line=int(rows.lines[at]), reason=Reason.FAR_OFF, detail=detail, text=rows.texts[at], source=source)
        )
    return rows.at(np.flatnonzero(~off))


def _doubtful(rows: Rows, closed: np.ndarray, taken: np.ndarray, repairs: frozenset[Repair]) -> Iterator[tuple[Repair, int, str]]:
    if Repair.CLOSED_MARKET in repairs:
        for at in np.flatnonzero(closed):
            yield Repair.CLOSED_MARKET, int(at), f"{rows.times[at]}Z, while the market is closed"
    if Repair.SPIKES in repairs:
        scores = np.where(taken, 0.0, spike_scores(rows.values))
        for at in np.flatnonzero(scores > SPIKE_Z):
            span = f"{rows.values[at, 2]:g} to {rows.values[at, 1]:g}"
            yield Repair.SPIKES, int(at), f"{rows.times[at]}Z, {span}, {scores[at]:.0f} times the usual range beyond its neighbours"
