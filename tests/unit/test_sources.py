"""A user's source is found by its class, and what is wrong with it is said by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.errors import BadSetting
from fxcast.signals.sources import MarketView, Source, SourceSpec, check_signals, load_source, load_sources
from tests.factories import make_series
from tests.signal_factories import make_signal, make_view


@dataclass
class Momentum:
    """What a user might write: bull if the last close is above the one `bars` candles ago."""

    bars: int = 10
    name: str = "momentum"
    timeframes: tuple[str, ...] = ("4h",)

    def __post_init__(self) -> None:
        if self.bars < 1:
            raise ValueError(f"bars {self.bars} is below 1")

    def signals(self, view: MarketView) -> Iterable[Signal]:
        closes = view.window.closes
        direction = Direction.BULL if closes[-1] > closes[-1 - self.bars] else Direction.BEAR
        yield make_signal(self.name, direction, made_at=made_now(view), price=float(closes[-1]))


class Anything:
    """Takes any options and has them as attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def signals(self, view: MarketView) -> Iterable[Signal]:
        del view
        return ()


class Speechless:
    name, timeframes = "speechless", ()


class Demanding:
    def __init__(self, lookback: int, *, threshold: float = 0.5) -> None:
        self.lookback, self.threshold = lookback, threshold


HERE = __name__
VIEW = make_view(make_series(bars=100))


def made_now(view: MarketView) -> Any:
    return view.window.candle(-1).open_time + view.window.timeframe.duration


def spec(path: str, **options: Any) -> SourceSpec:
    return SourceSpec.model_validate({"class": path, "options": options})


@pytest.mark.parametrize("path", [f"{HERE}:Momentum", f"{HERE}.Momentum"])
def test_a_users_source_is_made_of_its_class_and_options_and_speaks(path: str) -> None:
    source = load_source(spec(path, bars=99, name="my_momentum"))
    assert (source.name, source.timeframes) == ("my_momentum", ("4h",))
    (signal,) = check_signals(source, source.signals(VIEW), VIEW)
    up = VIEW.window.closes[-1] > VIEW.window.closes[0]
    assert (signal.source, signal.direction) == ("my_momentum", Direction.BULL if up else Direction.BEAR)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("Momentum", "'Momentum'; allowed: a module and a class, as in mypackage.signals:Breakout"),
        (":Momentum", "a module and a class"),
        ("somewhere:", "a module and a class"),
        ("no_such_package.signals:Momentum", "no module 'no_such_package'; allowed: .*PYTHONPATH"),
        (f"{HERE}:Momentun", "no class 'Momentun'.*did you mean 'Momentum'.*allowed: .*Momentum"),
        (f"{HERE}:HERE", "no class 'HERE'"),
        (f"{HERE}:made_now", "no class 'made_now'"),
    ],
)
def test_a_class_that_is_none_or_is_not_there_is_refused(path: str, problem: str) -> None:
    with pytest.raises(BadSetting, match=problem) as caught:
        load_source(spec(path))
    assert f"source {path}: found" in str(caught.value)


def test_a_module_that_breaks_on_import_is_named_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_strategy.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "careless_strategy.py").write_text("limit = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadSetting, match="broken_strategy:Own: found no module 'not_installed_anywhere'"):
        load_source(spec("broken_strategy:Own"))
    with pytest.raises(BadSetting, match="careless_strategy:Own: found ZeroDivisionError on import"):
        load_source(spec("careless_strategy:Own"))


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("Momentum", {"bar": 5}, "option 'bar'; did you mean 'bars'.; allowed: bars, name, timeframes"),
        ("Speechless", {"bars": 5}, "option 'bars'; allowed: no options"),
        ("Demanding", {"threshold": 0.1}, "no option 'lookback'; allowed: lookback, threshold"),
        ("Momentum", {"bars": 0}, "ValueError: bars 0 is below 1; allowed: options that Momentum accepts"),
        ("Momentum", {"bars": "many"}, "TypeError"),
    ],
)
def test_options_that_the_class_does_not_take_are_refused(name: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadSetting, match=rf"source {HERE}:{name}: found {problem}"):
        load_source(spec(f"{HERE}:{name}", **options))


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"timeframes": ()}, "name None; allowed: a name of 1 to 64 characters"),
        ({"name": " ", "timeframes": ()}, "name ' '"),
        ({"name": "x" * 65, "timeframes": ()}, "name 'x+'; allowed: a name of 1 to 64 characters"),
        ({"name": "trend", "timeframes": ()}, "name 'trend', which another source has"),
        ({"name": "mine"}, "timeframes None; allowed: a tuple, empty or of 1m, 5m"),
        ({"name": "mine", "timeframes": "1h"}, "timeframes '1h'"),
        ({"name": "mine", "timeframes": ("1h", "2h")}, r"timeframes \('1h', '2h'\)"),
        ({"name": "mine", "timeframes": (), "signals": 3}, r"no method signals\(view\)"),
    ],
)
def test_what_is_no_source_is_refused(attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadSetting, match=f"source {HERE}:Anything: found {problem}"):
        load_source(spec(f"{HERE}:Anything", **attributes))


