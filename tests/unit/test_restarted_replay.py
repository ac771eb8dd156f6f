"""A replay that is started again goes on at the time at which it stopped."""

from __future__ import annotations

from pathlib import Path

from actors.engine_parts import open_parts
from tests.engine_factories import make_setup


def test_clock_of_a_restarted_replay_shows_the_last_candle_handled_and_not_the_replays_start(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    first = open_parts(setup)
    assert first.clock.now() == setup.start
    first.runner.run(max_moments=10)
    handled = first.runner.state.cursors["EURUSD"]
    first.opened.close()

    second = open_parts(setup)
    assert second.clock.now() == handled > setup.start
    second.opened.close()
