"""What a filled form makes of an engine's settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fxcast.config import explain
from fxcast.errors import BadSetting
from fxcast.signals.sources import SourceSpec
from fxcast.trading.config import TradingConfig
from fxcast.web.forms import FormField, fields_of, text_of, value_at
from fxcast.web.settings_view import FIELDS, SECTIONS, changed, content_of, what_differs

OWN = SourceSpec.model_validate({"class": "mine:Breakout", "options": {"bars": 20}})
SETTINGS = TradingConfig(sources=(OWN,), min_quality=0.5)


def typed(field: FormField, settings: TradingConfig) -> object:
    """What a control holds that shows a setting and was not touched."""
    value = value_at(content_of(settings), field.path)
    if field.kind == "switch":
        return ["on"] if value else []
    return list(value) if field.kind == "choices" else text_of(field, value)


def test_every_setting_but_code_that_is_loaded_by_name_stands_in_one_section() -> None:
    shown = [field.path for section in SECTIONS for field in section.fields]

    assert len(shown) == len(set(shown))
    assert {field.path for field in fields_of(TradingConfig)} - set(shown) == {"sources"}
    assert all(field.help for field in FIELDS)


def test_a_form_that_nobody_touched_changes_nothing() -> None:
    assert changed(SETTINGS, {field.path: typed(field, SETTINGS) for field in FIELDS}) == SETTINGS


def test_what_was_typed_is_set_and_nothing_else() -> None:
    found = changed(
        SETTINGS, {"ldm4ts_horizons": "60, 240", "sizing.regime_multipliers": "{volatile: 0.5}", "risk.sessions": ["London"]}
    )

    assert found.ldm4ts_horizons == (60, 240)
    assert found.risk.sessions == ("London",)
    told = {each.path: (each.before, each.after) for each in what_differs(SETTINGS, found)}
    assert told.keys() == {"ldm4ts_horizons", "sizing.regime_multipliers", "risk.sessions"}
    assert told["ldm4ts_horizons"] == ("15, 60, 240", "60, 240")
    same = {"ldm4ts_horizons": SETTINGS.ldm4ts_horizons, "risk": SETTINGS.risk, "sizing": SETTINGS.sizing}
    assert found.model_copy(update=same) == SETTINGS


def test_what_is_wrong_is_said_in_the_words_of_the_class() -> None:
    with pytest.raises(ValidationError) as refused:
        TradingConfig.model_validate({"sizing": {"kelly_fraction": 7.0}})
    with pytest.raises(BadSetting) as said:
        changed(SETTINGS, {"sizing.kelly_fraction": "7"})

    assert str(said.value) == explain(refused.value, TradingConfig)


@pytest.mark.parametrize("path", ["sources", "sources.0.class", "nothing", "sizing"])
def test_code_is_not_named_by_a_page_and_what_is_unknown_is_refused(path: str) -> None:
    with pytest.raises(BadSetting, match=f"unknown setting '{path}'"):
        changed(SETTINGS, {path: "[{class: os:system}]"})


def test_sources_that_differ_between_two_versions_are_told() -> None:
    (found,) = what_differs(SETTINGS, SETTINGS.model_copy(update={"sources": ()}))

    assert (found.path, found.after) == ("sources", "[]")
    assert "mine:Breakout" in found.before
