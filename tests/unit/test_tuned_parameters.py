"""What --params makes of settings: which values are traded where, what is refused, and what is told."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.adapters.storage.database import Database, open_database
from fxcast.data.store import CandleStore
from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting, BadSetup
from fxcast.trading.config import TradingConfig
from fxcast.trading.parameters import Values, with_values
from fxcast.trading.tuned import TunedParameters, tuned_values
from jobs.backtest import BacktestJob, plan_backtest
from jobs.backtest import main as backtest
from jobs.promote import main as promote
from jobs.trade import TradeJob
from jobs.trade_setup import TradeSettings, live_setup, replay_setup, with_params
from jobs.tuned_parameters import Parameters, with_parameters
from jobs.tuned_trading import FoundValues, trading_with
from jobs.walk_forward_plan import plan_walk_forward
from jobs.walk_forward_settings import WalkForwardJob
from tests.factories import make_series
from tests.promoted import HELD_OUT, SEARCHED, WINNING, put_database, searched

PAIR = ("EURUSD", "GBPUSD")
URL = "sqlite:///fx.db"
LATER = datetime(2018, 1, 1, tzinfo=UTC), datetime(2018, 2, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Database]:
    """A database in the folder from which jobs are run."""
    monkeypatch.chdir(tmp_path)
    put_database(tmp_path / "fx.db")
    engine = open_database(URL)
    yield engine
    engine.dispose()


def promoted(*options: str) -> None:
    assert promote(["--database-url", URL, "--by", "anna", *options]) == 0


def resolved(
    params: str = "best", *, symbols: tuple[str, ...] = PAIR, timeframe: str = "1h", trading: TradingConfig | None = None
) -> Parameters:
    return with_parameters(trading or TradingConfig(), params, symbols, timeframe, URL)


def found(symbol: str, values: Values, regime: Regime | None = None) -> FoundValues:
    return FoundValues(symbol=symbol, regime=regime, values=values)


def traded(trading: TradingConfig, symbol: str, regime: Regime | None = None) -> TradingConfig:
    """Return what is traded of a symbol in a regime, as the engine puts it together."""
    plain = trading.model_copy(update={"tuned": ()})
    return with_values(plain, tuned_values(trading.tuned, symbol, regime))


def test_values_that_all_symbols_share_replace_the_settings_themselves() -> None:
    values = {"min_quality": 0.6, "ldm4ts_horizons": (60, 240), "risk.cool_off_losses": 3, "quality.weights.timing": 2.0}
    merged = trading_with(TradingConfig(min_quality=0.3), [found(symbol, values) for symbol in PAIR], PAIR)
    assert merged == with_values(TradingConfig(min_quality=0.3), values)
    assert merged.tuned == ()


def test_values_that_differ_hold_for_their_symbol_alone() -> None:
    mine, theirs = {"min_quality": 0.6, "sizing.kelly_fraction": 0.5}, {"min_quality": 0.2, "sizing.kelly_fraction": 0.5}
    merged = trading_with(TradingConfig(), [found("EURUSD", mine), found("GBPUSD", theirs)], PAIR)
    assert [traded(merged, symbol).min_quality for symbol in PAIR] == [0.6, 0.2]
    assert merged.sizing.kelly_fraction == 0.5, "it is the same for both"


def test_a_symbol_without_values_of_its_own_keeps_the_settings() -> None:
    merged = trading_with(TradingConfig(min_quality=0.4), [found("EURUSD", {"min_quality": 0.6})], PAIR)
    assert [traded(merged, symbol).min_quality for symbol in PAIR] == [0.6, 0.4]


def test_values_of_one_regime_hold_in_it_alone_and_before_those_of_all() -> None:
    general, special = found("EURUSD", {"min_quality": 0.6}), found("EURUSD", {"min_quality": 0.2}, Regime.VOLATILE)
    merged = trading_with(TradingConfig(), [special, general], ("EURUSD",))
    qualities = {regime: traded(merged, "EURUSD", regime).min_quality for regime in Regime}
    assert qualities == {Regime.TRENDING: 0.6, Regime.RANGING: 0.6, Regime.VOLATILE: 0.2}


def test_a_weights_factor_of_one_regime_is_not_multiplied_with_the_general_one() -> None:
    path = "quality.weights.timing"
    merged = trading_with(
        TradingConfig(), [found("EURUSD", {path: 2.0}), found("EURUSD", {path: 3.0}, Regime.RANGING)], ("EURUSD",)
    )
    for regime, factor in ((Regime.TRENDING, 2.0), (Regime.RANGING, 3.0)):
        assert traded(merged, "EURUSD", regime).quality.weights == with_values(TradingConfig(), {path: factor}).quality.weights


@pytest.mark.parametrize("symbols", [("EURUSD",), PAIR])
def test_what_was_found_goes_before_what_the_settings_say_of_a_symbol_or_regime(symbols: tuple[str, ...]) -> None:
    given = TradingConfig(
        tuned=(
            TunedParameters(values={"min_quality": 0.11}),
            TunedParameters(regime=Regime.VOLATILE, values={"min_quality": 0.12, "spread_pips": 2.0}),
            TunedParameters(symbol="EURUSD", regime=Regime.RANGING, values={"min_quality": 0.13}),
        )
    )
    merged = trading_with(given, [found("EURUSD", {"min_quality": 0.6})], symbols)
    for regime in (None, *Regime):
        assert traded(merged, "EURUSD", regime).min_quality == 0.6
    assert traded(merged, "EURUSD", Regime.VOLATILE).spread_pips == 2.0, "of which nothing was found"
    if "GBPUSD" in symbols:
        assert [traded(merged, "GBPUSD", regime).min_quality for regime in (None, *Regime)] == [0.11, 0.11, 0.11, 0.12]


_PATHS = {"min_quality": st.sampled_from((0.1, 0.2)), "sizing.kelly_fraction": st.sampled_from((0.3, 0.4))}
_SOME = st.fixed_dictionaries({}, optional=_PATHS)
_REGIMES = st.sampled_from((None, *Regime))


@given(
    given_tuned=st.dictionaries(st.tuples(st.sampled_from((None, *PAIR)), _REGIMES), _SOME, max_size=5),
    values=st.dictionaries(st.tuples(st.sampled_from(PAIR), _REGIMES), _SOME, max_size=5),
)
def test_every_symbol_in_every_regime_trades_what_was_found_for_it_and_else_what_the_settings_say(
    given_tuned: dict[tuple[str | None, Regime | None], Values], values: dict[tuple[str, Regime | None], Values]
) -> None:
    tuned = tuple(TunedParameters(symbol=symbol, regime=regime, values=each) for (symbol, regime), each in given_tuned.items())
    trading = TradingConfig(tuned=tuned)
    merged = trading_with(trading, [found(symbol, each, regime) for (symbol, regime), each in values.items()], PAIR)
    for symbol in PAIR:
        for regime in Regime:
            own = {**values.get((symbol, None), {}), **values.get((symbol, regime), {})}
            assert traded(merged, symbol, regime) == with_values(traded(trading, symbol, regime), own)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            [found("EURUSD", {"ldm4ts_horizons": (15, 60)}), found("GBPUSD", {"ldm4ts_horizons": (60, 240)})],
            r"ldm4ts_horizons: found \(15, 60\) for EURUSD, \(60, 240\) for GBPUSD; allowed: one.* Trade these symbols separately",
        ),
        (
            [found("EURUSD", {"ldm4ts_num_samples": 30})],
            r"ldm4ts_num_samples: found 30 for EURUSD, 50 for GBPUSD; .*Trade these symbols separately",
        ),
        (
            [found("EURUSD", {"risk.cool_off_losses": 2})],
            r"risk.cool_off_losses: found 2 for EURUSD, 4 for GBPUSD; .*the account's",
        ),
        (
            [found("EURUSD", {"forecast_interval_bars": 4}, Regime.VOLATILE)],
            r"forecast_interval_bars: found 4 for EURUSD in regime volatile; allowed: one value in all regimes",
        ),
        ([found("EURUSD", {"min_quality": 1.5})], r"min_quality.*1.5"),
        ([found("EURUSD", {"min_qualty": 0.5})], r"did you mean 'min_quality'"),
    ],
)
def test_values_that_cannot_be_traded_together_are_refused(values: list[FoundValues], sentence: str) -> None:
    with pytest.raises(BadSetting, match=sentence):
        trading_with(TradingConfig(), values, PAIR)


def test_asked_for_alike_is_no_difference() -> None:
    values = [found("EURUSD", {"ldm4ts_num_samples": 50})]
    assert trading_with(TradingConfig(), values, PAIR) == TradingConfig(), "50 is what the other symbol has"


def test_best_is_what_is_promoted_and_after_the_last_roll_back_there_is_none(database: Database) -> None:
    searched(database)
    searched(database, "newer", values={"trading.ldm4ts_min_strength": 0.45})
    back = ("--rollback", "--symbols", *PAIR, "--timeframe", "1h")
    with pytest.raises(BadSetting, match=r"nothing is promoted for 1h candles of EURUSD, GBPUSD; .* jobs.promote --run NAME"):
        resolved()

    promoted("--run", "majors")
    first = resolved().trading
    promoted("--run", "newer")
    second = resolved().trading
    promoted(*back)
    assert (first.ldm4ts_min_strength, first.sizing.kelly_fraction) == (0.2, 0.5)
    assert (second.ldm4ts_min_strength, second.sizing.kelly_fraction) == (0.45, TradingConfig().sizing.kelly_fraction)
    assert resolved().trading == first

    promoted(*back)
    with pytest.raises(BadSetting, match="nothing is promoted"):
        resolved()


def test_best_says_what_is_traded_and_where_it_comes_from(database: Database) -> None:
    run = searched(database)
    searched(database, "stormy", regime="volatile", symbols=("EURUSD",), values={"trading.min_quality": 0.7})
    promoted("--run", "majors", "--symbols", "EURUSD")
    promoted("--run", "stormy")

    best = resolved()

    assert best.told[0].startswith("EURUSD, all regimes: ldm4ts_min_strength 0.2, sizing.kelly_fraction 0.5 (promotion 1 of ")
    assert best.told[1].startswith("EURUSD, regime volatile: min_quality 0.7 (promotion 2 of ")
    assert best.told[2] == "GBPUSD: nothing was found for it; it trades the settings as they are"
    assert f"trial 1 of majors, {run.id[:16]}; promotion 2 of " in best.facts["parameters EURUSD"]
    assert best.facts["parameters GBPUSD"] == "as in the settings"
    assert best.warnings == ()
    assert traded(best.trading, "EURUSD", Regime.VOLATILE).min_quality == 0.7
    assert traded(best.trading, "GBPUSD", Regime.VOLATILE) == TradingConfig()


def test_a_promotion_of_another_timeframe_is_not_taken(database: Database) -> None:
    searched(database, timeframe="15m")
    promoted("--run", "majors")
    with pytest.raises(BadSetting, match="nothing is promoted for 1h candles"):
        resolved()
    assert resolved(timeframe="15m").trading.ldm4ts_min_strength == 0.2


def test_a_forced_promotion_is_warned_of_with_its_reason(database: Database) -> None:
    searched(database, promotes=False)
    promoted("--run", "majors", "--force", "--reason", "to look at it", "--symbols", "EURUSD")
    (warning,) = resolved().warnings
    assert warning.startswith("EURUSD, all regimes: anna forced promotion 1 (trial 1 of majors) past the guard")
    assert warning.endswith(": to look at it")


@pytest.mark.parametrize("by_id", [False, True])
def test_a_search_gives_the_values_of_its_winner_promoted_or_not(database: Database, by_id: bool) -> None:
    run = searched(database, regime="ranging", symbols=("EURUSD",))
    parameters = resolved(run.id if by_id else "majors")
    assert traded(parameters.trading, "EURUSD", Regime.RANGING).ldm4ts_min_strength == 0.2
    assert traded(parameters.trading, "EURUSD", Regime.TRENDING) == TradingConfig()
    assert parameters.facts["parameters EURUSD"] == f"search majors, regime ranging: trial 1, {run.id[:16]}"
    assert parameters.told[-1].startswith("GBPUSD: nothing was found for it")
    assert parameters.warnings == ()


def test_a_search_whose_guard_failed_and_values_of_a_model_are_warned_of(database: Database) -> None:
    searched(database, promotes=False, level="sampling", values={**WINNING, "sampler.steps": 8})
    guard, model = resolved("majors").warnings
    assert guard == "The search majors did not pass its guard against overfitting: Keep the default: it is luck."
    assert "also has sampler.steps 8, which no engine takes" in model


@pytest.mark.parametrize(
    ("params", "symbols", "timeframe", "sentence"),
    [
        ("minors", PAIR, "1h", r"params: found minors, and there is no search of this name or id"),
        ("running", PAIR, "1h", r"params: found running, a search that is not finished"),
        ("majors", PAIR, "15m", r"found majors, a search on 1h candles of EURUSD, GBPUSD, for 15m candles"),
        ("majors", ("USDJPY",), "1h", r"for 1h candles of USDJPY; allowed: one of the same timeframe"),
    ],
)
def test_a_search_that_cannot_be_taken_is_refused(
    database: Database, params: str, symbols: tuple[str, ...], timeframe: str, sentence: str
) -> None:
    searched(database)
    searched(database, "running", finished=False)
    with pytest.raises(BadSetting, match=sentence):
        resolved(params, symbols=symbols, timeframe=timeframe)


def test_without_a_database_there_is_nothing_to_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSetup, match="there is no such file"):
        resolved()
    assert list(tmp_path.iterdir()) == []


def test_a_period_that_the_search_has_looked_at_is_warned_of(database: Database) -> None:
    searched(database)
    parameters = resolved("majors")
    assert parameters.seen(*LATER) == ()
    assert parameters.seen(HELD_OUT[1], LATER[0]) == (), "where it ends nothing was seen"
    (chosen,) = parameters.seen(datetime(2016, 1, 1, tzinfo=UTC), datetime(2017, 1, 3, tzinfo=UTC))
    assert "majors chose its values on 2017-01-02 to 2017-04-03" in chosen
    (judged,) = parameters.seen(*HELD_OUT)
    assert "majors was judged on its hold-out of 2017-04-03 to 2017-05-01" in judged
    assert len(parameters.seen(SEARCHED[0], LATER[0])) == 2


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Path:
    assert database
    for seed, symbol in enumerate(PAIR):
        CandleStore(tmp_path / "store").append(make_series(bars=2_400, seed=seed, symbol=symbol))
    return tmp_path / "store"


def asked(store: Path, *options: str) -> list[str]:
    given = ["--store", str(store), "--database-url", URL, "--symbols", "EURUSD,GBPUSD", "--model", "random-walk"]
    return [*given, "--trading.ldm4ts-horizons", "[240]", "--benchmarks", "[]", *options]


def test_a_backtest_is_recorded_as_what_it_really_trades(database: Database, store: Path) -> None:
    searched(database)
    promoted("--run", "majors")
    period = ("--start", "2017-05-03T00:00:00Z", "--stop", "2017-05-20T00:00:00Z")
    written = ("--trading.ldm4ts-min-strength", "0.2", "--trading.sizing.kelly-fraction", "0.5")

    best = plan_backtest(BacktestJob.parse(asked(store, "--params", "best", *period)))
    by_hand = plan_backtest(BacktestJob.parse(asked(store, *written, *period)))
    default = plan_backtest(BacktestJob.parse(asked(store, *period)))

    assert best.settings.trading == by_hand.settings.trading
    assert best.origin == by_hand.origin
    assert best.origin.settings_hash != default.origin.settings_hash
    assert best.warnings == by_hand.warnings
    assert by_hand.parameters.facts == {}


def test_a_backtest_over_the_searched_time_is_warned_of(database: Database, store: Path) -> None:
    searched(database, promotes=False)
    plan = plan_backtest(BacktestJob.parse(asked(store, "--params", "majors", "--start", "2017-03-20T00:00:00Z")))
    told = " ".join(plan.warnings)
    for part in ("did not pass its guard", "chose its values on", "was judged on its hold-out"):
        assert part in told


def test_a_backtest_with_nothing_promoted_ends_with_one_sentence(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert backtest(asked(store, "--params", "best", "--from", "2017-04-03T00:00:00Z")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: params: found best, and nothing is promoted")
    assert said.count("\n") == 1


def walk(store: Path, *options: str) -> WalkForwardJob:
    given = asked(store, "--name", "walk", "--refit", "none", "--train-days", "20", "--validation-days", "5", "--test-days", "20")
    return WalkForwardJob.parse([*given, *options])


def test_a_walk_forward_is_the_one_that_its_values_make_it(database: Database, store: Path) -> None:
    searched(database)
    promoted("--run", "majors")

    best = plan_walk_forward(walk(store, "--params", "best"))
    by_hand = plan_walk_forward(walk(store, "--trading.ldm4ts-min-strength", "0.2", "--trading.sizing.kelly-fraction", "0.5"))

    assert best.identity == by_hand.identity, "either goes on with the other"
    assert best.settings_hash == by_hand.settings_hash
    assert best.settings_hash != plan_walk_forward(walk(store)).settings_hash
    assert [warning for warning in best.warnings if "majors" in warning], "its tests lie in the searched time"
    assert not [warning for warning in by_hand.warnings if "majors" in warning]


def test_an_engine_starts_with_what_is_promoted_and_keeps_it(database: Database, store: Path) -> None:
    searched(database)
    promoted("--run", "majors")
    options = ("--engine.store", str(store), "--engine.database-url", URL, "--engine.symbols", "EURUSD,GBPUSD")
    period = ("--engine.start", "2017-05-03T00:00:00Z", "--engine.stop", "2017-05-20T00:00:00Z")

    engine, parameters = with_params(TradeJob.parse(["--params", "best", *options, *period]).settings())
    setups = (replay_setup(engine, None), live_setup(engine, "paper"))
    promoted("--rollback", "--symbols", *PAIR, "--timeframe", "1h")

    assert len(parameters.told) == 2
    for setup in setups:
        assert setup.trading == with_values(TradingConfig(), {"ldm4ts_min_strength": 0.2, "sizing.kelly_fraction": 0.5})


def test_params_of_an_engine_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TradeJob.parse(["--params", "best"]).settings().params == "best"
    assert TradeJob.parse(["--engine.params", "majors"]).settings().params == "majors"
    monkeypatch.setenv("FXCAST_PARAMS", "best")
    assert TradeJob.parse([]).settings().params == "best"
    with pytest.raises(BadSetting, match=r"params and engine\.params differ"):
        TradeJob.parse(["--engine.params", "majors"]).settings()


def test_without_params_settings_stay_as_they_are() -> None:
    engine = TradeSettings()
    assert with_params(engine) == (engine, Parameters(trading=engine.trading))
