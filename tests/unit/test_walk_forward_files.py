"""A fold's account comes back from disk as it was, and a fold counts as done for what it was done with alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from fxcast.domain.order import Side
from fxcast.performance.luck import luck_of
from fxcast.performance.measure import measure
from fxcast.performance.measures import Costs, Findings
from fxcast.performance.stitched import Account
from jobs.walk_forward_files import done_seconds, mark_done, mark_trained, read_accounts, trained, unmark_done, write_fold
from tests.performance_factories import make_result, make_trade, make_trades


def make_findings() -> Findings:
    """Build those of a few trades, with the least that a file needs."""
    trades = make_trades([50, -20, 30])
    result = make_result(trades)
    return Findings(
        result=result,
        trades=trades,
        measures=measure(result, trades),
        groups={},
        luck=luck_of(result.equity, float(result.starting_balance), trades),
        benchmarks=(),
        verdicts=(),
    )


def test_accounts_come_back_to_the_last_bit(tmp_path: Path) -> None:
    findings = make_findings()
    trades = (
        make_trade("12.3456", units=13_000, risk="33.3333"),
        make_trade("-7.0001", side=Side.SELL, symbol="USDJPY", entry_price="112.123", uncertainty_pct=None, financing="-0.1"),
    )
    account = Account(
        equity=findings.result.equity,
        trades=trades,
        costs=Costs(spread=0.1 + 0.2, slippage=1 / 3, commission=2.0, financing=-0.1),
        traded=1e6 / 7,
        open_positions=1,
        counts={"signals": 7, "orders": 3},
    )
    write_fold(tmp_path, findings, {"strategy": account, "held": Account(equity=findings.result.equity, counts={})})
    found = read_accounts(tmp_path)
    assert set(found) == {"strategy", "held"}
    again = found["strategy"]
    assert (again.trades, again.costs, again.traded, again.open_positions) == (trades, account.costs, 1e6 / 7, 1)
    assert again.counts == account.counts
    assert again.trades[0].source == trades[0].source
    for field in fields(account.equity):
        kept, written = (getattr(each.equity, field.name) for each in (again, account))
        assert kept.dtype == written.dtype
        assert np.array_equal(kept, written)
    assert found["held"].trades == ()


def test_a_fold_is_done_for_the_code_and_the_models_that_it_was_done_with_alone(tmp_path: Path) -> None:
    assert done_seconds(tmp_path, code_hash="c", models={"own": "a"}) is None
    mark_done(tmp_path, code_hash="c", models={"own": "a"}, seconds=12.5)
    assert done_seconds(tmp_path, code_hash="c", models={"own": "a"}) == 12.5
    assert done_seconds(tmp_path, code_hash="d", models={"own": "a"}) is None
    assert done_seconds(tmp_path, code_hash="c", models={"own": "b"}) is None
    unmark_done(tmp_path)
    unmark_done(tmp_path)
    assert done_seconds(tmp_path, code_hash="c", models={"own": "a"}) is None


def test_models_that_a_fold_has_trained_are_known_by_their_hashes(tmp_path: Path) -> None:
    assert trained(tmp_path) == {}
    mark_trained(tmp_path / "fold-01", {"own": "a", "sssd": "b"})
    assert trained(tmp_path / "fold-01") == {"own": "a", "sssd": "b"}
