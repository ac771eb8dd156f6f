"""What a fold leaves on disk: figures for readers, accounts to be stitched, and a mark that all of it is there.

```
<walk_forwards>/<name>/run.json                of which settings and candles the run is
<walk_forwards>/<name>/fold-01/status.json     how far the fold is
<walk_forwards>/<name>/fold-01/trained.json    which models it has trained, with their hashes
<walk_forwards>/<name>/fold-01/accounts/<key>  equity.parquet and account.json of the strategy and of each benchmark
<walk_forwards>/<name>/fold-01/findings.json, trades.parquet, equity.parquet
<walk_forwards>/<name>/fold-01/done.json       written last
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from fxcast.backtest.result import EquityCurve
from fxcast.performance.export import write_equity, write_json, write_trades
from fxcast.performance.measures import Costs, Findings
from fxcast.performance.stitched import Account
from fxcast.performance.trade import Trade

_TRADES = TypeAdapter(tuple[Trade, ...])
_COSTS = TypeAdapter(Costs)
_DONE, _TRAINED, _STATUS = "done.json", "trained.json", "status.json"


def write_fold(folder: Path, findings: Findings, accounts: Mapping[str, Account]) -> None:
    """Write what came of a fold; it is not done before `mark_done`."""
    write_json(folder / "findings.json", findings)
    write_trades(folder / "trades.parquet", findings.trades)
    write_equity(folder / "equity.parquet", findings.result.equity)
    for key, account in accounts.items():
        _write_account(folder / "accounts" / key, account)


def read_accounts(folder: Path) -> dict[str, Account]:
    """Return a finished fold's accounts by key; trades and curves are as they were written, to the last bit."""
    return {each.name: _read_account(each) for each in sorted((folder / "accounts").iterdir())}


def read_findings(folder: Path) -> dict[str, Any]:
    """Return a finished fold's figures as `performance.export.to_dict` has them."""
    return cast("dict[str, Any]", json.loads((folder / "findings.json").read_text(encoding="utf-8")))


def mark_trained(folder: Path, models: Mapping[str, str]) -> None:
    """Say which models a fold has trained: hashes of their folders, by what they are for."""
    _write_whole(folder / _TRAINED, dict(models))


def trained(folder: Path) -> dict[str, str]:
    """Return the hashes of the models that a fold has trained; none before all are there."""
    return cast("dict[str, str]", _read(folder / _TRAINED) or {})


def mark_status(folder: Path, status: str, at: datetime, reason: str = "") -> None:
    """Say how far a fold is."""
    _write_whole(folder / _STATUS, {"status": status, "at": at.isoformat(), **({"reason": reason} if reason else {})})


def mark_done(folder: Path, *, code_hash: str, models: Mapping[str, str], seconds: float) -> None:
    """Say that all of a fold is there, by which code and models; `seconds` are those it took."""
    _write_whole(folder / _DONE, {"code_hash": code_hash, "models": dict(models), "seconds": seconds})


def done_seconds(folder: Path, *, code_hash: str, models: Mapping[str, str]) -> float | None:
    """Return how long a fold took that is done by this code and these models; None if it is to be done (again)."""
    found = _read(folder / _DONE)
    if found is None or (found["code_hash"], found["models"]) != (code_hash, dict(models)):
        return None
    return float(found["seconds"])


def unmark_done(folder: Path) -> None:
    """Take the mark away, before anything is written anew."""
    (folder / _DONE).unlink(missing_ok=True)


def _write_account(folder: Path, account: Account) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_equity(folder / "equity.parquet", account.equity)
    content = {
        "trades": _TRADES.dump_python(account.trades, mode="json"),
        "costs": _COSTS.dump_python(account.costs, mode="json"),
        "traded": account.traded,
        "open_positions": account.open_positions,
        "counts": dict(account.counts),
    }
    (folder / "account.json").write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _read_account(folder: Path) -> Account:
    content = json.loads((folder / "account.json").read_text(encoding="utf-8"))
    table = pq.read_table(folder / "equity.parquet")
    columns = {each.name: table.column(each.name).to_numpy() for each in fields(EquityCurve) if each.name != "times"}
    times = np.asarray(table.column("times").to_numpy(), dtype="datetime64[s]")
    return Account(
        equity=EquityCurve(times=times, **columns),
        trades=_TRADES.validate_python(content["trades"]),
        costs=_COSTS.validate_python(content["costs"]),
        traded=content["traded"],
        open_positions=content["open_positions"],
        counts=content["counts"],
    )


def _read(path: Path) -> dict[str, Any] | None:
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.tmp")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
