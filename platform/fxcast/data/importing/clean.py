"""Take out what can be no candle of its series, and, where it is asked for, what is doubtful."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fxcast.data.checks import SPIKE_Z, far_off, spike_scores
from fxcast.data.importing.result import Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.importing.rows import Rows
from fxcast.domain.calendar import open_mask


def clean(rows: Rows, *, source: str, repairs: frozenset[Repair], refused: list[RefusedRow], repaired: list[RepairedRow]) -> Rows:
    """Refuse prices far from both neighbours and flat fillers of the closed market; take out what repairs name.

    A filler is a candle of one price and without volume while the market is closed, as some vendors' exports have by the thousand.

    Args:
        rows: In order of time.
        repairs: `SPIKES` and `CLOSED_MARKET` take such candles out, each named; without them, they stay and are reported.
    """
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


def _doubtful(rows: Rows, closed: np.ndarray, taken: np.ndarray, repairs: frozenset[Repair]) -> Iterator[tuple[Repair, int, str]]:
    if Repair.CLOSED_MARKET in repairs:
        for at in np.flatnonzero(closed):
            yield Repair.CLOSED_MARKET, int(at), f"{rows.times[at]}Z, while the market is closed"
    if Repair.SPIKES in repairs:
        scores = np.where(taken, 0.0, spike_scores(rows.values))
        for at in np.flatnonzero(scores > SPIKE_Z):
            span = f"{rows.values[at, 2]:g} to {rows.values[at, 1]:g}"
            yield Repair.SPIKES, int(at), f"{rows.times[at]}Z, {span}, {scores[at]:.0f} times the usual range beyond its neighbours"
