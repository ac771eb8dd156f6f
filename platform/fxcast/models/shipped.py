"""The models that fxcast ships, each trained with the project's own jobs; docs/results.md says how and how good they are."""

from __future__ import annotations

from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"


def shipped_model(timeframe: str) -> Path | None:
    """Return the folder of the model of a timeframe, None if there is none."""
    folder = _WEIGHTS / f"ldm4ts-tiny-{timeframe}"
    return folder if folder.is_dir() else None
