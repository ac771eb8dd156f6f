"""Versions of an engine's settings, in either kind of database."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.settings_versions import STARTED, SettingsVersions, Terms
from fxcast.errors import Conflict, NotFound
from fxcast.signals.sources import SourceSpec
from fxcast.trading.config import RiskLimits, TradingConfig
from tests.ledger_factories import NOON

FIRST = TradingConfig()
SECOND = TradingConfig(min_quality=0.6)


@pytest.fixture
def versions(url: str) -> SettingsVersions:
    migrate(url)
    return SettingsVersions(open_database(url), "demo")


def test_a_version_is_what_was_set_with_who_when_and_why(versions: SettingsVersions) -> None:
    assert versions.newest(5) == ()
    assert versions.add(FIRST, by="anna", reason="", after=0, now=NOON) == 1
    assert versions.add(SECOND, by="ben", reason="fewer trades", after=1, now=NOON + timedelta(hours=1)) == 2

    second, first = versions.newest(5)
    assert (second.version, second.by, second.reason, second.made_at) == (2, "ben", "fewer trades", NOON + timedelta(hours=1))
    assert (second.trading(), first.trading()) == (SECOND, FIRST)
    assert (second.taken_at, second.problem) == (None, "")
    assert versions.newest(1) == (second,)
    assert versions.get(1) == first
    assert versions.has_newer(1)
    assert not versions.has_newer(2)


def test_who_has_not_seen_the_newest_is_told_and_nothing_is_lost(versions: SettingsVersions) -> None:
    versions.add(FIRST, by="anna", reason="", after=0, now=NOON)

    with pytest.raises(Conflict, match="found version 1, expected 0"):
        versions.add(SECOND, by="ben", reason="", after=0, now=NOON)

    assert [each.by for each in versions.newest(5)] == ["anna"]


def test_accounts_have_versions_of_their_own(versions: SettingsVersions, url: str) -> None:
    versions.add(FIRST, by="anna", reason="", after=0, now=NOON)
    other = SettingsVersions(open_database(url), "other")

    assert other.newest(5) == ()
    assert other.add(SECOND, by="ben", reason="", after=0, now=NOON) == 1
    with pytest.raises(NotFound, match="version: found 2"):
        other.get(2)


def test_only_what_a_person_set_is_refused_and_then_passed_over(versions: SettingsVersions) -> None:
    started = versions.in_force(FIRST, NOON)
    assert (started.version, started.by, started.trading) == (1, STARTED, FIRST)
    versions.add(SECOND, by="anna", reason="", after=1, now=NOON)
    hers = versions.in_force(FIRST, NOON)
    assert (hers.version, hers.by, hers.trading) == (2, "anna", SECOND)

    assert versions.in_force(FIRST, NOON, without=[2]) == started
    assert not versions.has_newer(1, without=[2])
    assert versions.has_newer(1)

    versions.refuse(2, "no such horizon")

    assert versions.in_force(FIRST, NOON) == started
    assert versions.get(2).problem == "no such horizon"
    assert not versions.has_newer(1)


@pytest.mark.parametrize(
    "options", [{"limit": float("inf")}, {"since": date(2026, 1, 1)}, {"pair": (1, 2)}], ids=["infinite", "a date", "a tuple"]
)
def test_settings_of_a_start_that_json_says_otherwise_are_one_version_and_traded_with_as_they_are(
    versions: SettingsVersions, options: dict[str, Any]
) -> None:
    own = SourceSpec.model_validate({"class": "mine:Own", "options": options})
    started = TradingConfig(sources=(own,), risk=RiskLimits(max_daily_loss_pct=float("inf")))

    for _ in range(3):
        assert versions.in_force(started, NOON) == Terms(version=1, by=STARTED, is_taken=False, trading=started)
    assert len(versions.newest(5)) == 1


def test_code_that_is_loaded_by_name_comes_with_the_start_whatever_a_version_says(versions: SettingsVersions) -> None:
    own = SourceSpec.model_validate({"class": "mine:Own"})
    started = FIRST.model_copy(update={"sources": (own,)})
    versions.in_force(started, NOON)
    other = SourceSpec.model_validate({"class": "os:system"})
    versions.add(SECOND.model_copy(update={"sources": (other,)}), by="anna", reason="", after=1, now=NOON)

    found = versions.in_force(started, NOON)

    assert (found.version, found.trading) == (2, SECOND.model_copy(update={"sources": (own,)}))


def test_the_first_time_that_a_version_is_taken_counts(versions: SettingsVersions) -> None:
    versions.add(FIRST, by="anna", reason="", after=0, now=NOON)
    versions.mark_taken(1, NOON)
    versions.mark_taken(1, NOON + timedelta(hours=1))

    assert versions.get(1).taken_at == NOON
