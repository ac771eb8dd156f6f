"""One forecaster against another: how much lower its CRPS is, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.scores import Estimate, block_bootstrap_means, block_length, check_length, estimate, skill
from fxcast.evaluation.significance import DieboldMariano, diebold_mariano


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A forecaster against one opponent on the same windows.

    Attributes:
        crps_opponent: Mean fair CRPS of the opponent, pips; of several cells, their mean in units of itself, 1.
        skill: 1 − CRPS / CRPS of the opponent; of several cells, the mean of theirs.
        test: Of equal CRPS.
    """

    opponent: str
    crps_opponent: float
    skill: Estimate
    test: DieboldMariano

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "crps_opponent": self.crps_opponent,
            "skill": self.skill.value,
            "skill_interval": [self.skill.low, self.skill.high],
            "diebold_mariano": self.test.to_dict(),
        }


class Cell(NamedTuple):
    """CRPS of one symbol and horizon, both (n,), at moments in seconds since 1970 UTC, ascending, (n,)."""

    closed_at: NDArray[np.int64]
    crps: FloatArray
    opponent_crps: FloatArray


def compare(opponent: str, crps: FloatArray, opponent_crps: FloatArray, *, overlap: int, seed: int = 0) -> Comparison:
    """Compare CRPS on the same windows; arguments and errors as `evaluation.scores.skill`."""
    return Comparison(
        opponent=opponent,
        crps_opponent=float(opponent_crps.mean()),
        skill=skill(crps, opponent_crps, overlap=overlap, seed=seed),
        test=diebold_mariano(crps, opponent_crps, overlap=overlap),
    )


def compare_on_average(opponent: str, cells: Sequence[Cell], *, overlap: int, seed: int = 0) -> Comparison:
    """Compare over several symbols and horizons, each of which counts the same.

    What happens at one moment moves all cells, so the moments are resampled, each with all its cells. The test is of the mean
    over the cells of the difference in CRPS, in units of the opponent's mean CRPS of the cell.

    Args:
        cells: One or more, of the same two forecasters.
        overlap: Of the longest horizon.

    Raises:
        BadCandles: If there are too few moments, as in `evaluation.scores.score_horizon`.
    """
    moments = np.unique(np.concatenate([cell.closed_at for cell in cells]))
    check_length(len(moments), overlap)
    columns = np.zeros((len(moments), 2, len(cells)))
    there = np.zeros((len(moments), len(cells)), dtype=bool)
    for position, cell in enumerate(cells):
        rows = np.searchsorted(moments, cell.closed_at)
        unit = cell.opponent_crps.mean()
        columns[rows, 0, position], columns[rows, 1, position] = cell.crps / unit, cell.opponent_crps / unit
        there[rows, position] = True
    block = block_length(len(moments), overlap)
    resampled = block_bootstrap_means(columns.reshape(len(moments), -1), block=block, seed=seed)
    own, others = np.split(resampled, 2, axis=1)  # (resamples, cells) each
    some = (others > 0).all(axis=1)  # a cell may lack a stretch of time, and a resample have drawn only that
    value = float(np.mean([1.0 - cell.crps.mean() / cell.opponent_crps.mean() for cell in cells]))
    drawn = (1.0 - own[some] / others[some]).mean(axis=1)
    by_moment = columns.sum(axis=2) / there.sum(axis=1)[:, None]  # (moments, 2)
    return Comparison(
        opponent=opponent,
        crps_opponent=1.0,
        skill=estimate(value, drawn, len(moments) / block, most=1.0),
        test=diebold_mariano(by_moment[:, 0], by_moment[:, 1], overlap=overlap),
    )
