"""The trader's settings by the path of each value, as a search or a promotion names them.

A path is dotted and relative to `TradingConfig`: `min_quality`, `sizing.kelly_fraction`, `management.stop_multiple`. Beside the
fields themselves there are

- `quality.weights.<dimension>`: a factor on the dimension's weight in every regime, and `quality.weights.<regime>.<dimension>` in
  one (both given, they are multiplied); each row is then scaled to add up to 1, so that a factor is relative to the others.
- `quality.min_total.<regime>`: the least quality in a regime; `min_quality` where none is set.
- `sizing.regime_multipliers.<regime>`: 1 where none is set.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from enum import StrEnum
from functools import cache, reduce
from operator import getitem
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_json

from fxcast.config import explain
from fxcast.domain.signal import DIMENSIONS, Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.tuned import Value, Values

__all__ = ["ACCOUNT_WIDE", "ASKING", "FIXED", "Value", "Values", "check_searchable", "searchable_paths", "value_of", "with_values"]

ASKING = frozenset({"ldm4ts_horizons", "ldm4ts_num_samples", "forecast_interval_bars"})
"""What the forecast service is asked for; another value means other forecasts."""

FIXED = frozenset(
    {
        "use_ldm4ts",
        "ldm4ts_checkpoint_path",
        "forecast_source",
        "opponents",
        "forecast_timeout_s",
        "use_multi_timeframe",
        "sources",
        "risk.sessions",
        "regime_refit_bars",
        "tuned",
    }
)
"""What is no number of a strategy: who forecasts, what else is loaded or looked at, and how the engine runs."""

ACCOUNT_WIDE = frozenset({"risk.cool_off_losses", "risk.cool_off_minutes", "risk.correlation_bars"})
"""What can't differ by symbol or regime: all symbols lose together, and returns are correlated between symbols."""

_WEIGHTS, _MIN_TOTAL, _MULTIPLIERS = "quality.weights", "quality.min_total", "sizing.regime_multipliers"
_MOST_FACTOR = 1000.0
_EXACT = ConfigDict(strict=True, allow_inf_nan=False)  # "3" and true are no numbers


def value_of(trading: TradingConfig, path: str) -> Value:
    """Return the value at a path; 1 for a factor on a weight.

    Raises:
        BadSetting: As `check_searchable`.
    """
    check_searchable(path)
    match path.split("."):
        case ["quality", "weights", *_]:
            return 1.0
        case ["quality", "min_total", regime]:
            return trading.quality.least_total(Regime(regime), trading.min_quality)
        case ["sizing", "regime_multipliers", regime]:
            return trading.sizing.regime_multipliers.get(Regime(regime), 1.0)
        case names:
            value: Any = reduce(getattr, names, trading)  # a plain one: test_trading_parameters.py looks at every path
            return value.value if isinstance(value, StrEnum) else value


def with_values(trading: TradingConfig, values: Values) -> TradingConfig:
    """Return settings with other values at some paths, set all at once and validated as a whole.

    Raises:
        BadSetting: If a path is unknown or no searchable one, a value is of another type or out of range, or the values don't go
            together; names the path, what was found and what is allowed.
    """
    content: dict[str, Any] = trading.model_dump(by_alias=True)
    factors: dict[str, float] = {}
    for path, value in values.items():
        check_searchable(path)
        checked = _checked(path, value)
        *sections, name = path.split(".")
        if path.startswith(f"{_WEIGHTS}."):
            factors[path] = checked
        else:
            reduce(getitem, sections, content)[name] = checked
    content["quality"]["weights"] = _scaled(content["quality"]["weights"], factors)
    try:
        return type(trading).model_validate(content)
    except ValidationError as error:
        raise BadSetting(f"{', '.join(values)}: {explain(error, type(trading))}") from None


def searchable_paths() -> tuple[str, ...]:
    """Return every path that a search may name, in the order of the settings."""
    return tuple(_kinds())


