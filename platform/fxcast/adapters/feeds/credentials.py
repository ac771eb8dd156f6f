"""Secrets of the vendors: from the environment only, and shown nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import SecretStr

from fxcast.errors import BadCredentials

OANDA_TOKEN = "FXCAST_OANDA_TOKEN"  # noqa: S105 - the variable's name
OANDA_ACCOUNT = "FXCAST_OANDA_ACCOUNT"
TIINGO_TOKEN = "FXCAST_TIINGO_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret and the environment variable it came from. Pickled, it is that name: unpickling reads it anew."""

    variable: str
    secret: SecretStr

    def __reduce__(self) -> tuple[object, tuple[str]]:  # pyright: ignore[reportImplicitOverride]
        return read_credential, (self.variable,)

    def reveal(self) -> str:
        """Return the secret, to be put into a request and nowhere else."""
        return self.secret.get_secret_value()


def read_credential(variable: str) -> Credential:
    """Read a secret from the environment.

    Raises:
        BadCredentials: If the variable is missing or blank, or holds what no header can carry; names it, never its value.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise BadCredentials(f"{variable} is not set")
    if not all("!" <= character <= "~" for character in value):
        raise BadCredentials(f"{variable} holds a blank or a character that is not ASCII")
    return Credential(variable, SecretStr(value))
