"""What the trading job makes of its settings: an engine's setup, its feed's, and the model that forecasts for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from actors.engine_settings import EngineSettings, LiveSetup, ReplaySetup
from actors.market_feed import FeedSettings
from fxcast.adapters.brokers.ctrader import CTraderBrokerSettings
from fxcast.adapters.brokers.oanda import OandaBrokerSettings
from fxcast.adapters.feeds.live_settings import LiveSettings
from fxcast.adapters.feeds.vendors import VendorSettings
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import RegisteredModel, active_model, registered_model
from fxcast.config import Settings, explain
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting, BadSetup
from fxcast.models.summary import ForecasterSummary, check_forecaster
from jobs.tuned_parameters import PARAMS, Parameters, with_parameters


class FeedChoice(Settings):
    """Whose candles are traded as they close; a feed that does not run yet is started."""

    provider: Literal["oanda", "tiingo", "replay"] = Field(
        default="oanda", description="replay: another store's, as if they closed now"
    )
    source: str | None = Field(default=None, description="replay: root of the candle store that is replayed")
    start: AwareDatetime | None = Field(default=None, description="replay: the first candle opens at or after it")
    stop: AwareDatetime | None = Field(default=None, description="replay: candles that open at or after it are not replayed")
    speed: float | None = Field(default=None, gt=0, description="replay: times faster than the market; as fast as possible without")
    vendor: VendorSettings = VendorSettings()
    live: LiveSettings = LiveSettings()


class TradeSettings(EngineSettings):
    """An engine; for a replay the period where the model and the store don't say it, else the feed and the broker."""

    params: str | None = Field(
        default=None, description=f"{PARAMS}. Looked up once, when the engine is started: it keeps them as long as it runs"
    )
    start: AwareDatetime | None = Field(
        default=None,
        description="replay: the first candle closes at or after it; by default the end of what the model was trained on",
    )
    stop: AwareDatetime | None = Field(
        default=None, description="replay: candles that close at or after it are not replayed; by default all of the store are"
    )
    feed: FeedChoice = Field(default=FeedChoice(), description="paper and live: where the candles come from")
    broker: Literal["oanda", "ctrader"] | None = Field(default=None, description="live: where orders go")
    oanda: OandaBrokerSettings = Field(default=OandaBrokerSettings(), description="live: which account at OANDA")
    ctrader: CTraderBrokerSettings = Field(default=CTraderBrokerSettings(), description="live: which account of cTrader")
    poll_s: float = Field(default=5.0, gt=0, description="paper and live: how often to look after what is open between candles")


def with_params(engine: TradeSettings) -> tuple[TradeSettings, Parameters]:
    """Return the settings that the engine will trade, in which `params` is resolved and gone, and where their values come from.

    Raises:
        BadSetting, BadSetup: As `with_parameters`.
    """
    if engine.params is None:
        return engine, Parameters(trading=engine.trading)
    found = with_parameters(engine.trading, engine.params, engine.symbols, engine.timeframe, engine.database_url)
    return engine.model_copy(update={"trading": found.trading, "params": None}), found


def model_to_serve(engine: EngineSettings) -> ForecasterSummary:
    """Return what is known of the model that a service for this engine gets: the one the settings name, or the active one.

    Raises:
        BadModelFolder: If its folder is incomplete, or of another timeframe.
        BadSetting: If it has not the horizons that the settings name.
        BadSetup: If the settings name no model and none is active.
    """
    folder = model_folder(engine)
    found = check_forecaster(folder, timeframe=engine.timeframe)
    known = list(found.horizons_minutes)
    unknown = sorted(set(engine.trading.ldm4ts_horizons) - set(known))
    if unknown:
        raise BadSetting(f"engine.trading.ldm4ts_horizons: found {unknown}; allowed: those of model {found.model_version}, {known}")
    return found


