"""The report of a search: the verdict first, every figure from the findings, nothing that leads out, whatever part is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

from fxcast.performance.wording import number, percent
from fxcast.tuning import report_rows
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.ranges import ParameterRange
from fxcast.tuning.report import write_report
from fxcast.tuning.report_charts import pareto
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.table import summary
from fxcast.tuning.trial import TrialState
from tests.html_tags import Tags
from tests.tuning_findings_factories import CRASH, DEFAULTS, SPACE, THRESHOLD, make_findings, make_trial, make_trials

PICTURES = ["beside-random", "history", "hold-out", "importances", "logits", "neighbours", "parallel", "pareto", "slices"]


@pytest.fixture(scope="module")
def findings() -> TuningFindings:
    return make_findings()


@pytest.fixture(scope="module")
def folder(findings: TuningFindings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report") / "missing" / "folder"
    write_report(where, findings, SPACE)
    return where


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def written(folder: Path, findings: TuningFindings, space: SearchSpace = SPACE) -> str:
    """Write a report and return its page."""
    write_report(folder, findings, space)
    return (folder / "report.html").read_text(encoding="utf-8")


def seen(page: str) -> str:
    """Return what a reader sees: no head, no tags, no pictures."""
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body))).strip()


def in_terminal(findings: TuningFindings) -> str:
    console = Console(width=128, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(summary(findings, SPACE))
    return captured.get()


def test_the_first_visible_line_is_the_verdict(page: str, findings: TuningFindings) -> None:
    assert seen(page).startswith(findings.verdict)


def test_conditions_come_next_with_a_tick_or_a_cross_and_then_the_warnings_in_red(page: str, findings: TuningFindings) -> None:
    told = " ".join(f"{condition.name} : {condition.told}" for condition in findings.conditions)
    assert seen(page).startswith(f"{findings.verdict} {told} Read this first. {findings.warnings[0]}")
    assert re.findall(r"<li( class=\"holds\")?><strong>", page) == ["", ' class="holds"', "", ' class="holds"']
    assert re.search(r"\.conditions li::before \{[^}]*✗", page)
    assert re.search(r"\.conditions li\.holds::before \{[^}]*✓", page)
    assert re.search(r"\.warnings \{[^}]*color: #8b0000", page)


def test_nothing_on_the_page_comes_from_elsewhere_and_no_script_runs(page: str) -> None:
    tags = Tags(page)
    assert not tags.open
    assert not [tag for tag, _ in tags.tags if tag in {"script", "link", "iframe", "a"}]
    pictures = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert len(pictures) == len(PICTURES)
    for attributes in pictures:
        assert (attributes["src"] or "").startswith("data:image/png;base64,")
        assert len(attributes["alt"] or "") > 20
    assert "://" not in page  # base64 knows no colon
    assert "url(" not in page
    assert "@import" not in page


def test_each_picture_lies_in_the_folder_and_says_how_to_read_it(folder: Path, page: str) -> None:
    assert sorted(path.stem for path in (folder / "pictures").iterdir()) == PICTURES
    notes = re.findall(r"<figcaption>[^<]+<span class=\"quiet\">([^<]+)</span></figcaption>", page)
    assert len(notes) == len(PICTURES)
    assert all(len(note.split()) > 12 and note.endswith(".") for note in notes)


def test_parts_stand_in_the_order_in_which_a_reader_needs_them(page: str) -> None:
    heads = re.findall(r"<(?:h2|h3|figcaption)>([^<]+)<", page)
    assert heads == [
        "Hold-out: what no trial has seen",
        "The winner less the others",
        "Equity on the hold-out",
        "The winner’s values",
        "Overfitting",
        "Where the best of one half ranks in the other",
        "Luck",
        "Robustness",
        "The winner&#39;s neighbours",
        "The search",
        "How the search went",
        "What was weighed against what",
        "What the parameters weigh",
        "Score over each parameter",
        "All parameters at once",
        "Beside random search",
        "Trials",
        "Why trials failed",
        "To get the same",
    ]


def test_every_figure_of_the_hold_out_is_the_findings(page: str, findings: TuningFindings) -> None:
    text = seen(page)
    runs = [run.measures for run in findings.hold_out]
    returns = " ".join(percent(run.total_return, signed=True) for run in runs)
    assert f"return {returns} Sharpe ratio" in text
    ratios = [run.sharpe for run in runs]
    told = " ".join(f"{number(each.value)} [{number(each.low)}, {number(each.high)}]" for each in ratios)
    assert f"Sharpe ratio {told} max drawdown" in text
    assert f"trades {' '.join(str(run.trades) for run in runs)} win rate" in text
    for run in findings.hold_out[1:]:
        for each in run.differences:
            if each.measure == "sharpe":
                less = each.difference
                cell = f"{number(less.value, signed=True)}\n[{number(less.low, signed=True)}, {number(less.high, signed=True)}]"
                assert f">{cell}</td>" in page
                assert (f'<td class="clear">{cell}</td>' in page) is each.is_told


def test_figures_of_the_guard_are_the_findings(tmp_path: Path, findings: TuningFindings) -> None:
    assert findings.overfitting is not None
    assert findings.robustness is not None
    changed = replace(
        findings,
        trials=findings.trials[:1],
        random_trials=(),
        overfitting=replace(findings.overfitting, probability=0.4321, loss_probability=0.1234, trials=77, splits=70, blocks=8),
        counted_trials=1234,
        expected_best_sharpe=2.345,
        deflated_sharpe=0.9995,
        robustness=replace(findings.robustness, winner=3.21, default=-1.23, worst=-9.87, share_better=0.34),
    )
    text = seen(written(tmp_path, changed))
    for told in (
        "43.2 %",
        "12.3 %",
        "Trials compared 77",
        "70, of 8 blocks",
        "1,234",
        "2.35",
        "> 99.9 %",
        "3.21",
        "−1.23",
        "−9.87",
        "34 %",
    ):
        assert told in text


def test_the_winners_values_stand_beside_the_defaults_and_are_marked_where_they_differ(findings: TuningFindings) -> None:
    rows = report_rows.values_rows(findings, SPACE)
    winner = findings.trials[findings.winner]
    assert [row[0][0] for row in rows] == list(SPACE.ranges)
    for row in rows:
        path = row[0][0]
        assert row[1] == (report_rows.told(DEFAULTS[path]), False)
        assert row[2] == (report_rows.told(winner.values[path]), winner.values[path] != DEFAULTS[path])
    assert any(row[2][1] for row in rows)


def test_the_best_trials_are_told_in_the_order_of_their_scores(findings: TuningFindings) -> None:
    rows = report_rows.trial_rows(findings.trials, 5)
    scores = [
        trial.measures.score for trial in findings.trials if trial.state is TrialState.COMPLETE and trial.measures is not None
    ]
    assert [row[1] for row in rows] == [number(score) for score in sorted(scores, reverse=True)[:5]]
    assert rows[0][0] == str(findings.winner)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.423149, "0.4231"),
        (-1.5e-7, "−1.5e−07"),
        (50, "50"),
        ((15, 60), "[15, 60]"),
        (True, "true"),
        (None, "null"),
        ("kelly", "kelly"),
    ],
)
def test_a_value_is_told_as_people_write_it(value: float | tuple[int, ...] | bool | str | None, told: str) -> None:
    assert report_rows.told(value) == told


def test_names_and_errors_are_text_and_never_markup(tmp_path: Path) -> None:
    wicked = "trading.<script>alert(1)</script>"
    trials = [replace(trial, values={**trial.values, wicked: 0.5}) for trial in make_trials(20)]
    space = SearchSpace(ranges={**SPACE.ranges, wicked: ParameterRange(low=0.0, high=1.0)})
    found = make_findings(trials=trials, space=space, bare=True)
    found = replace(found, verdict="<b>promote</b>", facts={"<i>": "<u>"}, command="run <em>", warnings=("<s>",))
    page = written(tmp_path, found, space)
    assert CRASH in seen(page)
    for tag in ("<script", "<b>", "<i>", "<u>", "<em>", "<s>"):
        assert tag not in page
    assert "trading.&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_search_without_guard_hold_out_and_random_search_says_so(tmp_path: Path) -> None:
    text = seen(written(tmp_path, make_findings(bare=True)))
    for said in (
        "No condition of a promotion was checked.",
        "Nothing was run on a hold-out",
        "The probability of overfitting was not worked out",
        "The winner’s neighbours were not tried.",
        "No random search was run beside it.",
    ):
        assert said in text
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == [
        "history",
        "importances",
        "parallel",
        "pareto",
        "slices",
    ]


def test_a_single_trial_makes_a_page_without_pictures(tmp_path: Path) -> None:
    text = seen(written(tmp_path, make_findings(trials=make_trials(1), bare=True)))
    assert "Fewer than two trials were complete, so there is nothing to draw." in text
    assert "What the parameters weigh can’t be told: it takes 10 complete trials or more" in text
    assert not list(tmp_path.glob("pictures/*"))


def test_a_search_of_which_every_trial_failed_makes_a_page(tmp_path: Path) -> None:
    failed = [make_trial(number, DEFAULTS, state=TrialState.FAILED, folds=0, error=CRASH) for number in range(3)]
    text = seen(written(tmp_path, replace(make_findings(bare=True), trials=tuple(failed), importances={}, pareto=())))
    assert "3 trials (3 failed)" in text
    assert f"0, 1, 2: {CRASH}" in text


def test_a_random_search_without_a_complete_trial_is_told_and_not_drawn(tmp_path: Path) -> None:
    failed = make_trial(0, DEFAULTS, state=TrialState.FAILED, folds=0, error="x")
    text = seen(written(tmp_path, replace(make_findings(trials=make_trials(1), bare=True), random_trials=(failed,))))
    assert "they can’t be compared (1 trial (1 failed) of the random search)" in text


def test_a_search_without_forecasts_has_no_skill_to_tell(tmp_path: Path) -> None:
    trials = [
        replace(trial, measures=replace(trial.measures, crps_skill=None, coverage=None, coverage_error=None))
        if trial.measures is not None
        else trial
        for trial in make_trials(20)
    ]
    picture = pareto(tmp_path / "pareto.png", make_findings(trials=trials, bare=True))
    assert "CRPS" not in picture.alt
    assert report_rows.trial_rows(trials, 1)[0][-2:] == ["–", "–"]


def test_a_pareto_front_of_the_winner_alone_is_told_as_one_objective(tmp_path: Path, findings: TuningFindings, page: str) -> None:
    alone = pareto(tmp_path / "pareto.png", replace(findings, pareto=(findings.winner,)))
    assert "the winner beats all others in the objective of the search" in alone.note
    assert "a matter of taste" not in alone.note
    assert "a matter of taste" in page


def test_pictures_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "neighbours.png").write_bytes(b"old")
    written(tmp_path, make_findings(trials=make_trials(1), bare=True))
    assert not list(tmp_path.glob("pictures/*"))


def test_the_terminal_shows_the_verdict_first_and_fits(findings: TuningFindings) -> None:
    text = in_terminal(findings)
    assert text.startswith(findings.verdict)
    assert "✗ better on the hold-out: " in text
    assert "✓ robust: " in text
    assert findings.warnings[0] in text
    assert all(len(line) <= 128 for line in text.splitlines())
    winner = findings.trials[findings.winner]
    line = next(line for line in text.splitlines() if line.startswith(THRESHOLD))
    assert line.split() == [THRESHOLD, "0.5", report_rows.told(winner.values[THRESHOLD])]
    best = text[text.index("Best of ") :].splitlines()
    assert len(best) == 2 + 5
    assert best[2].split()[:2] == [str(findings.winner), number(winner.measures.score if winner.measures is not None else None)]


def test_the_terminal_shows_a_bare_search_too() -> None:
    text = in_terminal(make_findings(trials=make_trials(1), bare=True))
    assert "Hold-out" not in text
    assert "Best of 1 trial (1 complete)" in text
