"""Train a tiny chart autoencoder: python -m jobs.train_vae; then python -m jobs.train --autoencoder runs/models/vae."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import AwareDatetime, Field

from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.autoencoder import new_tiny_autoencoder
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.terminal import new_console, progress_bar
from fxcast.training.autoencoder import AutoencoderTraining, fit_autoencoder, reconstruction_error
from fxcast.training.charts import WindowArrays, join, windows_of
from jobs.entry import run

_RUN_FILE = "run.json"
_HELD_OUT_SHARE = 0.1
_TRAIN_WINDOWS, _HELD_OUT_WINDOWS = 20_000, 200


class TrainVaeJob(JobSettings):
    """Train a tiny autoencoder on candle charts of the store; the last tenth of what it sees of each series measures its error."""

    store: str = Field(default="runs/store", description="root of the candle store")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="series to draw charts from")
    timeframe: str = Field(default="1h", description="length of a candle")
    until: AwareDatetime | None = Field(
        default=None, description="candles that open later are not seen, so that they can test models; replaces test_share"
    )
    test_share: float = Field(
        default=0.18, ge=0, lt=1, description="share of the candles, the newest, not seen; by default as in jobs.train"
    )
    source: str = Field(default="not stated", description="where the candles come from and under which licence, for the card")
    output: Path = Field(default=Path("runs/models/vae"), description="folder to write; jobs.train takes it as --autoencoder")
    again: bool = Field(default=False, description="replace what the output folder holds, and begin from the first step")
    training: AutoencoderTraining = AutoencoderTraining()


def train_vae(settings: TrainVaeJob) -> dict[str, float]:
    """Train, measure and save the autoencoder.

    A run that was stopped goes on from its last checkpoint when it is started again with the same settings; one that had finished
    is not done again. Checkpoints lie beside the output until it is there.

    Returns:
        Its error on the held-out windows; see `reconstruction_error`.

    Raises:
        BadCandles: If a series is missing, or what may be seen of it is too short.
        BadSetting: If the output, or a checkpoint on the way to it, is of other settings or candles.
    """
    config = preset_config("tiny", settings.timeframe)
    store = CandleStore(settings.store)
    series = [_seen(store, symbol, settings) for symbol in settings.symbols]
    _check_lengths(series, config, settings)
    identity = _identity(settings, series)
    partial = settings.output.with_name(f".{settings.output.name}.partial")
    if settings.again:
        shutil.rmtree(partial, ignore_errors=True)
    elif _identity_in(settings.output) == identity:
        return cast("dict[str, float]", _read(settings.output / _RUN_FILE)["error"])
    elif settings.output.exists() and any(settings.output.iterdir()) and _identity_in(partial) != identity:
        raise BadSetting(f"output: {settings.output} holds an autoencoder of another run; choose another folder, or --again")
    _resume_or_begin(partial, identity)
    train, held_out = _windows(series, config, settings.training.seed)
    torch.manual_seed(settings.training.seed)  # of the untrained weights
    with progress_bar() as progress:
        task = progress.add_task("autoencoder", total=settings.training.steps)
        vae = fit_autoencoder(
            new_tiny_autoencoder(),
            train,
            config,
            settings.training,
            lambda step, loss: progress.update(task, completed=step, description=f"autoencoder, loss {loss:.4f}"),
            partial,
        )
    error = reconstruction_error(vae, held_out, config)
    vae.save_pretrained(settings.output, safe_serialization=True)
    (settings.output / "card.md").write_text(_card(settings, series, len(train), error))
    (settings.output / _RUN_FILE).write_text(json.dumps({"identity": identity, "error": error}, indent=2) + "\n")
    shutil.rmtree(partial)
    return error


def _identity(settings: TrainVaeJob, series: Sequence[CandleSeries]) -> dict[str, Any]:
    """Return what a run must share with one that it goes on from, as JSON gives it back."""
    made_of = settings.model_dump(mode="json", include={"symbols", "timeframe", "training"})
    return {**json.loads(json.dumps(made_of)), "candles_hash": _candles_hash(series)}


def _resume_or_begin(partial: Path, identity: dict[str, Any]) -> None:
    """Say of which run the checkpoints are.

    Raises:
        BadSetting: If there are some of another one.
    """
    if _identity_in(partial) not in (None, identity):
        raise BadSetting(f"output: {partial} holds a checkpoint of a run with other settings or candles; finish it, or --again")
    partial.mkdir(parents=True, exist_ok=True)
    (partial / _RUN_FILE).write_text(json.dumps({"identity": identity}, indent=2) + "\n")


def _identity_in(folder: Path) -> dict[str, Any] | None:
    return cast("dict[str, Any]", _read(folder / _RUN_FILE)["identity"]) if (folder / _RUN_FILE).is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_text()))
    except ValueError as error:
        raise BadSetting(f"output: {path} is not JSON: {error}; choose another folder, or --again") from error


def _candles_hash(series: Sequence[CandleSeries]) -> str:
    return hashlib.sha256(b"".join(one.values.tobytes() + one.open_times.tobytes() for one in series)).hexdigest()


def _seen(store: CandleStore, symbol: str, settings: TrainVaeJob) -> CandleSeries:
    series = store.read(symbol, Timeframe(settings.timeframe), stop=settings.until)
    unseen = round(len(series) * settings.test_share) if settings.until is None else 0  # as `split_in_time` rounds
    return series.slice(0, len(series) - unseen)


def _check_lengths(series: Sequence[CandleSeries], config: LDM4TSConfig, settings: TrainVaeJob) -> None:
    # The held-out tenth gives up as many candles as a future is long, and then holds one window and its future.
    needed = math.ceil((CONTEXT_BARS + 2 * config.future_bars) / _HELD_OUT_SHARE) + 1
    limit = f"--test-share {settings.test_share:g}" if settings.until is None else f"--until {settings.until:%Y-%m-%dT%H:%M:%SZ}"
    for one in series:
        if len(one) < needed:
            raise BadCandles("candles", f"{len(one)} of {one.symbol} {one.timeframe} seen with {limit}", f"at least {needed}")


def _windows(series: Sequence[CandleSeries], config: LDM4TSConfig, seed: int) -> tuple[WindowArrays, WindowArrays]:
    choose = np.random.default_rng(seed)
    train: list[WindowArrays] = []
    held_out: list[WindowArrays] = []
    for one in series:
        cut = round(len(one) * (1 - _HELD_OUT_SHARE))
        before, after = windows_of(one, config, 0, cut), windows_of(one, config, cut + config.future_bars)
        train.append(before.take(choose.permutation(len(before))[:_TRAIN_WINDOWS]))
        held_out.append(after.take(choose.permutation(len(after))[:_HELD_OUT_WINDOWS]))
    return join(train), join(held_out)


def _card(settings: TrainVaeJob, series: Sequence[CandleSeries], windows: int, error: dict[str, float]) -> str:
    rows = "\n".join(
        f"| {one.symbol} | {len(one):,} | {to_datetime(one.open_times[0]):%Y-%m-%d} | {to_datetime(one.open_times[-1]):%Y-%m-%d} |"
        for one in series
    )
    errors = "\n".join(f"| {name} | {value:.4f} |" for name, value in error.items())
    return f"""# Tiny chart autoencoder

Trained by `python -m jobs.train_vae` on charts of {windows:,} windows of {settings.timeframe} candles, their contexts and their
futures. Source of the candles: {settings.source}.

| symbol | candles | first | last |
|---|---|---|---|
{rows}

SHA-256 of the candles: `{_candles_hash(series)}`. Settings: `{json.dumps(settings.training.model_dump())}`.

Root mean square error on windows of each series' last tenth, not trained on (pixels have range 2; `path_sigma` is the path read
back, in units of volatility·√bars):

| what | error |
|---|---|
{errors}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TrainVaeJob.parse(arguments)))


def _report(settings: TrainVaeJob) -> int:
    error = train_vae(settings)
    new_console().print(f"{settings.output}: " + ", ".join(f"{name} {value:.4f}" for name, value in error.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
