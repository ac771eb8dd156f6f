"""What a settings class lets one set: a field a leaf, with the class's own help, range and default."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

Kind = Literal["switch", "whole", "number", "text", "choice", "choices", "yaml"]
Choice = str | int | bool

_BOUNDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}", "multiple_of": "a multiple of {}"}
_SEQUENCES = (tuple, list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A setting.

    Attributes:
        path: Dotted, as in sizing.kelly_fraction.
        label: The path in words.
        help: The field's description.
        kind: yaml stands for anything nested that has no simpler control.
        items: Of a list that is written with commas: the kind of its parts.
        choices: Of a choice or choices, all there are.
        optional: Whether it may be None.
        required: Whether it has no default.
        allowed: Its range, "above 0, at most 1"; empty if it has none.
        default: As the class holds it; None if it is required.
    """

    path: str
    label: str
    help: str
    kind: Kind
    items: Literal["whole", "number", "text"] | None = None
    choices: tuple[Choice, ...] = ()
    optional: bool = False
    required: bool = False
    allowed: str = ""
    default: Any = None


@dataclass(slots=True)
class _Shape:
    """What an annotation comes to."""

    kind: Kind
    items: Literal["whole", "number", "text"] | None = None
    choices: tuple[Choice, ...] = ()
    optional: bool = False
    bounds: list[str] = field(default_factory=list[str])


def fields_of(model: type[BaseModel], *, only: Sequence[str] = (), without: Sequence[str] = ()) -> tuple[FormField, ...]:
    """Return the settings of a class, those of nested classes by dotted paths, in the order in which they are written.

    Args:
        model: The class.
        only: Paths, or beginnings of paths up to a dot; all, if there are none.
        without: The same, of those that are left out.
    """
    found = _flat(model, None, "")
    return tuple(each for each in found if (not only or _is_below(each.path, only)) and not _is_below(each.path, without))


def _is_below(path: str, prefixes: Sequence[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _flat(model: type[BaseModel], defaults: BaseModel | None, prefix: str) -> Iterator[FormField]:
    """Yield a class's fields; `defaults` is the value that the class above gives it."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        required = defaults is None and info.is_required()
        default = None if required else _default(name, info, defaults)
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _flat(nested, default if isinstance(default, BaseModel) else None, f"{path}.")
            continue
        shape = _shape(nested)
        yield FormField(
            path=path,
            label=": ".join(part.replace("_", " ") for part in path.split(".")),
            help=info.description or "",
            kind=shape.kind,
            items=shape.items,
            choices=shape.choices,
            optional=shape.optional,
            required=required,
            allowed=", ".join(dict.fromkeys([*_bounds(info.metadata, shape), *shape.bounds])),
            default=default,
        )


def _default(name: str, info: FieldInfo, defaults: BaseModel | None) -> Any:  # noqa: ANN401  # a setting may be anything
    return info.get_default(call_default_factory=True, validated_data={}) if defaults is None else getattr(defaults, name)


def _shape(annotation: object) -> _Shape:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        shape = _shape(inner)
        shape.bounds = [*_bounds(metadata, shape), *shape.bounds]
        return shape
    if origin in (Union, types.UnionType):
        return _shape_of_union(get_args(annotation))
    if origin is Literal:
        given = get_args(annotation)
        return _Shape("choice", choices=tuple(each for each in given if each is not None), optional=None in given)
    if origin in _SEQUENCES:
        return _shape_of_sequence(get_args(annotation))
    return _shape_of_class(annotation)


def _shape_of_union(parts: Sequence[object]) -> _Shape:
    shapes = [_shape(part) for part in parts if part is not type(None)]
    optional = type(None) in parts or any(shape.optional for shape in shapes)
    if len(shapes) == 1:
        shapes[0].optional = optional
        if shapes[0].kind == "switch" and optional:  # a box that is ticked or not can't say "neither"
            return _Shape("choice", choices=(True, False), optional=True)
        return shapes[0]
    if all(shape.kind == "choice" for shape in shapes):
        return _Shape("choice", choices=tuple(each for shape in shapes for each in shape.choices), optional=optional)
    return _Shape("yaml", optional=optional)


def _shape_of_sequence(parts: Sequence[object]) -> _Shape:
    shapes = [_shape(part) for part in parts if part is not ...]
    kinds = {shape.kind for shape in shapes}
    if not shapes or len(kinds) != 1 or any(shape.items is not None or shape.optional for shape in shapes):
        return _Shape("yaml")
    first = shapes[0]
    if first.kind == "choice" and len(shapes) == 1:
        return _Shape("choices", choices=first.choices)
    if first.kind == "whole" or first.kind == "number" or first.kind == "text":
        bounds = [f"each {', '.join(first.bounds)}"] if first.bounds and len(shapes) == 1 else []
        return _Shape("text", items=first.kind, bounds=bounds)
    return _Shape("yaml")


def _shape_of_class(annotation: object) -> _Shape:
    if annotation is AwareDatetime:
        return _Shape("text", bounds=["a time as 2017-10-26T00:00:00Z"])
    if not isinstance(annotation, type):
        return _Shape("yaml")
    if issubclass(annotation, Enum):
        return _Shape("choice", choices=tuple(cast("Choice", each.value) for each in annotation))
    if issubclass(annotation, bool):
        return _Shape("switch")
    if issubclass(annotation, int):
        return _Shape("whole")
    if issubclass(annotation, float | Decimal):
        return _Shape("number")
    if issubclass(annotation, str | PurePath | date | timedelta):  # a datetime is a date
        return _Shape("text")
    return _Shape("yaml")


def _bounds(metadata: Iterable[Any], shape: _Shape) -> Iterator[str]:
    """Yield in words what metadata of pydantic and annotated_types allow."""
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _bounds(each.metadata, shape)
            continue
        for name, words in _BOUNDS.items():
            if (bound := getattr(each, name, None)) is not None:
                yield words.format(_number(bound))
        if (least := getattr(each, "min_length", None)) is not None:
            yield f"at least {least} of them" if _counts(shape) else f"at least {least} characters"
        if (most := getattr(each, "max_length", None)) is not None:
            yield f"at most {most} of them" if _counts(shape) else f"at most {most} characters"
        if (pattern := getattr(each, "pattern", None)) is not None:
            yield f"of the form {pattern}"


def _counts(shape: _Shape) -> bool:
    return shape.items is not None or shape.kind in ("choices", "yaml")


def _number(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
