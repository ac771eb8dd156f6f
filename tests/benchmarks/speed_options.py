"""What was tried to make a forecast fast on a CPU, each way beside the others in one run: python -m tests.benchmarks.speed_options.

The networks have random weights: only the time is measured. What fewer steps and smaller networks cost in accuracy is in
docs/results.md. OpenVINO is tried if it is installed (pip install openvino).
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from fxcast.domain.forecaster import predict
from fxcast.models.autoencoder import latent_size, new_tiny_autoencoder
from fxcast.models.config import LDM4TSConfig, preset_config
from fxcast.models.denoiser import new_unet
from fxcast.models.frozen import frozen
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES, packaged_text_encoder
from fxcast.terminal import new_console
from tests.factories import make_series

_SAMPLES = 50
_THREADS = 2
_REPEATS = 40

Network = Callable[[], Tensor]  # runs once on the inputs that it was made with


def networks(memory_format: torch.memory_format) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Return the U-Net and the decoder of preset tiny with the inputs of a forecast, laid out in memory one way."""
    config = preset_config("tiny", "1m")
    vae = frozen(new_tiny_autoencoder())
    latents = torch.randn(_SAMPLES, config.latent_channels, config.latent_size, config.latent_size)
    unet = _UnetStep(frozen(new_unet(config, config.latent_size)))
    decoder = _Decoder(vae)
    for module in (unet, decoder):
        nn.Module.to(module, memory_format=memory_format)  # pyright: ignore[reportCallIssue] - torch's stub has no such overload
    tokens = torch.randn(_SAMPLES, 13, config.condition_width)
    pooled = torch.randn(_SAMPLES, config.condition_width)
    noisy = torch.cat([latents, latents], dim=1).to(memory_format=memory_format)
    return {"U-Net step": (unet, (noisy, tokens, pooled)), "decode": (decoder, (latents.to(memory_format=memory_format),))}


class _UnetStep(nn.Module):
    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        timestep = torch.tensor(500)
        return self.unet(noisy, timestep, encoder_hidden_states=tokens, class_labels=pooled, return_dict=False)[0]


class _Decoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


def as_they_are(memory_format: torch.memory_format) -> dict[str, Network]:
    return {name: _bound(module, inputs) for name, (module, inputs) in networks(memory_format).items()}


def in_bfloat16() -> dict[str, Network]:
    def mixed(network: Network) -> Network:
        def run() -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return network()

        return run

    return {name: mixed(network) for name, network in as_they_are(torch.channels_last).items()}


def by_torch_compile() -> dict[str, Network]:
    made = networks(torch.channels_last)
    return {name: _bound(torch.compile(module), inputs) for name, (module, inputs) in made.items()}


def by_openvino() -> dict[str, Network]:
    openvino: Any = importlib.import_module("openvino")
    found: dict[str, Network] = {}
    for name, (module, inputs) in networks(torch.contiguous_format).items():
        settings = {"INFERENCE_NUM_THREADS": _THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(openvino.convert_model(module, example_input=inputs), "CPU", settings)
        arrays = [each.numpy() for each in inputs]
        found[name] = lambda compiled=compiled, arrays=arrays: compiled(arrays)[0]
    return found


def _bound(module: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Network:
    return lambda: module(*inputs)


def runtimes() -> dict[str, Callable[[], dict[str, Network]]]:
    """Return the ways of running the same networks."""
    ways: dict[str, Callable[[], dict[str, Network]]] = {
        "channels last, as shipped": lambda: as_they_are(torch.channels_last),
        "channels first": lambda: as_they_are(torch.contiguous_format),
        "bfloat16": in_bfloat16,
        "torch.compile": by_torch_compile,
    }
    if importlib.util.find_spec("openvino") is not None:
        ways["OpenVINO, f32"] = by_openvino
    return ways


def forecasters() -> dict[str, LDM4TSPipeline]:
    """Return models of less and less arithmetic, the shipped one last."""
    shipped = LDM4TSPipeline.untrained(
        preset_config("tiny", "1m"), frozen(new_tiny_autoencoder()), torch.randn(len(SENTENCES), 384)
    )

    def changed(*, steps: int, unet: tuple[int, ...] | None = None, vae: AutoencoderKL | None = None) -> LDM4TSPipeline:
        config = LDM4TSConfig.model_validate(
            {**dict(shipped.config), "sampler_steps": steps, "unet_channels": unet or shipped.config.unet_channels}
        )
        own = vae or shipped.vae
        return replace(shipped, config=config, vae=own, unet=frozen(new_unet(config, latent_size(own, config.image_size))))

    steps, earlier = shipped.config.sampler_steps, frozen(new_tiny_autoencoder((16, 32, 64)))
    return {
        "before: 4 steps, U-Net 32, 64, autoencoder 16, 32, 64": changed(steps=4, unet=(32, 64), vae=earlier),
        "2 steps": changed(steps=steps, unet=(32, 64), vae=earlier),
        "2 steps, autoencoder 8, 16, 32": changed(steps=steps, unet=(32, 64)),
        "2 steps, autoencoder 8, 16, 32, U-Net 16, 32: shipped": shipped,
    }


def text_encoder() -> Network:
    """Return the encoding of one sentence, which the models keep instead."""
    tokens = AutoTokenizer.from_pretrained(packaged_text_encoder())(SENTENCES[0], return_tensors="pt")
    encoder = AutoModel.from_pretrained(packaged_text_encoder()).eval()
    return lambda: cast("Tensor", encoder(**tokens).last_hidden_state)


def times_in_turn(works: Mapping[str, Callable[[], object]]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return milliseconds of some works, done in turn so that a busy moment of the machine hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(_REPEATS + 3):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if repeat >= 3:
                taken[name].append((time.perf_counter() - started) * 1000.0)
    return {name: np.array(times) for name, times in taken.items()}


@torch.no_grad()
def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    console = new_console()
    table = Table("the same networks, 50 samples, ms", "ready after, s", "U-Net step", "decode")
    ready: dict[str, float] = {}
    works: dict[str, Network] = {}
    for name, way in runtimes().items():
        started = time.perf_counter()
        made = way()
        for network in made.values():
            network()
        ready[name] = time.perf_counter() - started
        works |= {f"{name}|{part}": network for part, network in made.items()}
    taken = times_in_turn(works)
    for name, seconds in ready.items():
        table.add_row(name, f"{seconds:.1f}", *(f"{np.median(taken[f'{name}|{part}']):.1f}" for part in ("U-Net step", "decode")))
    torch.set_num_threads(1)
    alone = times_in_turn({part: works[f"channels last, as shipped|{part}"] for part in ("U-Net step", "decode")})
    table.add_row("one thread instead of two", "", *(f"{np.median(times):.1f}" for times in alone.values()))
    torch.set_num_threads(_THREADS)
    console.print(table)

    window = make_series(timeframe="1m")
    models = forecasters()
    whole = Table("a whole forecast in process, 50 samples at 15, 60, 240 minutes", "p50, ms", "p95, ms")
    asked = {
        name: lambda model=model: predict(model, window, horizons_minutes=(15, 60, 240), num_samples=_SAMPLES, seed=1)
        for name, model in models.items()
    }
    for name, times in times_in_turn(asked).items():
        whole.add_row(name, f"{np.median(times):.0f}", f"{np.percentile(times, 95):.0f}")
    (embedding,) = times_in_turn({"embedding": text_encoder()}).values()
    whole.add_row("what the text encoder would add", f"{np.median(embedding):.0f}", f"{np.percentile(embedding, 95):.0f}")
    console.print(whole)


if __name__ == "__main__":
    main()
