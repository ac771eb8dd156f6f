"""Several symbols on a command line, as people write them."""

from __future__ import annotations

from collections.abc import Sequence

_OPTIONS = ("--symbols", "--conversion-symbols")


def together(arguments: Sequence[str]) -> list[str]:
    """Return a command line on which `--symbols EURUSD GBPUSD` is `--symbols EURUSD,GBPUSD`, as the settings read it."""
    found: list[str] = []
    for argument in arguments:
        if len(found) > 1 and found[-2] in _OPTIONS and not argument.startswith("-"):
            found[-1] += f",{argument}"
        else:
            found.append(argument)
    return found
