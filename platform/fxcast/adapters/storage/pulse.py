"""What has changed in the database since somebody looked, told by a few numbers that cost next to nothing to read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.backtest_tables import BacktestRow, WalkForwardFoldRow
from fxcast.adapters.storage.engine_tables import EngineStateRow, KillSwitchRequestRow, SettingsVersionRow
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tables import ModelRow, PredictionRow
from fxcast.adapters.storage.tuning_tables import TuningTrialRow

_REFUSED = func.count(func.nullif(SettingsVersionRow.problem, ""))
_SETTINGS = select(func.count(), func.count(SettingsVersionRow.taken_at), _REFUSED).select_from(SettingsVersionRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Numbers of which one differs when something is new.

    Attributes:
        engines: Account to when its engine saved its state last.
        predictions: Highest id of a stored forecast.
        resolved: When an outcome became known last.
        kill_switches: How many requests there are.
        settings: How many versions there are, how many were taken, and how many refused.
        models: Highest id of a registered model, and the sum of those in use.
        runs: How many backtests there are, trials of searches and folds of walk-forwards that have ended.
    """

    engines: dict[str, datetime]
    predictions: int
    resolved: datetime | None
    kill_switches: int
    settings: tuple[int, int, int]
    models: tuple[int, int]
    runs: tuple[int, int, int]


def read_pulse(engine: Engine) -> Pulse:
    """Read it.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    with answered(engine), Session(engine) as session:
        engines = dict(session.execute(select(EngineStateRow.engine_id, EngineStateRow.saved_at)).all())
        active = select(func.sum(ModelRow.id)).where(ModelRow.is_active)
        settings = session.execute(_SETTINGS).one()
        return Pulse(
            engines=engines,
            predictions=session.scalar(select(func.max(PredictionRow.id))) or 0,
            resolved=session.scalar(select(func.max(PredictionRow.resolved_at))),
            kill_switches=session.scalar(select(func.count()).select_from(KillSwitchRequestRow)) or 0,
            settings=(settings[0], settings[1], settings[2]),
            models=(session.scalar(select(func.max(ModelRow.id))) or 0, session.scalar(active) or 0),
            runs=(
                session.scalar(select(func.count()).select_from(BacktestRow)) or 0,
                session.scalar(select(func.count(TuningTrialRow.finished_at))) or 0,
                session.scalar(select(func.count(WalkForwardFoldRow.finished_at))) or 0,
            ),
        )
