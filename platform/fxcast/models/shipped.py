"""The models that fxcast ships, each trained with the project's own jobs; docs/results.md says how and how good they are."""

from __future__ import annotations

from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"


def shipped_model(timeframe: str) -> Path | None:
    """Return the folder of the model of a timeframe, None if there is none."""
    return _shipped(f"ldm4ts-tiny-{timeframe}")


def shipped_opponent(kind: str, timeframe: str) -> Path | None:
    """Return the folder of an opponent of a kind (sssd) and timeframe, None if there is none."""
    return _shipped(f"{kind}-{timeframe}")


def _shipped(name: str) -> Path | None:
    folder = _WEIGHTS / name
    return folder if folder.is_dir() else None
