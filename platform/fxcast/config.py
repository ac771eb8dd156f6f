"""Load frozen settings from defaults, a YAML file, the environment and the command line.

Precedence, weakest first: defaults in code, `--config FILE` (YAML), environment (`FXCAST_…`, nested with `__`), command line.
An unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
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
        cli_exit_on_error=False,
        nested_model_default_partial_update=True,  # `--training.steps 5` keeps the other defaults of `training`
    )

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Self:
        """Read the settings of a job.

        Args:
            arguments: Command line without the program name; by default `sys.argv[1:]`.

        Raises:
            BadSetting: If a file, a key or a value is wrong; names it, and the nearest known key.
        """
        config_file, options = _take_config_file(list(sys.argv[1:] if arguments is None else arguments))

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
                del init_settings, dotenv_settings, file_secret_settings  # a job reads from none of these
                command_line: CliSettingsSource[BaseSettings] = CliSettingsSource(
                    settings_cls, cli_prog_name=f"python -m {_module_name()}", cli_parse_args=options
                )
                sources: list[PydanticBaseSettingsSource] = [command_line, env_settings]
                if config_file is not None:
                    sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=config_file, yaml_file_encoding="utf-8"))
                return tuple(sources)

        Parsed.__doc__ = f"{cls.__doc__}\n\n--config FILE reads settings from a YAML file; the options below override it."
        Parsed.__name__ = cls.__name__
        try:
            parsed = Parsed()
        except ValidationError as error:
            raise BadSetting(explain(error, cls)) from None
        except SettingsError as error:
            raise BadSetting(_explain_command_line(str(error), options, cls)) from None
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
                raise BadSetting(f"{path}: there is no such file")
            content = _read_yaml(path)
            rest = arguments[:position] + arguments[position + (1 if inline else 2) :]
            return (path if content else None), rest
    return None, arguments


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadSetting(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadSetting(f"{path}: expected keys and values, found {type(content).__name__}")
    for key in cast("dict[Any, Any]", content):
        if not isinstance(key, str):
            raise BadSetting(f"{path}: expected names as keys, found {key!r}")
    return cast("dict[str, Any]", content)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_yaml(settings_class: type[SettingsT], path: Path) -> SettingsT:
    """Load one component's settings from a YAML file.

    Raises:
        BadSetting: If the file is missing, is not YAML, or holds an unknown key or a bad value.
    """
    if not path.is_file():
        raise BadSetting(f"{path}: there is no such file")
    try:
        return settings_class.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise BadSetting(f"{path}: {explain(error, settings_class)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line per problem which key is wrong, what was found and what is allowed."""
    return "; ".join(
        _explain_one(problem["loc"], problem["type"], problem["msg"], problem["input"], model) for problem in error.errors()
    )


def _explain_command_line(message: str, arguments: Sequence[str], model: type[BaseModel]) -> str:
    known = [*_option_names(model, ""), "--config", "--help"]
    for argument in arguments:
        option = argument.split("=", 1)[0]
        if option.startswith("--") and option not in known and argument in message:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            return f"unknown option {option}" + (f"; did you mean {near[0]}?" if near else "")
    return message.removeprefix("error parsing CLI: ")


def _option_names(model: type[BaseModel], prefix: str) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        names += [f"--{option}", f"--no-{option}"] if field.annotation is bool else [f"--{option}"]
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _option_names(field.annotation, f"{option}.")
    return names


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
        model = annotation
    return list(model.model_fields)
