"""The page that an opponent's folder says of itself to people."""

from __future__ import annotations

from collections.abc import Mapping

from fxcast import __version__
from fxcast.domain.forecaster import Forecaster
from fxcast.models.baselines.folder import OpponentPipeline, Seen

_IN_WORDS: Mapping[OpponentPipeline, str] = {
    "RandomWalk": "Gaussian random walk without drift, as wide as the EWMA volatility of the window's last candles",
    "TimeOfDayWalk": "random walk without drift whose width, by hour of New York, is what it was in the training period",
    "Garch": "GARCH(1,1) without drift, fitted by maximum likelihood, filtered inside the window and simulated ahead",
    "SSSD": "structured state-space diffusion on the path itself (arXiv:2208.09399), with diagonal state spaces (arXiv:2206.11893)",
}


def opponent_card(
    opponent: Forecaster, pipeline: OpponentPipeline, seen: Seen | None, figures: Mapping[str, float | str | None]
) -> str:
    """Return the text of card.md.

    Args:
        seen: The candles that it was fitted on, None if it never is.
        figures: What came of the fit.
    """
    horizons = ", ".join(map(str, opponent.horizons_minutes))
    fitted = (
        "- Nothing was fitted\n"
        if seen is None
        else f"- Symbols: {', '.join(seen.symbols)}\n"
        f"- Fitted on candles from {seen.start:%Y-%m-%d %H:%M} to {seen.end:%Y-%m-%d %H:%M} UTC\n"
        f"- SHA-256 of the candles: `{seen.data_hash}`\n"
    )
    rows = "".join(
        f"| {name} | {value:.6g} |\n" if isinstance(value, float) else f"| {name} | {value} |\n" for name, value in figures.items()
    )
    table = f"\n| fit | value |\n|---|---|\n{rows}" if rows else ""
    return f"""# {opponent.model_version}

{_IN_WORDS[pipeline][0].upper()}{_IN_WORDS[pipeline][1:]}; {opponent.timeframe} candles, horizons {horizons} minutes.

{fitted}- fxcast {__version__}
{table}"""