def model_folder(engine: EngineSettings) -> Path:
    """Return the folder of the model that the settings name, or of the active one.

    Raises:
        BadSetup: If the settings name no model and none is active.
    """
    if engine.trading.ldm4ts_checkpoint_path is not None:
        return engine.trading.ldm4ts_checkpoint_path
    database = open_database(engine.database_url)
    found = {symbol: active_model(database, symbol, engine.timeframe) for symbol in engine.symbols}
    database.dispose()
    models: dict[str, RegisteredModel] = {symbol: model for symbol, model in found.items() if model is not None}
    for symbol in engine.symbols:
        if symbol not in models:
            raise BadSetup(f"no model is active for {symbol} {engine.timeframe}; train one with python -m jobs.train")
    if len({model.version for model in models.values()}) > 1:
        told = ", ".join(f"{symbol}: {model.version}" for symbol, model in models.items())
        raise BadSetup(
            f"several models are active ({told}); serve them with serve run serve_configs/local.yaml first, or train one of all"
        )
    return models[engine.symbols[0]].folder


def replay_setup(engine: TradeSettings, model_version: str | None) -> ReplaySetup:
    """Return the engine's settings with a period: what the settings leave open, the model and the store say.

    Args:
        model_version: Of the model that forecasts, None without one.

    Raises:
        BadSetting: If no start is given and the registry does not know the model, or if the start lies in the period that the
            model was trained or calibrated on: it would know its own future.
        BadCandles: If the store holds no candle of the period.
    """
    model = None
    if model_version is not None:
        database = open_database(engine.database_url)
        model = registered_model(database, model_version)
        database.dispose()
    start = engine.start
    if model is not None and start is not None and start < model.data_end:
        raise BadSetting(
            f"engine.start: found {start.isoformat()}; allowed: {model.data_end.isoformat()} or later, for model {model.version} "
            "was trained and calibrated on the candles before and would know its own future"
        )
    if start is None and model is None:
        raise BadSetting("engine.start: missing; no model of the registry forecasts that would say where its training data end")
    start = start or (None if model is None else model.data_end)
    stop = engine.stop
    if stop is None:
        series = [CandleStore(engine.store).read(symbol, Timeframe(engine.timeframe)) for symbol in engine.followed]
        stop = max(to_datetime(each.close_times[-1]) + each.timeframe.duration for each in series)
    fields = {name: getattr(engine, name) for name in EngineSettings.model_fields}
    setup = ReplaySetup.model_validate({**fields, "start": start, "stop": stop})
    setup.candles()
    return setup


def live_setup(engine: TradeSettings, mode: Literal["paper", "live"]) -> LiveSetup:
    """Return the settings of an engine on a feed.

    Raises:
        BadSetting: If the mode and the broker do not go together, or an account is missing.
    """
    if mode == "paper" and engine.broker is not None:
        raise BadSetting(f"engine.broker: found {engine.broker} with --mode paper; allowed: none, or --mode live")
    if mode == "live" and engine.broker is None:
        raise BadSetting("engine.broker: missing; --mode live needs oanda or ctrader")
    fields = {name: value for name, value in dict(engine).items() if name not in {"params", "start", "stop", "feed", "broker"}}
    fields |= {"provider": engine.feed.provider, "broker": engine.broker or "paper"}
    if engine.feed.provider == "replay":  # its candles may be stored before the engine looks
        fields["begin"] = engine.feed.start or datetime.fromtimestamp(0, UTC)
    try:
        return LiveSetup.model_validate(fields)
    except ValidationError as error:
        raise BadSetting(f"engine: {explain(error, LiveSetup)}") from None


def feed_settings(engine: TradeSettings) -> FeedSettings:
    """Return the settings of the feed that an engine needs.

    Raises:
        BadSetting: If they do not go together.
    """
    wanted = {"symbols": engine.followed, "timeframe": engine.timeframe, "store": engine.store}
    try:
        return FeedSettings.model_validate({**dict(engine.feed), **wanted}).absolute()
    except ValidationError as error:
        raise BadSetting(f"engine.feed: {explain(error, FeedSettings)}") from None
