"""The range of one parameter: numbers from low to high, or choices, as they stand in YAML.

`{low: 0.3, high: 0.7}`, `{low: 2, high: 8}` (whole numbers), `{low: 1.0e-5, high: 1.0e-3, log: true}`,
`{low: 0.3, high: 0.7, step: 0.05}`, `{choices: [[15, 60], [15, 60, 240]]}`.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeGuard, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from fxcast.config import Settings
from fxcast.trading.parameters import Value

_FORMS = "allowed: {low: …, high: …} with log, step or type, or {choices: […]}"
_LARGEST_WHOLE = 2**53  # Optuna keeps every number as a float, and a float holds no more whole numbers without gaps
_FINEST_STEP = 1e-6  # of the largest number: for Optuna a value is on the grid where rounding stays below 1e-8 of the step
_ROUNDING = 1e-9  # of the largest number: how far a sampler's logarithm and back may leave a range
_ROUNDING_STEPS = 1e-6  # the same on a grid, in steps
_INNER = 0.381966  # golden section: a whole number there would be chance


def text_of(value: Value) -> str:
    """Return a value as messages and reports show it: `0.5`, `[15, 60]`, `null`, `'kelly'`."""
    return repr(value) if isinstance(value, str) else json.dumps(value)


def _wrong(problem: str) -> PydanticCustomError:
    return PydanticCustomError("range", "{problem}", {"problem": problem})


def _number(found: object) -> object:
    # YAML 1.1 reads 1e-4, without a point, as text; that is how people write a learning rate.
    if isinstance(found, str):
        try:
            found = int(found) if found.lstrip("+-").isdecimal() else float(found)
        except ValueError:
            raise _wrong("allowed: a number") from None
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _wrong("allowed: a number")
    if isinstance(found, int) and abs(found) > _LARGEST_WHOLE:
        raise _wrong(f"allowed: whole numbers up to {_LARGEST_WHOLE}")
    if not math.isfinite(found):
        raise _wrong("allowed: a finite number")
    return found


def _choices(found: object) -> object:
    if found is None:
        return None
    if not isinstance(found, list | tuple):
        raise _wrong("allowed: a list of choices")
    return tuple(_choice(each) for each in cast("list[object] | tuple[object, ...]", found))


def _choice(found: object) -> Value:
    if isinstance(found, float) and not math.isfinite(found):
        raise _wrong(f"the choice {found} is not finite")
    if found is None or isinstance(found, bool | int | float | str):
        return found
    if isinstance(found, list | tuple):
        members = cast("list[object] | tuple[object, ...]", found)
        if all(isinstance(each, int) and not isinstance(each, bool) for each in members):
            return cast("tuple[int, ...]", tuple(members))
    raise _wrong(f"the choice {found!r} is none of: null, true or false, a number, a text, a list of whole numbers")


Number = Annotated[int | float | None, BeforeValidator(_number)]


class ParameterRange(Settings):
    """Numbers from low to high, both included, or choices.

    Attributes:
        type: Whole numbers or any; left out, whole where both ends are written as whole numbers.
        log: Sample evenly in the logarithm.
        step: Only low, low + step, and so on up to high.
        choices: In an order in which neighbours are alike, if there is one.
    """

    low: Number = None
    high: Number = None
    type: Literal["int", "float"] | None = None
    log: bool = False
    step: Number = None
    choices: Annotated[tuple[Value, ...] | None, BeforeValidator(_choices)] = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_range(cls, found: object) -> object:
        if isinstance(found, ParameterRange):
            return found
        if not isinstance(found, Mapping):
            raise _wrong(_FORMS)
        known = list(cls.model_fields)
        for key, below in cast("Mapping[object, object]", found).items():
            if key in known:
                continue
            if isinstance(below, Mapping):
                raise _wrong(f"{key!r} begins another level; write a parameter as one path, as in 'trading.min_quality'; {_FORMS}")
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            raise _wrong(f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else f"; {_FORMS}"))
        return cast("object", found)

    @model_validator(mode="after")
    def _one_form(self) -> ParameterRange:
        if self.choices is None:
            missing = [name for name in ("low", "high") if getattr(self, name) is None]
            if missing:
                raise _wrong(f"without {' and '.join(missing)}; {_FORMS}")
            self._check_numbers()
            return self
        besides = [name for name in ("low", "high", "type", "step") if getattr(self, name) is not None] + ["log"] * self.log
        if besides:
            raise _wrong(f"choices together with {' and '.join(besides)}; {_FORMS}")
        self._check_choices(self.choices)
        return self

    def _check_choices(self, choices: tuple[Value, ...]) -> None:
        if len(choices) < 2:
            raise _wrong(f"{len(choices)} choices; allowed: two or more")
        for one, other in itertools.combinations(choices, 2):
            if encoded(one) == encoded(other):  # Optuna can't tell them apart either, 1 and true among them
                raise _wrong(f"two equal choices, {text_of(one)} and {text_of(other)}")

    def _check_numbers(self) -> None:
        if self.type == "int":
            for name in ("low", "high"):
                if not float(getattr(self, name)).is_integer():
                    raise _wrong(f"whole numbers with {name} {getattr(self, name)}; allowed: a whole number, or type: float")
        if self._low >= self._high:
            raise _wrong(f"empty: low {self._low} is not below high {self._high}")
        if not math.isfinite(self._high - self._low):
            raise _wrong(f"{self._low} to {self._high} is wider than a number can say")
        if self.log and self._low <= 0:
            raise _wrong(f"log with low {self._low}; allowed: above 0")
        if self.step is not None:
            self._check_step(self.step)

    def _check_step(self, step: float) -> None:
        if self.log:
            raise _wrong("log together with step; allowed: one of them")
        if step <= 0:
            raise _wrong(f"step {step}; allowed: above 0")
        if self.whole and not float(step).is_integer():
            raise _wrong(f"whole numbers with step {step}; allowed: a whole step, or type: float")
        width = _exact(self._high) - _exact(self._low)
        if _exact(step) > width:
            raise _wrong(f"step {step} is wider than the range, {self._low} to {self._high}")
        if step < _FINEST_STEP * max(abs(self._low), abs(self._high)):
            raise _wrong(f"step {step} is finer than a millionth of the numbers; leave it out")
        if width % _exact(step):
            last = self._at(int(width // _exact(step)))
            raise _wrong(f"high {self._high} is no whole number of steps of {step} above {self._low}; the last below it is {last}")

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return self.type == "int" or (self.type is None and isinstance(self.low, int) and isinstance(self.high, int))

    @property
    def ends(self) -> tuple[Value, ...]:
        """The least and the largest number, or every choice."""
        return (self._low, self._high) if self.choices is None else self.choices

    @property
    def inner(self) -> float | None:
        """A number of the range that is not whole, where there is one between the ends: a setting of whole numbers refuses it."""
        if self.choices is not None or self.whole:
            return None
        number = self._at(1) if self.step is not None else self._low + _INNER * (self._high - self._low)
        return None if float(number).is_integer() else number

    def contains(self, value: Value) -> bool:
        """Say whether a value is one of the range: a number between its ends and on its grid, or one of the choices."""
        if self.choices is not None:
            return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in self.choices)
        return _is_number(value) and self._low <= value <= self._high and self._nearest(value) == value

    def distribution(self) -> BaseDistribution:
        """Return the range as Optuna knows it; its storage takes scalars only, so that a list of numbers travels as JSON text."""
        if self.choices is not None:
            return CategoricalDistribution([encoded(each) for each in self.choices])
        if self.whole:
            return IntDistribution(int(self._low), int(self._high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self._low, self._high, log=self.log, step=self.step)

    def encode(self, value: Value) -> bool | int | float | str | None:
        """Return a value of the range as Optuna knows it.

        Raises:
            ValueError: If it is none of the range.
        """
        if not self.contains(value):
            raise ValueError(value)
        if self.choices is not None:
            return encoded(self.choices[self.choices.index(value)])
        return self._nearest(cast("float", value))

    def decode(self, found: object) -> Value:
        """Return the value that Optuna means; rounding errors of its samplers are undone.

        Raises:
            ValueError: If it is none of the range.
        """
        if self.choices is not None:
            for each in self.choices:
                if encoded(each) == found:
                    return each
            raise ValueError(found)
        if not _is_number(found) or math.isnan(found):
            raise ValueError(found)
        value = self._nearest(found)
        allowance = _ROUNDING * max(abs(self._low), abs(self._high)) if self.step is None else _ROUNDING_STEPS * self.step
        if abs(value - found) > (0 if self.whole else allowance):
            raise ValueError(found)
        return value

    def neighbours(self, value: Value, share: float) -> tuple[Value, ...]:
        """Return the values beside one of the range.

        Args:
            share: How far a number moves down and up, as a share of itself (of the range, where it is 0), but at least one
                whole number or step, and not out of the range.
        Returns:
            The lower one first; without those that would be the value itself. Of choices, those before and after it.
        """
        if self.choices is not None:
            place = self.choices.index(value)
            return self.choices[max(place - 1, 0) : place] + self.choices[place + 1 : place + 2]
        number = cast("float", value)
        move = share * (abs(number) if number else self._high - self._low)
        unit = 1 if self.whole and self.step is None else self.step
        if unit is not None:
            move = unit * max(1, round(move / unit))
        return tuple(each for each in (self._nearest(number - move), self._nearest(number + move)) if each != number)

    def describe(self) -> str:
        """Return the range in words: `0.3 to 0.7, log`, `2 to 8`, `0.3 to 0.7 in steps of 0.05`, `[15, 60] | [60, 240]`."""
        if self.choices is not None:
            return " | ".join(each if isinstance(each, str) else text_of(each) for each in self.choices)
        step = "" if self._step is None else f" in steps of {self._step}"
        return f"{self._low} to {self._high}{step}{', log' if self.log else ''}"

    @property
    def content(self) -> dict[str, Any]:
        """The range as plain JSON: the same for the same range, however it was written."""
        if self.choices is not None:
            return {"choices": [list(each) if isinstance(each, tuple) else each for each in self.choices]}
        kind = "int" if self.whole else "float"
        return {"low": self._low, "high": self._high, "type": kind, "log": self.log, "step": self._step}

    @property
    def _low(self) -> int | float:
        return self._typed(cast("float", self.low))

    @property
    def _high(self) -> int | float:
        return self._typed(cast("float", self.high))

    @property
    def _step(self) -> int | float | None:
        return None if self.step is None else self._typed(self.step)

    def _typed(self, number: float | Decimal) -> int | float:
        return int(number) if self.whole else float(number)

    def _nearest(self, number: float) -> int | float:
        # Of the range; on a grid as decimals add up, 0.3 + 8 · 0.05 = 0.7, and not as floats do.
        inside = min(max(number, self._low), self._high)
        if self.step is not None:
            return self._at(round((inside - self._low) / self.step))
        return round(inside) if self.whole else float(inside)

    def _at(self, steps: int) -> int | float:
        return self._typed(_exact(self._low) + steps * _exact(cast("float", self._step)))


def encoded(value: Value) -> bool | int | float | str | None:
    """Return a choice as Optuna's storage takes it: `(15, 60)` as the text `[15, 60]`, scalars as they are."""
    return json.dumps(value) if isinstance(value, tuple) else value


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def _is_number(found: object) -> TypeGuard[int | float]:
    return isinstance(found, int | float) and not isinstance(found, bool)
