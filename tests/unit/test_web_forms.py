"""Forms out of settings classes: what they offer, what they read, and what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast

import pytest
from dash.development.base_component import Component
from plotly.utils import PlotlyJSONEncoder
from pydantic import Field

from fxcast.config import Settings
from fxcast.errors import BadSetting
from fxcast.trading.config import PaperMarketConfig, SizingConfig, SizingMethod, TradingConfig
from fxcast.web.forms import FormField, control, differences, fields_of, read_values, text_of, value_at
from jobs.train import TrainJob
from jobs.tune_settings import TuneJob

ID = {"type": "setting", "path": "x"}


def field(model: type[Any], path: str) -> FormField:
    (found,) = fields_of(model, only=[path])
    return found


def parts(component: Component) -> list[dict[str, Any]]:
    """Return the properties of a component and of all that it holds."""
    return list(_parts(json.loads(json.dumps(component, cls=PlotlyJSONEncoder))))


def _parts(made: Any) -> Iterator[dict[str, Any]]:  # JSON
    if isinstance(made, list):
        for each in cast("list[Any]", made):
            yield from _parts(each)
    elif isinstance(made, dict):
        yield made["props"]
        yield from _parts(made["props"].get("children"))


def test_a_field_has_the_description_range_and_default_of_the_class() -> None:
    found = field(TradingConfig, "sizing.kelly_fraction")
    assert found == FormField(
        path="sizing.kelly_fraction",
        label="sizing: kelly fraction",
        help="share of the Kelly bet that is taken",
        kind="number",
        allowed="above 0, at most 1",
        default=0.25,
    )


@pytest.mark.parametrize(
    ("model", "path", "kind", "allowed"),
    [
        (TradingConfig, "use_trend", "switch", ""),
        (TradingConfig, "ldm4ts_num_samples", "whole", "at least 2, at most 1000"),
        (TradingConfig, "ldm4ts_horizons", "text", "at least 1 of them, each at most 525600"),
        (TradingConfig, "ldm4ts_checkpoint_path", "text", ""),
        (TradingConfig, "risk.min_free_margin_pct", "number", "at least 0, below 100"),
        (TradingConfig, "risk.sessions", "choices", ""),
        (TradingConfig, "sizing.method", "choice", ""),
        (TradingConfig, "sizing.regime_multipliers", "yaml", ""),
        (TradingConfig, "sources", "yaml", ""),
        (TradingConfig, "management.exit_uncertainty_pct", "number", "above 0"),
        (PaperMarketConfig, "starting_balance", "number", "above 0"),
        (PaperMarketConfig, "account_currency", "text", "of the form ^[A-Z]{3}$"),
        (TrainJob, "until", "text", "a time as 2017-10-26T00:00:00Z"),
        (TrainJob, "stage", "choice", ""),
        (TrainJob, "condition_width", "whole", "at least 4, a multiple of 4"),
        (TrainJob, "training.steps", "whole", "at least 1"),
        (TrainJob, "workers", "text", r"of the form ^[1-9]\d*(:[1-9]\d*)?$"),
        (TuneJob, "sssd_training", "yaml", ""),
        (TuneJob, "benchmarks", "choices", ""),
    ],
)
def test_each_kind_of_setting_has_its_control_and_range(model: type[Any], path: str, kind: str, allowed: str) -> None:
    found = field(model, path)
    assert (found.kind, found.allowed) == (kind, allowed)


def test_what_may_be_none_is_optional_and_what_has_no_default_required() -> None:
    fields = {each.path: each for each in fields_of(TuneJob)}
    assert (fields["max_hours"].optional, fields["regime"].optional, fields["trials"].optional) == (True, True, False)
    assert [path for path, each in fields.items() if each.required] == ["name"]
    assert fields["regime"].choices == ("trending", "ranging", "volatile")


def test_the_default_of_a_nested_class_is_that_of_the_class_above() -> None:
    class Above(Settings):
        sizing: SizingConfig = SizingConfig(method=SizingMethod.KELLY, kelly_fraction=0.1)

    assert field(Above, "sizing.kelly_fraction").default == 0.1


def test_ranges_inside_annotations_count_too() -> None:
    class Nested(Settings):
        inside: Annotated[float, Field(ge=0, le=1)] | None = None
        each: tuple[Annotated[int, Field(gt=0)], ...] = ()
        either: bool | None = None

    inside, each, either = fields_of(Nested)
    assert (inside.kind, inside.allowed, inside.optional) == ("number", "at least 0, at most 1", True)
    assert (each.items, each.allowed) == ("whole", "each above 0")
    assert (either.kind, either.choices) == ("choice", (True, False))
    assert read_values((either,), {"either": "no"}) == {"either": False}


def test_fields_are_chosen_by_path_or_by_what_is_above_them() -> None:
    names = [each.path for each in fields_of(TradingConfig, only=["sizing", "use_trend"], without=["sizing.regime_multipliers"])]
    assert names == [
        "use_trend",
        "sizing.method",
        "sizing.risk_per_trade_pct",
        "sizing.kelly_fraction",
        "sizing.volatility_target_pct",
    ]


@pytest.mark.parametrize("model", [TradingConfig, PaperMarketConfig])
def test_what_controls_show_of_the_defaults_is_read_back_as_the_defaults(model: type[Settings]) -> None:
    default = model()
    content = default.model_dump(mode="json", by_alias=True)
    fields = fields_of(model)
    raw = {each.path: _held(each, value_at(content, each.path)) for each in fields}
    assert model.model_validate(read_values(fields, raw)) == default


def _held(field: FormField, value: object) -> object:
    """Return what the control of a field holds."""
    made = control(field, value, id={"type": "setting", "path": field.path})
    (held,) = (part for part in parts(made) if part.get("id") == {"type": "setting", "path": field.path})
    return held["value"]


def test_a_control_is_labelled_and_described_by_its_help_and_range() -> None:
    for path in ("sizing.kelly_fraction", "use_trend", "risk.sessions", "sizing.method", "sizing.regime_multipliers"):
        made = control(field(TradingConfig, path), value_at(TradingConfig().model_dump(mode="json"), path), id=ID)
        described = parts(made)[0]["aria-describedby"]
        (hint,) = (part for part in parts(made) if part.get("id") == described)
        assert field(TradingConfig, path).help in hint["children"]
        assert field(TradingConfig, path).allowed in hint["children"]
        assert field(TradingConfig, path).label in str(made)


def test_values_are_read_as_their_kinds_and_nested_by_path() -> None:
    raw = {
        "use_trend": [],
        "ldm4ts_horizons": "15, 60,240",
        "min_quality": " 0.5 ",
        "sizing.method": "kelly",
        "sizing.regime_multipliers": "{volatile: 0.5}",
        "risk.sessions": ["London", "Tokyo"],
        "risk.max_positions": "4",
        "management.trail_at_r": "",
        "opponents": "",
    }
    values = read_values(fields_of(TradingConfig), raw)
    assert values == {
        "use_trend": False,
        "ldm4ts_horizons": [15, 60, 240],
        "min_quality": 0.5,
        "sizing": {"method": "kelly", "regime_multipliers": {"volatile": 0.5}},
        "risk": {"sessions": ["Tokyo", "London"], "max_positions": 4},
        "management": {"trail_at_r": None},
        "opponents": {},
    }
    assert TradingConfig.model_validate(values).sizing.method is SizingMethod.KELLY


@pytest.mark.parametrize(
    ("path", "given", "problem"),
    [
        ("sizing.kelly_fraction", "much", "sizing.kelly_fraction: found 'much'; allowed: a number, above 0, at most 1"),
        ("sizing.kelly_fraction", "nan", "found 'nan'"),
        ("sizing.kelly_fraction", "", "found ''; allowed: a number"),
        ("risk.max_positions", "1.5", "risk.max_positions: found '1.5'; allowed: a whole number, at least 1"),
        ("ldm4ts_horizons", "15, x", "ldm4ts_horizons: found 'x'; allowed: a whole number"),
        ("sizing.method", "hunch", "sizing.method: found 'hunch'; allowed: fixed_fraction, kelly, volatility_target"),
        ("risk.sessions", ["Paris"], "risk.sessions: found 'Paris'; allowed: Sydney, Tokyo"),
        ("opponents", "{a: [", "opponents: found no YAML"),
        ("sizing.kelly", "1", "unknown setting 'sizing.kelly'"),
    ],
)
def test_what_can_not_be_read_is_named_with_what_was_found(path: str, given: object, problem: str) -> None:
    with pytest.raises(BadSetting) as refused:
        read_values(fields_of(TradingConfig), {path: given})
    assert problem in str(refused.value)


def test_all_that_can_not_be_read_is_named_at_once() -> None:
    with pytest.raises(BadSetting, match=r"min_quality: found 'a'.*; risk\.max_positions: found 'b'"):
        read_values(fields_of(TradingConfig), {"min_quality": "a", "risk.max_positions": "b"})


def test_differences_are_told_in_the_texts_of_the_controls() -> None:
    before = TradingConfig().model_dump(mode="json", by_alias=True)
    changed: dict[str, Any] = {
        **before,
        "use_trend": False,
        "ldm4ts_horizons": (240, 960),
        "sizing": {**before["sizing"], "kelly_fraction": 0.5, "regime_multipliers": {"volatile": 0.5}},
        "management": {**before["management"], "trail_at_r": 2},
        "opponents": dict[str, str](),
    }
    found = differences(fields_of(TradingConfig), before, changed)
    assert [(each.path, each.before, each.after) for each in found] == [
        ("ldm4ts_horizons", "15, 60, 240", "240, 960"),
        ("use_trend", "on", "off"),
        ("sizing.kelly_fraction", "0.25", "0.5"),
        ("sizing.regime_multipliers", "{}", "{volatile: 0.5}"),
        ("management.trail_at_r", "", "2"),
    ]
    assert found[1].label == "use trend"


def test_the_same_value_in_another_form_is_no_difference() -> None:
    fields = fields_of(PaperMarketConfig)
    before = PaperMarketConfig().model_dump(mode="json")  # decimals are texts
    after = {**before, "spread_pips": 1, "leverage": 30.0, "spread_pips_by_hour": {}}
    assert differences(fields, before, after) == ()
    older: Mapping[str, Any] = {name: value for name, value in before.items() if name != "latency_s"}
    assert differences(fields, older, before) == ()  # what a content does not name has its default


def test_a_path_that_is_not_there_is_refused() -> None:
    assert value_at({"sizing": {"method": "kelly"}}, "sizing.method") == "kelly"
    with pytest.raises(BadSetting, match=r"sizing\.kelly: missing"):
        value_at({"sizing": {"method": "kelly"}}, "sizing.kelly")


def test_long_numbers_keep_their_digits() -> None:
    class Precise(Settings):
        rate: float = 0.1234567890123
        mode: Literal["a", "b"] | None = None

    rate, mode = fields_of(Precise)
    assert (text_of(rate, rate.default), text_of(rate, 100_000.0), text_of(mode, None)) == ("0.1234567890123", "100000", "")
    assert read_values((rate, mode), {"rate": text_of(rate, rate.default), "mode": ""}) == {"rate": 0.1234567890123, "mode": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1, 1]\nb: [*x, *x]", "aliases"),
        ("&x [*x]", "aliases"),
        ("a: 2026-13-45", "month must be in 1..12"),
        ("a: [1", "found no YAML"),
    ],
)
def test_yaml_that_would_grow_or_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        read_values(fields_of(TradingConfig), {"sizing.regime_multipliers": text})


def test_a_number_of_too_many_digits_is_refused() -> None:
    with pytest.raises(BadSetting, match="ldm4ts_num_samples: found"):
        read_values(fields_of(TradingConfig), {"ldm4ts_num_samples": "9" * 5000})
