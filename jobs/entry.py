"""Turn what a job raises into an exit code and one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fxcast.errors import FxcastError, Refused

REFUSED = 2
FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run(main_function: Callable[[], int]) -> int:
    """Run a job's body and return the process's exit code.

    An error that fxcast raises on purpose becomes one sentence on stderr: 2 when the input was refused, else 1. Anything
    else is our own bug and keeps its traceback.
    """
    try:
        return main_function()
    except FxcastError as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED if isinstance(error, Refused) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
