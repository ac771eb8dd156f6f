"""Sources of signals behind one port: fxcast's own, and those that a user names by class."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from pydantic import Field

from fxcast.config import Settings
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import Instrument
from fxcast.domain.signal import Direction, Signal, SignalKind, SignalSource
from fxcast.domain.timeframe import timeframes
from fxcast.errors import BadSetting

MAX_NAME = 64  # characters of a source's name that the database keeps


class SourceSpec(Settings):
    """A source that a user wrote."""

    class_path: str = Field(alias="class", description="its class, as in mypackage.signals:Breakout")
    options: Mapping[str, Any] = Field(default_factory=dict[str, Any], description="keyword arguments of its constructor")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketView:
    """All that a source may look at: what was known when the window's last candle closed.

    Attributes:
        window: The last 100 candles of the timeframe that is traded.
        higher: Closed candles of longer timeframes, by timeframe.
        predictions: The newest forecasts in use, by source.
        spread_pips: Now.
    """

    window: CandleSeries
    instrument: Instrument
    higher: Mapping[str, CandleSeries] = field(default_factory=dict[str, CandleSeries])
    predictions: Mapping[str, LDM4TSPrediction] = field(default_factory=dict[str, LDM4TSPrediction])
    spread_pips: float = 0.0


class Source(Protocol):
    """Something with an opinion. It is asked at each candle's close and keeps no state between two of them."""

    @property
    def name(self) -> str:
        """Of its signals; no two sources of an engine share one."""
        ...

    @property
    def timeframes(self) -> tuple[str, ...]:
        """The longer timeframes that it wants to see, as in ("1h", "4h"); empty for none."""
        ...

    def signals(self, view: MarketView) -> Iterable[Signal]:
        """Return its opinions; none if it has no idea, a neutral one if it has looked and sees nothing."""
        ...


def load_sources(specs: Iterable[SourceSpec]) -> tuple[Source, ...]:
    """Make the sources that a user names, in their order.

    Raises:
        BadSetting: As `load_source`, and if two share a name.
    """
    loaded: list[Source] = []
    for spec in specs:
        loaded.append(load_source(spec, taken=[source.name for source in loaded]))
    return tuple(loaded)


def load_source(spec: SourceSpec, *, taken: Collection[str] = ()) -> Source:
    """Import a user's class, make it with its options, and see that it is a source.

    Args:
        taken: Names that it may not have, beside those of fxcast's own sources.

    Raises:
        BadSetting: If there is no such class, it does not take the options, or what it makes is no source; names the class, what
            was found and what is allowed.
    """
    found = _find_class(spec.class_path)
    _check_options(spec, found)
    try:
        source = found(**spec.options)
    except Exception as error:  # a user's code may raise anything: raised on as one kind that names the class
        raise _refused(spec.class_path, f"{type(error).__name__}: {error}", f"options that {found.__name__} accepts") from error
    _check_port(spec.class_path, source, {*SignalSource, *taken})
    return cast("Source", source)


def check_signals(source: Source, signals: object, view: MarketView) -> tuple[Signal, ...]:
    """Return what a user's source said, if the engine may act on it.

    Raises:
        BadSetting: If something is no signal, speaks for another source or symbol, is of the future, or has prices that can't be;
            names the source, what was found and what is allowed.
    """
    if not isinstance(signals, Iterable):
        raise _refused(source.name, repr(signals), "signals, none for no idea")
    checked: list[Signal] = []
    for signal in cast("Iterable[object]", signals):
        if not isinstance(signal, Signal):
            raise _refused(source.name, repr(signal), "a fxcast.domain.signal.Signal")
        problem = _signal_problem(source, signal, view)
        if problem is not None:
            raise _refused(source.name, *problem)
        checked.append(signal)
    return tuple(checked)


def _refused(name: str, found: str, allowed: str) -> BadSetting:
    return BadSetting(f"source {name}: found {found}; allowed: {allowed}")


