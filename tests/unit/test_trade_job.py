"""The trading job: its settings, the period that it replays, and its watch over an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError
from rich.console import Console

from actors.engine_status import EngineStatus
from fxcast.adapters.storage.database import absolute_database_url, migrate, open_database
from fxcast.adapters.storage.registry import RegisteredModel, register_model, registered_model
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadModelFolder, BadSetting, BadSetup, MustStop
from fxcast.models.folder import save_pretrained
from jobs.control import ControlJob
from jobs.engine_calls import watch
from jobs.engine_view import engine_view
from jobs.trade import TradeJob
from jobs.trade_setup import TradeSettings, model_folder, model_to_serve, replay_setup
from tests.engine_factories import make_setup
from tests.model_factories import make_pipeline

PERIOD = ("--engine.start", "2017-03-20T00:00:00Z", "--engine.stop", "2017-03-22T00:00:00Z")


def make_status(state: str = "running", *, done: int = 0, problem: str = "", refused: bool = False) -> EngineStatus:
    return EngineStatus(
        account="paper",
        describe="",
        pid=1,
        state=state,
        problem=problem,
        refused=refused,
        candles_done=done,
        candles_total=10,
        last_candle="",
        lag_s=None,
        kill_switch="active",
        forecasts_missed=0,
        equity="",
        positions=[],
        orders_waiting=[],
        decisions=[],
        risk_events=[],
        losses_in_row=0,
        cool_off_until="",
        foreign=[],
        settings_version=1,
        settings_by="start",
    )


def looking(*answers: EngineStatus | Exception) -> Callable[[], EngineStatus]:
    """An engine that gives these answers, and the last of them again and again."""
    remaining = list(answers)

    def look() -> EngineStatus:
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


def test_slow_answers_and_a_restart_are_waited_out() -> None:
    seen: list[int] = []
    look = looking(
        GetTimeoutError("slow"),
        make_status(done=3),
        ActorUnavailableError("restarting", None),
        GetTimeoutError("slow"),
        make_status("finished", done=10),
    )
    assert watch(look, lambda status: seen.append(status["candles_done"]), poll_s=0.0)["state"] == "finished"
    assert seen == [3, 10]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([GetTimeoutError("slow")], "nothing new from the engine for 0.05 s: it did not answer once"),
        (
            [make_status("waiting", done=3, problem="Unavailable: no line")],
            "nothing new from the engine for 0.05 s: it is waiting at candle 3 of 10, Unavailable: no line",
        ),
    ],
)
def test_an_engine_that_shows_no_progress_ends_the_watch_with_one_sentence(
    answers: list[EngineStatus | Exception], sentence: str
) -> None:
    with pytest.raises(MustStop) as caught:
        watch(looking(*answers), lambda _: None, poll_s=0.001, patience_s=0.05)
    assert str(caught.value).startswith(sentence)


def test_an_engine_that_is_gone_ends_the_watch_with_what_to_do() -> None:
    with pytest.raises(MustStop, match=r"the engine is gone: .* start it again to go on"):
        watch(looking(make_status(), ActorDiedError()), lambda _: None, poll_s=0.0)


@pytest.mark.parametrize(("refused", "error"), [(True, BadSetup), (False, MustStop)])
def test_a_failed_engine_ends_the_watch_with_its_problem(refused: bool, error: type[Exception]) -> None:
    failed = make_status("failed", problem="BadSetting: no", refused=refused)
    with pytest.raises(error, match="the engine failed: BadSetting: no"):
        watch(looking(failed), lambda _: None, poll_s=0.0)


def test_store_and_database_of_the_environment_fill_the_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FXCAST_DATABASE_URL", f"sqlite:///{tmp_path / 'mine.db'}")
    monkeypatch.setenv("FXCAST_STORE", str(tmp_path / "candles"))
    setup = TradeJob.parse(PERIOD).settings()
    assert setup.database_url == f"sqlite:///{tmp_path / 'mine.db'}"
    assert setup.store == str(tmp_path / "candles")


def test_store_given_twice_and_differently_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"store and engine.store differ; give one of them \(FXCAST_STORE sets the first\)"):
        TradeJob.parse([*PERIOD, "--store", "here", "--engine.store", "there"]).settings()
    assert TradeJob.parse([*PERIOD, "--store", "/here", "--engine.store", "/here"]).settings().store == "/here"
    assert TradeJob.parse([*PERIOD, "--engine.store", "/there"]).settings().store == "/there"


def test_kill_switch_is_one_of_three() -> None:
    assert ControlJob.parse(["--kill-switch", "halted"]).kill_switch == "halted"
    with pytest.raises(BadSetting, match=r"active.*reducing.*halted"):
        ControlJob.parse(["--kill-switch", "off"])


def test_each_account_has_a_broker_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    setup = TradeJob.parse([*PERIOD, "--engine.account", "second"]).settings()
    assert setup.broker_file == tmp_path / "runs" / "paper_broker_second.db"


def test_checkpoint_path_is_made_absolute_and_is_what_the_service_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    setup = TradeJob.parse([*PERIOD, "--engine.trading.ldm4ts-checkpoint-path", "models/mine"]).settings()
    assert setup.trading.ldm4ts_checkpoint_path == tmp_path / "models" / "mine"
    assert model_folder(setup) == tmp_path / "models" / "mine"


def test_without_a_model_the_job_refuses_before_the_service_is_deployed(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'ledger.db'}"
    migrate(database_url)
    with pytest.raises(BadSetup, match=r"no model is active for EURUSD 1h; train one with python -m jobs.train"):
        model_to_serve(TradeJob.parse([*PERIOD, "--database-url", database_url]).settings())


def test_incomplete_model_and_unknown_horizons_are_refused_before_the_service_is_deployed(tmp_path: Path) -> None:
    settings = TradeJob.parse([*PERIOD, "--engine.trading.ldm4ts-checkpoint-path", str(tmp_path / "mine")]).settings()
    with pytest.raises(BadModelFolder, match="there is no such folder"):
        model_to_serve(settings)
    save_pretrained(replace(make_pipeline(), model_version="mine"), tmp_path / "mine", card="", fxcast_version="0")
    with pytest.raises(BadSetting, match=r"ldm4ts_horizons: found \[15, 60\]; allowed: those of model mine, \[240, 960, 3840\]"):
        model_to_serve(settings)
    (tmp_path / "mine" / "card.md").unlink()
    with pytest.raises(BadModelFolder, match=r"incomplete, missing card\.md"):
        model_to_serve(settings)


@pytest.fixture
def trained(tmp_path: Path) -> TradeSettings:
    """Settings without a period, a store of 600 hourly candles, and a registry whose model has seen the first 400."""
    setup = make_setup(tmp_path)
    series = CandleStore(setup.store).read("EURUSD", Timeframe("1h"))
    seen = (to_datetime(series.open_times[0]), to_datetime(series.close_times[399]))
    model = RegisteredModel(
        version="mine",
        preset="tiny",
        symbol="EURUSD",
        timeframe="1h",
        folder=tmp_path / "mine",
        config={},
        data_hash="",
        data_start=seen[0],
        data_end=seen[1],
        metrics={},
    )
    register_model(open_database(setup.database_url), model)
    return TradeSettings.model_validate({"store": setup.store, "database_url": setup.database_url})


def test_replay_begins_where_the_model_has_seen_no_candle_and_ends_with_the_store(trained: TradeSettings) -> None:
    series, first, end = replay_setup(trained, "mine").candles()["EURUSD"]
    assert (first, end) == (399, 600)  # the candle at whose close the training data end has no outcome in them
    assert len(series) == 600


def test_replay_of_the_training_period_is_refused(trained: TradeSettings) -> None:
    inside = trained.model_copy(update={"start": registered_end(trained) - timedelta(hours=1)})
    with pytest.raises(BadSetting, match=r"engine.start: found .*; allowed: .* or later, for model mine was trained"):
        replay_setup(inside, "mine")
    assert replay_setup(inside, None).start == inside.start  # without the model nothing was seen
    assert replay_setup(inside.model_copy(update={"start": registered_end(trained)}), "mine")


def registered_end(settings: TradeSettings) -> datetime:
    model = registered_model(open_database(settings.database_url), "mine")
    assert model is not None
    return model.data_end


def test_replay_without_a_start_that_anything_could_tell_is_refused(trained: TradeSettings) -> None:
    for version in (None, "of another registry"):
        with pytest.raises(BadSetting, match=r"engine\.start: missing"):
            replay_setup(trained, version)


def test_replay_of_a_period_without_candles_names_those_that_there_are(trained: TradeSettings) -> None:
    elsewhere = trained.model_copy(update={"start": datetime(2030, 1, 1, tzinfo=UTC), "stop": datetime(2031, 1, 1, tzinfo=UTC)})
    with pytest.raises(BadCandles, match=r"none of EURUSD 1h from 2030-.* to 2031-.*; the store holds 20\d\d-\d\d-\d\d to"):
        replay_setup(elsewhere, "mine")


def test_database_url_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(BadSetup, match="the database URL can't be read") as caught:
        absolute_database_url("postgresql:/me:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("by", "is_told"), [("", False), ("start", False), ("anna", True)])
def test_the_terminal_says_whose_settings_are_traded_with_unless_they_are_the_starts(by: str, is_told: bool) -> None:
    shown = StringIO()
    Console(width=128, file=shown).print(engine_view({**make_status(), "settings_by": by, "settings_version": 3}))
    assert ("version 3, set by anna, not those of the start" in shown.getvalue()) == is_told
