"""The engine's settings as the page groups them, and what a filled form makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from fxcast.config import explain
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.web.forms import Difference, FormField, differences, fields_of, read_values

# Code that is loaded by name: it comes with the files of who starts the engine, never from a page.
_NOT_SET_HERE = ("sources",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Settings that belong together; `is_open` of those that are looked at most."""

    title: str
    help: str
    only: tuple[str, ...]
    without: tuple[str, ...] = ()
    is_open: bool = False

    @property
    def fields(self) -> tuple[FormField, ...]:
        """Its settings, as the class describes them."""
        return fields_of(TradingConfig, only=self.only, without=self.without)


SECTIONS = (
    Section(
        title="LDM4TS",
        help="Whether its forecasts are traded on, of which model and horizons, and how sure they must be.",
        only=tuple(name for name in TradingConfig.model_fields if name.startswith(("use_ldm4ts", "ldm4ts_"))),
        is_open=True,
    ),
    Section(
        title="Sources",
        help="Who else has a say, and how good a signal must be.",
        only=(
            *("use_trend", "use_mean_reversion", "use_pattern", "use_multi_timeframe", "min_quality"),
            *("forecast_source", "opponents", "forecast_interval_bars", "forecast_timeout_s", "spread_pips"),
        ),
        is_open=True,
    ),
    Section(title="Sizing", help="How large a position is before uncertainty and risk reduce it.", only=("sizing",)),
    Section(
        title="Risk",
        help="Limits between a decision and an order; they only reduce.",
        only=("risk",),
        without=("risk.sessions", "risk.weekend_cut_off_minutes"),
    ),
    Section(title="Sessions", help="When new risk is taken.", only=("risk.sessions", "risk.weekend_cut_off_minutes")),
    Section(title="Open positions", help="Where stop and target lie, and what becomes of them.", only=("management",)),
    Section(
        title="Quality, regimes and what was tuned",
        help="How the six dimensions are weighed; values of one symbol or regime.",
        only=("quality", "regime_refit_bars", "tuned"),
    ),
)
FIELDS = tuple(field for section in SECTIONS for field in section.fields)


def content_of(trading: TradingConfig) -> dict[str, Any]:
    """Return settings as the form shows them."""
    return trading.model_dump(mode="json", by_alias=True)


def changed(trading: TradingConfig, raw: Mapping[str, object]) -> TradingConfig:
    """Return settings with what a form holds in place of their own.

    Args:
        trading: Those that the form was made of.
        raw: What its controls hold, by path.

    Raises:
        BadSetting: If a value can't be read or is not allowed; names path and value, in the words of every other place.
    """
    merged = _merged(content_of(trading), read_values(FIELDS, raw))
    try:
        found = TradingConfig.model_validate(merged)
    except ValidationError as error:
        raise BadSetting(explain(error, TradingConfig)) from None
    folder = found.ldm4ts_checkpoint_path
    if folder is not None and not folder.is_absolute():
        raise BadSetting(f"ldm4ts_checkpoint_path: found {str(folder)!r}: not an absolute path; the engine runs in another folder")
    return found


def what_differs(before: TradingConfig, after: TradingConfig) -> tuple[Difference, ...]:
    """Return what is another value, also of what the form does not show."""
    fields: Sequence[FormField] = (*FIELDS, *fields_of(TradingConfig, only=_NOT_SET_HERE))
    return differences(fields, content_of(before), content_of(after))


def _merged(content: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a content in which nested values take the place of those at the same paths."""
    paths = {field.path for field in FIELDS}

    def merge(below: Mapping[str, Any], given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found = dict(below)
        for name, value in given.items():
            path = f"{prefix}{name}"
            is_leaf = path in paths or not isinstance(value, Mapping)
            found[name] = value if is_leaf else merge(below[name], cast("Mapping[str, Any]", value), f"{path}.")
        return found

    return merge(content, values, "")
