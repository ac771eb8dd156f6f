"""Forms out of a settings class: labels, helps and ranges are the class's own, and what is typed comes back as values by path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml
from dash import dcc, html
from dash.development.base_component import Component
from pydantic_core import to_jsonable_python

from fxcast.errors import BadSetting
from fxcast.web.form_fields import FormField, Kind, fields_of

__all__ = ["Difference", "FormField", "Kind", "control", "differences", "fields_of", "read_values", "text_of", "value_at"]

_WHOLE = re.compile(r"[+-]?\d{1,18}")
_ON = "on"
_NOT_SET = ""
_SCALARS: Mapping[str, str] = {"whole": "a whole number", "number": "a number", "text": "text"}
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A setting that is another than before.

    Attributes:
        path: Dotted.
        label: In words.
        before: As text.
        after: As text.
    """

    path: str
    label: str
    before: str
    after: str


def value_at(content: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  # a setting may be anything
    """Return the value at a dotted path.

    Raises:
        BadSetting: If there is none.
    """
    found = _at(content, path)
    if found is _MISSING:
        raise BadSetting(f"{path}: missing")
    return found


def text_of(field: FormField, value: object) -> str:
    """Return a value as its control and lists of differences show it; empty for None."""
    if value is None:
        return ""
    if field.kind == "switch":
        return "on" if value else "off"
    if field.kind == "choice":
        return _word(_plain(value))
    if field.kind == "choices":
        return ", ".join(_word(each) for each in _in_order(field, value))
    if field.kind == "yaml":
        return yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, default_flow_style=None, width=88).strip()
    if field.items is not None:
        return ", ".join(_scalar_text(field.items, each) for each in cast("Sequence[object]", value))
    return _scalar_text(field.kind, value)


def control(field: FormField, value: object, *, id: Mapping[str, str]) -> Component:  # noqa: A002  # as Dash names it
    """Return a labelled control with its help and range under it.

    Args:
        field: What is set.
        value: What it is now, as the settings class or its dump in JSON holds it.
        id: Of the control itself, for callbacks; what it holds goes to `read_values`.
    """
    help_id = "-".join(("help", *id.values()))
    hint = html.Small(_hint(field), id=help_id, className="hint")
    described: Any = {"aria-describedby": help_id}
    dash_id = dict(id)
    if field.kind == "switch":
        ticks = dcc.Checklist([{"label": field.label, "value": _ON}], [_ON] if value else [], id=dash_id)
        return html.Div([ticks, hint], className="field", role="group", **described)
    if field.kind in ("choice", "choices"):
        return html.Fieldset([html.Legend(field.label), _choose(field, value, dash_id), hint], className="field", **described)
    written = text_of(field, value)
    if field.kind == "yaml":
        lines = min(max(written.count("\n") + 2, 3), 14)
        box: Component = dcc.Textarea(id=dash_id, value=written, rows=lines, spellCheck=False, wrap="off")
    else:
        box = dcc.Input(id=dash_id, type="text", value=written, autoComplete="off", spellCheck=False)
    label = html.Label([html.Span(field.label), box])
    return html.Div([label, hint], className="field", role="group", **described)


def read_values(fields: Sequence[FormField], raw: Mapping[str, object]) -> dict[str, Any]:
    """Return what controls hold, nested by path; ranges are left to the settings class.

    Args:
        fields: Of the form.
        raw: By path; a field that is not among them is left out.

    Raises:
        BadSetting: If a text can't be read as its kind, or a path is none of the form's; names path and text, all of them at once.
    """
    by_path = {field.path: field for field in fields}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for path, given in raw.items():
        if path not in by_path:
            problems.append(f"unknown setting {path!r}")
            continue
        try:
            _put(values, path, _read(by_path[path], given))
        except BadSetting as error:
            problems.append(str(error))
    if problems:
        raise BadSetting("; ".join(problems))
    return values


