"""Let engines and backtests take what a search has found: python -m jobs.promote --run NAME."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import Database, open_database
from fxcast.adapters.storage.promotions import PromotionRecord, Promotions
from fxcast.adapters.storage.tuning import TrialRecord, TuningRecords, TuningRun
from fxcast.config import JobSettings
from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting, BadSetup
from fxcast.terminal import new_console
from fxcast.trading.config import Pairs
from fxcast.trading.parameters import check_searchable
from fxcast.tuning.strategy import TRADING, trading_values
from jobs.entry import run
from jobs.symbol_options import together
from jobs.tuned_parameters import in_words, left_out, scope_words

_RED = "bold red"
_ACTIONS = {
    "run": {"symbols", "trial", "by", "reason", "force"},
    "rollback": {"symbols", "timeframe", "regime", "by", "reason"},
    "list": {"symbols", "timeframe"},
}
_OPTIONS = ("trial", "timeframe", "regime", "by", "reason", "force")


class PromoteJob(JobSettings):
    """Promote what a search has found, take it back, or list what was promoted: one of --run, --rollback and --list.

    A promotion holds for each symbol with the timeframe and the regime of the search, until another takes its place or it is rolled
    back. Only what the trader sets (trading.…) is promoted; what a model sets (sampler.steps, training.…, model.…) belongs to a
    model that is trained with it. What the guard against overfitting let not pass or never looked at, another trial than the winner
    or a winner without its model's values, needs --force, and stays marked. Engines and backtests take what is promoted when they
    are started with --params best; an engine that runs keeps what it was started with.
    """

    run: str | None = Field(default=None, description="promote what this search, by name or id, has found")
    rollback: bool = Field(default=False, description="take back what is promoted; what was before it is active again")
    listed: bool = Field(default=False, alias="list", description="list what is and was promoted, newest first")
    symbols: Pairs = Field(default=(), description="run: by default all of the search; list: by default all; rollback: needed")
    trial: int | None = Field(default=None, ge=0, description="run: its number; by default the winner")
    timeframe: str | None = Field(default=None, description="rollback: needed; list: by default all")
    regime: Regime | None = Field(default=None, description="rollback: of this regime; by default what is promoted for all")
    by: str | None = Field(default=None, description="who does it; by default the user of this machine")
    reason: str = Field(default="", description="why; kept with it")
    force: bool = Field(default=False, description="run: promote what the guard let not pass, and mark it")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", repr=False, description="where searches and promotions are kept")

    def check(self) -> None:
        """Raise BadSetting unless there is one thing to do, and every option goes with it."""
        chosen = {"run": self.run is not None, "rollback": self.rollback, "list": self.listed}
        actions = [name for name, wanted in chosen.items() if wanted]
        if len(actions) != 1:
            found = ", ".join(f"--{name}" for name in actions) or "none"
            raise BadSetting(f"found {found} of --run, --rollback and --list; allowed: one of them")
        fields = type(self).model_fields
        given = [name for name in _OPTIONS if getattr(self, name) != fields[name].default]
        wrong = [name for name in given if name not in _ACTIONS[actions[0]]]
        if wrong:
            allowed = ", ".join(f"--{name}" for name in sorted(_ACTIONS[actions[0]]))
            raise BadSetting(f"found --{wrong[0]} with --{actions[0]}; allowed: {allowed}")

    @property
    def who(self) -> str:
        """Who does it."""
        return self.by or getpass.getuser()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A trial that may be promoted.

    Attributes:
        doubts: Why the guard does not stand for it, in sentences; empty if it does.
    """

    run: TuningRun
    trial: TrialRecord
    symbols: tuple[str, ...]
    doubts: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = together(sys.argv[1:] if arguments is None else arguments)
    return run(lambda: _report(PromoteJob.parse(given)))


def _report(settings: PromoteJob) -> int:
    settings.check()
    console, database = new_console(), open_database(settings.database_url)
    try:
        if settings.run is not None:
            _promote(settings, settings.run, database, console)
        elif settings.rollback:
            _roll_back(settings, database, console)
        else:
            _list(settings, database, console)
    finally:
        database.dispose()
    return 0


def _promote(settings: PromoteJob, name: str, database: Database, console: Console) -> None:
    choice = _choice(settings, name, TuningRecords(database))
    if choice.doubts and not settings.force:
        raise BadSetup(f"{'; '.join(choice.doubts)}; --force promotes it all the same, and marks it")
    run, trial, promotions = choice.run, choice.trial, Promotions(database)
    values = {path: value for path, value in trial.values.items() if path.startswith(TRADING)}
    before = {
        symbol: each for symbol in choice.symbols for each in promotions.active(symbol, run.timeframe) if each.regime == run.regime
    }
    now = SystemClock().now()
    kept = promotions.promote(
        [
            PromotionRecord(
                symbol=symbol,
                timeframe=run.timeframe,
                regime=run.regime,
                run_id=run.id,
                run_name=run.name,
                trial=trial.number,
                values=values,
                promoted_at=now,
                guard_passed=not choice.doubts,
                by=settings.who,
                reason=settings.reason,
                forced=bool(choice.doubts),
            )
            for symbol in choice.symbols
        ]
    )
    for doubt in choice.doubts:
        console.print(f"FORCED: {doubt}", style=_RED, markup=False)
    for each in kept:
        replaced = before.get(each.symbol)
        instead = (
            "" if replaced is None else f", in place of promotion {replaced.id} (trial {replaced.trial} of {replaced.run_name})"
        )
        console.print(f"{_market(each)}: promotion {each.id}, trial {each.trial} of {each.run_name}{instead}", markup=False)
    console.print(in_words(values), markup=False)
    left = left_out(trial.values)
    if left:
        console.print(f"left out: {in_words(left)}. It belongs to a model: train one with it, and register it", markup=False)
    console.print("engines and backtests take it when they are started with --params best", markup=False)


