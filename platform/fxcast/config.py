"""Load frozen settings from defaults, a YAML file, the environment and the command line.

Precedence, weakest first: defaults in code, `--config FILE` (YAML), environment (`FXCAST_…`, nested with `__`), command line.
An unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from fxcast.errors import BadSetting


class Settings(BaseModel):
    """Base of every component's settings: frozen, unknown keys refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class JobSettings(BaseSettings):
    """Base of a job's settings; `parse` reads them from the command line, the environment and a YAML file."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="FXCAST_",
        env_nested_delimiter="__",
        cli_implicit_flags=True,
        cli_kebab_case="all",
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Self:
        """Read the settings of a job.

        Args:
            arguments: Command line without the program name; by default `sys.argv[1:]`.

        Raises:
            BadSetting: If a file, a key or a value is wrong; names it, and the nearest known key.
        """
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        config_file, arguments = _take_config_file(arguments)

        class Parsed(cls):  # a subclass per call: the sources below close over this call's file and arguments
            @classmethod
            def settings_customise_sources(  # pyright: ignore[reportImplicitOverride]
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,
                file_secret_settings: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                command_line: CliSettingsSource[BaseSettings] = CliSettingsSource(
                    settings_cls, cli_prog_name=f"python -m {_module_name()}", cli_parse_args=arguments
                )
                sources = [command_line, EnvSettingsSource(settings_cls)]
                if config_file is not None:
                    sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=config_file))
                return tuple(sources)

        Parsed.__doc__ = f"{cls.__doc__}\n\n--config FILE reads settings from a YAML file; the options below override it."
        Parsed.__name__ = cls.__name__
        try:
            parsed = Parsed()
        except ValidationError as error:
            raise BadSetting(explain(error, cls)) from None
        except SettingsError as error:
            raise BadSetting(f"{error}") from None
        return cls.model_construct(**{name: getattr(parsed, name) for name in cls.model_fields})


def _module_name() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem


def _take_config_file(arguments: list[str]) -> tuple[Path | None, list[str]]:
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 == len(arguments):
            raise BadSetting("--config needs the name of a YAML file")
        if argument == "--config" or argument.startswith("--config="):
            inline = "=" in argument
            path = Path(argument.split("=", 1)[1] if inline else arguments[position + 1])
            if not path.is_file():
                raise BadSetting(f"--config {path}: there is no such file")
            try:
                content = yaml.safe_load(path.read_text())
            except yaml.YAMLError as error:
                raise BadSetting(f"--config {path}: not YAML: {error}") from None
            if content is not None and not isinstance(content, dict):
                raise BadSetting(f"--config {path}: expected keys and values, found {type(content).__name__}")
            rest = arguments[:position] + arguments[position + (1 if inline else 2) :]
            return (path if content else None), rest
    return None, arguments


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_yaml(settings_class: type[SettingsT], path: Path) -> SettingsT:
    """Load one component's settings from a YAML file.

    Raises:
        BadSetting: If the file is missing, is not YAML, or holds an unknown key or a bad value.
    """
    _, _ = _take_config_file(["--config", str(path)])
    try:
        return settings_class.model_validate(yaml.safe_load(path.read_text()) or {})
    except ValidationError as error:
        raise BadSetting(f"{path}: {explain(error, settings_class)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line per problem which key is wrong, what was found and what is allowed."""
    return "; ".join(_explain_one(problem["loc"], problem["type"], problem["msg"], problem["input"], model) for problem in error.errors())


def _explain_one(loc: tuple[int | str, ...], kind: str, message: str, found: object, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _known_keys(model, loc[:-1]), n=1, cutoff=0.5)
        return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "missing":
        return f"{key}: missing"
    return f"{key}: found {found!r}: {message}" if key else message


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = cast("type[BaseModel]", annotation)
    return list(model.model_fields)