def differences(fields: Sequence[FormField], before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the fields whose values differ between two whole contents; what a content does not name has its default."""
    found: list[Difference] = []
    for field in fields:
        old, new = (field.default if (at := _at(content, field.path)) is _MISSING else at for content in (before, after))
        shown = text_of(field, old), text_of(field, new)
        is_same = _plain(old) == _plain(new) if field.kind == "yaml" else shown[0] == shown[1] and (old is None) == (new is None)
        if not is_same:
            found.append(Difference(path=field.path, label=field.label, before=shown[0], after=shown[1]))
    return tuple(found)


def _choose(field: FormField, value: object, dash_id: dict[str, str]) -> Component:
    options: list[Any] = [{"label": _word(each), "value": _word(each)} for each in field.choices]
    if field.kind == "choices":
        return dcc.Checklist(options, [_word(each) for each in _in_order(field, value or ())], id=dash_id)
    if field.optional:
        options.append({"label": "not set", "value": _NOT_SET})
    return dcc.RadioItems(options, text_of(field, value), id=dash_id)


def _hint(field: FormField) -> str:
    """Return help, range, and what an empty control means."""
    said = [field.help] if field.help else []
    if field.allowed:
        said.append(field.allowed)
    if field.items is not None:
        said.append("with commas between")
    if field.kind == "yaml":
        said.append("as YAML")
    if field.optional and field.kind != "choice":
        said.append("empty: not set")
    return "; ".join(said)


def _read(field: FormField, given: object) -> object:
    if field.kind == "switch":
        return bool(given)
    if field.kind == "choice":
        if given in (None, _NOT_SET) and field.optional:
            return None
        return _chosen(field, given)
    if field.kind == "choices":
        return _in_order(field, [_chosen(field, each) for each in cast("Sequence[object]", given or ())])
    text = "" if given is None else str(given).strip()
    if not text and field.optional:
        return None
    if field.kind == "yaml":
        return _read_yaml(field, text)
    if field.items is not None:
        return [_read_scalar(field, field.items, part.strip()) for part in text.split(",") if part.strip()]
    return _read_scalar(field, field.kind, text)


def _read_scalar(field: FormField, kind: str, text: str) -> object:
    if kind == "whole" and _WHOLE.fullmatch(text):
        return int(text)
    if kind == "text":
        return text
    try:
        number = float(text) if kind == "number" else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        allowed = ", ".join(part for part in (_SCALARS[kind], field.allowed) if part)
        raise BadSetting(f"{field.path}: found {text!r}; allowed: {allowed}")
    return number


class _PlainLoader(yaml.SafeLoader):
    """Takes no aliases: a few of them stand for more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # pyright: ignore[reportImplicitOverride]  # untyped there
        if self.check_event(yaml.AliasEvent):  # pyright: ignore[reportUnknownMemberType]
            raise yaml.YAMLError("aliases (*name) are not taken here")
        return super().compose_node(parent, index)  # pyright: ignore[reportUnknownMemberType]


def _read_yaml(field: FormField, text: str) -> object:
    try:
        content = yaml.load(text, _PlainLoader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a number or a date that is none
        raise BadSetting(f"{field.path}: found no YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {} if isinstance(field.default, Mapping) else [] if isinstance(field.default, list | tuple) else None
    return _plain(content)


def _chosen(field: FormField, given: object) -> object:
    for choice in field.choices:
        if given == choice or given == _word(choice):
            return choice
    raise BadSetting(f"{field.path}: found {given!r}; allowed: {', '.join(_word(each) for each in field.choices)}")


def _in_order(field: FormField, chosen: object) -> list[object]:
    plain = cast("list[object]", _plain(chosen))
    return [each for each in field.choices if each in plain]


def _word(choice: object) -> str:
    return ("yes" if choice else "no") if isinstance(choice, bool) else str(choice)


def _scalar_text(kind: str, value: object) -> str:
    if kind == "number":  # a Decimal is a text in JSON
        return repr(float(cast("float", value))).removesuffix(".0")
    return str(_plain(value))


def _plain(value: object) -> Any:  # noqa: ANN401
    return to_jsonable_python(value, by_alias=True)


def _at(content: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401
    found: Any = content
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = cast("Mapping[str, Any]", found)[name]
    return found


def _put(values: dict[str, Any], path: str, value: object) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[name] = value
