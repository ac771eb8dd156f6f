"""A user's own source, named in the settings, trades as fxcast's do; one that fails costs its own voice alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import Command, PlaceOrder, RecordRiskEvent, RecordSignal
from fxcast.trading.ports import RiskEventKind
from fxcast.trading.replay import engine_config_from_json
from fxcast.trading.state import EngineState
from jobs.trade import TradeJob
from tests.engine_events import candle
from tests.factories import HOUR, NOON, make_series


def config(*sources: dict[str, Any]) -> EngineConfig:
    quiet = {"use_ldm4ts": False, "use_trend": False, "use_mean_reversion": False, "min_quality": 0.0}
    return EngineConfig(trading=TradingConfig.model_validate({**quiet, "sources": sources}))


def stepped(settings: EngineConfig) -> tuple[Command, ...]:
    return step(EngineState(), candle(make_series([1.10] * 100, start=NOON - 100 * HOUR)), settings)[1]


def test_source_of_a_users_own_is_named_in_yaml_and_trades(tmp_path: Path) -> None:
    trading = {"sources": [{"class": "tests.user_sources:Optimist", "options": {"reward": 0.003}}]}
    (tmp_path / "trade.yaml").write_text(yaml.safe_dump({"engine": {"trading": trading}}))
    (spec,) = TradeJob.parse(["--config", str(tmp_path / "trade.yaml")]).engine.trading.sources
    assert (spec.class_path, dict(spec.options)) == ("tests.user_sources:Optimist", {"reward": 0.003})
    commands = stepped(config({"class": "tests.user_sources:Optimist", "options": {"reward": 0.003}}))
    (signal,) = [command.decided.signal for command in commands if isinstance(command, RecordSignal)]
    (order,) = [command.intent for command in commands if isinstance(command, PlaceOrder)]
    assert list(signal.sources) == ["optimist"]
    assert float(order.target or 0) == pytest.approx(1.103)


def test_settings_with_a_users_source_come_back_from_what_is_stored() -> None:
    settings = config({"class": "tests.user_sources:Optimist", "options": {"reward": 0.003}})
    again = engine_config_from_json(settings.content)
    assert (again.hash, [source.name for source in again.sources]) == (settings.hash, ["optimist"])


@pytest.mark.parametrize(
    ("failing", "problem"),
    [
        ({"class": "tests.user_sources:Broken"}, "source broken: ZeroDivisionError: EURUSD by zero"),
        (
            {"class": "tests.user_sources:Optimist", "options": {"name": "prophet", "hours_ahead": 1}},
            "source prophet: found made_at",
        ),
    ],
    ids=["raises", "speaks of the future"],
)
def test_source_that_fails_is_not_listened_to_and_told_and_the_others_trade(failing: dict[str, Any], problem: str) -> None:
    commands = stepped(config(failing, {"class": "tests.user_sources:Optimist"}))
    (told,) = [command.event for command in commands if isinstance(command, RecordRiskEvent)]
    assert told.kind is RiskEventKind.SOURCE
    assert told.detail.startswith(problem)
    assert [command.decided.verdict.value for command in commands if isinstance(command, RecordSignal)] == ["accepted"]


def test_source_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(BadSetting, match=r"no class 'Optimst' in tests.user_sources; did you mean 'Optimist'\?"):
        _ = config({"class": "tests.user_sources:Optimst"}).sources
