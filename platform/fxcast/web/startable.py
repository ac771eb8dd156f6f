"""Which runs can be started from the page, and how what is filled in becomes a command that the run's own class has taken."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from fxcast.cluster.local import REPOSITORY
from fxcast.config import JobSettings, explain
from fxcast.errors import BadSetting, BadSetup
from fxcast.web.forms import FormField, differences, fields_of, read_values, text_of, value_at

# Where things are is the page's own affair: it tells the cluster (`cluster_jobs`), and asks nobody.
_PLACES = ("store", "database_url", "models", "storage_path", "forecasts", "walk_forwards", "tunes", "output")
_CONFIGS = REPOSITORY / "configs"
_STANDS_IN = "unnamed"  # for a name that is not given yet, while the other values are read
_NO_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST_NAME = 61  # of a submission
_NOTHING = object()  # where a mapping has no such key
_READERS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="settings")  # starts no thread before it is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Startable:
    """A kind of run.

    Attributes:
        kind: In one word.
        settings: Its settings class, module:Class; named, for the page imports no job before somebody wants to start one.
        configs: Names of files in configs/ that fit, with wildcards.
        help: What it does.
    """

    kind: str
    settings: str
    configs: tuple[str, ...]
    help: str

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return self.settings.partition(":")[0]


STARTABLE = (
    Startable(
        kind="train",
        settings="jobs.train:TrainJob",
        configs=("train.yaml", "weights_1?.yaml"),
        help="Train LDM4TS on candles of the store; the same name again resumes a training that was stopped.",
    ),
    Startable(
        kind="train-opponent",
        settings="jobs.train_opponent:TrainOpponentJob",
        configs=("train_opponent.yaml", "weights_sssd_*.yaml"),
        help="Fit a forecaster that LDM4TS is measured against: a random walk, time of day, GARCH or SSSD.",
    ),
    Startable(
        kind="tune",
        settings="jobs.tune:TuneJob",
        configs=("tune*.yaml",),
        help="Search the parameters of the whole system, and say whether the best of them may be trusted.",
    ),
    Startable(
        kind="evaluate",
        settings="jobs.evaluate:EvaluateJob",
        configs=("evaluate*.yaml",),
        help="Measure a model against its opponents over a period that it has not seen.",
    ),
    Startable(
        kind="backtest",
        settings="jobs.backtest:BacktestJob",
        configs=("backtest*.yaml",),
        help="Trade a period of the past as it would have been traded.",
    ),
    Startable(
        kind="walk-forward",
        settings="jobs.walk_forward:WalkForwardJob",
        configs=("walk_forward*.yaml",),
        help="Train on the past, trade what follows, move on; the same name again goes on where it was stopped.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartForm:
    """What can be filled in for a run.

    Attributes:
        fields: The name and what must be given first.
        content: What each is before anybody changes it: the class's defaults, the config file's and the environment's values.
    """

    fields: tuple[FormField, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """A run whose parameters its settings class has taken.

    Attributes:
        arguments: The command's words.
        name: Of the submission.
        changed: What was filled in that differs from what the form began with, as `checked_run` takes it.
    """

    arguments: tuple[str, ...]
    name: str
    changed: Mapping[str, object]


def startable(kind: str) -> Startable:
    """Return a kind of run.

    Raises:
        BadSetting: If there is no such kind.
    """
    for each in STARTABLE:
        if each.kind == kind:
            return each
    raise BadSetting(f"run: found {kind!r}; allowed: {', '.join(each.kind for each in STARTABLE)}")


def config_names(run: Startable) -> tuple[str, ...]:
    """Return the config files that fit a run."""
    return tuple(dict.fromkeys(path.name for pattern in run.configs for path in sorted(_CONFIGS.glob(pattern))))


def start_form(run: Startable, config: str) -> StartForm:
    """Return what can be filled in.

    Args:
        config: One of `config_names`; empty for none.

    Raises:
        BadSetting: If the config file is none of them, or is wrong.
        BadSetup: If the jobs are not installed beside the page.
    """
    settings = _settings_class(run.settings)
    fields = fields_of(settings, without=_PLACES)
    where = _config_option(run, config)
    required = {field.path: str(field.choices[0]) if field.choices else _STANDS_IN for field in fields if field.required}
    try:
        content = _content(fields, settings.parse(where))
    except BadSetting:  # for want of what is required, or else it is raised again
        stand_ins = [f"--{path.replace('_', '-')}={value}" for path, value in required.items()]
        content = _content(fields, settings.parse([*where, *stand_ins]))
        content |= dict.fromkeys(required)
    return StartForm(fields=tuple(sorted(fields, key=lambda field: field.path != "name" and not field.required)), content=content)


def checked_run(run: Startable, config: str, raw: Mapping[str, object], *, home: str) -> CheckedRun:
    """Return the command for what was filled in: only what differs from the config file and the defaults is said in it.

    Args:
        config: As in `start_form`.
        raw: What the controls hold, by path.
        home: The job's FXCAST_HOME, from which it looks for the config file.

    Raises:
        BadSetting: If the settings class does not take a value, in its words.
        BadSetup: If the jobs are not installed beside the page.
    """
    form = start_form(run, config)
    wanted = _with_values(form, raw)
    by_path = {field.path: field for field in form.fields}
    changed = [by_path[each.path] for each in differences(form.fields, form.content, wanted)]
    options = [_option(field, value_at(wanted, field.path)) for field in changed]
    parsed = _settings_class(run.settings).parse([*_config_option(run, config), *options])
    _require_said(run, changed, wanted, parsed)
    where = ["--config", _config_for(home, config)] if config else []
    name = wanted.get("name") or ""
    return CheckedRun(
        arguments=("python", "-m", run.module, *where, *options),
        changed={field.path: raw[field.path] for field in changed},
        name=_NO_NAME.sub("-", f"{run.kind}-{name}".lower())[:_LONGEST_NAME].strip("-"),
    )


def _content(fields: Sequence[FormField], settings: JobSettings) -> dict[str, Any]:
    """Return the values of fields, nested by path, as JSON has them; a dump would leave out what a class does not show."""
    content: dict[str, Any] = {}
    for field in fields:
        *above, name = field.path.split(".")
        inner = content
        for part in above:
            inner = inner.setdefault(part, {})
        inner[name] = to_jsonable_python(_value_of(settings, field.path), by_alias=True)
    return content


def _value_of(settings: JobSettings, path: str) -> Any:  # noqa: ANN401  # a setting may be anything
    return reduce(getattr, path.split("."), settings)


def is_ready(run: Startable, *, wait_s: float) -> bool:
    """Begin to read a run's settings class if nobody has, and tell whether it is there; jobs import torch, which takes long."""
    return not wait([_loading(run.settings)], timeout=wait_s).not_done


