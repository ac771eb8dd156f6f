"""Invariants of sources, fusion, quality, regimes and longer timeframes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.data.higher_timeframes import HigherTimeframes
from fxcast.data.resample import resample
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.market import without_details
from fxcast.domain.signal import Direction, QualityScore, Regime, Signal, SignalKind, SignalSource
from fxcast.domain.timeframe import Timeframe, timeframes
from fxcast.errors import BadCandles
from fxcast.signals.fusion import fuse
from fxcast.signals.ldm4ts import ForecastSource
from fxcast.signals.mean_reversion import MeanReversionSource
from fxcast.signals.multi_timeframe import MultiTimeframeRule, MultiTimeframeSource
from fxcast.signals.pattern import PatternSource
from fxcast.signals.quality import QualityConfig, SignalQualityScorer, consistency, explain
from fxcast.signals.regime import RegimeModel, RegimeState, RegimeView, regime_state_from_dict
from fxcast.signals.sources import MarketView, Source, check_signals
from fxcast.signals.trend import TrendSource
from tests.factories import NOON, make_prediction, make_series, random_walk_prediction
from tests.signal_factories import make_view

FRACTIONS = st.floats(0.0, 1.0)
MOMENTS = st.datetimes(datetime(2017, 1, 1), datetime(2018, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone given beside
SEEDS = st.integers(0, 2**32 - 1)
BUILT_IN: tuple[Source, ...] = (
    ForecastSource(min_strength=0.0),
    TrendSource(),
    MeanReversionSource(),
    PatternSource(),
    MultiTimeframeSource(rule=MultiTimeframeRule(min_share=0.51)),
)


@st.composite
def signals(draw: st.DrawFn, *, at: datetime = NOON) -> Signal:
    direction = draw(st.sampled_from(Direction))
    reach = st.floats(1e-5, 0.05)
    return Signal(
        source=draw(st.sampled_from([*SignalSource, "my_breakout", "another"])),
        kind=draw(st.sampled_from(SignalKind)),
        symbol="EURUSD",
        made_at=at,
        horizon_minutes=240,
        direction=direction,
        strength=draw(FRACTIONS),
        price=1.10,
        stop=1.10 - direction.sign * draw(reach),
        target=1.10 + direction.sign * draw(reach),
    )


@st.composite
def regime_views(draw: st.DrawFn) -> RegimeView:
    weights = [draw(st.floats(1e-6, 1.0)) for _ in Regime]
    probabilities = {regime: weight / sum(weights) for regime, weight in zip(Regime, weights, strict=True)}
    return RegimeView(regime=max(Regime, key=lambda regime: probabilities[regime]), probabilities=probabilities)


@st.composite
def configs(draw: st.DrawFn) -> QualityConfig:
    rows = {regime: [draw(FRACTIONS) + 1e-3 for _ in range(6)] for regime in Regime}
    weights = {regime: [each / sum(row) for each in row] for regime, row in rows.items()}
    return QualityConfig.model_validate({"weights": weights, "uncertainty_weight": draw(FRACTIONS)})


def higher_of(seed: int) -> dict[str, CandleSeries]:
    return {name: make_series(bars=100, timeframe=name, seed=seed + number) for number, name in enumerate(("4h", "1d"))}


@settings(deadline=None)
@given(data=st.data(), config=configs())
def test_every_dimension_lies_within_its_bounds_and_total_falls_with_uncertainty(
    data: st.DataObject, config: QualityConfig
) -> None:
    at, seed = data.draw(MOMENTS), data.draw(st.integers(0, 50))
    consensus = fuse(data.draw(st.lists(signals(at=at), min_size=1, max_size=6)), made_at=at, price=1.10)
    if consensus is None:
        return
    scorer = SignalQualityScorer(uncertainty_threshold=0.5, max_spread_pips=3.0, forecast_spread_pips=1.0, config=config)
    prediction = data.draw(st.sampled_from([None, make_prediction()]))
    view = make_view(
        make_series(bars=100, seed=seed),
        higher=data.draw(st.sampled_from([{}, higher_of(seed)])),
        predictions=data.draw(st.sampled_from([{}, {"garch_forecast": make_prediction({240: (1.099, 0.001)})}])),
        spread_pips=data.draw(st.floats(0, 20)),
    )
    regimes = data.draw(regime_views())

    def score(uncertainty_pct: float | None) -> QualityScore:
        return scorer.score(consensus, view=view, prediction=prediction, regimes=regimes, uncertainty_pct=uncertainty_pct)

    low, high = sorted(data.draw(st.tuples(st.floats(0, 2), st.floats(0, 2))))
    # QualityScore refuses values outside [0, 1] by itself.
    less, more = score(low), score(high)
    assert more.total <= less.total <= score(None).total
    assert less.total == less.weighted_mean * (1 - less.uncertainty_penalty)
    assert sum(more.costs.values()) == pytest.approx(1.0 - more.total, abs=2e-6)
    assert all(cost >= -1e-12 for cost in more.costs.values())
    named = [line.split(" cost ")[0] for line in explain(more)]
    assert [more.costs[name] for name in named] == sorted((more.costs[name] for name in named), reverse=True)


@given(said=st.lists(signals(), min_size=1, max_size=8), late=st.integers(0, 300))
def test_a_consensus_is_of_one_signal_a_source_none_of_them_over(said: Sequence[Signal], late: int) -> None:
    at = NOON + timedelta(minutes=late)
    consensus = fuse(said, made_at=at, price=1.10)
    if late >= 240:
        assert consensus is None
    if consensus is None:
        return
    names = [member.source for member in consensus.members]
    assert len(set(names)) == len(names) == len({signal.source for signal in said})
    assert consensus.leader in consensus.supporters
    assert 0.0 < consensus.strength <= 1.0
    assert consensus == fuse(reversed(consensus.members), made_at=at, price=1.10)


@given(said=st.lists(signals(), min_size=1, max_size=6, unique_by=lambda signal: signal.source), strength=FRACTIONS)
def test_a_source_against_the_others_never_raises_consistency_nor_strength(said: Sequence[Signal], strength: float) -> None:
    before = fuse(said, made_at=NOON, price=1.10)
    if before is None:
        return
    against = Direction.BEAR if before.direction is Direction.BULL else Direction.BULL
    sign = against.sign
    rival = replace(
        before.leader, source="rival", direction=against, strength=strength, stop=1.10 - 0.01 * sign, target=1.10 + 0.01 * sign
    )
    after = fuse([*said, rival], made_at=NOON, price=1.10)
    if after is None or after.direction is not before.direction:
        return
    assert consistency(after) < consistency(before)
    assert after.strength <= before.strength


def sound_walk(seed: int, *, bars: int = 130) -> CandleSeries:
    """Return a wild walk with wicks, gaps between candles, and volumes that jump."""
    rng = np.random.default_rng(seed)
    closes = 1.1 * np.exp(np.cumsum(rng.normal(0, rng.choice([1e-4, 1e-3, 5e-3]), bars)))
    opens = np.concatenate([closes[:1], closes[:-1]]) * (1 + rng.normal(0, 1e-4, bars) * (rng.random(bars) < 0.3))
    wicks = np.abs(rng.normal(0, 5e-4, (2, bars)))
    high, low = np.maximum(opens, closes) + wicks[0], np.minimum(opens, closes) - wicks[1]
    volume = np.round(rng.exponential(100.0, bars)) * rng.choice([0.0, 1.0])
    return replace(make_series(bars=bars), values=np.column_stack([opens, high, low, closes, volume]))


def seen(series: CandleSeries, position: int, *, timeframe: str = "4h") -> MarketView:
    """What is known when a candle closes, nothing of it taken from later ones."""
    known = series.slice(0, position + 1)
    window = known.slice(position - 99, position + 1)
    longer = HigherTimeframes.of(known, (timeframe,))
    prediction = random_walk_prediction(window, seed=position)
    return make_view(window, higher=longer.candles, predictions={"ldm4ts_forecast": prediction})


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, position=st.integers(99, 128))
def test_what_a_source_says_is_sound_and_knows_nothing_of_the_future(seed: int, position: int) -> None:
    series = sound_walk(seed)
    values = series.values.copy()
    values[position + 1 :, :4] *= 1.07
    other_future = replace(series, values=values)
    view = seen(series, position)
    for source in BUILT_IN:
        said = check_signals(source, source.signals(view), view)  # refuses what can't be, and what is of the future
        assert said == tuple(source.signals(seen(other_future, position)))
        assert said == tuple(source.signals(view))


FITTED = RegimeModel(
    start=np.full(3, 1 / 3),
    transition=np.array([[0.95, 0.03, 0.02], [0.03, 0.95, 0.02], [0.05, 0.05, 0.90]]),
    means=np.array([[-0.5, -0.5], [1.0, -0.3], [0.0, 1.0]]),
    variances=np.ones((3, 2)),
    center=np.array([0.3, -7.5]),
    scale=np.array([0.2, 1.0]),
    labels=(Regime.RANGING, Regime.TRENDING, Regime.VOLATILE),
)


def filtered_states(series: CandleSeries) -> list[RegimeState]:
    states: list[RegimeState] = []
    state = RegimeState(model=FITTED)
    for position in range(99, len(series)):
        state = state.advanced(series.slice(position - 99, position + 1))
        states.append(state)
    return states


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, changed=st.integers(100, 129), factor=st.floats(0.8, 1.25))
def test_no_later_candle_changes_a_regime_seen_before(seed: int, changed: int, factor: float) -> None:
    series = sound_walk(seed)
    values = series.values.copy()
    values[changed:, :4] *= factor
    before, after = filtered_states(series), filtered_states(replace(series, values=values))
    known = changed - 99
    assert before[:known] == after[:known]
    for state in before:
        assert sum(state.probabilities) == pytest.approx(1.0)
        assert regime_state_from_dict(json.loads(json.dumps(state.to_dict()))) == state
    path = FITTED.filtered_path(series)[99 - 12 :]
    np.testing.assert_allclose([state.probabilities for state in before], path, rtol=1e-9, atol=1e-12)


def regime_model_of(rng: np.random.Generator) -> RegimeModel:
    """Return a model as a fit may end in: states that last or do not, narrow and wide ones, some all but impossible."""
    transition = rng.dirichlet(np.full(3, rng.choice([0.05, 1.0])), 3) + rng.choice([0.0, 5.0]) * np.eye(3) + 1e-6
    return RegimeModel(
        start=rng.dirichlet(np.ones(3)),
        transition=transition / transition.sum(axis=1, keepdims=True),
        means=rng.normal(0, 1, (3, 2)),
        variances=rng.exponential(1.0, (3, 2)) + 1e-3,
        center=np.array([0.3, -7.5]) + rng.normal(0, 0.2, 2),
        scale=rng.choice([0.01, 0.2, 1.0], 2),
        labels=(Regime.TRENDING, Regime.RANGING, Regime.VOLATILE),
    )


def market_with_standstills(rng: np.random.Generator) -> CandleSeries:
    """Return candles among which are weekends, shocks and hours without a trade."""
    series = sound_walk(int(rng.integers(2**32)), bars=400)
    moves = np.diff(np.log(series.closes), prepend=np.log(series.closes[0])) * rng.choice([1.0, 1.0, 0.0, 20.0], 400)
    moves[rng.integers(400) :][:40] = 0.0
    closes = 1.1 * np.exp(np.cumsum(moves))
    times = series.open_times + np.cumsum(rng.random(400) < 0.02) * np.timedelta64(48, "h")
    return replace(series, open_times=times, values=np.column_stack([*[closes] * 4, np.ones(400)]))


def one_by_one(state: RegimeState, series: CandleSeries, first: int, stop: int) -> RegimeState:
    for position in range(first, stop):
        state = state.advanced(series.slice(max(0, position - 99), position + 1))
    return state


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, fitted=st.booleans(), begun=st.integers(12, 200), gap=st.integers(-1, 3), parts=st.integers(1, 6))
def test_however_many_candles_are_taken_in_at_once_the_regime_is_the_same_to_the_last_bit(
    seed: int, fitted: bool, begun: int, gap: int, parts: int
) -> None:
    rng = np.random.default_rng(seed)
    series, model = market_with_standstills(rng), regime_model_of(rng)
    state = RegimeState(model=model if fitted else None).advanced(series.slice(max(0, begun - 99), begun + 1))
    first = begun + 1 + gap  # the last one again, the next one, or one after a gap
    stop = int(rng.integers(first, 401))
    alone = one_by_one(state, series, first, stop)
    assert state.advanced_over(series, first, stop) == alone
    in_parts = state
    cuts = sorted(rng.integers(first, stop + 1, parts - 1).tolist())
    for since, until in zip([first, *cuts], [*cuts, stop], strict=True):
        in_parts = in_parts.advanced_over(series, since, until)
    assert in_parts == alone
    assert not alone.probabilities or sum(alone.probabilities) == pytest.approx(1.0)
    refitted = alone.refitted(regime_model_of(rng), NOON)
    assert refitted.advanced_over(series, max(12, first), 400) == one_by_one(refitted, series, max(12, first), 400)


# Mondays to Sundays around the changes of New York's clock, and a week without.
STARTS = tuple(datetime(*day, tzinfo=UTC) for day in ((2024, 3, 4), (2024, 10, 28), (2024, 11, 2), (2024, 6, 3), (2023, 12, 20)))
LONGER = ("5m", "15m", "1h", "4h", "1d")


def market_of(timeframe: Timeframe, start: datetime, seed: int, *, bars: int) -> CandleSeries:
    """Return candles that begin anywhere, with holes, open market only or not, with volumes whose sums are not exact."""
    rng = np.random.default_rng(seed)
    begin = to_datetime64(start) + np.timedelta64(int(rng.integers(0, 9 * 1440)), "m")
    grid = np.unique(timeframe.opening(begin + np.arange(0, 4 * bars) * timeframe.step))
    if rng.random() < 0.7:
        grid = grid[open_mask(grid)]
    grid = grid[rng.random(len(grid)) < rng.choice([0.3, 0.9, 1.0])][:bars]
    grid = grid if len(grid) else np.array([begin])
    prices = np.sort(rng.uniform(1.0, 1.2, (4, len(grid))), axis=0)
    flip = rng.random(len(grid)) < 0.5
    opens, closes = np.where(flip, prices[1], prices[2]), np.where(flip, prices[2], prices[1])
    values = np.column_stack([opens, prices[3], prices[0], closes, rng.exponential(123.456, len(grid))])
    return CandleSeries(symbol="EURUSD", timeframe=timeframe, open_times=grid, values=values)


def assert_as_resampled(higher: HigherTimeframes, known: CandleSeries, names: Sequence[str]) -> None:
    for name in names:
        complete = resample(without_details(known), Timeframe(name)).complete.candles
        newest = complete.slice(max(0, len(complete) - 100), len(complete))
        kept = higher.candles.get(name)
        if not len(newest):
            assert kept is None
            continue
        assert kept is not None
        np.testing.assert_array_equal(kept.open_times, newest.open_times)
        np.testing.assert_array_equal(kept.values, newest.values)
        assert kept.close_times[-1] <= known.close_times[-1], "a growing candle is not seen"


@settings(deadline=None, max_examples=80)
@given(base=st.sampled_from(timeframes()[:4]), start=st.sampled_from(STARTS), seed=SEEDS, history=st.integers(1, 120))
def test_candle_by_candle_the_longer_ones_are_those_made_of_all_that_is_known(
    base: Timeframe, start: datetime, seed: int, history: int
) -> None:
    series = market_of(base, start, seed, bars=180)
    history = min(history, len(series))
    names = [name for name in LONGER if Timeframe(name).minutes > base.minutes]
    looked_at = {history, len(series), *np.random.default_rng(seed).integers(history, len(series) + 1, 12).tolist()}
    higher = HigherTimeframes.of(series.slice(0, history), LONGER)
    for end in range(history, len(series) + 1):
        higher = higher.advanced_with(series.slice(max(0, end - 100), end))
        if end in looked_at:
            assert_as_resampled(higher, series.slice(0, end), names)
    assert set(higher.candles) <= set(names)


@settings(deadline=None, max_examples=40)
@given(base=st.sampled_from(timeframes()[:4]), start=st.sampled_from(STARTS), seed=SEEDS, parts=st.integers(1, 5))
def test_however_the_candles_come_the_longer_ones_are_the_same(base: Timeframe, start: datetime, seed: int, parts: int) -> None:
    series = market_of(base, start, seed, bars=300)
    ends = sorted(np.random.default_rng(seed).integers(1, len(series) + 1, parts).tolist())
    higher = HigherTimeframes.of(series.slice(0, ends[0]), LONGER)
    for first, last in zip([0, *ends], [*ends, len(series)], strict=True):  # the first part is taken in a second time
        higher = higher.advanced_with(series.slice(first, last))
    assert higher.advanced_with(series) is higher
    assert_as_resampled(higher, series, [name for name in LONGER if Timeframe(name).minutes > base.minutes])
    assert all(len(candles) <= 100 for candles in higher.candles.values())


@pytest.mark.parametrize(
    "day", [datetime(2024, 3, 9, 12, tzinfo=UTC), datetime(2024, 11, 2, 12, tzinfo=UTC)], ids=["forward", "back"]
)
def test_wherever_one_begins_on_the_night_on_which_clocks_change_the_longer_candles_are_the_same(day: datetime) -> None:
    """On the night they go back, two candles of four hours grow at once; some feeds go on while the market is closed."""
    series = make_series(bars=100, timeframe="15m", start=day)
    for history in range(1, len(series)):
        higher = HigherTimeframes.of(series.slice(0, history), ("4h", "1d"))
        assert_as_resampled(higher, series.slice(0, history), ["4h", "1d"])
        assert_as_resampled(higher.advanced_with(series.slice(history, len(series))), series, ["4h", "1d"])


def test_taking_candles_in_changes_nothing_that_was_handed_out_before() -> None:
    series = make_series(bars=400, timeframe="15m")
    before = HigherTimeframes.of(series.slice(0, 200), ("1h", "4h"))
    held = before.candles
    one = before.advanced_with(series.slice(150, 300))
    assert before.candles is held
    assert_as_resampled(before, series.slice(0, 200), ["1h", "4h"])
    assert_as_resampled(before.advanced_with(series.slice(200, 300)), series.slice(0, 300), ["1h", "4h"])
    assert_as_resampled(one, series.slice(0, 300), ["1h", "4h"])


def test_longer_candles_of_another_series_or_of_a_crooked_one_are_refused() -> None:
    series = make_series(bars=50, timeframe="1h")
    higher = HigherTimeframes.of(series, ("4h",))
    with pytest.raises(BadCandles, match=r"GBPUSD 1h; allowed: EURUSD 1h"):
        higher.advanced_with(make_series(bars=50, symbol="GBPUSD"))
    with pytest.raises(BadCandles, match=r"EURUSD 15m; allowed: EURUSD 1h"):
        higher.advanced_with(make_series(bars=50, timeframe="15m"))
    with pytest.raises(BadCandles, match="no candles"):
        HigherTimeframes.of(series.slice(0, 0), ("4h",))
    with pytest.raises(BadCandles, match="'2h'"):
        HigherTimeframes.of(series, ("2h",))
    half = make_series(bars=60, timeframe="1h", start=datetime(2017, 3, 1, 0, 30, tzinfo=UTC))
    straight = HigherTimeframes.of(half.slice(0, 1), ("4h",))  # 00:30 to 01:30 lies within 22:00 to 02:00
    with pytest.raises(BadCandles, match="lie within one of 4h"):
        straight.advanced_with(half)
