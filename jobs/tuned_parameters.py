"""What `--params` means: settings with the values that are promoted, or that one search has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fxcast.adapters.storage.database import Database, open_database
from fxcast.adapters.storage.promotions import PromotionRecord, Promotions
from fxcast.adapters.storage.tuning import TuningRecords, TuningRun
from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.parameters import Value, Values
from fxcast.tuning.strategy import TRADING, trading_values
from jobs.tuned_trading import FoundValues, trading_with

BEST = "best"
PARAMS = (
    "best: the values that are promoted for each symbol and timeframe (jobs.promote); or the name or id of a finished search: "
    "those of its winner. A value that was found replaces that of the settings"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Settings with values that were found, and where these come from.

    Attributes:
        told: What is traded with which values, a sentence for each part of the market.
        warnings: What a reader must know before any figure.
        facts: By name, where each symbol's values come from.
        runs: The searches that found them.
    """

    trading: TradingConfig
    told: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    runs: tuple[TuningRun, ...] = ()

    def seen(self, start: datetime, stop: datetime) -> tuple[str, ...]:
        """Return a warning for each search that has looked at [start, stop)."""
        warnings: list[str] = []
        for run in self.runs:
            if run.start < stop and run.stop > start:
                warnings.append(
                    f"The search {run.name} chose its values on {_days(run.start, run.stop)}, and candles of that time are traded "
                    "here: the values fit them, and what this report says of them is worth nothing."
                )
            if run.hold_out_start < stop and run.hold_out_stop > start:
                warnings.append(
                    f"The search {run.name} was judged on its hold-out of {_days(run.hold_out_start, run.hold_out_stop)}, and "
                    "candles of that time are traded here: this is the same look again, and no further proof."
                )
        return tuple(warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Values of one symbol, with where they come from in words."""

    found: FoundValues
    origin: str


def with_parameters(trading: TradingConfig, params: str, symbols: Sequence[str], timeframe: str, database_url: str) -> Parameters:
    """Return settings with the values that are promoted, or that a search has found, as they are at this moment.

    Args:
        params: best, or the name or id of a search.
        symbols: What is traded.

    Raises:
        BadSetting: If nothing is promoted for any of the symbols; if the search is unknown, not finished, or of another market; or
            if the values can't be traded together.
        BadSetup: If the database can't be reached or has an older schema.
    """
    database = open_database(database_url)
    try:
        if params == BEST:
            sources, warnings, runs = _promoted(database, symbols, timeframe)
        else:
            sources, warnings, runs = _of_search(database, params, symbols, timeframe)
    finally:
        database.dispose()
    try:
        merged = trading_with(trading, [each.found for each in sources], symbols)
    except BadSetting as error:
        raise BadSetting(f"params {params}: {error}") from None
    without = [symbol for symbol in symbols if all(each.found.symbol != symbol for each in sources)]
    origins = {symbol: [each.origin for each in sources if each.found.symbol == symbol] for symbol in symbols}
    return Parameters(
        trading=merged,
        told=(
            *(f"{_scope(each.found)}: {in_words(each.found.values)} ({each.origin})" for each in sources),
            *(f"{symbol}: nothing was found for it; it trades the settings as they are" for symbol in without),
        ),
        warnings=tuple(warnings),
        facts={f"parameters {symbol}": "; ".join(origins[symbol]) or "as in the settings" for symbol in symbols},
        runs=tuple(runs),
    )


def in_words(values: Values) -> str:
    """Return values in one line, without the word `trading` before each."""
    return ", ".join(f"{path.removeprefix(TRADING)} {_value(value)}" for path, value in values.items())


def _value(value: Value) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def scope_words(regime: str | None) -> str:
    """Return in words where values hold."""
    return "all regimes" if regime is None else f"regime {regime}"


_Found = tuple[list[_Source], list[str], list[TuningRun]]


def _promoted(database: Database, symbols: Sequence[str], timeframe: str) -> _Found:
    promotions, records = Promotions(database), TuningRecords(database)
    active = [each for symbol in symbols for each in promotions.active(symbol, timeframe)]
    if not active:
        raise BadSetting(
            f"params: found {BEST}, and nothing is promoted for {timeframe} candles of {', '.join(symbols)}; allowed: the name of "
            f"a search, or {BEST} after python -m jobs.promote --run NAME"
        )
    sources = [_promotion_source(each) for each in active]
    warnings = [_forced(each) for each in active if each.forced or not each.guard_passed]
    runs = [records.run(run_id) for run_id in dict.fromkeys(each.run_id for each in active)]
    return sources, warnings, [run for run in runs if run is not None]


def _promotion_source(promotion: PromotionRecord) -> _Source:
    regime = None if promotion.regime is None else Regime(promotion.regime)
    return _Source(
        found=FoundValues(symbol=promotion.symbol, regime=regime, values=trading_values(promotion.values)),
        origin=f"promotion {promotion.id} of {promotion.promoted_at:%Y-%m-%d}, {scope_words(promotion.regime)}: trial "
        f"{promotion.trial} of {promotion.run_name}, {promotion.run_id[:16]}",
    )


def _forced(promotion: PromotionRecord) -> str:
    reason = f": {promotion.reason}" if promotion.reason else ""
    return (
        f"{promotion.symbol}, {scope_words(promotion.regime)}: {promotion.by} forced promotion {promotion.id} (trial "
        f"{promotion.trial} of {promotion.run_name}) past the guard against overfitting{reason}"
    )


def _of_search(database: Database, params: str, symbols: Sequence[str], timeframe: str) -> _Found:
    run = TuningRecords(database).run(params)
    if run is None:
        raise BadSetting(
            f"params: found {params}, and there is no search of this name or id; allowed: {BEST}, or a finished search"
        )
    if run.status != "finished" or run.winner is None or run.winner_values is None:
        what = "is not finished" if run.status != "finished" else "has no winner"
        raise BadSetting(f"params: found {params}, a search that {what}; allowed: {BEST}, or a finished search")
    mine = [symbol for symbol in symbols if symbol in run.symbols]
    if run.timeframe != timeframe or not mine:
        raise BadSetting(
            f"params: found {params}, a search on {run.timeframe} candles of {', '.join(run.symbols)}, for {timeframe} candles of "
            f"{', '.join(symbols)}; allowed: one of the same timeframe that has one of these symbols"
        )
    regime = None if run.regime is None else Regime(run.regime)
    origin = f"search {run.name}, {scope_words(run.regime)}: trial {run.winner}, {run.id[:16]}"
    values = trading_values(run.winner_values)
    sources = [_Source(found=FoundValues(symbol=symbol, regime=regime, values=values), origin=origin) for symbol in mine]
    warnings: list[str] = []
    if not run.promotes:
        warnings.append(f"The search {run.name} did not pass its guard against overfitting: {run.verdict or 'no verdict'}")
    left = left_out(run.winner_values)
    if left:
        warnings.append(
            f"The winner of {run.name} also has {in_words(left)}, which no engine takes: a model has to be trained with it, and "
            "with another model these values were never tried."
        )
    return sources, warnings, [run]


def left_out(values: Values) -> Values:
    """Return those of a trial's values that are a model's, not the trader's."""
    return {path: value for path, value in values.items() if not path.startswith(TRADING)}


def _scope(found: FoundValues) -> str:
    return f"{found.symbol}, {scope_words(None if found.regime is None else found.regime.value)}"


def _days(start: datetime, stop: datetime) -> str:
    return f"{start:%Y-%m-%d} to {stop:%Y-%m-%d}"
