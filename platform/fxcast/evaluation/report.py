"""One HTML file that says what an evaluation found: no link leads out of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fxcast.evaluation import report_pictures
from fxcast.evaluation.assess import HorizonResult, SymbolResult
from fxcast.evaluation.comparison import Comparison
from fxcast.evaluation.verdict import beats, caution, honesty, p_text, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that a report and scores.json are made of.

    Attributes:
        warnings: What a reader must know before the scores, in sentences.
        averages: As `evaluation.assess.averages`.
        data_hash: Of all candles of windows and outcomes.
        model_hashes: By name.
        command: What to run to get the same.
    """

    model: str
    opponents: tuple[str, ...]
    timeframe: str
    start: datetime
    stop: datetime
    step_bars: int
    num_samples: int
    warnings: tuple[str, ...]
    symbols: tuple[SymbolResult, ...]
    averages: dict[str, tuple[Comparison, ...]]
    data_hash: str
    model_hashes: dict[str, str]
    command: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "model": self.model,
            "opponents": list(self.opponents),
            "timeframe": self.timeframe,
            "start": self.start.isoformat(),
            "stop": self.stop.isoformat(),
            "step_bars": self.step_bars,
            "num_samples": self.num_samples,
            "warnings": list(self.warnings),
            "data_hash": self.data_hash,
            "model_hashes": self.model_hashes,
            "command": self.command,
            "averages": {
                group: {comparison.opponent: comparison.to_dict() for comparison in comparisons}
                for group, comparisons in self.averages.items()
            },
            "symbols": {
                result.symbol: {
                    "windows": len(result.windows.ends),
                    "volatility_terciles": None
                    if (terciles := result.windows.terciles) is None
                    else {"low": terciles.low, "high": terciles.high, "windows_before": terciles.windows},
                    "horizons": {str(horizon.minutes): horizon.to_dict() for horizon in result.horizons},
                }
                for result in self.symbols
            },
        }


def sentences(evaluation: Evaluation) -> list[str]:
    """Return what was found, in words: by pair and horizon, and on average where there are several."""
    found = [
        f"{result.symbol}, {horizon.minutes} minutes: {evaluation.model} {'; it '.join(map(beats, horizon.comparisons))}"
        f"{'; ' if horizon.comparisons else ''}{honesty(horizon.model.scores)}.{caution(horizon)}"
        for result in evaluation.symbols
        for horizon in result.horizons
    ]
    overall = evaluation.averages.get("all", ())
    if len(found) > 1 and overall:
        over = f"{_count(len(evaluation.symbols), 'pair')} and {_count(len(evaluation.symbols[0].horizons), 'horizon')}"
        found.insert(0, f"On average over {over} {evaluation.model} {'; it '.join(map(beats, overall))}.")
    return found


def columns(evaluation: Evaluation) -> list[str]:
    """Return the heads of `rows`."""
    against = [f"{head} {opponent}" for opponent in evaluation.opponents for head in ("skill to", "p to")]
    return ["pair", "minutes", "n", "CRPS, pips", *against, *_FURTHER]


def rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the table of an evaluation, a row a pair and horizon, an interval on a line of its own; p is one-sided."""
    return [[result.symbol, *map(_in_lines, _row(horizon))] for result in evaluation.symbols for horizon in result.horizons]


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Draw the pictures into a folder `pictures` beside the report, and write the report, which holds them."""
    drawn = [_draw(path.parent / "pictures", result) for result in evaluation.symbols]
    environment = Environment(loader=PackageLoader("fxcast.evaluation", "."), autoescape=True, undefined=StrictUndefined)
    text = environment.get_template("report.html.jinja").render(
        evaluation=evaluation,
        sentences=sentences(evaluation),
        columns=columns(evaluation),
        rows=rows(evaluation),
        pictures=[(symbol, [(title, note, _embedded(picture)) for title, note, picture in each]) for symbol, each in drawn],
        strata=[(result.symbol, _strata_rows(result)) for result in evaluation.symbols],
        opponents=_opponent_rows(evaluation),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


_FURTHER = ("90 % covers", "PIT index", "MSE ratio", "MAE ratio", "direction right")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(horizon: HorizonResult) -> list[str]:
    scores = horizon.model.scores
    against = [text for one in horizon.comparisons for text in (percent(one.skill, signed=True), p_text(one.test.p_lower))]
    direction = (
        "says none" if scores.direction_right is None else f"{percent(scores.direction_right)} of {scores.direction_windows:,}"
    )
    return [
        str(horizon.minutes),
        f"{scores.forecasts:,}",
        f"{horizon.model.crps.mean():.3f}",
        *against,
        percent(scores.coverage_90),
        f"{scores.pit_index:.3f}",
        f"{scores.mse_ratio:.4f}",
        f"{scores.mae_ratio:.4f}",
        direction,
    ]


def _in_lines(cell: str) -> str:
    return cell.replace(" [", "\n[").replace("] ", "]\n")


def _opponent_rows(evaluation: Evaluation) -> list[list[str]]:
    return [
        [
            result.symbol,
            str(horizon.minutes),
            opponent.name,
            f"{opponent.crps.mean():.3f}",
            percent(opponent.scores.coverage_90),
            f"{opponent.scores.pit_index:.3f}",
            f"{opponent.scores.mse_ratio:.4f}",
        ]
        for result in evaluation.symbols
        for horizon in result.horizons
        for opponent in horizon.opponents
    ]


def _strata_rows(result: SymbolResult) -> list[list[str]]:
    return [
        [
            str(horizon.minutes),
            stratum.kind,
            stratum.name,
            f"{stratum.forecasts:,}",
            f"{stratum.crps:.3f}",
            percent(stratum.crps_skill, signed=True),
            percent(stratum.coverage_90),
            f"{stratum.pit_index:.3f}",
        ]
        for horizon in result.horizons
        for stratum in horizon.strata
    ]


def _draw(folder: Path, result: SymbolResult) -> tuple[str, Sequence[tuple[str, str, Path]]]:
    symbol = result.symbol
    named = (
        ("Reliability", "Intervals that promise p % should hold p % of the outcomes: on the line.", report_pictures.reliability),
        (
            "PIT histograms",
            "Flat is honest; a hill is too wide, a bowl too narrow. Grey: what chance does.",
            report_pictures.pit_histograms,
        ),
        (
            "CRPS by hour",
            "Lower is better; below, the skill to the random walk with its 95 % interval.",
            report_pictures.crps_of_hours,
        ),
        ("Coverage by part", "What 90 % intervals held; grey: 88 to 92 %.", report_pictures.coverage_of_strata),
    )
    drawn: list[tuple[str, str, Path]] = []
    for title, note, draw in named:
        picture = folder / f"{symbol}-{title.lower().replace(' ', '-')}.png"
        draw(picture, result)
        drawn.append((title, note, picture))
    longest = result.horizons[-1].minutes
    for name, picture in report_pictures.fans(folder, result).items():
        note = f"Of all forecasts, the {name} in CRPS at {longest} minutes, in units of the random walk's width."
        drawn.append((f"The {name} forecast", note, picture))
    return symbol, drawn


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