def _find_class(path: str) -> type[Any]:
    module_name, _, class_name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not class_name.isidentifier():
        raise _refused(path, repr(path), "a module and a class, as in mypackage.signals:Breakout")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _refused(path, f"no module {error.name!r}", "a module on Python's path (PYTHONPATH)") from error
    except Exception as error:  # a user's module may raise anything: raised on as one kind that names it
        raise _refused(path, f"{type(error).__name__} on import: {error}", "a module that can be imported") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [name for name, member in inspect.getmembers(module, inspect.isclass) if member.__module__ == module.__name__]
        near = difflib.get_close_matches(class_name, classes, n=1, cutoff=0.5)
        known = ", ".join(classes) or "none, as it has no class"
        raise _refused(path, f"no class {class_name!r} in {module_name}" + (f"; did you mean {near[0]!r}?" if near else ""), known)
    return found


def _check_options(spec: SourceSpec, found: type[Any]) -> None:
    """Refuse an option that the constructor lacks, and one that it misses."""
    parameters = inspect.signature(found).parameters.values()
    named = [each for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    names = [each.name for each in named]
    allowed = ", ".join(names) or "no options"
    unknown = [option for option in spec.options if option not in names]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        near = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.5)
        raise _refused(spec.class_path, f"option {unknown[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""), allowed)
    missing = [each.name for each in named if each.default is each.empty and each.name not in spec.options]
    if missing:
        raise _refused(spec.class_path, f"no option {missing[0]!r}", allowed)


def _check_port(path: str, source: object, taken: Collection[str]) -> None:
    name: object = getattr(source, "name", None)
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise _refused(path, f"name {name!r}", f"a name of 1 to {MAX_NAME} characters")
    if name in taken:
        raise _refused(path, f"name {name!r}, which another source has", "a name of its own")
    wanted: object = getattr(source, "timeframes", None)
    known = [each.name for each in timeframes()]
    each_known = isinstance(wanted, tuple | list) and all(each in known for each in cast("Sequence[object]", wanted))
    if not each_known:
        raise _refused(path, f"timeframes {wanted!r}", f"a tuple, empty or of {', '.join(known)}")
    if not callable(getattr(source, "signals", None)):
        raise _refused(path, "no method signals(view)", "a class with name, timeframes and signals (fxcast.signals.sources.Source)")


def _signal_problem(source: Source, signal: Signal, view: MarketView) -> tuple[str, str] | None:
    """Return what is wrong with a signal and what is allowed, None if nothing is."""
    symbol, now = view.window.symbol, to_datetime(view.window.close_times[-1])
    prices = (signal.price, signal.stop, signal.target)
    if signal.source != source.name:
        return f"a signal of source {signal.source!r}", repr(source.name)
    if signal.symbol != symbol:
        return f"a signal on {signal.symbol!r}", repr(symbol)
    if signal.made_at.utcoffset() is None:
        return f"made_at {signal.made_at.isoformat()} without a time zone", "a time in UTC"
    if signal.made_at > now:
        return f"made_at {signal.made_at.isoformat()}, in the future", f"the last candle's close, {now.isoformat()}, or earlier"
    if not _is(signal.direction, Direction) or not _is(signal.kind, SignalKind):
        return f"direction {signal.direction!r} and kind {signal.kind!r}", "a Direction and a SignalKind"
    if not _is(signal.horizon_minutes, int) or signal.horizon_minutes <= 0:
        return f"horizon_minutes {signal.horizon_minutes!r}", "whole minutes above zero"
    if not all(_is(price, float) and math.isfinite(price) and price > 0 for price in prices):
        return f"price, stop and target {prices}", "finite prices above zero, as floats"
    sign = signal.direction.sign
    if sign and not sign * signal.stop < sign * signal.price < sign * signal.target:
        return f"a {signal.direction} signal with price, stop and target {prices}", "a price between the stop and the target"
    return None


def _is(value: object, kind: type) -> bool:
    """Tell whether a value is what its annotation says: a user's code need not have been checked."""
    return isinstance(value, kind)
