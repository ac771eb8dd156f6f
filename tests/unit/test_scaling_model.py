"""The model of docs/scaling.md: what it says must follow from what is put in."""

from __future__ import annotations

import dataclasses

import pytest

from tests.benchmarks.scaling_model import Assumed, Measured, StepTime, all_reduce_s, planned, predicted_windows_s

MEASURED = Measured(
    step=StepTime(fixed_s=0.02, window_s=0.003),
    gradient_mb=2.0,
    all_reduce_mb_s=500.0,
    forecasts_s=8.0,
    forecast_gflop=3.0,
    window_kb=5.0,
    forecast_kb=1.0,
    object_store_mb_s=2_000.0,
    tasks_s=3_000.0,
    rows_s=15_000.0,
)


def test_a_line_through_steps_gives_back_the_times_that_made_it() -> None:
    fitted = StepTime.fitted([48, 96, 192], [MEASURED.step.of(each) for each in (48, 96, 192)])
    assert (fitted.fixed_s, fitted.window_s) == pytest.approx((0.02, 0.003))


def test_a_ring_of_two_sends_the_gradient_once_and_a_long_one_almost_twice() -> None:
    assert all_reduce_s(1, 2.0, link_mb_s=100.0, latency_s=1.0) == 0.0
    assert all_reduce_s(2, 2.0, link_mb_s=100.0, latency_s=0.0) == pytest.approx(0.02)
    assert all_reduce_s(1000, 2.0, link_mb_s=100.0, latency_s=0.0) == pytest.approx(0.04, rel=0.01)


def test_two_workers_take_in_twice_the_windows_less_what_they_wait_for_each_other() -> None:
    alone = predicted_windows_s(MEASURED, 1, 96)
    assert alone == pytest.approx(96 / MEASURED.step.of(96))
    step_s = MEASURED.step.of(96)
    assert predicted_windows_s(MEASURED, 2, 96) == pytest.approx(2 * alone * step_s / (step_s + 2.0 / 500.0))


def test_forecasts_are_bound_by_what_is_asked_for_most() -> None:
    few, many = planned(MEASURED, Assumed(), 1), planned(MEASURED, Assumed(), 512)
    assert max(few.forecast_load.values()) < 1.0 < max(many.forecast_load.values())
    tightest = max(many.forecast_load, key=lambda each: many.forecast_load[each])
    assert tightest == "database writes"
    assert many.forecasts_s * 3 == pytest.approx(MEASURED.rows_s), "three rows a forecast, as many as the database takes"
    assert many.forecasts_a_gpu_hour < few.forecasts_a_gpu_hour
    assert many.dollars_a_million == pytest.approx(512 * 0.80 / (many.forecasts_s * 3600 / 1e6))


def test_with_a_slow_link_training_on_many_gpus_waits_for_the_gradient() -> None:
    near, far = (planned(MEASURED, Assumed(link_mb_s=link), 64) for link in (100_000.0, 10.0))
    assert near.training_efficiency > 0.5 > far.training_efficiency
    assert far.training_load["DDP all-reduce"] == pytest.approx(1.0 - far.training_efficiency)


def test_a_faster_database_lets_more_through() -> None:
    faster = dataclasses.replace(MEASURED, rows_s=1e9)
    assert planned(faster, Assumed(), 512).forecasts_s > planned(MEASURED, Assumed(), 512).forecasts_s
