"""The tape of a series says, candle by candle, what the paper market says of each candle alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries
from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import Quote
from fxcast.trading.config import CandleSide, PaperMarketConfig
from fxcast.trading.simulation.prices import candle_quotes
from fxcast.trading.simulation.tape import quote_tape, ticks_of
from tests.factories import make_series

# The Friday before New York's clock goes forward; the hours of the week after are others in UTC.
_START = datetime(2024, 3, 8, 12, tzinfo=UTC)
_HOURS = {hour: Decimal(hour) / 4 for hour in (0, 3, 9, 16, 17, 18)}


def _market(side: CandleSide, **changes: object) -> PaperMarketConfig:
    return PaperMarketConfig.model_validate({"candle_side": side, "spread_pips": Decimal("0.7"), **changes})


def _walk(symbol: str, timeframe: str, *, digits: int, seed: int = 0, bars: int = 300) -> CandleSeries:
    """A random walk, with prices of so many digits."""
    price = 150.0 if symbol.endswith("JPY") else 1.1
    volatility = 0.0004
    steps = np.random.default_rng(seed).normal(0.0, volatility, bars)
    closes: list[float] = (price * np.exp(np.cumsum(steps))).round(digits).tolist()
    width = round(price * volatility, digits)
    return make_series(closes, symbol=symbol, timeframe=timeframe, start=_START, range_width=width)


def _assert_told_alike(config: PaperMarketConfig, series: CandleSeries) -> None:
    tape = quote_tape(config, series)
    for at in range(len(series)):
        quoted = candle_quotes(config, series.symbol, series.candle(at), series.close_time(at))
        for name in ("low", "high", "close"):
            expected: Quote = getattr(quoted, name)
            bid, ask = (int(getattr(tape, f"{name}_{side}")[at]) * tape.tick for side in ("bid", "ask"))
            assert (bid, ask) == (expected.bid, expected.ask), f"{name} of candle {at}, {series.candle(at)}"


@pytest.mark.parametrize("side", list(CandleSide))
@pytest.mark.parametrize("timeframe", ["1m", "1h", "4h", "1d"])
@pytest.mark.parametrize(
    "spreads",
    [
        {},
        {"spread_pips": Decimal("1.1")},  # an odd number of ticks: half of it lies between two
        {"spread_pips_by_hour": _HOURS},
        {"spread_pips_by_symbol": {"EURUSD": {17: Decimal(9), 18: Decimal("0.1")}}},
        {"spread_pips_by_hour": _HOURS, "spread_pips_by_symbol": {"EURUSD": {17: Decimal(9)}, "USDJPY": {3: Decimal(5)}}},
    ],
)
def test_bid_and_ask_are_those_of_each_candle_alone(side: CandleSide, timeframe: str, spreads: Mapping[str, object]) -> None:
    _assert_told_alike(_market(side, **spreads), _walk("EURUSD", timeframe, digits=5, bars=150))


@pytest.mark.parametrize("side", list(CandleSide))
@pytest.mark.parametrize(("symbol", "digits"), [("EURUSD", 6), ("USDJPY", 4), ("EURUSD", 9), ("EURUSD", 16)])
def test_prices_between_two_ticks_are_rounded_alike(side: CandleSide, symbol: str, digits: int) -> None:
    _assert_told_alike(_market(side, spread_pips_by_hour=_HOURS), _walk(symbol, "1m", digits=digits, seed=digits))


@pytest.mark.parametrize("symbol", ["EURUSD", "USDJPY"])
def test_half_a_tick_is_rounded_as_the_instrument_does_it(symbol: str) -> None:
    instrument = default_instrument(symbol)
    halves = [float((2 * ticks + 1) * instrument.tick / 2) for ticks in range(100_000, 100_400)]
    expected = [int(instrument.round_price(price) / instrument.tick) for price in halves]
    assert ticks_of(np.array(halves), instrument).tolist() == expected
    assert {ticks % 2 for ticks in expected} == {0}  # half to even


def test_a_series_without_candles_has_an_empty_tape() -> None:
    tape = quote_tape(_market(CandleSide.MID), make_series(bars=10).slice(0, 0))
    assert len(tape.close_bid) == len(tape.high_ask) == 0
