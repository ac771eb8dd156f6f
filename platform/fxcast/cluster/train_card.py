"""What a trained model says of how it came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fxcast import __version__
from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, calibration_facts
from fxcast.domain.timeframe import Timeframe

_REPOSITORY = Path(__file__).parents[3]


def code_version(repository: Path = _REPOSITORY) -> str:
    """Return the version of fxcast, and the commit where it runs from a git checkout."""
    commit = _commit(repository / ".git")
    return __version__ if commit is None else f"{__version__}+{commit[:12]}"


def _commit(git: Path) -> str | None:
    head = git / "HEAD"
    if not head.is_file():  # installed, or a copy that Ray has made of the working directory
        return None
    said = head.read_text().strip()
    if not said.startswith("ref: "):
        return said
    reference = said.removeprefix("ref: ")
    if (git / reference).is_file():
        return (git / reference).read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {reference}")), None)


def model_card(
    plan: TrainPlan, facts: Sequence[SeriesFacts], metrics: Mapping[str, Any], seconds: Mapping[str, float], data_hash: str
) -> str:
    """Write card.md.

    Args:
        facts: Of all series.
        metrics: Of all stages.
        seconds: That each stage took.
    """
    scores = "\n".join(
        f"| {name} | {value:.4f} |" if isinstance(value, float) else f"| {name} | {value} |" for name, value in metrics.items()
    )
    stages = "\n".join(f"| {stage} | {taken:,.0f} |" for stage, taken in seconds.items())
    horizons = _minutes(plan.model.horizons_minutes)
    others = "".join(f"\n- {_other_timeframe(plan, facts, name)}" for name in plan.model.also_timeframes)
    began = "noise" if plan.start_from is None else f"the weights of {Path(plan.start_from).name}"
    return f"""# {plan.name}

LDM4TS, preset `{plan.model.preset}`, {plan.model.timeframe} candles, horizons {horizons} minutes.

- Symbols: {", ".join(plan.symbols)}
- Began with {began}
- Trained on candles from {plan.train[0]:%Y-%m-%d %H:%M} to {plan.train[1]:%Y-%m-%d %H:%M} UTC
- Early stopping and calibration on {plan.validation[0]:%Y-%m-%d %H:%M} to {plan.validation[1]:%Y-%m-%d %H:%M} UTC{others}
- SHA-256 of the candles: `{data_hash}`
- fxcast {metrics.get("code_version", __version__)}, seed {plan.training.seed}, {plan.workers} workers

| stage | seconds |
|---|---|
{stages}

| training | value |
|---|---|
{scores}

The samples are widened by `width_…` and their mean is held at `mean_weight_…` of itself, both fitted on the validation period;
`validation_…` was measured on a few of its windows too, and has chosen the weights. What the forecasts are worth is measured later,
on a test period that nothing above has seen.
"""


def _other_timeframe(plan: TrainPlan, facts: Sequence[SeriesFacts], name: str) -> str:
    since, until = plan.data_start, plan.train_stop(Timeframe(name))
    counts = ", ".join(f"{one.train[1]:,} of {one.symbol}" for one in facts if one.timeframe.name == name)
    if name in calibration_facts(plan, facts):
        calibrated = "calibrated on those of the validation period"
    else:
        calibrated = (
            f"with the calibration of {plan.model.timeframe}, for the validation period has too few of them for one of their own"
        )
    horizons = _minutes(plan.model.at(name).horizons_minutes)
    return (
        f"Also {name} candles, horizons {horizons} minutes: trained on {counts}, from {since:%Y-%m-%d %H:%M} at the earliest to "
        f"{until:%Y-%m-%d %H:%M} UTC; {calibrated}"
    )


def _minutes(horizons: Sequence[int]) -> str:
    return ", ".join(map(str, horizons))
