"""jobs.train_vae works on the packaged sample, keeps test candles unseen, and writes nothing into the source tree."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from fxcast.data.store import CandleStore
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.autoencoder import check_autoencoder, load_autoencoder
from fxcast.models.config import preset_config
from fxcast.training.autoencoder import fit_autoencoder
from jobs.ingest import IngestJob, ingest
from jobs.train_vae import TrainVaeJob, main, train_vae
from tests.factories import make_series

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("store"))
    ingest(IngestJob(store=root))
    return root


def test_two_steps_on_the_packaged_sample_make_an_autoencoder_that_loads(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    arguments = ["--store", store, "--until", "2017-09-01T00:00:00Z", "--training.steps", "2", "--training.batch-size", "8"]
    assert main(arguments) == 0
    written = tmp_path / "runs" / "models" / "vae"
    check_autoencoder(load_autoencoder(written), preset_config("tiny", "1h"), written)
    assert "2017-08-31" in (written / "card.md").read_text()


def test_without_a_date_the_test_period_of_jobs_train_stays_unseen(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    CandleStore(tmp_path / "store").append(make_series(bars=3000, start=datetime(2020, 1, 1, tzinfo=UTC), range_width=1e-4))
    settings = TrainVaeJob.model_construct(store=str(tmp_path / "store"), output=tmp_path / "vae")
    quick = settings.training.model_copy(update={"steps": 1, "batch_size": 4})
    train_vae(settings.model_copy(update={"training": quick}))
    assert "| EURUSD | 2,460 | 2020-01-01 |" in (tmp_path / "vae" / "card.md").read_text()


def test_too_few_candles_name_what_hides_them(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", store, "--until", "2017-01-01T00:00:00Z", "--output", str(tmp_path / "vae")]) == 2
    assert "0 of EURUSD 1h seen with --until 2017-01-01T00:00:00Z; allowed: at least 2281" in capsys.readouterr().err
    with pytest.raises(BadCandles, match=r"EURUSD 1h seen with --test-share 0\.9"):
        train_vae(TrainVaeJob.model_construct(store=store, test_share=0.9, output=tmp_path / "vae"))
    assert not (tmp_path / "vae").exists()


def quick(store: str, output: Path, **training: int) -> TrainVaeJob:
    settings = TrainVaeJob.model_construct(store=store, output=output)
    return settings.model_copy(
        update={
            "training": settings.training.model_copy(update={"steps": 4, "batch_size": 4, "checkpoint_every_steps": 2, **training})
        }
    )


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_and_ends_as_if_it_had_not(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    train_vae(quick(store, tmp_path / "whole"))
    steps: list[int] = []
    honest: Callable[..., Any] = fit_autoencoder

    def stopped(*arguments: Any) -> Any:
        *rest, report, partial = arguments

        def until_the_third(step: int, loss: float) -> None:
            steps.append(step)
            report(step, loss)
            if steps == [1, 2, 3]:
                raise KeyboardInterrupt

        return honest(*rest, until_the_third, partial)

    monkeypatch.setattr("jobs.train_vae.fit_autoencoder", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_vae(quick(store, tmp_path / "vae"))
    with pytest.raises(BadSetting, match="a run with other settings or candles"):
        train_vae(quick(store, tmp_path / "vae", steps=5))
    train_vae(quick(store, tmp_path / "vae"))
    assert steps == [1, 2, 3, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vae", "whole"], "no checkpoint is left"
    weights = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "vae" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_a_finished_run_is_not_done_again_unless_asked(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)

    def never(*_: object) -> None:
        pytest.fail("it was trained again")

    error = train_vae(quick(store, tmp_path / "vae"))
    with monkeypatch.context() as patched:
        patched.setattr("jobs.train_vae.fit_autoencoder", never)
        assert train_vae(quick(store, tmp_path / "vae")) == error
        with pytest.raises(BadSetting, match=r"holds an autoencoder of another run; choose another folder, or --again"):
            train_vae(quick(store, tmp_path / "vae", steps=5))
    again = train_vae(quick(store, tmp_path / "vae", steps=5).model_copy(update={"again": True}))
    assert again != error


def test_the_shipped_config_file_is_valid() -> None:
    settings = TrainVaeJob.parse(["--config", str(ROOT / "configs" / "train_vae.yaml")])
    assert settings.until == datetime(2017, 1, 1, tzinfo=UTC)
    assert settings.output == Path("runs/models/vae")
    assert settings.training.steps == 1400