def test_a_class_without_signals_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"Speechless: found no method signals\(view\); allowed: a class with name, timeframes"):
        load_source(spec(f"{HERE}:Speechless"))


def test_a_name_of_64_characters_and_timeframes_as_yaml_gives_them_are_accepted() -> None:
    source = load_source(spec(f"{HERE}:Anything", name="x" * 64, timeframes=["1h", "1d"]))
    assert len(source.name) == 64


@pytest.mark.parametrize("name", SignalSource)
def test_no_user_takes_the_name_of_a_source_of_fxcast(name: SignalSource) -> None:
    with pytest.raises(BadSetting, match="which another source has"):
        load_source(spec(f"{HERE}:Momentum", name=name.value))


def test_sources_are_made_in_their_order_and_no_two_share_a_name() -> None:
    slow, fast = spec(f"{HERE}:Momentum", name="slow", bars=50), spec(f"{HERE}:Momentum", name="fast", bars=5)
    assert [source.name for source in load_sources([slow, fast])] == ["slow", "fast"]
    with pytest.raises(BadSetting, match="name 'slow', which another source has"):
        load_sources([slow, fast, slow])


def momentum() -> Source:
    return Momentum()


def own_signal(**changes: Any) -> Signal:
    return replace(make_signal("momentum", made_at=made_now(VIEW)), **changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"source": "trend"}, "a signal of source 'trend'; allowed: 'momentum'"),
        ({"symbol": "GBPUSD"}, "a signal on 'GBPUSD'; allowed: 'EURUSD'"),
        ({"made_at": made_now(VIEW) + timedelta(seconds=1)}, "in the future; allowed: the last candle's close"),
        ({"made_at": made_now(VIEW).replace(tzinfo=None)}, "without a time zone"),
        ({"price": float("nan")}, "finite prices above zero"),
        ({"stop": float("nan")}, "finite prices above zero"),
        ({"target": float("inf")}, "finite prices above zero"),
        ({"stop": -1.0}, "finite prices above zero"),
        ({"target": None}, "finite prices above zero"),
        ({"horizon_minutes": 0}, "horizon_minutes 0"),
        ({"horizon_minutes": 1.5}, "horizon_minutes 1.5"),
        ({"direction": "up"}, "direction 'up'.*allowed: a Direction"),
        ({"kind": "own"}, "kind 'own'.*allowed: .*SignalKind"),
        ({"stop": 1.101}, "a bull signal .*allowed: a price between the stop and the target"),
        ({"direction": Direction.BEAR}, "a bear signal"),
    ],
)
def test_a_users_signal_that_cannot_be_is_refused_by_the_name_of_its_source(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadSetting, match=f"source momentum: found .*{problem}"):
        check_signals(momentum(), [own_signal(**changes)], VIEW)


def test_a_sound_signal_passes_whether_now_or_earlier_directed_or_neutral() -> None:
    sound = (
        own_signal(),
        own_signal(made_at=made_now(VIEW) - timedelta(hours=5), kind=SignalKind.PATTERN),
        own_signal(direction=Direction.NEUTRAL, stop=1.10, target=1.10),
        own_signal(direction=Direction.BEAR, stop=1.11, target=1.05),
    )
    assert check_signals(momentum(), sound, VIEW) == sound
    assert check_signals(momentum(), iter(sound), VIEW) == sound
    assert check_signals(momentum(), (), VIEW) == ()


@pytest.mark.parametrize(("said", "problem"), [(None, "found None"), (own_signal(), "found Signal"), (["buy"], "found 'buy'")])
def test_what_is_no_signal_is_refused(said: object, problem: str) -> None:
    with pytest.raises(BadSetting, match=f"source momentum: {problem}"):
        check_signals(momentum(), said, VIEW)
