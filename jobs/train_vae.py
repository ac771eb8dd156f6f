"""Train a tiny chart autoencoder: python -m jobs.train_vae; then python -m jobs.train --autoencoder runs/models/vae."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import AwareDatetime, Field

from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.models.autoencoder import new_tiny_autoencoder
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.terminal import new_console, progress_bar
from fxcast.training.autoencoder import AutoencoderTraining, fit_autoencoder, reconstruction_error
from fxcast.training.charts import WindowArrays, join, windows_of
from jobs.entry import run

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
    training: AutoencoderTraining = AutoencoderTraining()


def train_vae(settings: TrainVaeJob) -> dict[str, float]:
    """Train, measure and save the autoencoder.

    Returns:
        Its error on the held-out windows; see `reconstruction_error`.

    Raises:
        BadCandles: If a series is missing, or what may be seen of it is too short.
    """
    config = preset_config("tiny", settings.timeframe)
    store = CandleStore(settings.store)
    series = [_seen(store, symbol, settings) for symbol in settings.symbols]
    _check_lengths(series, config, settings)
    train, held_out = _windows(series, config, settings.training.seed)
    with progress_bar() as progress:
        task = progress.add_task("autoencoder", total=settings.training.steps)
        vae = fit_autoencoder(
            new_tiny_autoencoder(),
            train,
            config,
            settings.training,
            lambda step, loss: progress.update(task, completed=step, description=f"autoencoder, loss {loss:.4f}"),
        )
    error = reconstruction_error(vae, held_out, config)
    vae.save_pretrained(settings.output, safe_serialization=True)
    (settings.output / "card.md").write_text(_card(settings, series, len(train), error))
    return error


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
    digest = hashlib.sha256(b"".join(one.values.tobytes() + one.open_times.tobytes() for one in series)).hexdigest()
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

SHA-256 of the candles: `{digest}`. Settings: `{json.dumps(settings.training.model_dump())}`.

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
