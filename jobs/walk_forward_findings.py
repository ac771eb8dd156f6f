"""What all test periods of a walk-forward together found: one stitched account, measured as a backtest is, and a table of folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from fxcast.backtest.result import BacktestResult
from fxcast.performance.compare import differences
from fxcast.performance.groups import groups_of
from fxcast.performance.luck import luck_of
from fxcast.performance.measure import measure_curve
from fxcast.performance.measures import Benchmark, Findings, Measures
from fxcast.performance.stitched import Account, stitched
from fxcast.performance.verdict import verdicts
from fxcast.performance.wording import number, percent
from jobs.backtest_run import STRATEGY, TITLES
from jobs.walk_forward_files import read_accounts, read_findings
from jobs.walk_forward_plan import WalkForwardPlan


def find_stitched(
    plan: WalkForwardPlan,
    *,
    other_sharpes: Sequence[float],
    warnings: Sequence[str],
    facts: Mapping[str, str],
    command: str,
) -> Findings:
    """Measure the stitched accounts of the strategy and of each benchmark; all folds must be done.

    Args:
        other_sharpes: Annualised, of the other settings tried on this market: they count as trials.
    """
    settings = plan.settings
    seed, draws = settings.seed, settings.draws
    folders = [plan.fold_folder(fold) for fold in plan.folds]
    by_fold = [read_accounts(folder) for folder in folders]
    balance = settings.market.starting_balance
    accounts = {key: stitched([each[key] for each in by_fold], balance) for key in (STRATEGY, *TITLES) if key in by_fold[0]}
    results = {key: _result(plan, account, key) for key, account in accounts.items()}
    ours, result = accounts[STRATEGY], results[STRATEGY]
    measures = {key: _measures(account, float(balance), seed=seed, draws=draws) for key, account in accounts.items()}
    benchmarks = tuple(
        Benchmark(
            key=key,
            title=TITLES[key],
            equity=account.equity,
            measures=measures[key],
            differences=differences(result, results[key], ours.trades, account.trades, seed=seed, draws=draws),
        )
        for key, account in accounts.items()
        if key != STRATEGY
    )
    own = measures[STRATEGY].sharpe.value
    sharpes = [*other_sharpes, *([] if own is None else [own])]
    luck = luck_of(
        ours.equity,
        float(balance),
        ours.trades,
        trials=len(other_sharpes) + 1,
        sharpe_variance=float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else None,
        seed=seed,
        draws=draws,
    )
    return Findings(
        result=result,
        trades=ours.trades,
        measures=measures[STRATEGY],
        groups=groups_of(ours.trades),
        luck=luck,
        benchmarks=benchmarks,
        verdicts=verdicts(measures[STRATEGY], luck, benchmarks),
        warnings=tuple(warnings),
        facts=facts,
        command=command,
        folds=tuple(fold_row(plan, number) for number in range(len(folders))),
        counts={name: count for name, count in ours.counts.items() if name != "candles"},
    )


def fold_row(plan: WalkForwardPlan, place: int) -> dict[str, str]:
    """Return a row of the table of folds, from what a finished fold has written."""
    fold = plan.folds[place]
    found = read_findings(plan.fold_folder(fold))
    measures: dict[str, Any] = found["measures"]
    benchmarks: dict[str, Any] = found["benchmarks"]
    return {
        "fold": str(fold.number),
        **{
            name: f"{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}"
            for name, span in (("training", fold.train), ("validation", fold.validation), ("test", fold.test))
        },
        "trades": f"{measures['trades']:,}",
        "return": percent(measures["total_return"], 2, signed=True),
        "Sharpe ratio": number(measures["sharpe"]["value"]),
        "max drawdown": percent(measures["max_drawdown"]["value"], 2),
        "win rate": percent(measures["win_rate"]["value"]),
        **{f"return {key}": percent(each["measures"]["total_return"], 2, signed=True) for key, each in benchmarks.items()},
    }


def fold_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """Return the table of folds for a terminal; when each was trained and validated, the report has room to say."""
    shown = [name for name in rows[0] if name not in {"training", "validation"}]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        drawn.add_column(name, justify="right", no_wrap=name == "test")
    for row in rows:
        drawn.add_row(*(row[name] for name in shown))
    return drawn


def _measures(account: Account, starting_balance: float, *, seed: int, draws: int) -> Measures:
    return measure_curve(
        account.equity,
        starting_balance,
        trades=account.trades,
        costs=account.costs,
        traded=account.traded,
        open_positions=account.open_positions,
        seed=seed,
        draws=draws,
    )


def _result(plan: WalkForwardPlan, account: Account, key: str) -> BacktestResult:
    """Return a stitched account as a run; what single orders and signals were, the folds' own records say."""
    settings = plan.settings
    return BacktestResult(
        name=f"walk-forward {settings.name}" if key == STRATEGY else key,
        symbols=settings.symbols,
        timeframe=settings.timeframe,
        start=plan.folds[0].test[0],
        stop=plan.folds[-1].test[1],
        currency=settings.market.account_currency,
        starting_balance=settings.market.starting_balance,
        candles=account.counts.get("candles", 0),
        equity=account.equity,
        transactions=(),
        fill_costs={},
        orders=(),
        signals=(),
        positions=(),
        risk_events=(),
        forecasts_missed=account.counts.get("forecasts_missed", 0),
    )
