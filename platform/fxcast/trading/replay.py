"""Keep what a decision was made from, and make it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from pydantic_core import to_json

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction, prediction_from_dict
from fxcast.domain.instrument import Instrument
from fxcast.domain.money import Quote, Rates
from fxcast.domain.portfolio import Account
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import TradingConfig
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import CandleClosed, Command, RecordEquity, RecordPrediction
from fxcast.trading.ports import DecisionRecord
from fxcast.trading.state import EngineState, state_from_json


def decided_something(commands: Sequence[Command]) -> bool:
    """Tell whether commands hold more than the books of forecasts and equity."""
    return any(not isinstance(command, RecordEquity | RecordPrediction) for command in commands)


def decision_record(state: EngineState, event: CandleClosed, commands: Sequence[Command], config: EngineConfig) -> DecisionRecord:
    """Keep the state before a candle, as far as the decision depends on it, the candle's event and the commands."""
    return DecisionRecord(
        symbol=event.window.symbol,
        at=event.closed_at,
        settings_hash=config.hash,
        inputs=_json({"state": state.of_symbol(event.window.symbol).to_json(), "event": _event_content(event)}),
        commands=commands_json(commands),
    )


def decide_again(record: DecisionRecord, settings: str) -> str:
    """Make a recorded decision again, and return its commands as JSON: equal to `record.commands`.

    Args:
        settings: What the ledger keeps under `record.settings_hash`.
    """
    inputs = json.loads(record.inputs)
    event = _event(inputs["event"])
    _, commands = step(state_from_json(inputs["state"]), event, engine_config_from_json(settings))
    return commands_json(commands)


def commands_json(commands: Sequence[Command]) -> str:
    """Return commands as JSON, the forecasts among them left out: they are inputs."""
    kept = [command for command in commands if not isinstance(command, RecordPrediction)]
    return _json([{"command": type(command).__name__, **_fields(command)} for command in kept])


def engine_config_from_json(content: str) -> EngineConfig:
    """Rebuild settings from `EngineConfig.content`."""
    known = json.loads(content)
    instruments = {
        symbol: Instrument(symbol=symbol, **{name: Decimal(value) for name, value in fields.items()})
        for symbol, fields in known["instruments"].items()
    }
    return EngineConfig(
        trading=TradingConfig.model_validate(known["trading"]), instruments=instruments, symbols=tuple(known["symbols"])
    )


def _event_content(event: CandleClosed) -> dict[str, Any]:
    return {
        "window": _series_content(event.window),
        "higher": {timeframe: _series_content(series) for timeframe, series in event.higher.items()},
        "predictions": {source: prediction.to_dict(with_samples=True) for source, prediction in event.predictions.items()},
        "forecasts_missed": event.forecasts_missed,
        "account": event.account,
        "quote": event.quote,
        "rates": event.rates,
        "correlations": event.correlations,
        "seen_at": event.seen_at,
    }


def _event(content: Mapping[str, Any]) -> CandleClosed:
    account, quote, rates = content["account"], content["quote"], content["rates"]
    money = {name: Decimal(account[name]) for name in ("balance", "open_profit", "margin_used")}
    return CandleClosed(
        window=_series(content["window"]),
        higher={timeframe: _series(series) for timeframe, series in content["higher"].items()},
        predictions={source: _prediction(prediction) for source, prediction in content["predictions"].items()},
        forecasts_missed=content["forecasts_missed"],
        account=Account(currency=account["currency"], **money),
        quote=None if quote is None else _quote(quote),
        rates=Rates(currency=rates["currency"], worth={name: Decimal(worth) for name, worth in rates["worth"].items()}),
        correlations=content["correlations"],
        seen_at=datetime.fromisoformat(content["seen_at"]),
    )


def _quote(content: Mapping[str, Any]) -> Quote:
    return Quote(bid=Decimal(content["bid"]), ask=Decimal(content["ask"]), at=datetime.fromisoformat(content["at"]))


def _prediction(content: Mapping[str, Any]) -> LDM4TSPrediction:
    return prediction_from_dict(content)


def _series_content(series: CandleSeries) -> dict[str, Any]:
    return {
        "symbol": series.symbol,
        "timeframe": series.timeframe.name,
        "open_times": series.open_times.astype("datetime64[s]").astype(np.int64).tolist(),
        "values": series.values.tolist(),
    }


def _series(content: Mapping[str, Any]) -> CandleSeries:
    return CandleSeries(
        symbol=content["symbol"],
        timeframe=Timeframe(content["timeframe"]),
        open_times=np.array(content["open_times"], dtype=np.int64).astype("datetime64[s]"),
        values=np.array(content["values"], dtype=np.float64),
    )


def _fields(command: Command) -> dict[str, Any]:
    return {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}


def _json(content: object) -> str:
    """Return exact JSON: decimals as text and floats with all their digits; five times as fast as Python's own."""
    return to_json(content).decode()
