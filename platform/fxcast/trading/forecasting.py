"""Ask the forecasters about all candles of one moment at once, with one deadline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.errors import ForecastUnavailable
from fxcast.trading.engine import EngineConfig, wants_forecast
from fxcast.trading.ports import ClosedCandle, ForecastAnswer, ForecastQuestion, ForecastService
from fxcast.trading.state import EngineState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of the questions about one candle: forecasts by source, and how many did not come."""

    predictions: Mapping[str, LDM4TSPrediction] = field(default_factory=dict[str, LDM4TSPrediction])
    missed: int = 0


def ask_forecasts(
    state: EngineState, candles: Sequence[ClosedCandle], config: EngineConfig, service: ForecastService | None
) -> dict[str, Asked]:
    """Return by symbol what the forecasters say; a symbol on which none was to be asked is missing."""
    questions = [question for each in candles if _is_asked(state, each, config) for question in _questions(each, config)]
    if not questions:
        return {}
    answers: Sequence[ForecastAnswer] = [ForecastUnavailable("there is no forecast service")] * len(questions)
    if service is not None:
        answers = service.ask(questions, timeout_s=config.trading.forecast_timeout_s)
    predictions: dict[str, dict[str, LDM4TSPrediction]] = {}
    missed: dict[str, int] = {}
    for question, answer in zip(questions, answers, strict=True):
        symbol = question.window.symbol
        missed.setdefault(symbol, 0)
        checked = _checked(question, answer)
        if isinstance(checked, LDM4TSPrediction):
            predictions.setdefault(symbol, {})[question.source] = checked
        else:
            missed[symbol] += 1
            log.warning("no forecast", symbol=symbol, source=question.source, problem=str(checked))
    return {symbol: Asked(predictions=predictions.get(symbol, {}), missed=count) for symbol, count in missed.items()}


def forecast_seed(symbol: str, closed_at: datetime) -> int:
    """Return the seed of a candle's forecast: the same candle asks for the same forecast after a restart."""
    digest = hashlib.sha256(f"{symbol} {closed_at.isoformat()}".encode()).digest()
    return int.from_bytes(digest[:4])


def _is_asked(state: EngineState, closed: ClosedCandle, config: EngineConfig) -> bool:
    return config.is_traded(closed.window.symbol) and wants_forecast(state, closed.window.symbol, config)


def _questions(closed: ClosedCandle, config: EngineConfig) -> list[ForecastQuestion]:
    trading = config.trading
    asked: list[tuple[str, str | None]] = [(trading.forecast_source.value, None)] if trading.use_ldm4ts else []
    asked += [(source.value, version) for source, version in trading.opponents.items()]
    seed = forecast_seed(closed.window.symbol, closed.closed_at)
    return [
        ForecastQuestion(
            source=source,
            window=closed.window,
            horizons_minutes=trading.ldm4ts_horizons,
            num_samples=trading.ldm4ts_num_samples,
            seed=seed,
            model_version=version,
        )
        for source, version in asked
    ]


def _checked(question: ForecastQuestion, answer: ForecastAnswer) -> ForecastAnswer:
    """Let no forecast of another candle pass."""
    if isinstance(answer, ForecastUnavailable):
        return answer
    if (answer.symbol, answer.made_at) == (question.window.symbol, question.window.close_time(-1)):
        return answer
    return ForecastUnavailable(f"the answer is of {answer.symbol} at {answer.made_at.isoformat()}")
