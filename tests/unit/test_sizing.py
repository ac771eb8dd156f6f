"""Sizes worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from fxcast.domain.forecast import HorizonForecast, summarize
from fxcast.domain.instrument import Instrument, default_instrument
from fxcast.domain.money import rates_from_prices
from fxcast.domain.order import Side
from fxcast.errors import BadSetup
from fxcast.trading.config import SizingConfig, SizingMethod
from fxcast.trading.kelly import TradeOutcomes, growth_optimal_share, trade_outcomes
from fxcast.trading.sizing import Size, SizeView, margin_needed, size_position, uncertainty_factor

PRICES = {
    "EURUSD": Decimal("1.25"),
    "GBPUSD": Decimal("1.27"),
    "EURGBP": Decimal("0.85"),
    "USDJPY": Decimal(150),
    "USDCHF": Decimal("0.80"),
}


def view(
    *,
    symbol: str = "EURUSD",
    price: str = "1.25000",
    stop: str = "1.24600",
    target: str = "1.25400",
    spread: str = "0",
    currency: str = "USD",
    equity: str = "100000",
    **others: Any,  # any other field
) -> SizeView:
    side = Side.BUY if Decimal(target) > Decimal(price) else Side.SELL
    content: dict[str, Any] = {
        "free_margin": Decimal(equity),
        "side": side,
        "instrument": default_instrument(symbol),
        "rates": rates_from_prices(PRICES, currency),
        "horizon": None,
        "forecast_price": None,
        "bar_volatility": 0.0005,
        "horizon_bars": 4,
        "uncertainty_pct": None,
        "uncertainty_threshold": 0.5,
    }
    return SizeView(
        equity=Decimal(equity),
        price=Decimal(price),
        stop=Decimal(stop),
        target=Decimal(target),
        spread=Decimal(spread),
        **{**content, **others},
    )


def forecast(mean: float, std: float, samples: tuple[float, ...] = ()) -> HorizonForecast:
    return HorizonForecast(mean=mean, std=std, q05=mean - 1.645 * std, q50=mean, q95=mean + 1.645 * std, samples=samples)


FIXED = SizingConfig()
KELLY = SizingConfig(method=SizingMethod.KELLY)
VOLATILITY = SizingConfig(method=SizingMethod.VOLATILITY_TARGET)


def fixed(sized: SizeView) -> Decimal:
    return size_position(sized, FIXED).base_units


# Fixed fraction


def test_half_a_per_cent_of_equity_is_lost_at_the_stop() -> None:
    # 0.5 % of 100,000 is 500 dollars; 40 pips cost 0.0040 a unit: 125,000 units
    assert fixed(view()) == Decimal(125_000)


def test_the_spread_is_part_of_the_loss() -> None:
    # 500 / (0.0040 + 0.0001) = 121,951: rounded down to 121,000
    assert fixed(view(spread="0.0001")) == Decimal(121_000)


def test_a_short_position_has_its_stop_above() -> None:
    assert fixed(view(stop="1.25400", target="1.24600")) == Decimal(125_000)


def test_an_account_in_the_base_currency_loses_quote_over_the_price_at_the_stop() -> None:
    # 39 pips below 1.2500 a dollar is 1 / 1.2461 euros: 0.0039 dollars are 0.00312977 euros; 500 / that = 159,756
    assert fixed(view(currency="EUR", stop="1.24610")) == Decimal(159_000)
    # above, it is worth less than now, but now counts: 0.0039 / 1.25 = 0.00312; 500 / that = 160,256
    assert fixed(view(currency="EUR", stop="1.25390", target="1.24600")) == Decimal(160_000)


def test_a_cross_is_converted_by_its_quote_currency() -> None:
    # 0.0041 pounds × 1.27 dollars × 0.8500 / 0.8460 = 0.00523162; 500 / that = 95,573
    cross = {"symbol": "EURGBP", "price": "0.85000", "spread": "0.0001"}
    assert fixed(view(**cross, stop="0.84600", target="0.85400")) == Decimal(95_000)
    # short: 0.0041 × 1.27 = 0.005207; 500 / that = 96,024
    assert fixed(view(**cross, stop="0.85400", target="0.84600")) == Decimal(96_000)


def test_yen_pairs_use_their_own_pip() -> None:
    # 500 dollars; (0.40 + 0.01) yen / 149.60 at the stop = 0.00274064 dollars; 500 / that = 182,439
    sized = view(symbol="USDJPY", price="150.000", stop="149.600", target="150.400", spread="0.01")
    assert fixed(sized) == Decimal(182_000)
    assert "stop 40.0 pips + spread 1.0 pips = 0.41 ×" in " ".join(size_position(sized, FIXED).arithmetic)


@pytest.mark.parametrize(
    ("symbol", "currency", "of_a_lot"),
    [
        ("EURGBP", "USD", "12.70"),  # 10 pounds at 1.27
        ("USDJPY", "USD", "6.67"),  # 1,000 yen at 150
        ("EURUSD", "EUR", "8.00"),  # 10 dollars at 1.25
        ("USDCHF", "GBP", "9.84"),  # 10 francs at 0.80 are 12.50 dollars, at 1.27 9.84 pounds
        ("EURUSD", "USD", "10.00"),
    ],
)
def test_a_pip_of_a_lot_is_worth(symbol: str, currency: str, of_a_lot: str) -> None:
    pip = rates_from_prices(PRICES, currency).pip_value(symbol, default_instrument(symbol).pip)
    assert round(100_000 * pip, 2) == Decimal(of_a_lot)


def test_a_currency_without_a_rate_is_refused_by_name() -> None:
    with pytest.raises(BadSetup, match="no rate from SEK to the account's USD"):
        size_position(view(symbol="EURSEK"), FIXED)


@pytest.mark.parametrize(
    ("uncertainty", "units"), [(None, 125_000), (0.0, 125_000), (0.1, 100_000), (0.3, 50_000), (0.5, 0), (0.7, 0)]
)
def test_size_falls_in_a_line_to_zero_at_the_threshold(uncertainty: float | None, units: int) -> None:
    size = size_position(view(uncertainty_pct=uncertainty), FIXED)
    assert (size.base_units, size.units) == (Decimal(125_000), Decimal(units))


def test_scaled_size_is_rounded_down_to_the_lot() -> None:
    assert size_position(view(uncertainty_pct=0.25), FIXED).units == Decimal(62_000)  # 62,500


def test_factor_is_never_negative() -> None:
    assert uncertainty_factor(9.0, 0.5) == 0


def test_no_equity_gives_no_units_and_says_so() -> None:
    nothing = Decimal(0)
    assert size_position(view(equity="-5"), FIXED) == Size(
        base_units=nothing, units=nothing, arithmetic=("nothing to risk: equity -5.00 USD",)
    )


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ({"stop": "1.25000"}, "the stop 1.25000 does not lie below the price 1.25000"),
        ({"stop": "1.25100"}, "the stop 1.25100 does not lie below the price 1.25000"),
        ({"stop": "1.24900", "target": "1.24000"}, "the stop 1.24900 does not lie above the price 1.25000"),
    ],
)
def test_a_stop_on_the_wrong_side_gives_no_units(prices: dict[str, str], words: str) -> None:
    size = size_position(view(**prices), FIXED)
    assert (size.units, size.arithmetic) == (Decimal(0), (words,))


def test_a_size_below_the_smallest_order_is_none() -> None:
    size = size_position(view(equity="500"), FIXED)  # 2.50 dollars / 0.0040 = 625 units
    assert (size.base_units, size.units) == (Decimal(0), Decimal(0))
    assert size.arithmetic[-1] == "below the smallest order of 1,000: 0"


def test_an_order_has_at_most_the_instruments_units() -> None:
    size = size_position(view(instrument=replace(default_instrument("EURUSD"), max_units=Decimal(80_000))), FIXED)
    assert size.units == Decimal(80_000)
    assert size.arithmetic[-1] == "at most 80,000 in one order: 80,000"


def test_a_micro_lot_step_is_kept() -> None:
    fine = Instrument(
        symbol="EURUSD", pip=Decimal("0.0001"), tick=Decimal("0.00001"), lot_step=Decimal("0.1"), min_units=Decimal("0.1")
    )
    assert fixed(view(instrument=fine, spread="0.0001")) == Decimal("121951.2")  # of 121,951.219…


def test_the_arithmetic_tells_every_step_with_its_numbers() -> None:
    sized = view(spread="0.0001", uncertainty_pct=0.172, stop="1.24550", rates=rates_from_prices(PRICES, "USD"))
    # 500 / 0.0046 = 108,695.65; × (1 − 0.172 / 0.5) = 71,304.35
    assert size_position(sized, FIXED) == Size(
        base_units=Decimal(108_000),
        units=Decimal(71_000),
        arithmetic=(
            "equity 100,000.00 USD × 0.5 % = 500.00 USD at risk",
            "stop 45.0 pips + spread 1.0 pips = 0.0046 × 1 USD per unit: 108,695.65 units",
            "uncertainty 0.172 % of 0.5 %: × 0.656",
            "rounded down to 1,000: 71,000",
        ),
    )


# Margin


def test_margin_is_a_share_of_what_the_base_currency_is_worth() -> None:
    rates = rates_from_prices(PRICES, "USD")
    # 100,000 euros are 125,000 dollars, 5 % of it
    assert margin_needed("EURGBP", Decimal(100_000), default_instrument("EURGBP"), rates) == Decimal(6_250)
    assert margin_needed("USDJPY", Decimal(100_000), default_instrument("USDJPY"), rates) == Decimal(5_000)


def test_no_more_is_asked_for_than_there_is_margin() -> None:
    # 125,000 euros × 1.25 × 5 % = 7,812.50 dollars of margin; 3,000 are enough for 48,000 euros
    size = size_position(view(free_margin=Decimal(3_000)), FIXED)
    assert (size.base_units, size.units) == (Decimal(125_000), Decimal(48_000))
    assert "margin 7,812.50 USD needed, 3,000.00 USD free: 48,000.00 units" in size.arithmetic


def test_without_free_margin_there_is_no_size() -> None:
    assert size_position(view(free_margin=Decimal(-1)), FIXED).units == 0


# Volatility target


def test_profit_varies_as_much_as_wanted_by_the_forecast() -> None:
    # 0.25 % of 100,000 is 250 dollars; 250 / 0.0060 = 41,666
    sized = view(horizon=forecast(1.251, 0.0060), forecast_price=1.25)
    size = size_position(sized, VOLATILITY)
    assert size.units == Decimal(41_000)
    # the stop, 40 pips away, costs 0.25 % × 0.0040 / 0.0060 of equity
    assert size.arithmetic[0] == "std 60.0 pips by the forecast = 0.006 USD per unit, to be 0.25 % of equity: 0.1667 % at the stop"


def test_without_a_forecast_the_candles_tell_the_volatility() -> None:
    # 0.0012 × √4 × 1.25 = 0.0030 dollars; 250 / 0.0030 = 83,333
    size = size_position(view(bar_volatility=0.0012), VOLATILITY)
    assert size.units == Decimal(83_000)
    assert "std 30.0 pips by the volatility of 4 candles" in size.arithmetic[0]


def test_a_quiet_market_does_not_lift_the_cap_at_the_stop() -> None:
    # 250 / 0.0010 = 250,000 units would lose 1 % at the stop
    size = size_position(view(horizon=forecast(1.251, 0.0010), forecast_price=1.25), VOLATILITY)
    assert size.units == Decimal(125_000)
    assert size.arithmetic[1] == "at most 0.5 % may be lost at the stop"


@pytest.mark.parametrize("volatility", [0.0, float("nan")])
def test_without_any_movement_volatility_gives_no_size(volatility: float) -> None:
    size = size_position(view(bar_volatility=volatility), VOLATILITY)
    assert size.units == 0
    assert size.arithmetic == ("no size by volatility: the volatility of 4 candles shows no movement",)


# Kelly


def outcomes(*pairs: tuple[float, float]) -> TradeOutcomes:
    profits, probabilities = (np.array(column) for column in zip(*pairs, strict=True))
    return TradeOutcomes(profits=profits, probabilities=probabilities, target_first=0.0, stop_first=0.0)


@pytest.mark.parametrize(
    ("bet", "share"),
    [
        (outcomes((1.0, 0.6), (-1.0, 0.4)), 0.2),  # p − q
        (outcomes((2.0, 0.5), (-1.0, 0.5)), 0.25),  # p − q / b
        (outcomes((0.5, 0.9), (-1.0, 0.1)), 0.7),
        (outcomes((1.0, 0.999), (-1.0, 0.001)), 0.998),
        (outcomes((1.0, 0.5), (-1.0, 0.5)), 0.0),
        (outcomes((1.0, 0.4), (-1.0, 0.6)), 0.0),
    ],
)
def test_kelly_share_is_that_of_the_textbook(bet: TradeOutcomes, share: float) -> None:
    assert growth_optimal_share(bet) == pytest.approx(share, abs=1e-6)


def trade(horizon: HorizonForecast, *, stop: float, target: float, spread: float = 0.0, side: Side = Side.BUY) -> TradeOutcomes:
    return trade_outcomes(horizon, origin=1.25, price=1.25, side=side, stop_distance=stop, target_distance=target, spread=spread)


def test_a_price_reaches_a_target_twice_as_often_as_it_ends_beyond_it() -> None:
    # the reflection principle: with no stop near, P(touch 1 std) = 2 · P(end beyond it) = 31.7 %
    ended = trade(forecast(1.25, 0.0020), stop=0.0200, target=0.0020)
    assert ended.target_first == pytest.approx(2 * NormalDist().cdf(-1.0), abs=0.005)
    assert ended.stop_first == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("stop", "target"), [(0.0033, 0.0005), (0.0020, 0.0020), (0.0005, 0.0040), (0.0002, 0.0001)])
def test_a_fair_game_stays_fair_between_any_stop_and_target(stop: float, target: float) -> None:
    ended = trade(forecast(1.25, 0.0020), stop=stop, target=target)
    assert ended.expectation == pytest.approx(0.0, abs=0.01)
    assert ended.probabilities.sum() == pytest.approx(1.0)
    # whoever is played out to an end wins as often as the distances say: stop / (stop + target), where the horizon is far
    if target < 0.0005:
        assert ended.target_first == pytest.approx(stop / (stop + target), abs=0.02)


def test_long_and_short_are_mirrors() -> None:
    long = trade(forecast(1.2510, 0.0020), stop=0.0030, target=0.0010)
    short = trade(forecast(1.2490, 0.0020), stop=0.0030, target=0.0010, side=Side.SELL)
    assert short.expectation == pytest.approx(long.expectation, abs=1e-9)
    assert long.expectation > 0.1


def test_the_spread_comes_off_every_outcome() -> None:
    ended = trade(forecast(1.25, 0.0020), stop=0.0030, target=0.0010, spread=0.0001)
    assert ended.profits.min() == pytest.approx(-1.0)
    assert ended.profits.max() == pytest.approx(0.0009 / 0.0031)


def test_samples_tell_more_than_their_summary() -> None:
    # nine of ten end 30 pips up, one 270 pips down; of the normal law with the same mean and std almost none reach 300 pips
    skewed = summarize(np.array([1.2530] * 45 + [1.2230] * 5))
    by_samples = trade(skewed, stop=0.0300, target=0.0200)
    by_law = trade(replace(skewed, samples=()), stop=0.0300, target=0.0200)
    assert by_samples.stop_first > 0.01
    assert by_law.stop_first < 0.001


def test_a_trade_without_a_width_or_a_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="no trade has std 0"):
        trade(forecast(1.2510, 0.0), stop=0.0030, target=0.0010)
    with pytest.raises(ValueError, match=r"target 0\.0 away"):
        trade(forecast(1.2510, 0.0020), stop=0.0030, target=0.0)


def kelly(mean: float, *, config: SizingConfig = KELLY, **others: Any) -> Size:  # any other field
    others = {"horizon": forecast(mean, 0.0020), "forecast_price": 1.25, **others}
    return size_position(view(stop="1.24670", target="1.25100", **others), config)


def test_kelly_takes_its_fraction_and_says_how() -> None:
    config = SizingConfig(method=SizingMethod.KELLY, kelly_fraction=0.01, risk_per_trade_pct=5)
    size = kelly(1.2510, config=config)
    ended = trade(forecast(1.2510, 0.0020), stop=0.0033, target=0.0010)
    share = growth_optimal_share(ended)
    assert 0.3 < share < 0.7
    assert size.units == (Decimal(str(1000 * share)) / Decimal("0.0033") // 1000) * 1000  # 1 % of the share of 100,000
    assert size.arithmetic[0].startswith("by the normal law: target first ")
    assert size.arithmetic[1].startswith(f"Kelly bet {100 * share:.3g} % of equity × 0.01 = ")


def test_kelly_is_capped_at_the_risk_of_a_trade() -> None:
    size = kelly(1.2510)
    assert size.base_units == Decimal(151_000)  # 500 / 0.0033 = 151,515
    assert "at most 0.5 % may be lost at the stop" in size.arithmetic


def test_kelly_bets_nothing_without_an_edge_after_the_spread() -> None:
    size = kelly(1.2501, spread="0.0002")
    assert size.units == 0
    assert size.arithmetic[-1] == "no edge after the spread: no Kelly bet"
    assert kelly(1.2480).units == 0  # against the forecast


def test_the_moves_of_an_older_forecast_count_from_its_own_price() -> None:
    # the price has run 4 % ahead of the forecast: what counts is the law of the move, not a return to where it was
    older = forecast(0.96 * 1.2510, 0.96 * 0.0020)
    config = SizingConfig(method=SizingMethod.KELLY, kelly_fraction=0.01, risk_per_trade_pct=5)
    assert kelly(1.2510, config=config, horizon=older, forecast_price=1.2) == kelly(1.2510, config=config)


def test_kelly_without_a_distribution_is_no_bet() -> None:
    without = view()
    single = view(horizon=forecast(1.2510, 0.0), forecast_price=1.25)
    for sized in (without, single):
        size = size_position(sized, KELLY)
        assert (size.units, size.arithmetic) == (
            Decimal(0),
            ("no distribution to bet on: no Kelly bet without a forecast",),
        )


def test_kelly_without_a_target_ahead_is_no_bet() -> None:
    sized = view(side=Side.BUY, target="1.24900", horizon=forecast(1.2510, 0.0020), forecast_price=1.25)
    size = size_position(sized, KELLY)
    assert (size.units, size.arithmetic) == (Decimal(0), ("no edge: the target 1.24900 is not beyond the price 1.25000",))


@pytest.mark.parametrize("units", ["20000", "2E+4", "20999.5"])
def test_a_rounded_size_reads_as_a_whole_number(units: str) -> None:
    assert str(default_instrument("EURUSD").round_units(Decimal(units))) == "20000"
