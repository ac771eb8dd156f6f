"""Promotions as rows, on real databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.promotions import PromotionRecord, Promotions
from fxcast.adapters.storage.tuning import TuningRecords, TuningRun
from fxcast.errors import BadSetup, DatabaseUnavailable
from tests.databases import new_database
from tests.tuning_record_factories import NOON, at_once, promotion_record, tuning_run

LATER = NOON + timedelta(days=1)
TOKYO = timezone(timedelta(hours=9))


@pytest.fixture
def promotions(database: Engine) -> Promotions:
    return Promotions(database)


@pytest.fixture
def run(database: Engine) -> TuningRun:
    return TuningRecords(database).begin(tuning_run())


def roll_back(promotions: Promotions, symbol: str = "EURUSD", regime: str | None = None) -> PromotionRecord | None:
    return promotions.roll_back(symbol, "1h", regime, at=LATER, by="ben", reason="worse")


def promote(promotions: Promotions, run: TuningRun, *trials: int) -> list[PromotionRecord]:
    """Promote one trial after the other."""
    return [promotions.promote([promotion_record(run, trial=trial)])[0] for trial in trials]


def trials_of(promotions: tuple[PromotionRecord, ...]) -> list[int]:
    return [each.trial for each in promotions]


def test_before_the_first_promotion_nothing_is_active(promotions: Promotions) -> None:
    assert promotions.active("EURUSD", "1h") == promotions.history() == ()
    with pytest.raises(BadSetup, match="nothing is promoted for EURUSD 1h in all regimes: there is nothing to roll back"):
        roll_back(promotions)
    with pytest.raises(BadSetup, match="nothing is promoted for EURUSD 1h in regime volatile"):
        roll_back(promotions, regime="volatile")


def test_a_promotion_comes_back_as_it_was_after_opening_the_database_again(
    promotions: Promotions, run: TuningRun, url: str
) -> None:
    forced = replace(promotion_record(run), guard_passed=False, forced=True, promoted_at=NOON.astimezone(TOKYO))

    (kept,) = promotions.promote([forced])

    engine = open_database(url)
    assert Promotions(engine).active("EURUSD", "1h") == Promotions(engine).history() == (kept,)
    engine.dispose()
    assert kept == replace(forced, id=kept.id)
    assert isinstance(kept.id, int)
    assert kept.values["trading.ldm4ts_horizons"] == (15, 60)


def test_a_promotion_retires_the_one_before_it_at_its_own_time(promotions: Promotions, run: TuningRun) -> None:
    first, second = promote(promotions, run, 1, 2)

    assert promotions.active("EURUSD", "1h") == (second,)
    assert promotions.history() == (second, replace(first, retired_at=second.promoted_at))


def test_symbols_timeframes_and_regimes_are_promoted_apart(promotions: Promotions, run: TuningRun) -> None:
    everywhere, volatile, ranging = (promotion_record(run, regime=regime) for regime in (None, "volatile", "ranging"))
    yen, quarters = promotion_record(run, "USDJPY"), replace(promotion_record(run), timeframe="15m")
    kept = promotions.promote([volatile, everywhere, ranging, yen, quarters])
    assert [replace(each, id=None) for each in kept] == [volatile, everywhere, ranging, yen, quarters]

    (again,) = promotions.promote([promotion_record(run, regime="volatile", trial=5)])

    assert promotions.active("EURUSD", "1h") == (kept[1], kept[2], again)
    assert promotions.active("EURUSD", "15m") == (kept[4],)
    assert promotions.active("USDJPY", "1h") == (kept[3],)
    assert promotions.active("GBPUSD", "1h") == ()
    assert len(promotions.history()) == 6
    assert promotions.history("USDJPY") == (kept[3],)
    assert promotions.history(timeframe="15m") == promotions.history("EURUSD", "15m") == (kept[4],)


def test_several_symbols_are_promoted_all_or_none(promotions: Promotions, run: TuningRun, database: Engine) -> None:
    before = promotions.promote([promotion_record(run), promotion_record(run, "USDJPY")])
    of_no_search = replace(promotion_record(run, "USDJPY", trial=4), run_id="none")

    with pytest.raises(IntegrityError):
        promotions.promote([promotion_record(run, trial=4), of_no_search])

    def cut(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if statement.startswith("INSERT INTO promotions") and "USDJPY" in str(parameters):
            raise RuntimeError("killed")

    event.listen(database, "after_cursor_execute", cut)
    with pytest.raises(RuntimeError, match="killed"):
        promotions.promote([promotion_record(run, trial=4), promotion_record(run, "USDJPY", trial=4)])
    event.remove(database, "after_cursor_execute", cut)

    assert promotions.history() == before[::-1]


@pytest.mark.parametrize("change", [{"id": 1}, {"retired_at": NOON}, {"restores": 1}])
def test_what_cannot_be_promoted_is_a_bug(promotions: Promotions, run: TuningRun, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a promotion that is made now has no id"):
        promotions.promote([replace(promotion_record(run), **change)])
    with pytest.raises(ValueError, match="two promotions for one symbol, timeframe and regime"):
        promotions.promote([promotion_record(run, trial=1), promotion_record(run, trial=2)])
    with pytest.raises(ValueError, match="not JSON compliant"):
        promotions.promote([replace(promotion_record(run), values={"trading.min_strength": float("nan")})])

    assert promotions.history() == ()


def test_a_roll_back_brings_the_one_before_back_in_a_row_of_its_own(promotions: Promotions, run: TuningRun) -> None:
    first = promotions.promote([replace(promotion_record(run, trial=1), guard_passed=False, forced=True)])[0]
    (second,) = promote(promotions, run, 2)

    again = roll_back(promotions)

    assert again is not None
    assert again == replace(first, id=again.id, promoted_at=LATER, retired_at=None, by="ben", reason="worse", restores=first.id)
    assert promotions.active("EURUSD", "1h") == (again,)
    assert promotions.history() == (
        again,
        replace(second, retired_at=LATER, rolled_back_by="ben", rolled_back_because="worse"),
        replace(first, retired_at=second.promoted_at),
    )


def test_rolling_back_twice_goes_two_steps_back_and_a_third_time_leaves_none(promotions: Promotions, run: TuningRun) -> None:
    first, second, _ = promote(promotions, run, 1, 2, 3)

    steps = [roll_back(promotions), roll_back(promotions), roll_back(promotions)]

    assert [None if step is None else (step.trial, step.restores) for step in steps] == [(2, second.id), (1, first.id), None]
    assert promotions.active("EURUSD", "1h") == ()
    assert trials_of(promotions.history()) == [1, 2, 3, 2, 1]
    assert promotions.history()[0].rolled_back_because == "worse"
    with pytest.raises(BadSetup, match="nothing is promoted"):
        roll_back(promotions)


def test_after_a_roll_back_one_can_be_promoted_and_rolled_back_without_what_was_rolled_back_before(
    promotions: Promotions, run: TuningRun
) -> None:
    first, _ = promote(promotions, run, 1, 2)
    roll_back(promotions)
    promote(promotions, run, 4)

    restored = roll_back(promotions)

    assert restored is not None
    assert (restored.trial, restored.restores) == (1, first.id)
    assert roll_back(promotions) is None
    promote(promotions, run, 5)
    assert roll_back(promotions) is None  # all before it were rolled back


def test_the_same_trial_promoted_again_after_it_was_rolled_back_is_a_new_promotion(promotions: Promotions, run: TuningRun) -> None:
    promote(promotions, run, 1, 2)
    roll_back(promotions)
    again, _ = promote(promotions, run, 2, 3)

    restored = roll_back(promotions)

    assert restored is not None
    assert (restored.trial, restored.restores) == (2, again.id)


def test_a_roll_back_leaves_other_symbols_and_regimes_as_they_are(promotions: Promotions, run: TuningRun) -> None:
    yen, volatile = promotions.promote([promotion_record(run, "USDJPY"), promotion_record(run, regime="volatile")])
    promote(promotions, run, 1)

    assert roll_back(promotions) is None

    assert promotions.active("EURUSD", "1h") == (volatile,)
    assert promotions.active("USDJPY", "1h") == (yen,)


def test_of_several_that_promote_at_once_one_is_active_and_each_retires_the_one_before(
    url: str, promotions: Promotions, run: TuningRun
) -> None:
    def promote_both(engine: Engine, number: int) -> tuple[PromotionRecord, ...]:
        symbols = ("EURUSD", "USDJPY") if number % 2 else ("USDJPY", "EURUSD")
        return Promotions(engine).promote([promotion_record(run, symbol, trial=number) for symbol in symbols])

    promote(promotions, run, 9)
    at_once(url, 6, promote_both)

    for symbol, rows in (("EURUSD", 7), ("USDJPY", 6)):
        newest, *older = promotions.history(symbol)
        assert promotions.active(symbol, "1h") == (newest,)
        assert len(older) == rows - 1
        later = [newest, *older]
        assert [each.retired_at for each in older] == [later[place].promoted_at for place in range(len(older))]
    assert trials_of(promotions.active("EURUSD", "1h")) == trials_of(promotions.active("USDJPY", "1h"))


def test_of_several_that_roll_back_at_once_each_goes_one_step_back(url: str, promotions: Promotions, run: TuningRun) -> None:
    promote(promotions, run, 1, 2, 3, 4, 5)

    found = at_once(url, 4, lambda engine, _: roll_back(Promotions(engine)))

    assert sorted(each.trial for each in found if each is not None) == [1, 2, 3, 4]
    assert trials_of(promotions.active("EURUSD", "1h")) == [1]


@pytest.mark.parametrize("regime", [None, "volatile"])
def test_the_database_itself_keeps_a_second_active_one_out(
    promotions: Promotions, run: TuningRun, database: Engine, regime: str | None
) -> None:
    promotions.promote([promotion_record(run, regime=regime)])
    names = "symbol, timeframe, regime, run_id, run_name, trial, {}, promoted_at, guard_passed, forced, {}, reason"
    quote = database.dialect.identifier_preparer.quote
    columns = names.format(quote("values"), quote("by"))
    copied = text(f"INSERT INTO promotions (id, {columns}) SELECT 99, {columns} FROM promotions")  # noqa: S608 (names above)

    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(copied)

    roll_back(promotions, regime=regime)
    with database.begin() as connection:
        connection.execute(copied)  # beside one that is retired it may stand
    assert len(promotions.active("EURUSD", "1h")) == 1


CALLS: tuple[Callable[[Promotions], object], ...] = (
    lambda promotions: promotions.promote([promotion_record(tuning_run(), trial=4)]),
    lambda promotions: promotions.active("EURUSD", "1h"),
    lambda promotions: promotions.history(),
    roll_back,
)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_an_outage_says_so(tmp_path: Path, call: Callable[[Promotions], object]) -> None:
    url = new_database("sqlite", tmp_path)
    migrate(url)
    engine = open_database(url)
    TuningRecords(engine).begin(tuning_run())
    promotions = Promotions(engine)
    promotions.promote([promotion_record(tuning_run())])
    call(promotions)
    engine.dispose()
    (tmp_path / "fx.db").write_bytes(b"noise" * 10_000)

    with pytest.raises(DatabaseUnavailable, match=r"the database .* does not answer"):
        call(promotions)
