"""Put files together: several of one series, or one of bids with one of asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fxcast.data.importing.files import SourceFile, open_lines
from fxcast.data.importing.result import CROSSED_KEPT, ImportResult, Reason, RefusedRow, Repair, RepairedRow
from fxcast.data.merge import merge
from fxcast.domain.candle import CandleSeries
from fxcast.domain.market import ASK, BID, DETAILS, MarketCandles, PriceSide, no_details
from fxcast.errors import BadCandles


@dataclass(frozen=True, slots=True, kw_only=True)
class United:
    """The candles of several files, and the files' results with the rows that conflict among those refused."""

    data: MarketCandles
    results: tuple[ImportResult, ...]
    overlapping: int


def unite(results: Sequence[ImportResult], sources: Mapping[str, SourceFile]) -> United:
    """Join the candles of files in their order; where two conflict, the earlier file's candle stays.

    Args:
        sources: The files by name, for the text of rows that are refused here.

    Raises:
        BadCandles: If the files are of different symbols, timeframes or sides.
    """
    data, overlapping, told = results[0].data, 0, [results[0]]
    for result in results[1:]:
        kind, wanted = (f"{each.data.symbol} {each.data.timeframe} {each.data.side} prices" for each in (result, results[0]))
        if kind != wanted:
            raise BadCandles(result.source, kind, f"{wanted}, as in {results[0].source}")
        merged = merge(data, result.data)
        data = merged.data
        overlapping += int((~merged.added & ~merged.conflicting).sum())
        told.append(_refuse(result, merged.conflicting, sources, Reason.CONFLICTING_DUPLICATE, "another file has another candle"))
    return United(data=data, results=tuple(told), overlapping=overlapping)


def pair_sides(
    bid: ImportResult, ask: ImportResult, sources: Mapping[str, SourceFile], *, keep_crossed: bool = False
) -> tuple[ImportResult, ImportResult]:
    """Make mid candles of a file of bids and one of asks: open, high, low and close are the means of both sides'.

    A candle that only one file has, or whose ask lies below its bid, is refused. The mid's true high and low are not known: the
    means are the usual stand-in.

    Args:
        sources: The files by name, for the text of rows that are refused here.
        keep_crossed: Keep the mid of a candle whose ask lies below its bid, without its bid, ask and spread, and name it.

    Returns:
        The bids' result with all mid candles, and the asks' with none.

    Raises:
        BadCandles: If the files differ in symbol or timeframe, or one of them holds mid prices.
    """
    for each, wanted in ((bid, "bids"), (ask, "asks")):
        if each.data.side is PriceSide.MID:
            raise BadCandles(each.source, "mid prices, or both sides", f"{wanted} alone")
    bids, asks = bid.series, ask.series
    if (bids.symbol, bids.timeframe) != (asks.symbol, asks.timeframe):
        raise BadCandles(ask.source, f"{asks.symbol} {asks.timeframe}", f"{bids.symbol} {bids.timeframe}, as the bids")
    _, bid_at, ask_at = np.intersect1d(bids.open_times, asks.open_times, assume_unique=True, return_indices=True)
    pairs = len(bid_at)
    crossed = np.any(asks.values[ask_at, :4] < bids.values[bid_at, :4], axis=1)
    bid = _refuse(bid, _others(len(bids), bid_at), sources, Reason.OTHER_SIDE_MISSING, "no ask at this time")
    ask = _refuse(ask, _others(len(asks), ask_at), sources, Reason.OTHER_SIDE_MISSING, "no bid at this time")
    if keep_crossed:
        rows = [
            RepairedRow(line=int(bid.lines[at]), repair=Repair.CROSSED, detail=CROSSED_KEPT, source=bid.source)
            for at in bid_at[crossed]
        ]
        bid = replace(bid, repaired=(*bid.repaired, *rows))
    else:
        crossing = np.zeros(len(bids), dtype=bool)
        crossing[bid_at[crossed]] = True
        bid = _refuse(bid, crossing, sources, Reason.CROSSED_QUOTE, f"the ask in {ask.source} is lower")
        bid_at, ask_at = bid_at[~crossed], ask_at[~crossed]
        crossed = crossed[~crossed]
    low, high = bids.values[bid_at], asks.values[ask_at]  # each (n, 5)
    details = no_details(len(bid_at)).copy()
    details[:, [DETAILS.index(name) for name in BID]] = low[:, :4]
    details[:, [DETAILS.index(name) for name in ASK]] = high[:, :4]
    details[:, DETAILS.index("spread")] = high[:, 3] - low[:, 3]
    details[crossed, : DETAILS.index("tick_volume")] = np.nan
    for name in ("tick_volume", "real_volume"):
        details[:, DETAILS.index(name)] = bid.data.detail(name)[bid_at]
    values = np.column_stack([(low[:, :4] + high[:, :4]) / 2, low[:, 4]])
    candles = CandleSeries(symbol=bids.symbol, timeframe=bids.timeframe, open_times=bids.open_times[bid_at], values=values)
    mid = MarketCandles(candles=candles, side=PriceSide.MID, details=details)
    return (
        replace(bid, data=mid, lines=bid.lines[bid_at], pairs=pairs),
        replace(ask, data=mid.slice(0, 0), lines=ask.lines[:0], pairs=pairs),
    )


def _others(count: int, positions: np.ndarray) -> np.ndarray:
    mask = np.ones(count, dtype=bool)
    mask[positions] = False
    return mask


def _refuse(result: ImportResult, mask: np.ndarray, sources: Mapping[str, SourceFile], reason: Reason, detail: str) -> ImportResult:
    """Add the rows of some candles to those refused; the candles themselves are left to the caller."""
    if not mask.any():
        return result
    times = {int(line): moment for line, moment in zip(result.lines[mask], result.series.open_times[mask], strict=True)}
    texts = _texts(sources[result.source], set(times)) if result.source in sources else {}
    rows = [
        RefusedRow(line=line, reason=reason, detail=f"{moment}Z: {detail}", text=texts.get(line, ""), source=result.source)
        for line, moment in times.items()
    ]
    return replace(result, refused=tuple(sorted((*result.refused, *rows), key=lambda row: row.line)))


def _texts(source: SourceFile, wanted: set[int]) -> dict[int, str]:
    with open_lines(source) as lines:
        return {number: text for number, text in enumerate(lines, start=1) if number in wanted}
