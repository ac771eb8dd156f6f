"""Does a strategy know what comes after a moment? Cut the future off, trade again, and compare every decision up to the cut.

A rerun sees copies of the candles that end at the cut, so that nothing later can be reached through them, forecasts of the windows
up to it, and regimes fitted anew on what is left. It begins where the whole run began, for a decision depends on all the past: a
rerun to a late cut costs as much as the whole run.

What is found, and what is not:
- A decision that looks k candles ahead differs in the last k candles before a cut, and before that it sees the same future in both
  runs. So more cuts see more, and a peek that matters only now and then needs many.
- A forecaster is asked again about windows before the cut, each alone, with nothing later in its memory: found is what it draws
  from other windows of its batch, or from those that it has seen before. What its weights have learned of the period is not; the
  job refuses such a model by the dates it was trained on.
- Spreads measured over the period stay those of the whole run: they are costs, which no source decides by alone, but they are an
  average of the time after the cut as well.
- A source, or a forecaster, that reads a file, a database or the candle store by itself reads the same in both runs. Nothing in
  memory can show that, and it is not found.
- A source that is random, or that remembers what it saw in another run, differs as well: that is no decision to trust either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from fxcast.backtest.differences import Difference, compare_until
from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService, SymbolForecasts
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.regimes import first_candle
from fxcast.backtest.result import BacktestResult
from fxcast.data.windows import known_at
from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime, to_datetime64
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.errors import BadSetting
from fxcast.trading.forecasting import forecast_seed

WINDOWS_A_CUT = 5  # forecast again before each cut, of each symbol
# Of a window's largest move. Alone instead of in a batch, the shipped model's samples differ by 1.4e-6 of it on a CPU; a GPU rounds
# the factors of a convolution to 10 bits, so forecasts that were stored there may differ by more.
ROUNDING = 1e-3
_FEWEST_MOMENTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCheck:
    """What was compared at one cut.

    Attributes:
        cut: Candles that close at it or before were known.
        decisions: Verdicts on signals that were compared.
        forecasts: Windows that were forecast again.
        differing: Decisions, and what followed from them, and forecasts, that are otherwise.
        differences: The first of each kind, oldest first; empty if nothing is.
    """

    cut: datetime
    decisions: int = 0
    forecasts: int = 0
    differing: int = 0
    differences: tuple[Difference, ...] = ()


def choose_cuts(
    series: Iterable[CandleSeries], start: datetime, stop: datetime, *, count: int, seed: int = 0
) -> tuple[datetime, ...]:
    """Return random closes of candles spread over a period, one from each of its equal parts, ascending.

    Never the period's last close, after which there is no future; all others if they are fewer than were asked for.

    Args:
        series: Those that are traded.

    Raises:
        BadSetting: If fewer than two moments are traded.
    """
    closes = [
        each.close_times[first_candle(each, start) : int(np.searchsorted(each.close_times, to_datetime64(stop)))] for each in series
    ]
    moments = np.unique(np.concatenate(closes))
    if len(moments) < _FEWEST_MOMENTS:
        found = f"{len(moments)} of them with a whole window from {start.isoformat()} to {stop.isoformat()}"
        raise BadSetting(f"candles: found {found}; allowed: a period with two or more, so that a future can be cut off")
    rng = np.random.default_rng([seed, count])
    parts = np.array_split(moments[:-1], min(count, len(moments) - 1))
    return tuple(to_datetime(part[int(rng.integers(len(part)))]) for part in parts)


def cut_off(series: CandleSeries, cut: datetime) -> CandleSeries:
    """Return a copy of the candles known at a moment; a slice would lead to the later ones through numpy's `base`."""
    known = known_at(series, cut)
    return replace(known, open_times=known.open_times.copy(), values=known.values.copy())


def without_later(prepared: PreparedForecasts, cut: datetime) -> PreparedForecasts:
    """Return a copy of the forecasts that were made up to a moment."""
    symbols: dict[str, SymbolForecasts] = {}
    for symbol, known in prepared.symbols.items():
        made = _made_until(known, cut)
        symbols[symbol] = replace(
            known, closed_at=known.closed_at[:made].copy(), price=known.price[:made].copy(), moves=known.moves[:made].copy()
        )
    return replace(prepared, symbols=symbols)


