"""Trade a period of the past as it would have been traded: python -m jobs.backtest."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, Field
from rich.console import Console
from rich.progress import Progress, TaskID

from fxcast.cluster.local import ray_session
from fxcast.cluster.train_card import code_version
from fxcast.cluster.train_plan import candles_hash
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.performance.measure_table import table
from fxcast.performance.measures import Findings
from fxcast.performance.report import write_report
from fxcast.terminal import new_console, progress_bar
from jobs.backtest_candles import MarketData, last_close, open_store, read_market_data
from jobs.backtest_findings import find
from jobs.backtest_lookahead import check_strategy, tell_checks
from jobs.backtest_models import OWN, SHIPPED, Models, find_models
from jobs.backtest_record import Origin, keep, open_records, other_trials, settings_content
from jobs.backtest_run import Outcome, Show, run_period
from jobs.backtest_settings import TradedSettings, renamed, with_params
from jobs.entry import run
from jobs.tuned_parameters import Parameters


class BacktestJob(TradedSettings):
    """Trade a period of the past with the engine that trades, on a simulated market, and say what it was worth.

    Forecasts are computed first, spread over the cluster, and kept: another backtest with other settings computes none.
    --from and --to are other names of --start and --stop.
    """

    model: str = Field(default=SHIPPED, description="model folder, version in the registry, random-walk, or shipped")
    sssd: str = Field(default=SHIPPED, description="the SSSD model to compare with, named the same way")
    start: AwareDatetime | None = Field(
        default=None, description="the first candle closes at or after it; by default where the models' training and validation end"
    )
    stop: AwareDatetime | None = Field(
        default=None, description="candles that close at or after it are not seen; by default the end of the store"
    )
    force: bool = Field(default=False, description="trade a period that a model has learned from; the report says so in red")
    check_lookahead: bool = Field(
        default=False, description="instead: run again with the future cut off at random moments, and compare every decision"
    )
    cuts: int = Field(default=10, ge=1, description="how many such moments")
    output: Path | None = Field(default=None, description="folder of the report; by default runs/backtest/SYMBOLS-TIMEFRAME-START")


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestPlan:
    """A period with everything that is needed to trade it; whatever can be refused has been.

    Attributes:
        settings: As they are traded, with the values that `params` stands for.
        parameters: Where these come from.
    """

    settings: BacktestJob
    parameters: Parameters
    start: datetime
    stop: datetime
    data: MarketData
    models: Models
    origin: Origin
    warnings: tuple[str, ...]


def plan_backtest(settings: BacktestJob) -> BacktestPlan:
    """Find candles, models and period; needs no cluster.

    Raises:
        BadCandles: If the store lacks a symbol, or has no candle of it in the period.
        BadSetting: If a model is unknown, lacks a horizon, or has learned from the period (and `force` is off), or the store's
            candles are prices of another side than the market's.
        BadModelFolder: If a model can't be loaded or is of another timeframe.
        BadSetup: If `params` is given and the database can't be read.
    """
    settings, parameters = with_params(settings)
    timeframe = Timeframe(settings.timeframe)
    store = open_store(settings)
    end = last_close(store, settings.followed, timeframe)
    models = find_models(
        settings.trading,
        timeframe,
        settings.database_url,
        model=settings.model,
        sssd=settings.sssd,
        benchmarks=settings.benchmarks,
    )
    start, stop, seen = _period(settings, models, end)
    data = read_market_data(settings, store, start, stop)
    origin = Origin(
        models={name: (source.name, source.model_hash) for name, source in models.sources.items()},
        data_hash=candles_hash([data.series[symbol] for symbol in settings.followed]),
        settings=settings_content(settings, models.sources[OWN].model_hash if OWN in models.sources else None),
        seen_by_model=bool(seen),
    )
    unknown = [
        f"Nothing says what {models.sources[name].name} was trained on: if it has seen candles after {start:%Y-%m-%d %H:%M} UTC, "
        "these figures are worthless."
        for name in models.of_unknown_past
    ]
    return BacktestPlan(
        settings=settings,
        parameters=parameters,
        start=start,
        stop=stop,
        data=data,
        models=models,
        origin=origin,
        warnings=(*seen, *unknown, *parameters.warnings, *parameters.seen(start, stop)),
    )


def backtest(plan: BacktestPlan, *, command: str, show: Show) -> tuple[Findings, Outcome]:
    """Trade the period on the connected cluster, measure it, and keep it in the database if there is one."""
    settings = plan.settings
    outcome = run_period(settings, plan.data, plan.models, plan.start, plan.stop, show=show)
    records = open_records(settings.database_url)
    warnings = list(plan.warnings)
    if records is None:
        warnings.append("There is no database of earlier backtests: this one counts as the only trial, which it may not be.")
    findings = find(
        settings,
        outcome,
        forecasts=outcome.forecasts.get(OWN),
        other_sharpes=other_trials(records, settings, plan.origin, plan.start, plan.stop),
        warnings=warnings,
        facts={**facts_of(plan.origin, plan.data), **plan.parameters.facts},
        command=command,
    )
    folder = output_folder(settings, plan.start)
    write_report(folder, findings, candles={symbol: plan.data.series[symbol] for symbol in settings.symbols})
    if records is not None:
        keep(records, findings, plan.origin, folder)
    return findings, outcome


def facts_of(origin: Origin, data: MarketData) -> dict[str, str]:
    """Return what a report says of where its figures come from."""
    market = data.market
    charged = [
        f"slippage {market.slippage_pips} pips",
        f"commission {market.commission_per_million} a million",
        f"latency {market.latency_s} s",
        f"interest {_interest(market.swap_pct_long, market.swap_pct_short)}",
    ]
    return {
        "code": code_version(),
        **{f"model {name}": f"{version}, {digest[:16]}" for name, (version, digest) in origin.models.items()},
        "candles": origin.data_hash[:16],
        "settings": origin.settings_hash,
        "costs": "; ".join([*data.described, *charged]),
    }


def _interest(long: Mapping[str, object], short: Mapping[str, object]) -> str:
    if not long and not short:
        return "none"
    return ", ".join(f"{symbol} {long.get(symbol, 0)} % long, {short.get(symbol, 0)} % short" for symbol in {**long, **short})


def output_folder(settings: BacktestJob, start: datetime) -> Path:
    """Return where the report goes."""
    named = "-".join(settings.symbols[:3]) + (f"-and-{len(settings.symbols) - 3}" if len(settings.symbols) > 3 else "")
    return settings.output or Path("runs/backtest") / f"{named}-{settings.timeframe}-{start:%Y%m%d}"


def _period(settings: BacktestJob, models: Models, end: datetime) -> tuple[datetime, datetime, list[str]]:
    """Return start and stop, and a warning for each model that has learned from the time between them."""
    seen = models.seen_until
    start = settings.start or (None if seen is None else seen[1])
    if start is None:
        raise BadSetting("start: found none, and no model whose candles would say it; allowed: a time as 2017-10-26T00:00:00Z")
    stop = settings.stop or end
    if stop <= start:
        raise BadSetting(f"stop: found {stop.isoformat()}; allowed: later than the start, {start.isoformat()}")
    late = {models.sources[name].name: moment for name, moment in models.seen.items() if moment is not None and moment > start}
    if late and not settings.force:
        name, moment = max(late.items(), key=lambda each: each[1])
        raise BadSetting(
            f"start: found {start.isoformat()}, but {name} was trained and validated on candles up to {moment.isoformat()}; "
            "allowed: that moment or later, or --force, and the report says in red that it is worth nothing"
        )
    return start, stop, [_seen_in_training(name, moment) for name, moment in late.items()]


def _seen_in_training(name: str, moment: datetime) -> str:
    return (
        f"{name} has learned from candles up to {moment:%Y-%m-%d %H:%M} UTC, and candles before that are traded here: "
        "what this report says of them is worth nothing."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = renamed(sys.argv[1:] if arguments is None else arguments)
    return run(lambda: _report(BacktestJob.parse(given), shlex.join(["python", "-m", "jobs.backtest", *given])))


def _report(settings: BacktestJob, command: str) -> int:
    plan = plan_backtest(settings)
    settings = plan.settings
    console = new_console()
    for sentence in plan.parameters.told:
        console.print(sentence, markup=False)
    if settings.check_lookahead:
        with ray_session(), progress_bar() as progress:
            checks = check_strategy(
                settings, plan.data, plan.models, plan.start, plan.stop, cuts=settings.cuts, show=bars(progress)
            )
        return tell_checks(console, checks)
    with ray_session(), progress_bar() as progress:
        findings, outcome = backtest(plan, command=command, show=bars(progress))
    tell(console, findings, outcome)
    folder = output_folder(settings, plan.start)
    console.print(f"written to {folder}: report.html, findings.json, trades.parquet, equity.parquet, pictures/", markup=False)
    return 0


def tell(console: Console, findings: Findings, outcome: Outcome) -> None:
    """Print what was found: warnings, the three answers, the measures."""
    for name, computed in outcome.computed.items():
        version = outcome.forecasts[name].model_version
        console.print(f"{version}: {computed:,} forecasts computed, {outcome.reused[name]:,} read", markup=False)
    for warning in findings.warnings:
        console.print(warning, style="bold red", markup=False)
    for sentence in findings.verdicts:
        console.print(sentence, markup=False)
    console.print(table(findings))


def bars(progress: Progress) -> Callable[[str, int, int], None]:
    """Return what shows a bar for each thing that is being done."""
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total)
        progress.update(tasks[name], completed=done, total=total)

    return show


if __name__ == "__main__":
    raise SystemExit(main())