def check_searchable(path: str) -> None:
    """See that a path is a searchable value.

    Raises:
        BadSetting: If it is unknown, with the nearest known one; if it is fixed; or if it holds several values.
    """
    known = _kinds()
    if path in known:
        return
    if any(path == each or path.startswith(f"{each}.") for each in FIXED):
        fixed = ", ".join(sorted(FIXED))
        raise BadSetting(f"{path}: can't be searched; allowed: numbers and choices of the strategy, none of {fixed}")
    inside = next((each for each in known if each.startswith(f"{path}.")), None)
    if inside is not None:
        raise BadSetting(f"{path}: holds several values; allowed: one of them, as in {inside}")
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.0)
    raise BadSetting(f"unknown path {path!r}; did you mean {near[0]!r}?")


@cache
def _kinds() -> dict[str, TypeAdapter[Any]]:
    """What checks the value at each searchable path."""
    share: TypeAdapter[Any] = TypeAdapter(Annotated[float, Field(ge=0, le=1)], config=_EXACT)
    factor: TypeAdapter[Any] = TypeAdapter(Annotated[float, Field(ge=0, le=_MOST_FACTOR)], config=_EXACT)
    rows = ("", *(f".{regime.value}" for regime in Regime))
    special: dict[str, dict[str, TypeAdapter[Any]]] = {
        _WEIGHTS: {f"{_WEIGHTS}{row}.{name}": factor for row in rows for name in DIMENSIONS},
        _MIN_TOTAL: {f"{_MIN_TOTAL}.{regime.value}": share for regime in Regime},
        _MULTIPLIERS: {f"{_MULTIPLIERS}.{regime.value}": share for regime in Regime},
    }
    kinds: dict[str, TypeAdapter[Any]] = {}
    for path, kind in _fields(TradingConfig, ""):
        kinds |= special.get(path, {path: kind})
    return {path: kind for path, kind in kinds.items() if path not in FIXED}


def _fields(model: type[BaseModel], prefix: str) -> list[tuple[str, TypeAdapter[Any]]]:
    fields: list[tuple[str, TypeAdapter[Any]]] = []
    for name, field in model.model_fields.items():
        path, kind = f"{prefix}{name}", field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields += _fields(kind, f"{path}.")
        elif path not in FIXED:
            fields.append((path, TypeAdapter(_bounded(field), config=_EXACT)))
    return fields


def _bounded(field: FieldInfo) -> Any:  # noqa: ANN401  # a type
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _checked(path: str, value: Value) -> Any:  # noqa: ANN401  # of the type that the path has
    try:
        return _kinds()[path].validate_json(to_json(value))  # as JSON a choice's text is the choice itself
    except ValidationError as error:
        raise BadSetting(f"{path}: found {value!r}: {error.errors()[0]['msg']}") from None
    except PydanticSerializationError:
        raise BadSetting(f"{path}: found {value!r}; allowed: a plain number, text or null") from None


def _scaled(rows: Mapping[Regime, tuple[float, ...]], factors: Mapping[str, float]) -> dict[Regime, tuple[float, ...]]:
    """Return the weights times their factors, each row scaled to add up to 1; one without a factor as it is."""
    scaled: dict[Regime, tuple[float, ...]] = {}
    for regime, row in rows.items():
        names = [(f"{_WEIGHTS}.{name}", f"{_WEIGHTS}.{regime.value}.{name}") for name in DIMENSIONS]
        row_factors = [factors.get(everywhere, 1.0) * factors.get(here, 1.0) for everywhere, here in names]
        scaled[regime] = row
        if any(factor != 1.0 for factor in row_factors):
            weights = [weight * factor for weight, factor in zip(row, row_factors, strict=True)]
            total = math.fsum(weights)
            if not total > 0:
                raise BadSetting(f"{', '.join(factors)}: found no weight above zero in {regime.value}; allowed: at least one")
            scaled[regime] = tuple(weight / total for weight in weights)
    return scaled
