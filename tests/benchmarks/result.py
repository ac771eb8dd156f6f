"""One measured figure, beside what it is compared with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What a figure is compared with, measured in the same run."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of the benchmarks; printed, and written to `<folder>/<name>.json`."""

    name: str
    value: float
    unit: str
    against: Against
    command: str

    def publish(self, folder: Path) -> None:
        """Print the figure and write it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=2) + "\n")
        ratio = self.against.value / self.value
        digits = 1 if self.value >= 10 else 2
        print(
            f"{self.name:<32}{self.value:>12,.{digits}f} {self.unit:<4}"
            f"{self.against.name}: {self.against.value:,.{digits}f} {self.unit} ({ratio:.2f} times)"
        )
