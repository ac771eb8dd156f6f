"""A model folder gives back the model that was saved, and says what is wrong with it otherwise."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fxcast.domain.forecaster import predict
from fxcast.errors import BadModelFolder
from fxcast.models.autoencoder import load_autoencoder
from fxcast.models.folder import from_pretrained, save_pretrained
from fxcast.models.index import check_folder
from fxcast.models.pipeline import LDM4TSPipeline
from tests.factories import make_series
from tests.model_factories import make_calibration, make_pipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = [
    "model_index.json",
    "calibration.json",
    "card.md",
    "scheduler/scheduler_config.json",
    *(f"{part}/{name}" for part in ("vae", "unet", "conditioner", "temporal_fusion", "width") for name in ("config.json", WEIGHTS)),
]


@pytest.fixture(scope="module")
def pipeline() -> LDM4TSPipeline:
    torch.set_num_threads(1)
    made = make_pipeline()
    made.vae.register_to_config(scaling_factor=0.83)
    return replace(made, calibration=make_calibration(), model_version="v1")


@pytest.fixture(scope="module")
def saved(pipeline: LDM4TSPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "v1"
    save_pretrained(pipeline, folder, card="# v1\n", fxcast_version="0.1.0")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit_json(path: Path, key: str, value: object) -> None:
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


def test_a_loaded_model_gives_the_forecasts_of_the_saved_one(pipeline: LDM4TSPipeline, saved: Path) -> None:
    window = make_series()
    loaded = from_pretrained(saved, preset="tiny", timeframe="1h")
    before, after = (
        predict(each, window, horizons_minutes=(240, 3840), num_samples=4, seed=3).horizons for each in (pipeline, loaded)
    )
    assert before == after  # to the last bit: both lie in memory alike
    assert loaded.config == pipeline.config
    assert loaded.calibration == pipeline.calibration
    assert loaded.model_version == "v1"


def test_fresh_and_loaded_parts_are_frozen(pipeline: LDM4TSPipeline, saved: Path) -> None:
    for each in (pipeline, from_pretrained(saved)):
        for part in (each.vae, each.unet, each.conditioner, each.fusion):
            assert not part.training
            assert not any(parameter.requires_grad for parameter in part.parameters())


def test_weights_are_safetensors_and_nothing_is_a_pickle(saved: Path) -> None:
    files = sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file())
    assert files == sorted(FILES)
    assert {Path(name).suffix for name in files} == {".json", ".md", ".safetensors"}


def test_the_folder_tells_preset_timeframe_and_version(saved: Path) -> None:
    index = check_folder(saved, preset="tiny", timeframe="1h")
    assert (index.pipeline, index.fxcast_version, index.model_version) == ("LDM4TSPipeline", "0.1.0", "v1")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadModelFolder, match=f"incomplete, missing {name}"):
        from_pretrained(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="there is no such folder"):
        check_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["vae", "unet", "conditioner", "temporal_fusion", "width"])
def test_truncated_weights_are_refused(folder: Path, part: str) -> None:
    weights = folder / part / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    for look in (check_folder, from_pretrained):
        with pytest.raises(BadModelFolder, match=f"component '{part}' can't be loaded"):
            look(folder)


def test_weights_that_are_not_there_are_never_replaced_by_random_ones(folder: Path) -> None:
    path = folder / "temporal_fusion" / WEIGHTS
    weights = load_file(path)
    del weights["gate.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BadModelFolder, match=r"component 'temporal_fusion' lacks the weights gate\.bias"):
        from_pretrained(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_json(folder / "temporal_fusion" / "config.json", "hidden", 64)
    with pytest.raises(BadModelFolder, match="component 'temporal_fusion' can't be loaded"):
        from_pretrained(folder)


@pytest.mark.parametrize("name", ["model_index.json", "calibration.json"])
@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{}"])
def test_a_file_that_is_not_json_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BadModelFolder, match=f"{name} is not JSON"):
        from_pretrained(folder)


@pytest.mark.parametrize("name", ["vae/config.json", "scheduler/scheduler_config.json"])
def test_a_component_whose_settings_are_not_json_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{")
    with pytest.raises(BadModelFolder, match=f"component '{Path(name).parent}' can't be loaded"):
        from_pretrained(folder)


def test_an_unknown_key_is_named_with_the_nearest_known_one(folder: Path) -> None:
    edit_json(folder / "model_index.json", "model_versions", "v2")
    with pytest.raises(BadModelFolder, match="unknown key 'model_versions'; did you mean 'model_version'"):
        from_pretrained(folder)


def test_another_pipeline_is_refused(folder: Path) -> None:
    edit_json(folder / "model_index.json", "pipeline", "StableDiffusionPipeline")
    with pytest.raises(BadModelFolder, match="pipeline: found 'StableDiffusionPipeline'"):
        from_pretrained(folder)


def test_another_preset_is_refused(saved: Path) -> None:
    with pytest.raises(BadModelFolder, match="is of preset 'tiny', expected 'paper'"):
        from_pretrained(saved, preset="paper")


def test_another_timeframe_is_refused(saved: Path) -> None:
    with pytest.raises(BadModelFolder, match="is for 1h candles, expected 1m"):
        from_pretrained(saved, timeframe="1m")


def test_a_calibration_of_other_horizons_is_refused(folder: Path) -> None:
    calibration = make_calibration()
    other = calibration.model_copy(update={"horizons": calibration.horizons[:2]})
    (folder / "calibration.json").write_text(other.model_dump_json())
    with pytest.raises(BadModelFolder, match=r"calibration.json has other horizons"):
        from_pretrained(folder)


def test_an_autoencoder_loads_from_its_folder_frozen(saved: Path) -> None:
    vae = load_autoencoder(saved / "vae")
    assert vae.config["scaling_factor"] == 0.83
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_an_autoencoder_that_is_not_there_or_broken_is_refused(folder: Path) -> None:
    with pytest.raises(BadModelFolder, match="the autoencoder can't be loaded"):
        load_autoencoder(folder / "nowhere")
    (folder / "vae" / WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(BadModelFolder, match="the autoencoder can't be loaded"):
        load_autoencoder(folder / "vae")


def test_an_autoencoder_without_some_of_its_weights_is_refused(folder: Path) -> None:
    path = folder / "vae" / WEIGHTS
    weights = {name: value for name, value in load_file(path).items() if not name.startswith("decoder.conv_out")}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(
        BadModelFolder, match=r"the autoencoder lacks the weights decoder\.conv_out\.bias, decoder\.conv_out\.weight"
    ):
        load_autoencoder(folder / "vae")


def test_a_model_saved_twice_is_the_same(pipeline: LDM4TSPipeline, saved: Path, tmp_path: Path) -> None:
    save_pretrained(from_pretrained(saved), tmp_path / "again", card="# v1\n", fxcast_version="0.1.0")
    for part in ("vae", "unet", "conditioner", "temporal_fusion", "width"):
        first, second = load_file(saved / part / WEIGHTS), load_file(tmp_path / "again" / part / WEIGHTS)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)
    assert pipeline.model_version == "v1"
