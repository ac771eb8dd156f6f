"""The HTML reports that runs have written, and the pictures in them: nothing else of their folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from fxcast.adapters.storage.runs import RunKind, report_folder
from fxcast.errors import BadSetup, DatabaseUnavailable, NotFound, Unavailable
from fxcast.serving.problems import problem_of, problem_response
from fxcast.web.evaluations import evaluation_folder
from fxcast.web.sources import Sources

EVALUATION = "evaluation"
ReportKind = RunKind | Literal["evaluation"]

_KINDS = (*get_args(RunKind), EVALUATION)
_OF_A_REPORT = re.compile(r"report\.html|pictures/[A-Za-z0-9_.-]+\.(?:png|svg)")


def report_path(prefix: str, kind: ReportKind, run_id: str) -> str:
    """Return the path of a run's report on the site."""
    return f"{prefix}/reports/{kind}/{quote(run_id, safe='')}/report.html"


def report_file(sources: Sources, kind: str, run_id: str, name: str) -> Path:
    """Return a file of a run's report.

    Args:
        name: `report.html`, or a picture as the report names it.

    Raises:
        NotFound: If there is no such kind, run or file; a file that is not the report's is none.
        DatabaseUnavailable: If the database does not answer.
    """
    if kind not in _KINDS:
        raise NotFound("kind", kind, ", ".join(_KINDS))
    if kind == EVALUATION:
        folder = str(evaluation_folder(sources.home, run_id))
    else:
        folder = report_folder(sources.database, cast("RunKind", kind), run_id)
    if folder is None:
        raise NotFound("run", run_id, "a run that has written its report")
    file = Path(folder) / name
    if _OF_A_REPORT.fullmatch(name) is None or not file.is_file():
        raise NotFound("file", name, "report.html and its pictures, where the run has written them on this machine")
    return file


def answer_reports(sources: Sources, request: Request) -> Response:
    """Answer a request for a file of a report; its path names kind, run and file."""
    named = request.path_params
    try:
        return FileResponse(report_file(sources, named["kind"], named["run_id"], named["name"]))
    except NotFound as error:
        return problem_response(problem_of(error))
    except (BadSetup, DatabaseUnavailable) as error:
        return problem_response(problem_of(Unavailable(str(error))))