def run_until(
    setup: BacktestSetup,
    series: Mapping[str, CandleSeries],
    cut: datetime,
    *,
    own: PreparedForecasts | None = None,
    others: Mapping[str, PreparedForecasts] | None = None,
    inner: Mapping[str, InnerCandles] | None = None,
) -> BacktestResult:
    """Trade a period whose candles end at a cut, with regimes fitted on the way.

    Args:
        own: Forecasts of the service's own model, of the whole period.
        others: By model version, those of the others.
        inner: Of the whole period as well.
    """
    service = None
    if own is not None or others:
        further = {version: without_later(each, cut) for version, each in (others or {}).items()}
        service = PreparedService(None if own is None else without_later(own, cut), further)
    engine = BacktestEngine(
        setup,
        {symbol: cut_off(each, cut) for symbol, each in series.items()},
        forecasts=service,
        inner={symbol: InnerCandles(cut_off(each.series, cut)) for symbol, each in (inner or {}).items()},
    )
    return engine.run()


def compare_runs(whole: BacktestResult, rerun: BacktestResult, cut: datetime) -> CutCheck:
    """Compare what a run that knew the future did up to a cut with what one without it did."""
    found = compare_until(whole, rerun, cut)
    return CutCheck(cut=cut, decisions=found.decisions, differing=found.differing, differences=found.differences)


def compare_forecasts(
    prepared: PreparedForecasts, forecaster: Forecaster, series: CandleSeries, cut: datetime, *, windows: int = WINDOWS_A_CUT
) -> CutCheck:
    """Forecast the last windows before a cut again, each alone and with its own seed, and compare with what was traded on.

    Args:
        prepared: By the same model, of the whole period.
        forecaster: As it was loaded, or as it is after earlier cuts.
        series: The whole one.
    """
    used, known = prepared.symbols[series.symbol], cut_off(series, cut)
    made = _made_until(used, cut)
    rows = range(max(0, made - windows), made)
    found: list[Difference] = []
    for row in rows:
        at = np.datetime64(int(used.closed_at[row]), "s")
        end = np.searchsorted(known.close_times, at)
        again = forecaster.sample(
            WindowBatch.ending_at(known, np.array([end])),
            num_samples=used.moves.shape[1],
            seeds=[forecast_seed(series.symbol, to_datetime(at))],
        )[0].astype(np.float64)  # (samples, horizons)
        before = used.moves[row].astype(np.float64)
        if before.shape == again.shape and np.abs(before - again).max() <= ROUNDING * np.abs(again).max():
            continue
        found.append(
            Difference(
                at=to_datetime(at),
                symbol=series.symbol,
                what=f"forecast of {prepared.model_version}",
                with_future=_told_moves(before, prepared.horizons_minutes),
                without=_told_moves(again, forecaster.horizons_minutes),
            )
        )
    return CutCheck(cut=cut, forecasts=len(rows), differing=len(found), differences=tuple(found[:1]))


def together(checks: Sequence[CutCheck]) -> CutCheck:
    """Return what was compared at one cut in several runs, and of several forecasters, as one."""
    (cut,) = {check.cut for check in checks}
    return CutCheck(
        cut=cut,
        decisions=sum(check.decisions for check in checks),
        forecasts=sum(check.forecasts for check in checks),
        differing=sum(check.differing for check in checks),
        differences=tuple(sorted((each for check in checks for each in check.differences), key=lambda each: each.at)),
    )


def _made_until(known: SymbolForecasts, cut: datetime) -> int:
    return int(np.searchsorted(known.closed_at, int(to_datetime64(cut).astype(np.int64)), side="right"))


def _told_moves(moves: FloatArray, horizons_minutes: Sequence[int]) -> str:
    """Say where samples of log moves, (samples, horizons), lie."""
    centres, spreads = 100 * moves.mean(axis=0), 100 * moves.std(axis=0)
    each = zip(horizons_minutes, centres, spreads, strict=True)
    return ", ".join(f"{centre:+.4f} ± {spread:.4f} % in {minutes} min" for minutes, centre, spread in each)
