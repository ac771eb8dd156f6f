"""Opponents as users meet them: fitted by the job, registered, served under their names; SSSD trained by Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from ray import serve

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import active_model, registered_model
from fxcast.cluster.train_sssd import SSSDOutcome, SSSDPlan, train_sssd
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import predict
from fxcast.errors import BadCandles, BadModelFolder, BadSetting
from fxcast.models.baselines.folder import check_opponent
from fxcast.models.load import load_forecaster
from fxcast.serving.app import build
from fxcast.serving.client import ServeForecasts
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, plan_training
from jobs.train_opponent import Kind, TrainOpponentJob, main, train_opponent
from tests.factories import make_question
from tests.http import body_of
from tests.integration.training_run import Killer, make_sssd_job
from tests.state import job_database

_SHORT = TrainingConfig(
    steps=6, batch_size=8, evaluate_every_steps=3, validation_windows=16, calibration_windows=20, calibration_samples=4
)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    url = job_database(tmp_path, "registry")
    migrate(url)
    return url


@pytest.fixture
def options(store: str, tmp_path: Path, database_url: str) -> list[str]:
    return ["--store", store, "--models", str(tmp_path / "models"), "--database-url", database_url]


@pytest.mark.parametrize("kind", ["random-walk", "time-of-day", "garch"])
def test_the_job_fits_an_opponent_on_the_training_period_of_ldm4ts_and_registers_it(
    kind: Kind, options: list[str], database_url: str, tmp_path: Path, store: str, series: CandleSeries
) -> None:
    assert main(["--kind", kind, "--name", "mine", *options]) == 0
    database = open_database(database_url)
    registered = registered_model(database, "mine")
    assert registered is not None
    assert (registered.preset, registered.symbol, registered.timeframe) == (kind, "EURUSD", "1h")
    assert active_model(database, "EURUSD", "1h") is None, "LDM4TS stays in use"
    index = check_opponent(registered.folder, timeframe="1h")
    ldm4ts = plan_training(TrainJob(store=store, models=tmp_path / "models", database_url=database_url))
    if kind == "random-walk":
        assert index.data_end is None
    else:
        assert (index.data_start, index.data_end) == ldm4ts.train == (registered.data_start, registered.data_end)
        assert index.data_hash == registered.data_hash
    forecaster = load_forecaster(registered.folder)
    assert forecaster.horizons_minutes == ldm4ts.model.horizons_minutes
    prediction = predict(forecaster, series.slice(5000, 5100), horizons_minutes=(960,), num_samples=50, seed=1)
    assert prediction.model_version == "mine"
    assert main(["--kind", kind, "--name", "mine", *options]) == 2, "the name is taken"
    assert main(["--kind", kind, "--name", "longer", "--use-validation", "--activate", *options]) == 0
    assert (active := active_model(database, "EURUSD", "1h")) is not None
    assert active.version == "longer"
    if kind != "random-walk":
        assert active.data_end == ldm4ts.validation[1]


def test_an_opponent_is_served_by_the_same_api_under_its_own_name(
    service_url: str, options: list[str], tmp_path: Path, series: CandleSeries
) -> None:
    assert main(["--kind", "garch", "--name", "garch-of-2017", *options]) == 0
    folder = tmp_path / "models" / "garch-of-2017"
    with pytest.raises(BadModelFolder, match="holds Garch, which has no presets"):
        build({"model_folder": str(folder), "preset": "tiny"})
    window = series.slice(5000, 5100)
    body = body_of(window, num_samples=40, seed=5)
    serve.run(build({"model_folder": str(folder), "threads": 1}), name="opponent", route_prefix="/opponent")
    try:
        with httpx.Client(base_url=f"{service_url}/opponent", timeout=120.0, trust_env=False) as client:
            ready = client.get("/readyz").json()
            answer = client.post("/v1/forecast", json=body)
            refused = client.post("/v1/forecast", json=body | {"horizons": [7]})
        question = make_question(window, horizons_minutes=(240, 960, 3840), num_samples=40, seed=5)
        (through_handle,) = ServeForecasts("opponent").ask([question], timeout_s=60)
    finally:
        serve.delete("opponent")
    assert ready == {"model_version": "garch-of-2017", "timeframe": "1h", "horizons": [240, 960, 3840]}
    assert answer.status_code == 200, answer.text
    assert isinstance(through_handle, LDM4TSPrediction)
    here = predict(load_forecaster(folder), window, horizons_minutes=(240, 960, 3840), num_samples=40, seed=5)
    assert answer.json()["model_version"] == "garch-of-2017"
    assert answer.json()["horizons"] == json.loads(json.dumps(here.to_dict()["horizons"]))
    assert through_handle.to_dict()["horizons"] == here.to_dict()["horizons"]
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["allowed"] == "any of [240, 960, 3840] minutes"


def test_sssd_is_trained_by_ray_on_two_workers_and_comes_back_when_its_name_is_run_again(
    dashboard_url: str, store: str, tmp_path: Path, series: CandleSeries
) -> None:
    assert dashboard_url
    job = make_sssd_job(store, tmp_path, _SHORT)
    model = train_opponent(job)
    assert (model.metrics["step"], model.metrics["stopped_by"], model.preset) == (6, "steps", "sssd")
    index = check_opponent(model.folder, timeframe="1h")
    assert (index.pipeline, index.model_version, index.data_end) == ("SSSD", "sssd", model.data_end)
    ldm4ts = plan_training(TrainJob(store=store, models=tmp_path / "models", database_url=job.database_url))
    assert (model.data_start, model.data_end) == (ldm4ts.train[0], ldm4ts.validation[1])
    forecaster = load_forecaster(model.folder)
    prediction = predict(forecaster, series.slice(5000, 5100), horizons_minutes=(240, 960, 3840), num_samples=5, seed=1)
    assert prediction.model_version == "sssd"
    assert (model.folder / "calibration.json").is_file()
    weights = (model.folder / "network" / "diffusion_pytorch_model.safetensors").read_bytes()

    shutil.rmtree(model.folder)  # as if the job had been killed between the training's end and here
    with pytest.raises(BadSetting, match=r"another plan: model\.blocks was 1, is 2"):
        train_opponent(job.model_copy(update={"sssd": job.sssd.model_copy(update={"blocks": 2})}))
    assert train_opponent(job) == model
    assert (model.folder / "network" / "diffusion_pytorch_model.safetensors").read_bytes() == weights


@pytest.mark.long
def test_sssd_goes_on_from_its_last_checkpoint_after_a_worker_was_killed(
    dashboard_url: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    steps: list[int] = []

    def listening(plan: SSSDPlan, progress: Callable[[str, int, int], None]) -> SSSDOutcome:
        def both(stage: str, done: int, total: int) -> None:
            if stage == "sssd":
                steps.append(done)
            progress(stage, done, total)

        return train_sssd(plan, both)

    monkeypatch.setattr("jobs.train_opponent.train_sssd", listening)
    last = 80
    longer = _SHORT.model_copy(update={"steps": last, "evaluate_every_steps": 10, "patience": last})
    job = make_sssd_job(store, tmp_path, longer, name="killed")
    killer = Killer(tmp_path / "train" / "killed", checkpoints="")
    killer.start()
    model = train_opponent(job)
    assert killer.pid is not None
    assert 10 <= killer.registered_step < last, "it was killed in the middle"
    assert (model.metrics["step"], model.metrics["stopped_by"]) == (last, "steps")
    before = [done for done in steps if done <= killer.registered_step]
    assert before == list(range(5, killer.registered_step + 1, 5)), "what the checkpoint holds was not done again"
    assert sorted(set(steps)) == list(range(5, last + 1, 5)), "and nothing was left out"
    assert load_forecaster(model.folder).model_version == "killed"


def test_wrong_inputs_are_refused_before_any_worker_starts(store: str, tmp_path: Path, database_url: str) -> None:
    for kind in ("garch", "sssd"):
        job = TrainOpponentJob(kind=kind, store=store, models=tmp_path / "models", database_url=database_url)
        with pytest.raises(BadCandles, match="GBPUSD 1h"):
            train_opponent(job.model_copy(update={"symbols": ("GBPUSD",)}))
        with pytest.raises(BadCandles, match="in each period"):
            train_opponent(job.model_copy(update={"test_share": 0.01}))
    few = _SHORT.model_copy(update={"validation_windows": 2})
    with pytest.raises(BadSetting, match="workers: found 3; allowed: at most 2, for that many validation windows are shared out"):
        train_opponent(
            TrainOpponentJob(
                kind="sssd", store=store, models=tmp_path / "models", database_url=database_url, training=few, workers=3
            )
        )
