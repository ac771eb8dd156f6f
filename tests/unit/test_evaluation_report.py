"""The report: one file without links, whose first lines say in words what was found."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fxcast.evaluation.assess import assess, averages
from fxcast.evaluation.report import Evaluation, columns, rows, sentences, write_report
from tests.evaluation_factories import RANDOM_WALK, make_samples, make_windows


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    windows = make_windows(bars=2200)
    result = assess(
        windows,
        make_samples(windows, "truth <1>"),
        [make_samples(windows, RANDOM_WALK, seed=1), make_samples(windows, "narrow", width=0.5, seed=2)],
        spread_pips=1.0,
    )
    return Evaluation(
        model="truth <1>",
        opponents=(RANDOM_WALK, "narrow"),
        timeframe="1h",
        start=datetime(2017, 4, 1, tzinfo=UTC),
        stop=datetime(2017, 6, 1, tzinfo=UTC),
        step_bars=2,
        num_samples=50,
        warnings=("Nothing says what it was trained on.",),
        symbols=(result,),
        averages=averages([result]),
        data_hash="ab" * 32,
        model_hashes={"truth <1>": "cd" * 32},
        command="python -m jobs.evaluate --model truth",
    )


def test_the_report_is_one_file_and_no_link_leads_out_of_it(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", evaluation)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert len(sources) == 7  # reliability, PIT, hours, parts and three fans
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in text
    assert "truth &lt;1&gt;" in text
    assert "<1>" not in text


def test_the_warning_and_the_findings_come_before_the_table(evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", evaluation)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    places = [text.index(part) for part in ("Nothing says what", "beat narrow in CRPS", "intervals were honest", "<table>", "<img")]
    assert places == sorted(places)


def test_sentences_name_the_winner_with_interval_and_p(evaluation: Evaluation) -> None:
    first, *rest = sentences(evaluation)
    assert first.startswith("On average over 1 pair and 2 horizons truth <1> ")
    assert len(rest) == 2
    for sentence in rest:
        assert re.search(
            r"beat narrow in CRPS: \+\d+\.\d % \[\+\d+\.\d, \+\d+\.\d\], Diebold–Mariano p < 0.001 \(one-sided\)", sentence
        )
        assert re.search(r"held \d\d\.\d % \[\d\d\.\d, \d\d\.\d\] of the outcomes", sentence)


def test_the_table_has_a_row_a_pair_and_horizon(evaluation: Evaluation) -> None:
    table = rows(evaluation)
    assert [row[:2] for row in table] == [["EURUSD", "240"], ["EURUSD", "960"]]
    assert {len(row) for row in table} == {len(columns(evaluation))}


def test_scores_are_json_with_everything_in_it(evaluation: Evaluation) -> None:
    content = json.loads(json.dumps(evaluation.to_dict()))
    horizon = content["symbols"]["EURUSD"]["horizons"]["960"]
    assert horizon["opponents"]["narrow"]["against"]["diebold_mariano"]["p_lower"] < 0.001
    assert {stratum["kind"] for stratum in horizon["strata"]} >= {"session", "month"}
    assert content["averages"]["all"]["narrow"]["skill"] > 0
