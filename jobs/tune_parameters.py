"""The parameters of a search, level by level: what they are by default, and settings with a trial's values in them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fxcast.cluster.batch_forecast import ForecastSource
from fxcast.cluster.tune_sampling import STEPS, steps_of
from fxcast.config import explain
from fxcast.errors import BadSetting
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.trading.parameters import Value, Values, check_searchable, value_of
from fxcast.training.config import TrainingConfig
from fxcast.tuning.strategy import TRADING, traded_with
from jobs.tune_settings import TuneJob
from jobs.walk_forward_settings import WalkForwardJob

TRAINING, MODEL = "training.", "model."
_SIZES = ("unet_channels", "condition_width")


def default_of(settings: TuneJob, source: ForecastSource | None) -> Callable[[str], Value]:
    """Return what tells a parameter's value where no trial changes it.

    Args:
        source: The model that forecasts; None where each fold or trial trains its own.
    """

    def default(path: str) -> Value:
        if path.startswith(TRADING):
            own = path.removeprefix(TRADING)
            check_searchable(own)
            return value_of(settings.trading, own)
        if path == STEPS:
            return _steps(settings, source)
        if path.startswith(TRAINING):
            return _training_value(settings.training, path)
        if path.removeprefix(MODEL) in _SIZES:
            return _size(settings, path.removeprefix(MODEL))
        raise BadSetting(f"{path}: unknown; allowed: {', '.join(MODEL + name for name in _SIZES)}")

    return default


def check_of(settings: TuneJob, horizons_minutes: tuple[int, ...]) -> Callable[[Values], None]:
    """Return what refuses values that a trial could not be run with.

    Args:
        horizons_minutes: That the models know; empty where nothing forecasts.
    """

    def check(values: Values) -> None:
        trading = traded_with(settings.trading, values, settings.regime)
        lacking = [minutes for minutes in trading.ldm4ts_horizons if minutes not in horizons_minutes]
        if trading.use_ldm4ts and lacking:
            raise BadSetting(f"{lacking} minutes; the model knows {list(horizons_minutes)}")
        walk_forward_with(settings, values)
        if any(path.startswith(MODEL) for path in values):
            _check_builds(settings, values)

    return check


def walk_forward_with(settings: TuneJob, values: Values, **changes: Any) -> WalkForwardJob:
    """Return the settings by which folds are trained with a trial's values.

    Args:
        changes: Further fields.

    Raises:
        BadSetting: If a value is refused.
    """
    fields: dict[str, Any] = {name: getattr(settings, name) for name in WalkForwardJob.model_fields}
    training = {path.removeprefix(TRAINING): value for path, value in values.items() if path.startswith(TRAINING)}
    try:
        fields["training"] = TrainingConfig.model_validate({**dict(settings.training), **training})
        sizes = {path.removeprefix(MODEL): value for path, value in values.items() if path.startswith(MODEL)}
        if STEPS in values:
            sizes["sampler_steps"] = values[STEPS]
        for name, value in sizes.items():
            TypeAdapter(WalkForwardJob.model_fields[name].rebuild_annotation()).validate_python(value)
        LDM4TSConfig.model_validate({**dict(preset_config(settings.preset, settings.timeframe)), **sizes})
    except ValidationError as error:
        raise BadSetting(explain(error, TrainingConfig)) from None
    if sizes and settings.start_from is not None:
        raise BadSetting("found start_from, whose sizes and steps the models keep; allowed: only without it")
    return WalkForwardJob.model_construct(None, **{**fields, **sizes, **changes})


def _check_builds(settings: TuneJob, values: Values) -> None:
    """Raise BadSetting if there is no network of these sizes."""
    import torch  # only a search on sizes need wait for it

    from fxcast.models.denoiser import new_unet

    sizes = {path.removeprefix(MODEL): value for path, value in values.items() if path.startswith(MODEL)}
    config = LDM4TSConfig.model_validate({**dict(preset_config(settings.preset, settings.timeframe)), **sizes})
    try:
        with torch.device("meta"):  # has shapes, and takes no memory
            new_unet(config, config.latent_size)
    except ValueError as error:
        raise BadSetting(f"no U-Net can be built: {error}") from error


def largest_samples(settings: TuneJob) -> int:
    """Return how many samples the forecasts need, that every trial finds as many as it asks for."""
    counts = _values_of(settings, "ldm4ts_num_samples", settings.trading.ldm4ts_num_samples)
    return max(counts)


def shortest_interval(settings: TuneJob) -> int:
    """Return after how many candles a forecast is needed, that every trial finds one whenever it asks."""
    return min(_values_of(settings, "forecast_interval_bars", settings.trading.forecast_interval_bars))


def check_intervals(settings: TuneJob) -> None:
    """Raise BadSetting unless the intervals are multiples of the shortest: forecasts are computed once for all trials."""
    intervals = _values_of(settings, "forecast_interval_bars", settings.trading.forecast_interval_bars)
    uneven = [each for each in intervals if each % min(intervals)]
    if uneven:
        raise BadSetting(
            f"space.trading.forecast_interval_bars: found {uneven[0]} beside {min(intervals)}; allowed: multiples of the shortest"
        )


def _values_of(settings: TuneJob, name: str, default: int) -> list[int]:
    found = settings.space.get(TRADING + name)
    if found is None:
        return [default]
    if found.choices is not None:
        values = [value for value in found.choices if isinstance(value, int)]
    else:
        values = list(range(int(found.low or 1), int(found.high or 1) + 1, int(found.step or 1)))
    return [default, *values]


def _steps(settings: TuneJob, source: ForecastSource | None) -> int:
    if source is not None:
        return steps_of(source)
    return settings.sampler_steps or preset_config(settings.preset, settings.timeframe).sampler_steps


def _training_value(training: TrainingConfig, path: str) -> Value:
    name = path.removeprefix(TRAINING)
    if name not in TrainingConfig.model_fields:
        near = difflib.get_close_matches(name, TrainingConfig.model_fields, n=1, cutoff=0.5)
        raise BadSetting(f"{path}: unknown" + (f"; did you mean {TRAINING}{near[0]}?" if near else ""))
    return getattr(training, name)


def _size(settings: TuneJob, name: str) -> Value:
    given = getattr(settings, name)
    return given if given is not None else getattr(preset_config(settings.preset, settings.timeframe), name)


def told(values: Mapping[str, Value]) -> str:
    """Return values in one line."""
    return ", ".join(f"{path} {value}" for path, value in values.items())
