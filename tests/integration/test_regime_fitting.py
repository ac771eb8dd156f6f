"""Regimes are fitted in Ray tasks from the store, on nothing later than the moment asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.regime_fitting import TaskRegimeFitter
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.signals.regime import fit_regimes
from fxcast.trading.regime_fitting import REGIME_BARS
from tests.factories import make_series
from tests.waiting import wait_for

SERIES = make_series(bars=2_600, seed=3, range_width=0.0003)
CLOSES = SERIES.close_times


@pytest.fixture
def store(dashboard_url: str, tmp_path: Path) -> str:
    assert dashboard_url
    CandleStore(tmp_path / "store").append(SERIES)
    return str(tmp_path / "store")


def test_model_is_that_of_the_last_candles_known_at_the_moment(store: str) -> None:
    fitter = TaskRegimeFitter(store, "1h", waits=True)
    at = to_datetime(CLOSES[2_299])
    fitter.ask("EURUSD", at)
    (fitted,) = fitter.ready()
    assert (fitted.symbol, fitted.at) == ("EURUSD", at)
    assert fitted.model == fit_regimes(SERIES.slice(2_300 - REGIME_BARS, 2_300))
    assert fitter.ready() == (), "each comes once"


def test_live_engine_is_not_kept_waiting(store: str) -> None:
    fitter = TaskRegimeFitter(store, "1h", waits=False)
    fitter.ask("EURUSD", to_datetime(CLOSES[-1]))
    found = list(fitter.ready())  # most likely nothing yet; whatever it is, it came at once
    wait_for(lambda: bool(found) or bool(found.extend(fitter.ready()) or found))
    assert found[0].model is not None


def test_too_few_candles_and_a_store_without_the_symbol_give_no_model(store: str) -> None:
    fitter = TaskRegimeFitter(store, "1h", waits=True)
    fitter.ask("EURUSD", to_datetime(CLOSES[100]))
    fitter.ask("USDJPY", to_datetime(CLOSES[-1]))
    assert {(fitted.symbol, fitted.model) for fitted in fitter.ready()} == {("EURUSD", None), ("USDJPY", None)}
