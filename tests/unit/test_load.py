"""Any forecaster comes back from its folder as it went in; a folder that is not whole is refused and says why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fxcast import __version__
from fxcast.cluster.local import REPOSITORY
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.errors import BadModelFolder
from fxcast.models.baselines.card import opponent_card
from fxcast.models.baselines.folder import FittedWalk, Seen, check_opponent, save_opponent
from fxcast.models.baselines.garch import Garch
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.baselines.sssd import SSSD, save_sssd
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from fxcast.models.folder import save_pretrained
from fxcast.models.load import load_forecaster
from fxcast.models.summary import check_forecaster
from tests.factories import make_series
from tests.model_factories import make_calibration, make_pipeline

HORIZONS = (240, 960, 3840)
SEEN = Seen(symbols=("EURUSD",), start=datetime(2017, 1, 2, tzinfo=UTC), end=datetime(2017, 3, 1, tzinfo=UTC), data_hash="0123abcd")


def history() -> CandleSeries:
    return make_series(bars=900, start=datetime(2017, 1, 2, tzinfo=UTC))


def walks() -> dict[str, FittedWalk]:
    return {
        "RandomWalk": RandomWalk(timeframe=history().timeframe, horizons_minutes=HORIZONS, volatility_span_bars=60),
        "TimeOfDayWalk": TimeOfDayWalk.fit_series([history()], HORIZONS),
        "Garch": Garch.fit([history()], HORIZONS),
    }


def make_sssd() -> SSSD:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sssd = SSSD.untrained(SSSDConfig(channels=8, blocks=1, states=2, sampler_steps=2))
        for parameter in sssd.network.out.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return sssd


def write(kind: str, folder: Path) -> Forecaster:
    """Write a forecaster of a kind as version `mine`, and return it."""
    if kind == "LDM4TSPipeline":
        pipeline = replace(make_pipeline(), calibration=make_calibration(), model_version="mine")
        save_pretrained(pipeline, folder, card="# mine\n", fxcast_version=__version__)
        return pipeline
    if kind == "SSSD":
        sssd = replace(make_sssd(), calibration=make_calibration(), model_version="mine")
        save_sssd(sssd, folder, seen=SEEN, card=opponent_card(sssd, "SSSD", SEEN, {"step": 3}))
        return sssd
    walk = replace(walks()[kind], model_version="mine")
    save_opponent(walk, folder, seen=None if kind == "RandomWalk" else SEEN, card="# mine\n")
    return walk


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["RandomWalk", "TimeOfDayWalk", "Garch", "SSSD", "LDM4TSPipeline"])
def test_a_forecaster_comes_back_from_its_folder_and_draws_the_same_samples(kind: str, tmp_path: Path) -> None:
    written = write(kind, tmp_path / "mine")
    summary = check_forecaster(tmp_path / "mine", timeframe="1h")
    assert (summary.pipeline, summary.model_version, summary.horizons_minutes) == (kind, "mine", HORIZONS)
    loaded = load_forecaster(tmp_path / "mine", timeframe="1h")
    assert (loaded.model_version, loaded.timeframe.name, loaded.horizons_minutes) == ("mine", "1h", HORIZONS)
    windows = WindowBatch.ending_at(history(), np.array([99, 500]))
    drawn = [each.sample(windows, num_samples=7, seeds=[1, 2]) for each in (written, loaded)]
    assert (drawn[0] == drawn[1]).all()
    assert not list((tmp_path / "mine").rglob("*.pkl"))
    with pytest.raises(BadModelFolder, match="is for 1h candles, expected 1m"):
        load_forecaster(tmp_path / "mine", timeframe="1m")


def test_an_opponents_index_says_what_it_has_seen_and_its_card_tells_people(tmp_path: Path) -> None:
    write("SSSD", tmp_path / "sssd")
    index = check_opponent(tmp_path / "sssd")
    assert (index.symbols, index.data_start, index.data_end, index.data_hash) == (("EURUSD",), SEEN.start, SEEN.end, "0123abcd")
    card = (tmp_path / "sssd" / "card.md").read_text()
    assert "Fitted on candles from 2017-01-02 00:00 to 2017-03-01 00:00 UTC" in card
    assert "| step | 3 |" in card
    write("RandomWalk", tmp_path / "walk")
    assert check_opponent(tmp_path / "walk").data_end is None, "nothing was fitted"


def test_sssd_without_a_calibration_comes_back_raw(tmp_path: Path) -> None:
    sssd = make_sssd()
    save_sssd(sssd, tmp_path / "raw", seen=SEEN, card="# raw\n")
    loaded = load_forecaster(tmp_path / "raw")
    assert isinstance(loaded, SSSD)
    assert loaded.calibration is None


def test_a_preset_is_asked_of_ldm4ts_alone(tmp_path: Path) -> None:
    write("LDM4TSPipeline", tmp_path / "ldm")
    write("Garch", tmp_path / "garch")
    assert check_forecaster(tmp_path / "ldm", preset="tiny").pipeline == "LDM4TSPipeline"
    with pytest.raises(BadModelFolder, match="of preset 'tiny', expected 'paper'"):
        load_forecaster(tmp_path / "ldm", preset="paper")
    with pytest.raises(BadModelFolder, match="holds Garch, which has no presets, expected LDM4TS of preset 'tiny'"):
        load_forecaster(tmp_path / "garch", preset="tiny")


def test_a_folder_that_is_none_or_of_an_unknown_pipeline_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="there is no such folder"):
        load_forecaster(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadModelFolder, match=r"incomplete, missing model_index\.json"):
        load_forecaster(tmp_path / "empty")
    write("Garch", tmp_path / "garch")
    edit(tmp_path / "garch" / "model_index.json", lambda index: index.update(pipeline="Arima"))
    with pytest.raises(BadModelFolder, match="found 'Arima'; allowed: LDM4TSPipeline, RandomWalk, TimeOfDayWalk, Garch, SSSD"):
        load_forecaster(tmp_path / "garch")
    (tmp_path / "garch" / "model_index.json").write_text("{")
    with pytest.raises(BadModelFolder, match=r"model_index\.json is not JSON"):
        load_forecaster(tmp_path / "garch")
    (tmp_path / "garch" / "model_index.json").write_text("[]")
    with pytest.raises(BadModelFolder, match=r"model_index\.json"):
        load_forecaster(tmp_path / "garch")


@pytest.mark.parametrize("kind", ["RandomWalk", "TimeOfDayWalk", "Garch", "SSSD"])
def test_a_folder_that_lacks_a_file_or_holds_a_broken_one_is_refused(kind: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write(kind, whole)
    optional = {"calibration.json"}
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        name = path.relative_to(whole)
        for spoil in ("missing", "cut short"):
            broken = tmp_path / f"{spoil} {name}".replace("/", " ")
            shutil.copytree(whole, broken)
            if spoil == "missing":
                (broken / name).unlink()
            else:
                (broken / name).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            if (spoil == "missing" and str(name) in optional) or (spoil == "cut short" and name.suffix == ".md"):
                load_forecaster(broken)
                continue
            with pytest.raises(BadModelFolder):
                load_forecaster(broken)


_SPOILT: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
    ("Garch", "model_index.json", lambda index: index.update(timeframe="2h"), "timeframe: found '2h'"),
    ("Garch", "model_index.json", lambda index: index.update(horizons_minutes=[15]), "positive multiples of 60"),
    ("Garch", "model_index.json", lambda index: index.update(horizons_minutes=[960, 240]), "must ascend"),
    ("Garch", "model_index.json", lambda index: index.update(data_end="2017-03-01T00:00:00"), "data_end"),
    ("Garch", "garch.json", lambda laws: laws["pooled"].update(alpha=0.9, beta=0.9), "alpha \\+ beta must be at most 1"),
    ("Garch", "garch.json", lambda laws: laws["pooled"].update(omega=-1.0), "omega"),
    ("Garch", "garch.json", lambda laws: laws.pop("pooled"), "pooled: missing"),
    ("SSSD", "sssd.json", lambda config: config.update(horizons_minutes=[60, 3840]), "other horizons than model_index"),
    ("SSSD", "sssd.json", lambda config: config.update(chanels=8), "did you mean 'channels'"),
    ("SSSD", "network/config.json", lambda config: config.update(channels=16), "component 'network' can't be loaded"),
    ("SSSD", "network/config.json", lambda config: config.update(blocks=2), "lacks the weights"),
    ("SSSD", "calibration.json", lambda content: content["horizons"].pop(), "other horizons"),
]


@pytest.mark.parametrize(("kind", "name", "change", "says"), _SPOILT, ids=[f"{each[0]} {each[3]}" for each in _SPOILT])
def test_what_does_not_belong_together_is_refused(
    kind: str, name: str, change: Callable[[dict[str, Any]], object], says: str, tmp_path: Path
) -> None:
    write(kind, tmp_path / "model")
    edit(tmp_path / "model" / name, change)
    with pytest.raises(BadModelFolder, match=says):
        load_forecaster(tmp_path / "model")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"sizes": np.ones((24, 2, 199))}, "sizes have shape"),
        ({"size": np.ones((24, 3, 199))}, "'sizes'"),
        ({"sizes": np.full((24, 3, 199), np.nan)}, "allowed: finite ones from 0"),
        ({"sizes": np.full((24, 3, 199), -1.0)}, "allowed: finite ones from 0"),
    ],
)
def test_sizes_by_hour_of_another_shape_or_without_sense_are_refused(
    tensors: dict[str, np.ndarray[Any, Any]], says: str, tmp_path: Path
) -> None:
    write("TimeOfDayWalk", tmp_path / "model")
    save_file(tensors, tmp_path / "model" / "sizes.safetensors")
    with pytest.raises(BadModelFolder, match=says):
        load_forecaster(tmp_path / "model")


def test_an_opponent_without_weights_loads_and_forecasts_without_torch_or_arch(tmp_path: Path) -> None:
    write("Garch", tmp_path / "garch")
    code = (
        "import sys; from pathlib import Path; from fxcast.models.load import load_forecaster; "
        "load_forecaster(Path(sys.argv[1])); print([name for name in ('torch', 'arch', 'ray') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "garch")]
    answer = subprocess.run(
        command, env={"PYTHONPATH": str(REPOSITORY / "platform")}, capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "[]"
