"""What came of a period, measured, compared and put into sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fxcast.backtest.forecasts import PreparedForecasts
from fxcast.domain.candle import FloatArray
from fxcast.performance.compare import differences
from fxcast.performance.groups import groups_of
from fxcast.performance.luck import luck_of
from fxcast.performance.measure import measure, measure_curve
from fxcast.performance.measures import Benchmark, Fans, Findings
from fxcast.performance.trades import check_balance, trades_of
from fxcast.performance.verdict import verdicts
from jobs.backtest_run import STRATEGY, TITLES, Outcome
from jobs.backtest_settings import TradedSettings

_QUANTILES = (0.05, 0.95)


def find(
    settings: TradedSettings,
    outcome: Outcome,
    *,
    forecasts: PreparedForecasts | None,
    other_sharpes: Sequence[float],
    warnings: Sequence[str],
    facts: Mapping[str, str],
    command: str,
) -> Findings:
    """Measure the strategy and what it is compared with.

    Args:
        forecasts: Those that the strategy traded on, for the charts.
        other_sharpes: Annualised, of the other settings tried on this market: they count as trials.
    """
    seed, draws = settings.seed, settings.draws
    result = outcome.results[STRATEGY]
    trades = trades_of(result)
    check_balance(result, trades)
    measures = measure(result, trades, seed=seed, draws=draws)
    benchmarks: list[Benchmark] = []
    for key, other in outcome.results.items():
        if key == STRATEGY:
            continue
        their_trades = trades_of(other)
        check_balance(other, their_trades)
        benchmarks.append(
            Benchmark(
                key=key,
                title=TITLES[key],
                equity=other.equity,
                measures=measure(other, their_trades, seed=seed, draws=draws),
                differences=differences(result, other, trades, their_trades, seed=seed, draws=draws),
                result=other,
            )
        )
    if outcome.held is not None:
        held = measure_curve(outcome.held, float(result.starting_balance), seed=seed, draws=draws)
        theirs = replace(result, name="buy-and-hold", equity=outcome.held)
        benchmarks.append(
            Benchmark(
                key="buy-and-hold",
                title=TITLES["buy-and-hold"],
                equity=outcome.held,
                measures=held,
                differences=differences(result, theirs, trades, (), seed=seed, draws=draws),
            )
        )
    own = measures.sharpe.value
    sharpes = [*other_sharpes, *([] if own is None else [own])]
    luck = luck_of(
        result.equity,
        float(result.starting_balance),
        trades,
        trials=len(other_sharpes) + 1,
        sharpe_variance=float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else None,
        seed=seed,
        draws=draws,
    )
    return Findings(
        result=result,
        trades=trades,
        measures=measures,
        groups=groups_of(trades),
        luck=luck,
        benchmarks=tuple(benchmarks),
        verdicts=verdicts(measures, luck, benchmarks),
        warnings=tuple(warnings),
        fans=() if forecasts is None else tuple(_fans(forecasts, settings.trading.ldm4ts_horizons)),
        facts=facts,
        command=command,
    )


def _fans(forecasts: PreparedForecasts, horizons: Sequence[int]) -> list[Fans]:
    fans: list[Fans] = []
    for symbol, known in forecasts.symbols.items():
        for minutes in horizons:
            moves = known.moves[:, :, forecasts.horizons_minutes.index(minutes)].astype(np.float64)  # (n, samples)
            prices: FloatArray = known.price[:, None] * np.exp(moves)
            low, high = np.quantile(prices, _QUANTILES, axis=1, method="weibull")
            fans.append(
                Fans(
                    symbol=symbol,
                    horizon_minutes=minutes,
                    made_at=known.closed_at.astype("datetime64[s]"),
                    price=known.price,
                    mean=prices.mean(axis=1),
                    q05=low,
                    q95=high,
                )
            )
    return fans
