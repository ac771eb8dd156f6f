"""Promotion by its command: what is promoted, what is refused and why, and the way back."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from fxcast.adapters.storage.database import Database, open_database
from fxcast.adapters.storage.promotions import PromotionRecord, Promotions
from jobs.backtest_settings import renamed
from jobs.promote import main
from tests.promoted import WINNING, put_database, searched

URL = "sqlite:///fx.db"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Database]:
    """A database in the folder from which the job is run."""
    monkeypatch.chdir(tmp_path)
    put_database(tmp_path / "fx.db")
    engine = open_database(URL)
    yield engine
    engine.dispose()


def promote(*options: str) -> int:
    return main(["--database-url", URL, *options])


def active(database: Database, symbol: str = "EURUSD", timeframe: str = "1h") -> list[PromotionRecord]:
    return list(Promotions(database).active(symbol, timeframe))


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run what must be refused, and return why."""
    assert promote(*options) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1, "one sentence"
    return said


def test_the_winner_is_promoted_for_every_symbol_of_its_search(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    run = searched(database)

    assert promote("--run", "majors", "--by", "anna", "--reason", "it holds") == 0

    for symbol in ("EURUSD", "GBPUSD"):
        (found,) = active(database, symbol)
        assert found.values == WINNING
        assert (found.run_id, found.run_name, found.trial, found.regime, found.timeframe) == (run.id, "majors", 1, None, "1h")
        assert (found.guard_passed, found.forced, found.by, found.reason) == (True, False, "anna", "it holds")
    said = told(capsys)
    assert "GBPUSD 1h, all regimes: promotion 2, trial 1 of majors" in said
    assert "ldm4ts_min_strength 0.2, sizing.kelly_fraction 0.5" in said
    assert "FORCED" not in said


def test_force_leaves_what_the_guard_let_pass_unmarked(database: Database) -> None:
    searched(database)
    assert promote("--run", "majors", "--force") == 0
    assert [(each.forced, each.guard_passed) for each in active(database)] == [(False, True)]


def test_a_search_is_named_by_its_id_and_symbols_are_written_with_blanks(database: Database) -> None:
    run = searched(database, symbols=("EURUSD", "GBPUSD", "USDJPY"))

    assert promote("--run", run.id, "--symbols", "EURUSD", "USDJPY", "--by", "anna") == 0

    assert [len(active(database, symbol)) for symbol in ("EURUSD", "GBPUSD", "USDJPY")] == [1, 0, 1]


def test_a_backtests_symbols_are_written_with_blanks_too() -> None:
    given = ["--symbols", "EURUSD", "GBPUSD", "--from", "2017-01-02T00:00:00Z", "--symbols", '["USDJPY"]', "--sample"]
    assert renamed(given) == [
        *("--symbols", "EURUSD,GBPUSD", "--start", "2017-01-02T00:00:00Z"),
        *("--symbols", '["USDJPY"]', "--sample"),
    ]


def test_the_regime_and_the_timeframe_are_those_of_the_search(database: Database) -> None:
    searched(database, regime="volatile", timeframe="15m")

    assert promote("--run", "majors") == 0

    assert active(database) == []
    assert [each.regime for each in active(database, timeframe="15m")] == ["volatile"]


def test_without_a_name_the_user_of_the_machine_promotes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ben")
    searched(database)
    assert promote("--run", "majors") == 0
    assert active(database)[0].by == "ben"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--run", "minors"), "run: found minors; allowed: the name or id of a search: majors"),
        (
            ("--run", "majors", "--symbols", "EURUSD", "USDJPY"),
            "symbols: found USDJPY; allowed: what majors searched on, EURUSD, GBPUSD",
        ),
        (("--run", "majors", "--trial", "2"), "trial: found 2, which is pruned; allowed: one that is complete"),
        (("--run", "majors", "--trial", "4"), "trial: found 4; allowed: one that majors ran"),
        (
            ("--run", "majors", "--trial", "3"),
            "trial 3 of majors is not its winner (trial 1), and the guard never looked at it; --force",
        ),
        (("--run", "majors", "--regime", "volatile"), "found --regime with --run"),
        (("--run", "majors", "--list"), "found --run, --list of --run, --rollback and --list; allowed: one of them"),
        ((), "found none of --run, --rollback and --list; allowed: one of them"),
        (("--rollback", "--timeframe", "1h"), "symbols: missing; --rollback needs --symbols and --timeframe"),
        (("--rollback", "--symbols", "EURUSD"), "timeframe: missing"),
        (("--rollback", "--symbols", "EURUSD", "--timeframe", "1h", "--force"), "found --force with --rollback"),
        (("--list", "--by", "anna"), "found --by with --list"),
        (
            ("--rollback", "--symbols", "EURUSD", "--timeframe", "1h", "--regime", "volatile"),
            "nothing is promoted for EURUSD 1h in regime volatile",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence_and_changes_nothing(
    database: Database, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    searched(database)
    assert sentence in refused(capsys, *options)
    assert Promotions(database).history() == ()


def test_a_search_that_is_not_finished_is_refused_even_by_force(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database, finished=False)
    assert "the search majors is not finished" in refused(capsys, "--run", "majors", "--force")


def test_a_trial_that_is_not_complete_is_refused_even_by_force(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database)
    assert "trial: found 2, which is pruned" in refused(capsys, "--run", "majors", "--trial", "2", "--force")


def test_a_value_that_this_version_does_not_know_is_refused(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database, values={"trading.sizing.kelly": 0.2})
    assert "unknown path 'sizing.kelly'; did you mean 'sizing.kelly_fraction'?" in refused(capsys, "--run", "majors")


def test_a_database_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no such file" in refused(capsys, "--list")
    assert list(tmp_path.iterdir()) == [], "asking makes none"


def test_a_winner_whose_guard_failed_is_refused_with_the_verdict_and_forced_it_is_marked(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(database, promotes=False)

    why = "majors did not pass its guard against overfitting (Keep the default: it is luck.)"
    assert why in refused(capsys, "--run", "majors")
    assert active(database) == []

    assert promote("--run", "majors", "--force", "--by", "anna") == 0
    assert [(each.forced, each.guard_passed) for each in active(database)] == [(True, False)]
    assert f"FORCED: {why}" in told(capsys)


def test_another_trial_than_the_winner_can_be_forced_and_is_marked(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database)

    assert promote("--run", "majors", "--trial", "3", "--force") == 0

    (found,) = active(database)
    assert (found.trial, found.forced, found.guard_passed, found.values["trading.min_quality"]) == (3, True, False, 0.6)
    assert "FORCED: trial 3 of majors is not its winner" in told(capsys)


def test_values_of_a_model_are_left_out_told_and_need_force(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database, level="sampling", values={**WINNING, "sampler.steps": 8})

    assert "together with sampler.steps 8, which belongs to a model" in refused(capsys, "--run", "majors")
    assert promote("--run", "majors", "--force") == 0

    (found,) = active(database)
    assert found.values == WINNING
    assert (found.forced, found.guard_passed) == (True, False)
    assert "left out: sampler.steps 8. It belongs to a model: train one with it" in told(capsys)


def test_a_winner_with_values_of_a_model_alone_leaves_nothing_to_promote(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(database, level="model", values={"training.learning_rate": 0.001})
    assert "has training.learning_rate 0.001, nothing that an engine could take" in refused(capsys, "--run", "majors", "--force")


def test_a_new_promotion_takes_the_place_of_the_old_one_and_a_roll_back_brings_it_back(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(database)
    searched(database, "newer", values={"trading.min_quality": 0.3})
    back = ("--rollback", "--symbols", "EURUSD", "GBPUSD", "--timeframe", "1h", "--by", "ben", "--reason", "worse")
    assert promote("--run", "majors") == 0
    assert promote("--run", "newer") == 0
    assert "EURUSD 1h, all regimes: promotion 3, trial 1 of newer, in place of promotion 1 (trial 1 of majors)" in told(capsys)

    assert promote(*back) == 0
    assert "EURUSD 1h, all regimes: rolled back to trial 1 of majors, promotion 1, which is promotion 5 now" in told(capsys)
    assert [(each.run_name, each.restores) for each in active(database)] == [("majors", 1)]

    assert promote(*back) == 0
    assert "GBPUSD 1h, all regimes: rolled back, and nothing is promoted any more" in told(capsys)
    assert active(database) == active(database, "GBPUSD") == []
    assert "there is nothing to roll back" in refused(capsys, *back)


def test_several_symbols_are_rolled_back_all_or_none(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database)
    assert promote("--run", "majors", "--symbols", "EURUSD") == 0

    said = refused(capsys, "--rollback", "--symbols", "EURUSD", "GBPUSD", "--timeframe", "1h")

    assert "nothing is promoted for GBPUSD 1h" in said
    assert [each.id for each in active(database)] == [1]
    assert len(Promotions(database).history()) == 1


def test_what_is_promoted_in_one_regime_is_rolled_back_there_alone(database: Database) -> None:
    searched(database)
    searched(database, "calm", regime="ranging", values={"trading.min_quality": 0.3})
    assert promote("--run", "majors") == promote("--run", "calm") == 0

    assert promote("--rollback", "--symbols", "EURUSD", "--timeframe", "1h", "--regime", "ranging") == 0

    assert [each.regime for each in active(database)] == [None]
    assert [each.regime for each in active(database, "GBPUSD")] == [None, "ranging"]


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of a printed table, row by row, each with its lines put together."""
    rows: list[list[str]] = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        if line.startswith("│"):
            if cells[0]:
                rows.append(cells)
            else:
                rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], cells, strict=True)]
    return rows


def test_the_list_tells_the_whole_history_newest_first(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database)
    searched(database, "newer", promotes=False, values={"trading.min_quality": 0.3})
    promote("--run", "majors", "--by", "anna", "--reason", "it holds")
    promote("--run", "newer", "--force", "--by", "carl", "--symbols", "EURUSD")
    promote("--rollback", "--symbols", "EURUSD", "--timeframe", "1h", "--by", "ben", "--reason", "worse")
    capsys.readouterr()

    assert promote("--list") == 0
    rows = rows_of(capsys.readouterr().out)

    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    restored, forced, other, first = rows
    assert (restored[1], restored[3], restored[6], restored[7]) == ("EURUSD 1h", "1 of majors", "passed", "active, restores 1")
    assert forced[6] == "FORCED"
    assert "by ben: worse" in forced[7]
    assert forced[7].startswith("rolled back ")
    assert (other[1], other[7]) == ("GBPUSD 1h", "active")
    assert first[7].startswith("replaced ")
    assert "by anna: it holds" in first[5]


def test_the_list_can_be_of_some_symbols_and_a_timeframe(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    searched(database)
    searched(database, "quick", timeframe="15m")
    promote("--run", "majors")
    promote("--run", "quick")
    capsys.readouterr()

    assert promote("--list", "--symbols", "GBPUSD", "--timeframe", "1h") == 0
    assert [row[1] for row in rows_of(capsys.readouterr().out)] == ["GBPUSD 1h"]
    assert promote("--list", "--symbols", "USDJPY") == 0
    assert told(capsys) == "nothing was promoted for USDJPY"
