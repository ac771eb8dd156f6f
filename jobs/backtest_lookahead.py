"""Does a strategy look ahead? The branch of python -m jobs.backtest --check-lookahead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fxcast.backtest.differences import Difference
from fxcast.backtest.lookahead import CutCheck, choose_cuts
from fxcast.cluster.lookahead import check_lookahead
from jobs.backtest_candles import MarketData
from jobs.backtest_models import Models
from jobs.backtest_run import Show, prepare, strategy_runs
from jobs.backtest_settings import TradedSettings

_SHOWN = 5  # differences


def check_strategy(
    settings: TradedSettings, data: MarketData, models: Models, start: datetime, stop: datetime, *, cuts: int, show: Show
) -> tuple[CutCheck, ...]:
    """Trade a period on the connected cluster, then again with the future cut off at random moments, and compare.

    What the strategy is compared with in a report is not checked. Each rerun begins where the period does: all of them together
    cost about half as many periods as there are cuts.

    Args:
        cuts: How many moments, chosen by `settings.seed`.
        show: Called with what is being done, how much of it is done, and all.

    Returns:
        One a cut, ascending.

    Raises:
        BadSetting: If the period has no two moments.
        StoreUnavailable: If stored forecasts can't be read or written.
        BadSetup: If a currency can't be converted to the account's.
    """
    traded = [data.series[symbol] for symbol in settings.symbols]
    moments = choose_cuts(traded, start, stop, count=cuts, seed=settings.seed)
    runs = strategy_runs(settings, data, models, start, stop)
    names = dict.fromkeys(name for run in runs for name in (run.own, *run.others.values()) if name is not None)
    prepared = prepare(settings, data, {name: models.sources[name] for name in names}, start, stop, show=show)
    return check_lookahead(
        runs,
        data.series,
        prepared.forecasts,
        models.sources,
        moments,
        inner=data.inner,
        fits=prepared.fits,
        gpus_each=settings.gpus_each,
        show=show,
    )


def tell_checks(console: Console, checks: Sequence[CutCheck]) -> int:
    """Print what was compared at each cut and what differs; return the exit code: 0 where nothing differs."""
    decisions, forecasts = sum(check.decisions for check in checks), sum(check.forecasts for check in checks)
    console.print(_table(checks))
    found = sorted((each for check in checks for each in check.differences), key=lambda each: each.at)
    if found:
        for each in found[:_SHOWN]:
            console.print(_sentence(each), markup=False)
        affected = sum(1 for check in checks if check.differing)
        console.print(
            f"it depends on the future: at {affected} of {len(checks)} cuts something is decided otherwise without it",
            style="bold red",
            markup=False,
        )
        return 1
    if not decisions:
        console.print(
            f"nothing was decided before any of {len(checks)} cuts, so this says nothing: take a longer period", style="bold red"
        )
        return 1
    console.print(
        f"no decision depends on the future: {decisions:,} decisions and {forecasts:,} forecasts compared at {len(checks)} cuts",
        markup=False,
    )
    return 0


def _table(checks: Sequence[CutCheck]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("the future cut off at (UTC)")
    for name in ("decisions compared", "forecasts compared", "differences"):
        table.add_column(name, justify="right")
    for check in checks:
        style = "red" if check.differing else None
        table.add_row(
            f"{check.cut:%Y-%m-%d %H:%M}", f"{check.decisions:,}", f"{check.forecasts:,}", f"{check.differing:,}", style=style
        )
    return table


def _sentence(difference: Difference) -> str:
    whose = f" {difference.symbol}" if difference.symbol else ""
    known, unknown = difference.with_future, difference.without
    return f"{difference.at:%Y-%m-%d %H:%M}{whose}, {difference.what}: {known}; without the future: {unknown}"
