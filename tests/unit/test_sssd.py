"""SSSD: its state spaces are what they say, its training learns, and a window's samples are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.sssd import SSSD, known_of
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.state_space import DiagonalStateSpace
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.sssd import Windows, calibrate_sssd, fit_sssd, velocity
from tests.factories import make_series

SMALL = SSSDConfig(channels=8, blocks=2, states=4, sampler_steps=3)
TRAINING = TrainingConfig(
    steps=40,
    batch_size=16,
    evaluate_every_steps=10,
    learning_rate=5e-3,
    warm_up_steps=5,
    ema_decay=0.8,
    validation_windows=32,
    calibration_windows=20,
    calibration_samples=10,
)


def make_sssd(config: SSSDConfig = SMALL, *, seed: int = 0, trained: bool = False) -> SSSD:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sssd = SSSD.untrained(config)
        if trained:  # its last layer starts at zero
            for parameter in sssd.network.out.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.1)
        return sssd


def market(*, bars: int = 500, seed: int = 0, symbol: str = "EURUSD") -> CandleSeries:
    return make_series(bars=bars, seed=seed, symbol=symbol, start=datetime(2017, 1, 2, tzinfo=UTC), range_width=0.0002)


@dataclass
class Run:
    """What runs the loop: keeps the metrics and the last checkpoint."""

    folder: Path
    stop_after: int | None = None
    metrics: list[Mapping[str, float | str]] = field(default_factory=list)

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(wrap=lambda module: module, progress=self._progress, checkpoint=self._checkpoint)

    def _progress(self, stage: str, done: int, total: int) -> None:
        assert stage in {"sssd", "calibration"}
        assert 0 < done <= total

    def _checkpoint(self, metrics: Mapping[str, float | str], write: Callable[[Path], None]) -> None:
        self.metrics.append(metrics)
        write(self.folder)
        if self.stop_after == metrics["step"]:
            raise InterruptedError


@pytest.mark.parametrize("length", [1, 7, 164])
def test_the_convolution_is_the_recurrence_in_both_directions(length: int) -> None:
    torch.manual_seed(1)
    layer = DiagonalStateSpace(channels=3, states=5).double()
    sequence = torch.randn(2, 3, length, dtype=torch.float64)
    with torch.no_grad():
        filtered = layer(sequence, layer.spectrum(length))
        transition, readout = layer.discrete()
        expected = layer.skip[:, None] * sequence
        for direction, places in ((0, range(length)), (1, reversed(range(length)))):
            state = torch.zeros(2, 3, 5, dtype=torch.complex128)
            for place in places:
                if direction == 1:  # what comes after, and not the place itself, which the other direction has
                    expected[:, :, place] += 2 * (state * readout[1]).sum(-1).real
                state = transition.exp() * state + sequence[:, :, place, None]
                if direction == 0:
                    expected[:, :, place] += 2 * (state * readout[0]).sum(-1).real
    assert filtered.numpy() == pytest.approx(expected.numpy(), abs=1e-9)


def test_the_poles_start_as_those_of_s4d_lin() -> None:
    layer = DiagonalStateSpace(channels=2, states=3)
    transition, _ = layer.discrete()
    poles = transition / layer.log_step.exp()[:, None]
    for channel in poles.detach().numpy():
        assert channel == pytest.approx([-0.5, -0.5 + 1j * np.pi, -0.5 + 2j * np.pi], rel=1e-5)


def test_every_weight_takes_part_so_that_workers_can_train_it_together() -> None:
    sssd = make_sssd(trained=True)
    sssd.network.requires_grad_(requires_grad=True)
    known = known_of(WindowBatch.of(market().slice(0, 100)), SMALL)
    sssd.network(torch.randn(1, 64), torch.tensor([500]), known.sequence, known.state).square().mean().backward()
    for name, parameter in sssd.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_default_is_small_and_spectra_given_or_computed_are_the_same() -> None:
    default = SSSD.untrained(SSSDConfig())
    assert sum(parameter.numel() for parameter in default.network.parameters()) < 1_000_000
    sssd = make_sssd(trained=True)
    known, paths = Windows.of([market()], [(0, 400)], SMALL).evenly(3).tensors()
    at = torch.tensor([3, 300, 900])
    given = sssd.network(paths, at, known.sequence, known.state, sssd.network.spectra(CONTEXT_BARS + 64))
    assert torch.equal(given, sssd.network(paths, at, known.sequence, known.state))


def test_samples_are_the_same_alone_and_in_a_batch_and_follow_from_the_seed() -> None:
    sssd = make_sssd(trained=True)
    windows = WindowBatch.ending_at(market(), np.array([99, 150, 301]))
    together = sssd.sample(windows, num_samples=4, seeds=[5, 6, 7])
    assert together.shape == (3, 4, 3)
    for position, seed in enumerate((5, 6, 7)):
        alone = sssd.sample(windows.take(np.array([position])), num_samples=4, seeds=[seed])[0]
        assert alone == pytest.approx(together[position], rel=1e-9)
    assert (sssd.sample(windows.take(np.array([0])), num_samples=4, seeds=[6])[0] != together[0]).all()
    answer = predict(sssd, market().slice(0, 100), horizons_minutes=(960,), num_samples=50, seed=1)
    assert answer.model_version == "sssd"
    assert answer.horizons[960].q05 < answer.horizons[960].q95


def test_what_the_network_is_told_ends_where_the_future_begins() -> None:
    series = market()
    changed = replace(series, values=np.where(np.arange(len(series))[:, None] > 200, series.values * 1.01, series.values))
    told = [Windows.of([each], [(101, 265)], SMALL).tensors() for each in (series, changed)]
    assert torch.equal(told[0][0].sequence, told[1][0].sequence)
    assert torch.equal(told[0][0].state, told[1][0].state)
    assert not torch.equal(told[0][1], told[1][1]), "only the target knows"
    sequence = told[0][0].sequence[0]
    assert (sequence[:-1, CONTEXT_BARS:] == 0).all(), "but for where the place lies"
    assert sequence[-2].tolist() == [1.0] * CONTEXT_BARS + [0.0] * 64


def test_a_mirrored_window_is_the_market_quoted_the_other_way_round() -> None:
    windows = Windows.of([market()], [(0, 400)], SMALL).evenly(2)
    plain, paths = windows.tensors()
    turned, turned_paths = windows.tensors(torch.tensor([True, False]))
    assert turned_paths[0].numpy() == pytest.approx(-paths[0].numpy(), abs=1e-6)
    assert torch.equal(turned_paths[1], paths[1])
    returns = (plain.sequence[0, 0].numpy(), turned.sequence[0, 0].numpy())
    assert returns[1] == pytest.approx(-returns[0], abs=1e-4)


def test_windows_of_several_symbols_keep_to_their_own_series_and_period() -> None:
    series = [market(), market(seed=1, symbol="GBPUSD")]
    windows = Windows.of(series, [(0, 200), (10, 300)], SMALL)
    assert len(windows) == (200 - 163) + (290 - 163)
    chosen = windows.chosen(np.array([0, len(windows) - 1]))
    batch = chosen.batch()
    assert batch.symbols == ("EURUSD", "GBPUSD")
    assert (batch.candles[1] == series[1].values[136:236]).all()
    moved = np.log(series[1].closes[235 + 64] / series[1].closes[235])
    deviation = RandomWalk(timeframe=batch.timeframe, horizons_minutes=SMALL.horizons_minutes).standard_deviations(batch)[1, 2]
    assert chosen.outcomes()[1, 2] == pytest.approx(moved / deviation)


def test_training_lowers_the_loss_below_that_of_knowing_nothing_and_beats_noise(tmp_path: Path) -> None:
    series = market(bars=900)
    train, validation = (Windows.of([series], [period], SMALL) for period in ((0, 600), (600, 900)))
    longer = TRAINING.model_copy(update={"steps": 160, "evaluate_every_steps": 40})
    sssd, run = make_sssd(), Run(tmp_path)
    fitted = fit_sssd(sssd, train, validation.evenly(32), longer, run.callbacks)
    losses = [float(each["validation_loss"]) for each in run.metrics]
    assert losses[-1] < 0.8 * losses[0]
    assert fitted.best_loss == min(losses)
    clean = validation.evenly(32).tensors()[1]
    alphas = sssd.scheduler.alphas_cumprod
    nothing = float(velocity(clean, torch.randn(clean.shape), torch.randint(1000, (32,)), alphas)[1].square().mean())
    assert fitted.best_loss < 0.8 * nothing
    assert not any(parameter.requires_grad for parameter in sssd.network.parameters())


def test_a_resumed_run_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    windows = Windows.of([market()], [(0, 400)], SMALL)
    through, stopped, resumed = make_sssd(), make_sssd(), make_sssd(seed=9)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    fit_sssd(through, windows, windows.evenly(8), TRAINING, Run(tmp_path / "a").callbacks)
    with pytest.raises(InterruptedError):
        fit_sssd(stopped, windows, windows.evenly(8), TRAINING, Run(tmp_path / "b", stop_after=20).callbacks)
    run = Run(tmp_path / "b")
    fit_sssd(resumed, windows, windows.evenly(8), TRAINING, run.callbacks, resume_from=tmp_path / "b")
    assert [each["step"] for each in run.metrics] == [30, 40]
    for name, value in through.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_training_stops_when_nothing_gets_better_or_time_is_up(tmp_path: Path) -> None:
    windows = Windows.of([market()], [(0, 300)], SMALL)
    hopeless = TRAINING.model_copy(update={"learning_rate": 1e-12, "patience": 1, "steps": 90})
    assert fit_sssd(make_sssd(), windows, windows.evenly(8), hopeless, Run(tmp_path).callbacks).stopped_by == "patience"
    hurried = TRAINING.model_copy(update={"max_seconds": 1e-6})
    fitted = fit_sssd(make_sssd(), windows, windows.evenly(8), hurried, Run(tmp_path).callbacks)
    assert (fitted.steps, fitted.stopped_by) == (10, "time")


def test_calibrated_samples_are_the_raw_ones_widened_by_what_the_validation_period_asked_for(tmp_path: Path) -> None:
    sssd = make_sssd(trained=True)
    validation = Windows.of([market(bars=300), market(bars=300, seed=1, symbol="GBPUSD")], [(0, 300), (0, 300)], SMALL)
    calibrated = calibrate_sssd(sssd, validation, TRAINING, Run(tmp_path).callbacks, "a test")
    assert calibrated.calibration is not None
    assert (calibrated.calibration.windows, calibrated.calibration.fitted_on) == (20, "a test")
    windows = validation.evenly(2).batch()
    raw, wide = (each.sample_moves(windows, num_samples=9, seeds=[1, 2]) for each in (sssd, calibrated))
    assert (raw == wide).all(), "the calibration is over the samples, not in them"
    widths = np.array([horizon.width for horizon in calibrated.calibration.horizons])
    spread = [each.sample(windows, num_samples=9, seeds=[1, 2]).std(axis=1) for each in (sssd, calibrated)]
    assert spread[1] == pytest.approx(spread[0] * widths)


def test_without_knows_window_the_clock_changes_nothing() -> None:
    blind = SMALL.model_copy(update={"knows_window": False})
    windows = WindowBatch.of(market().slice(0, 100))
    later = replace(windows, open_times=windows.open_times + 9 * 3600)

    def moves(config: SSSDConfig, batch: WindowBatch) -> Tensor:
        return torch.from_numpy(make_sssd(config, trained=True).sample(batch, num_samples=3, seeds=[1]))

    assert torch.equal(moves(blind, windows), moves(blind, later))
    assert not torch.equal(moves(SMALL, windows), moves(SMALL, later))


def test_horizons_that_fall_on_no_point_of_the_path_are_refused() -> None:
    with pytest.raises(ValidationError, match="falls on none of the 64 points"):
        SSSDConfig(horizons_minutes=(240, 6000))