@lru_cache
def _loading(named: str) -> Future[type[JobSettings]]:
    return _READERS.submit(_load, named)


def _load(named: str) -> type[JobSettings]:
    module, _, name = named.partition(":")
    return cast("type[JobSettings]", getattr(importlib.import_module(module), name))


def _settings_class(named: str) -> type[JobSettings]:
    try:
        return _loading(named).result()
    except ModuleNotFoundError as error:
        raise BadSetup(
            f"runs can't be started from here: {error}; the jobs are not beside the page: serve it from a checkout of fxcast, "
            "with PYTHONPATH=platform:."
        ) from None


def _config_option(run: Startable, config: str) -> list[str]:
    return ["--config", str(_config_path(run, config))] if config else []


def _config_path(run: Startable, config: str) -> Path:
    known = config_names(run)
    if config not in known:
        raise BadSetting(f"config file: found {config!r}; allowed: {', '.join(known)}")
    return _CONFIGS / config


def _config_for(home: str, config: str) -> str:
    """Return the config file as the job finds it: it looks from its home, which need not be a checkout."""
    there, here = Path(home) / "configs" / config, _CONFIGS / config
    same = there.is_file() and there.read_bytes() == here.read_bytes()
    return f"configs/{config}" if same else str(here)


def _option(field: FormField, value: object) -> str:
    """Return an option of the command line."""
    option = field.path.replace("_", "-")
    if value is None:
        raise BadSetting(f"{field.path}: found nothing; allowed: a value, or a config file that names none: no option unsets it")
    if field.kind == "switch" or isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    if field.kind == "yaml":
        return f"--{option}={json.dumps(value)}"
    if field.kind == "choices" or field.items is not None:
        return f"--{option}={text_of(field, value).replace(', ', ',') or '[]'}"
    return f"--{option}={text_of(field, value)}"


def _require_said(run: Startable, changed: Sequence[FormField], content: Mapping[str, Any], parsed: JobSettings) -> None:
    """Refuse a value that options can't say: they add to mappings that a config file names, and a text "None" unsets.

    Raises:
        BadSetting: Names each such field, what was wanted and what would come of it.
    """
    wanted = _settled(run, content)
    problems: list[str] = []
    for field in changed:
        values = [_value_of(settings, field.path) for settings in (wanted, parsed)]
        if values[0] != values[1]:
            where, *said = _first_difference(field.path, *(to_jsonable_python(value, by_alias=True) for value in values))
            problems.append("{}: wanted {}, found {} once the options are read".format(where, *map(_said, said)))
    if problems:
        raise BadSetting(f"{'; '.join(problems)}; allowed: what options can say, or a config file of your own that says it")


def _settled(run: Startable, content: Mapping[str, Any]) -> JobSettings:
    """Return the settings that a content stands for, after the class's own rules."""
    settings = _settings_class(run.settings)

    class Settled(settings):
        @classmethod
        def settings_customise_sources(  # pyright: ignore[reportImplicitOverride]
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del settings_cls, env_settings, dotenv_settings, file_secret_settings  # the content has the environment's already
            return (init_settings,)

    try:
        return Settled(**content)
    except ValidationError as error:
        raise BadSetting(explain(error, settings)) from None


def _first_difference(path: str, wanted: object, found: object) -> tuple[str, object, object]:
    """Return where two values differ first, in mappings within them too, and how."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        left, right = cast("Mapping[str, object]", wanted), cast("Mapping[str, object]", found)
        for key in dict.fromkeys([*left, *right]):
            if (inner := left.get(key, _NOTHING)) != (other := right.get(key, _NOTHING)):
                return _first_difference(f"{path}: {key}", inner, other)
    return path, wanted, found


def _said(value: object) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value)


def _with_values(form: StartForm, raw: Mapping[str, object]) -> dict[str, Any]:
    values, content = read_values(form.fields, raw), deepcopy(dict(form.content))
    for path in raw:
        *above, name = path.split(".")
        inner = content
        for part in above:
            inner = inner[part]
        inner[name] = value_at(values, path)
    return content
