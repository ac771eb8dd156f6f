"""Windows of a period, cut from the store one series at a time, for the stages that need candles and not latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fxcast.cluster.train_plan import SeriesFacts, TrainPlan
from fxcast.cluster.window_shards import Split
from fxcast.data.windows import window_ends
from fxcast.training.charts import WindowArrays, evenly, windows_ending_at


def chosen_windows(
    plan: TrainPlan, facts: Sequence[SeriesFacts], split: Split, most: int, *, stride: int = 1
) -> Iterator[WindowArrays]:
    """Yield windows of each series that has some, evenly over its period.

    Args:
        most: Of all series together; each gives its share, and at least one.
        stride: Bars between neighbours at least.
    """
    for number, one in enumerate(facts):
        start, stop = one.train if split == "train" else one.validation
        if not plan.windows_in((start, stop)):
            continue
        config, series = plan.model.at(one.timeframe.name), plan.read(one.symbol, one.timeframe)
        ends = window_ends(series, future_bars=config.future_bars, start=start, stop=stop)[::stride]
        share = len(range(number, most, len(facts)))
        yield windows_ending_at(series, evenly(ends, max(1, share)), config)