def _choice(settings: PromoteJob, name: str, records: TuningRecords) -> _Choice:
    """Return what is to be promoted.

    Raises:
        BadSetting: If the search, the trial or a symbol is unknown.
        BadSetup: If the search is not finished, or the trial has nothing that could be promoted.
    """
    run = records.run(name)
    if run is None:
        known = [each.name for each in records.runs() if each.status == "finished"]
        raise BadSetting(f"run: found {name}; allowed: the name or id of a search: {', '.join(known) or 'there is none yet'}")
    if run.status != "finished":
        raise BadSetup(f"the search {run.name} is not finished: it goes on with python -m jobs.tune … --name {run.name} --resume")
    unknown = [symbol for symbol in settings.symbols if symbol not in run.symbols]
    if unknown:
        raise BadSetting(f"symbols: found {', '.join(unknown)}; allowed: what {run.name} searched on, {', '.join(run.symbols)}")
    number = run.winner if settings.trial is None else settings.trial
    if number is None:
        raise BadSetup(f"the search {run.name} has no winner: it keeps the default values")
    trial = next((each for each in records.trials(run.id, "search") if each.number == number), None)
    if trial is None:
        raise BadSetting(f"trial: found {number}; allowed: one that {run.name} ran")
    if trial.state != "complete":
        raise BadSetting(f"trial: found {number}, which is {trial.state}; allowed: one that is complete")
    own = trading_values(trial.values)
    if not own:
        raise BadSetup(
            f"trial {number} of {run.name} has {in_words(trial.values) or 'no values'}, nothing that an engine could take: train "
            "and register a model with it"
        )
    for path in own:
        check_searchable(path)  # it was, by the version that searched
    return _Choice(run=run, trial=trial, symbols=settings.symbols or run.symbols, doubts=_doubts(run, trial))


def _doubts(run: TuningRun, trial: TrialRecord) -> tuple[str, ...]:
    doubts: list[str] = []
    if trial.number != run.winner:
        winner = "it has none" if run.winner is None else f"trial {run.winner}"
        doubts.append(f"trial {trial.number} of {run.name} is not its winner ({winner}), and the guard never looked at it")
    elif not run.promotes:
        doubts.append(f"{run.name} did not pass its guard against overfitting ({run.verdict or 'no verdict'})")
    left = left_out(trial.values)
    if left:
        doubts.append(
            f"the guard judged trial {trial.number} of {run.name} together with {in_words(left)}, which belongs to a model and no "
            "engine takes"
        )
    return tuple(doubts)


def _roll_back(settings: PromoteJob, database: Database, console: Console) -> None:
    if not settings.symbols or settings.timeframe is None:
        raise BadSetting(f"{'timeframe' if settings.symbols else 'symbols'}: missing; --rollback needs --symbols and --timeframe")
    regime = None if settings.regime is None else settings.regime.value
    again = Promotions(database).roll_back_all(
        settings.symbols,
        settings.timeframe,
        regime,
        at=SystemClock().now(),
        by=settings.who,
        reason=settings.reason,
    )
    for symbol, each in zip(settings.symbols, again, strict=True):
        if each is None:
            console.print(
                f"{symbol} {settings.timeframe}, {scope_words(regime)}: rolled back, and nothing is promoted any more", markup=False
            )
        else:
            console.print(
                f"{_market(each)}: rolled back to trial {each.trial} of {each.run_name}, promotion {each.restores}, which is "
                f"promotion {each.id} now: {in_words(each.values)}",
                markup=False,
                style=_RED if each.forced else None,
            )


def _list(settings: PromoteJob, database: Database, console: Console) -> None:
    wanted = settings.symbols
    found = [each for each in Promotions(database).history(timeframe=settings.timeframe) if not wanted or each.symbol in wanted]
    if not found:
        where = " ".join([", ".join(wanted), settings.timeframe or ""]).strip()
        console.print(f"nothing was promoted{f' for {where}' if where else ''}", markup=False)
        return
    console.print(history_table(found))


def history_table(promotions: Sequence[PromotionRecord]) -> Table:
    """Return promotions as a table; active ones in bold, forced ones in red."""
    table = Table()
    for column in ("", "market", "regime", "trial", "values", "promoted", "guard", "state"):
        table.add_column(column, overflow="fold")
    for each in promotions:
        reason = f": {each.reason}" if each.reason else ""
        table.add_row(
            str(each.id),
            f"{each.symbol} {each.timeframe}",
            each.regime or "all",
            f"{each.trial} of {each.run_name}",
            Text(in_words(each.values)),
            Text(f"{each.promoted_at:%Y-%m-%d %H:%M} by {each.by}{reason}"),
            Text("FORCED", style=_RED) if each.forced else "passed" if each.guard_passed else "failed",
            Text(_state(each)),
            style="bold" if each.retired_at is None else "",
        )
    return table


def _state(promotion: PromotionRecord) -> str:
    restored = "" if promotion.restores is None else f", restores {promotion.restores}"
    if promotion.retired_at is None:
        return f"active{restored}"
    when = f"{promotion.retired_at:%Y-%m-%d %H:%M}"
    if promotion.rolled_back_by is None:
        return f"replaced {when}{restored}"
    reason = f": {promotion.rolled_back_because}" if promotion.rolled_back_because else ""
    return f"rolled back {when} by {promotion.rolled_back_by}{reason}{restored}"


def _market(promotion: PromotionRecord) -> str:
    return f"{promotion.symbol} {promotion.timeframe}, {scope_words(promotion.regime)}"


if __name__ == "__main__":
    raise SystemExit(main())
