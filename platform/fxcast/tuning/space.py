"""The parameters that a search varies, each in its range, by the path of the setting.

Optuna sees the same paths; a value that its storage can't hold travels as text (`decode`, `encode`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

from optuna.distributions import BaseDistribution

from fxcast.errors import BadSetting
from fxcast.trading.parameters import Value, Values
from fxcast.tuning.ranges import ParameterRange, text_of

__all__ = ["Level", "ParameterRange", "SearchSpace", "level_of"]

FoundT = TypeVar("FoundT")
KnownT = TypeVar("KnownT")


class Level(StrEnum):
    """What a trial does again; each level includes those before it."""

    TRADING = "trading"  # trades on forecasts that are there
    SAMPLING = "sampling"  # forecasts
    MODEL = "model"  # trains


def level_of(path: str) -> Level:
    """Return the level that a parameter needs.

    Args:
        path: `trading.…`, `sampler.steps`, `training.…` or `model.…`; whether the setting is there is not looked at.

    Raises:
        BadSetting: If it is none of these; names the nearest.
    """
    match path.split(".", 1):
        case ["trading", name] if name:
            return Level.TRADING
        case ["sampler", "steps"]:
            return Level.SAMPLING
        case ["training" | "model", name] if name:
            return Level.MODEL
        case _:
            pass
    raise BadSetting(f"{path}: unknown parameter{_nearest_path(path)}; allowed: trading.…, sampler.steps, training.…, model.…")


def _nearest_path(path: str) -> str:
    group, _, name = path.partition(".")
    near = difflib.get_close_matches(group, ["trading", "sampler", "training", "model"], n=1, cutoff=0.5)
    if not near:
        return ""
    return f"; did you mean {'sampler.steps' if near[0] == 'sampler' else near[0] + '.' + (name or '…')}?"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Ranges by the path of their parameter, in the order in which reports name them."""

    ranges: Mapping[str, ParameterRange]

    @classmethod
    def checked(
        cls,
        ranges: Mapping[str, ParameterRange],
        *,
        level: Level,
        defaults: Callable[[str], Value],
        check: Callable[[Values], None],
    ) -> Self:
        """Return the space of some ranges.

        Args:
            level: Of the search; its parameters are of this level or a cheaper one.
            defaults: Returns the value of a path; raises BadSetting for a path that is none.
            check: Raises BadSetting where settings with these values would be refused, the others being the defaults.

        Raises:
            BadSetting: If there is no parameter, one is unknown or of a dearer level, its default is not in its range, or an end
                of the range is refused; says what is wrong with each.
        """
        if not ranges:
            raise BadSetting("space: found no parameter; allowed: at least one")
        problems: list[str] = []
        for path, each in ranges.items():
            try:
                _check_level(path, level)
                _check_default(path, each, defaults)
                _check_values(path, each, check)
            except BadSetting as problem:
                problems.append(f"space.{path}: {_without(path, problem)}")
        if problems:
            raise BadSetting("; ".join(problems))
        return cls(ranges=dict(ranges))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the ranges as Optuna knows them, by path in alphabetical order: the order in a file changes no search."""
        return {path: self.ranges[path].distribution() for path in sorted(self.ranges)}

    def decode(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Return the values that Optuna's parameters mean.

        Raises:
            BadSetting: If a parameter is missing or unknown, or its value is none of its range: they are of another space.
        """
        self._check_paths(params)
        return {path: self._converted(path, params[path], each.decode) for path, each in self.ranges.items()}

    def encode(self, values: Values) -> dict[str, Any]:
        """Return values as Optuna's parameters, so that `decode` returns the same.

        Raises:
            BadSetting: If a parameter is missing or unknown, or its value is none of its range.
        """
        self._check_paths(values)
        return {path: self._converted(path, values[path], each.encode) for path, each in self.ranges.items()}

    def neighbours(self, values: Values, share: float = 0.1) -> tuple[tuple[str, Value], ...]:
        """Return what to try beside these values, one parameter at a time, the others as they are.

        Args:
            share: How far numbers move down and up, as a share of themselves; at least one whole number or step, and not out of
                the range.
        Returns:
            Path and other value; of choices, those before and after.
        Raises:
            BadSetting: If a parameter is missing or unknown, or its value is none of its range.
        """
        self.encode(values)
        return tuple((path, near) for path, each in self.ranges.items() for near in each.neighbours(values[path], share))

    def describe(self) -> tuple[tuple[str, str], ...]:
        """Return each parameter's path and its range in words, as in `0.3 to 0.7, log`."""
        return tuple((path, each.describe()) for path, each in self.ranges.items())

    @property
    def content(self) -> dict[str, Any]:
        """The ranges by path as plain JSON, for a hash; paths in alphabetical order."""
        return {path: self.ranges[path].content for path in sorted(self.ranges)}

    def _check_paths(self, found: Iterable[str]) -> None:
        names = set(found)
        for path in names - set(self.ranges):
            near = difflib.get_close_matches(path, list(self.ranges), n=1, cutoff=0.5)
            raise BadSetting(f"{path}: no parameter of the search" + (f"; did you mean {near[0]}?" if near else ""))
        for path in self.ranges:
            if path not in names:
                raise BadSetting(f"{path}: missing; allowed: {self.ranges[path].describe()}")

    def _converted(self, path: str, found: FoundT, convert: Callable[[FoundT], KnownT]) -> KnownT:
        try:
            return convert(found)
        except ValueError:
            raise BadSetting(f"{path}: found {found!r}; allowed: {self.ranges[path].describe()}") from None


def _check_level(path: str, level: Level) -> None:
    needed = level_of(path)
    levels = list(Level)
    if levels.index(needed) > levels.index(level):
        raise BadSetting(f"needs level {needed}, found {level}")


def _check_default(path: str, each: ParameterRange, defaults: Callable[[str], Value]) -> None:
    default = defaults(path)
    # {low: 1, high: 3} of a multiple that may be 1.5: probably not meant.
    if isinstance(default, float) and each.whole and each.type is None:
        raise BadSetting(f"whole numbers, {each.describe()}, the default is {default}; write low: {each.ends[0]}.0, or type: int")
    if not each.contains(default):
        off = "; one that may be null needs choices" if default is None and each.choices is None else ""
        raise BadSetting(f"the default, {text_of(default)}, is not in {each.describe()}{off}")


def _check_values(path: str, each: ParameterRange, check: Callable[[Values], None]) -> None:
    inner = each.inner
    for value in each.ends if inner is None else (*each.ends, inner):
        try:
            check({path: value})
        except BadSetting as problem:
            raise BadSetting(f"{text_of(value)} is refused: {_without(path, problem)}") from None


def _without(path: str, problem: BadSetting) -> str:
    """Return what is wrong, without the path in front, whole or within its group."""
    first, separator, rest = str(problem).partition(": ")
    return rest if separator and f".{path}".endswith(f".{first}") else str(problem)
