"""Fit the temporal fusion: from decoded futures, as imperfect as sampled ones, back to the path they show."""

from __future__ import annotations

from pathlib import Path

import torch

from fxcast.models.autoencoder import decode
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.callbacks import Callbacks
from fxcast.training.config import TrainingConfig
from fxcast.training.precision import autocast
from fxcast.training.stream import Deal, OpenStream
from fxcast.training.workers import draws_of_step, mean_over_workers

# A latent's noise in training, as a share of its standard deviation: sampled latents are never quite clean.
_LATENT_NOISE = 0.1
FUSION_BATCH = 64  # over all workers
CHECKPOINT_FILE = "fusion.pt"


def fit_fusion(
    pipeline: LDM4TSPipeline,
    open_stream: OpenStream,
    training: TrainingConfig,
    callbacks: Callbacks,
    resume_from: Path | None = None,
) -> float:
    """Fit the pipeline's temporal fusion in place.

    Args:
        open_stream: Opens this worker's stream of training windows.
        resume_from: Folder of a checkpoint of this stage; it then ends as if it had never stopped.

    Returns:
        Root mean square error of the path over the last tenth of the steps, in units of the learned width.
    """
    module = pipeline.fusion.requires_grad_(requires_grad=True).train()
    model = callbacks.wrap(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.fusion_steps)
    parts = {"model": module, "optimizer": optimizer, "schedule": schedule}
    step, errors, deal = 0, list[float](), None
    if resume_from is not None:
        saved = torch.load(resume_from / CHECKPOINT_FILE, map_location=pipeline.device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        step, errors, deal = saved["step"], saved["errors"], Deal.from_json(saved["deal"])
    stream = open_stream(deal, step)
    mixed = autocast(training, pipeline.device)

    def save(folder: Path) -> None:
        content = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**content, "step": step, "errors": errors, "deal": stream.deal.to_json()}, folder / CHECKPOINT_FILE)

    try:
        while step < training.fusion_steps:
            chosen = stream.batch(step).to(pipeline.device)
            step += 1
            noise = torch.randn(chosen.future.shape, generator=draws_of_step(training.seed, step)).to(pipeline.device)
            latents = chosen.future + _LATENT_NOISE * noise
            with torch.no_grad(), mixed():
                charts = decode(pipeline.vae, latents.contiguous(memory_format=torch.channels_last))
            loss = (model(charts.float(), latents) - chosen.paths).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            errors.append(loss.item())
            callbacks.progress("temporal fusion", step, training.fusion_steps)
            if step % training.checkpoint_every_steps == 0 and step < training.fusion_steps:
                callbacks.log("fusion", step, {"path_sigma": loss.item() ** 0.5 * pipeline.config.path_clip})
                callbacks.checkpoint({"stage": "fusion", "step": step, "score": 0.0}, save)
    finally:
        stream.close()
    module.requires_grad_(requires_grad=False).eval()
    last = errors[-max(1, len(errors) // 10) :]
    return mean_over_workers(sum(last) / len(last)) ** 0.5 * pipeline.config.path_clip
