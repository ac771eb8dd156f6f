"""Models on their way into memory: loaded once for all who wait, a failure told to all who ask soon, a broken one named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fxcast.domain.forecaster import Forecaster
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadModelFolder
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.folder import save_pretrained
from fxcast.serving.directory import ModelKey
from fxcast.serving.loading import ModelLoads, load_warm
from tests.model_factories import make_pipeline

WALK = RandomWalk(timeframe=Timeframe("1h"), horizons_minutes=(240,))


class FakeLoad:
    """Loads a walk, or fails as often as it is told, when it is let."""

    def __init__(self, failures: int = 0) -> None:
        self.calls = 0
        self.may_end = asyncio.Event()
        self._failures = failures

    async def __call__(self, key: str) -> Forecaster:
        self.calls += 1
        await self.may_end.wait()
        if self.calls <= self._failures:
            raise BadModelFolder(key, "is broken")
        return WALK


def test_a_model_is_loaded_once_for_all_who_wait_and_again_after_it_was_taken() -> None:
    async def scenario() -> None:
        load = FakeLoad()
        loads = ModelLoads(load)
        waiting = [asyncio.create_task(loads.take("a")) for _ in range(5)]
        load.may_end.set()
        assert await asyncio.gather(*waiting) == [WALK] * 5
        assert load.calls == 1
        assert await loads.take("a") is WALK
        assert load.calls == 2, "what was taken is no longer kept"

    asyncio.run(scenario())


def test_a_caller_that_goes_away_stops_no_load() -> None:
    async def scenario() -> None:
        load = FakeLoad()
        loads = ModelLoads(load)
        impatient = asyncio.create_task(loads.take("a"))
        await asyncio.sleep(0)  # lets it begin
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        load.may_end.set()
        assert await loads.take("a") is WALK
        assert load.calls == 1

    asyncio.run(scenario())


def test_a_failure_is_everybodys_until_the_pause_is_over_and_then_it_is_tried_again() -> None:
    async def scenario() -> None:
        load = FakeLoad(failures=1)
        load.may_end.set()
        loads = ModelLoads(load, pause_s=0.05)
        for _ in range(3):
            with pytest.raises(BadModelFolder, match="model folder a: is broken"):
                await loads.take("a")
        assert load.calls == 1
        loaded: Forecaster | None = None
        while loaded is None:
            try:
                loaded = await loads.take("a")
            except BadModelFolder:
                await asyncio.sleep(0.01)  # until the pause is over
        assert (loaded, load.calls) == (WALK, 2)

    asyncio.run(scenario())


def test_a_model_that_nobody_takes_is_not_kept_for_ever() -> None:
    async def scenario() -> None:
        load = FakeLoad()
        load.may_end.set()
        loads = ModelLoads(load, untaken_s=0.01)
        while load.calls < 2:
            impatient = asyncio.create_task(loads.take("a"))
            await asyncio.sleep(0)  # lets it begin
            impatient.cancel()
            await asyncio.sleep(0.02)  # until what it began is forgotten

    asyncio.run(scenario())


def test_weights_that_are_not_numbers_are_a_broken_model(tmp_path: Path) -> None:
    save_pretrained(make_pipeline(), tmp_path / "model", card="# model\n", fxcast_version="0")
    key = str(ModelKey(folder=str(tmp_path / "model"), timeframe="1h"))
    assert load_warm(key).timeframe.name == "1h"
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(
        content[:header] + b"\xff" * (len(content) - header)
    )  # every float a NaN, and the file is as long as it says
    with pytest.raises(BadModelFolder, match=r"model folder .*: its model can't forecast: not a forecast: mean nan"):
        load_warm(key)


def test_a_folder_that_can_not_be_read_is_a_broken_model(tmp_path: Path) -> None:
    save_pretrained(make_pipeline(), tmp_path / "model", card="# model\n", fxcast_version="0")
    index = tmp_path / "model" / "model_index.json"
    index.unlink()
    index.symlink_to("/proc/self/mem")  # a file whose first byte can't be read, not even by root
    with pytest.raises(BadModelFolder, match="can't be read"):
        load_warm(str(ModelKey(folder=str(tmp_path / "model"), timeframe="1h")))
