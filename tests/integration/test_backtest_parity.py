"""The same candles through the backtest and through the paper engine's actor in replay: the same orders, fills and equity."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from actors.engine_settings import ReplaySetup
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.backtest.engine import BacktestSetup
from fxcast.backtest.result import BacktestResult
from fxcast.cluster.backtests import Run, asked_windows, prepare_forecasts, prepare_regimes, run_backtests
from fxcast.cluster.batch_forecast import Workers, folder_source
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.order import Fill, Financing
from fxcast.models.load import load_forecaster
from fxcast.trading.config import CandleSide, ManagementConfig, PaperMarketConfig, RiskLimits, TradingConfig
from jobs.trade import replay
from tests.state import job_database

_FIRST, _CANDLES = 2400, 700
_HORIZONS = (240, 960, 3840)
_MARKET = PaperMarketConfig.model_validate(
    {
        "candle_side": CandleSide.ASK,
        "spread_pips_by_hour": {17: "3.0", 8: "0.6"},
        "commission_per_million": "25",
        "swap_pct_long": {"EURUSD": "-2.1"},
        "swap_pct_short": {"EURUSD": "0.4"},
    }
)
# With the other sources on, every candle is decided on; on forecasts alone, most of them change nothing but the books.
_TRADING = {
    "all sources": TradingConfig(
        ldm4ts_horizons=_HORIZONS,
        ldm4ts_num_samples=20,
        forecast_interval_bars=8,
        ldm4ts_uncertainty_threshold=3.0,
        min_quality=0.2,
        forecast_timeout_s=60.0,
        use_pattern=True,
        use_multi_timeframe=True,
        management=ManagementConfig(break_even_at_r=0.5, trail_at_r=1.0),
    ),
    "forecasts alone": TradingConfig(
        ldm4ts_horizons=_HORIZONS,
        ldm4ts_num_samples=20,
        ldm4ts_min_strength=0.05,
        forecast_interval_bars=8,
        ldm4ts_uncertainty_threshold=3.0,
        min_quality=0.1,
        spread_pips=0.0,
        forecast_timeout_s=60.0,
        use_trend=False,
        use_mean_reversion=False,
        risk=RiskLimits(max_forecast_age_bars=0),
    ),
}


@pytest.mark.parametrize("sources", _TRADING)
def test_backtest_and_paper_engine_agree_to_the_cent(
    sources: str, service_url: str, model_folder: Path, store: str, series: CandleSeries, tmp_path: Path
) -> None:
    assert service_url
    setup = _replay_setup(_TRADING[sources], store, series, tmp_path)

    replay(setup)
    result = _backtest(setup, model_folder, series, tmp_path)

    ledger = SqlLedger(open_database(setup.database_url), engine_id=setup.account)
    orders = ledger.orders()
    assert len(orders) >= 10, "there is something to compare"
    assert [each.intent for each in result.orders] == [each.intent for each in orders]
    assert [each.status for each in result.orders] == [each.status for each in orders]
    assert tuple(each for each in result.transactions if isinstance(each, Fill)) == ledger.fills()
    assert tuple(each for each in result.transactions if isinstance(each, Financing)) == ledger.financings()
    assert [(each.signal.signal_id, each.verdict, each.reason, each.units) for each in result.signals] == [
        (each.signal.signal_id, each.verdict, each.reason, each.units) for each in ledger.signals()
    ]
    points = ledger.equity_curve()
    assert result.equity.times.tolist() == [point.at.replace(tzinfo=None) for point in points]
    assert np.abs(result.equity.equity - [float(point.equity) for point in points]).max() < 1e-6
    assert len(points) == _CANDLES


def _replay_setup(trading: TradingConfig, store: str, series: CandleSeries, tmp_path: Path) -> ReplaySetup:
    database_url = job_database(tmp_path, "ledger")
    migrate(database_url)
    return ReplaySetup(
        account="parity",
        store=store,
        database_url=database_url,
        broker_file=tmp_path / "parity.db",
        start=to_datetime(series.close_times[_FIRST]),
        stop=to_datetime(series.close_times[_FIRST + _CANDLES]),
        trading=trading,
        market=_MARKET,
    )


def _backtest(setup: ReplaySetup, model_folder: Path, series: CandleSeries, tmp_path: Path) -> BacktestResult:
    candles = {series.symbol: series}
    source = folder_source(model_folder, partial(load_forecaster, model_folder, timeframe=setup.timeframe))
    ends = asked_windows(series, setup.start, setup.stop, interval_bars=setup.trading.forecast_interval_bars)
    prepared, _ = prepare_forecasts(
        source,
        candles,
        {series.symbol: ends},
        num_samples=setup.trading.ldm4ts_num_samples,
        cache=ForecastCache(tmp_path / "forecasts"),
        workers=Workers(actors=1),
    )
    fits = prepare_regimes(candles, setup.start, setup.stop, refit_bars=setup.trading.regime_refit_bars)
    backtest = BacktestSetup(
        name="parity",
        symbols=setup.symbols,
        start=setup.start,
        stop=setup.stop,
        trading=setup.trading,
        market=setup.market,
    )
    (result,) = run_backtests([Run(setup=backtest, own="model")], candles, {"model": prepared}, fits=fits)
    return result
