"""jobs.train_vae works on the packaged sample, keeps test candles unseen, and writes nothing into the source tree."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from fxcast.data.store import CandleStore
from fxcast.errors import BadCandles
from fxcast.models.autoencoder import check_autoencoder, load_autoencoder
from fxcast.models.config import preset_config
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


def test_the_shipped_config_file_is_valid() -> None:
    settings = TrainVaeJob.parse(["--config", str(ROOT / "configs" / "train_vae.yaml")])
    assert settings.until == datetime(2017, 1, 1, tzinfo=UTC)
    assert settings.output == Path("runs/models/vae")
    assert settings.training.steps == 1400
