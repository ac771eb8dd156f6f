"""Turn what a job raises into an exit code and one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from fxcast import logs
from fxcast.errors import BadSetup, FxcastError, Refused

REFUSED = 2
FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run(main_function: Callable[[], int]) -> int:
    """Run a job's body and return the process's exit code.

    An error that fxcast raises on purpose becomes one sentence on stderr: 2 when the input was refused, else 1. Anything
    else is our own bug and keeps its traceback.
    """
    try:
        logs.configure()
        _enter_home()
        return main_function()
    except FxcastError as error:
        # It may repeat what was given, and a database's URL holds a password.
        sys.stderr.write(f"error: {logs.scrubber()(str(error))}\n")
        return REFUSED if isinstance(error, Refused) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _enter_home() -> None:
    """Go to FXCAST_HOME, from which relative paths such as `runs/store` are meant, if it is set.

    Raises:
        BadSetup: If it is no folder, or is not set in a submitted job: that runs in Ray's copy of the working directory, which is
            thrown away.
    """
    home = os.environ.get("FXCAST_HOME")
    if home is None:
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
            raise BadSetup(
                "a submitted job runs in a copy of the working directory that Ray throws away: say where runs/ is with FXCAST_HOME"
            )
        return
    if not Path(home).is_dir():
        raise BadSetup(f"FXCAST_HOME is {home!r}, which is no folder")
    os.chdir(home)
