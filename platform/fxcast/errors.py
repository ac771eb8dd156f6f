"""One exception tree, one class per reaction.

FxcastError
├── Refused                  the input is wrong: fix it and ask again; nothing was done
│   ├── BadCandles           market data that breaks a rule (`field`, `found`, `allowed`)
│   ├── BadRequest           a forecast request that breaks a rule (`field`, `found`, `allowed`)
│   ├── BadSetting           a configuration key or value
│   ├── BadModelFolder       a model on disk that is incomplete, corrupt or of another preset
│   ├── BadCredentials       a vendor that does not know us: no retry helps
│   ├── Unauthorized         a caller of our API without a valid token (`field`, `found`, `allowed`)
│   ├── Forbidden            a caller whose token is valid, but not for this (`field`, `found`, `allowed`)
│   ├── BadSetup             the surroundings: an occupied port, an outdated database, an engine that already runs
│   │   └── AccountTaken     another engine holds the account
│   ├── NotFound             something that is not there (`field`, `found`, `allowed`)
│   └── Conflict             nothing is wrong with what was asked, but things are not as it needs them
├── Unavailable              try again later: a service or a broker did not answer
│   ├── ForecastUnavailable  no forecast in time
│   │   ├── ForecastLate     it took longer than the caller would wait
│   │   └── ModelUnavailable no model can answer: none is active, or its folder is broken
│   ├── DatabaseUnavailable  a database that does not answer
│   ├── Disconnected         a vendor's connection that was lost, refused or silent
│   ├── StoreUnavailable     a disk that is full or an object store that does not answer (`root`, `problem`)
│   ├── RateLimited          a vendor that asks for a pause (`retry_after_s`)
│   └── OutcomeUnknown       a broker call that may or may not have been executed: ask, never assume
├── UnexpectedAnswer         not what the API answers (`status`): it has a bug, or something else is at its address
└── MustStop                 going on would risk money
    ├── ReconciliationFailed the ledger and the broker disagree
    └── LeaseLost            another engine has taken the account over
"""

from __future__ import annotations


def _with_id(problem: str, request_id: str | None) -> str:
    return problem if request_id is None else f"{problem} (request {request_id})"


class FxcastError(Exception):
    """Base of every error that fxcast raises on purpose."""


class Refused(FxcastError):
    """The input is wrong; nothing was done."""


class _FieldRefused(Refused):
    """A named field that was refused, with what was found and what is allowed.

    Attributes:
        request_id: Of the API's answer that refused it, if it was one.
    """

    def __init__(self, field: str, found: str, allowed: str, request_id: str | None = None) -> None:
        super().__init__(field, found, allowed, request_id)
        self.field = field
        self.found = found
        self.allowed = allowed
        self.request_id = request_id

    def __str__(self) -> str:
        return _with_id(f"{self.field}: found {self.found}; allowed: {self.allowed}", self.request_id)


class BadCandles(_FieldRefused):
    """Candles that break a rule of the market data."""


class BadRequest(_FieldRefused):
    """A forecast request that breaks a rule of the service."""


class BadSetting(Refused):
    """A configuration key or value that is unknown or out of range."""


class BadModelFolder(Refused):
    """A model folder that is incomplete, corrupt or of another preset."""

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)
        self.folder = folder
        self.problem = problem

    def __str__(self) -> str:
        return f"model folder {self.folder}: {self.problem}"


class BadCredentials(Refused):
    """A vendor does not accept the credentials, or there are none; the message names the variable, never its value."""


class Unauthorized(_FieldRefused):
    """A caller of the API shows no valid token; never says whether it is unknown, expired or revoked, nor repeats it."""


class Forbidden(_FieldRefused):
    """A caller of the API shows a valid token that lacks the scope; `allowed` is that scope."""


class BadSetup(Refused):
    """The surroundings are not as they must be; the message says what to do."""


class AccountTaken(BadSetup):
    """Another engine holds the lease of the account; the message says which, and until when."""


class NotFound(_FieldRefused):
    """What was asked for is not there."""


class Conflict(Refused):
    """Nothing is wrong with what was asked, but things are not as it needs them; the message says which."""

    def __init__(self, problem: str, request_id: str | None = None) -> None:
        super().__init__(problem, request_id)
        self.problem = problem
        self.request_id = request_id

    def __str__(self) -> str:
        return _with_id(self.problem, self.request_id)


class Unavailable(FxcastError):
    """Something did not answer; trying again later may work."""


class ForecastUnavailable(Unavailable):
    """No forecast came in time.

    Attributes:
        request_id: Of the call of the API that failed, if it was one.
        retry_after_s: After how many seconds the API wants to be asked again, if it says so.
    """

    def __init__(self, problem: str, request_id: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(problem, request_id, retry_after_s)
        self.problem = problem
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return _with_id(self.problem, self.request_id)


class ForecastLate(ForecastUnavailable):
    """A forecast took longer than the caller would wait."""


class ModelUnavailable(ForecastUnavailable):
    """No model can answer: none is active, its folder is broken, or the registry was never read; the message says which."""


class DatabaseUnavailable(Unavailable):
    """A database does not answer, or is not as this code needs it."""


class Disconnected(Unavailable):
    """A vendor's connection was lost, refused or silent for too long."""


class StoreUnavailable(Unavailable):
    """The candle store's disk is full, or its object store does not answer or refuses."""

    def __init__(self, root: str, problem: str) -> None:
        super().__init__(root, problem)
        self.root = root
        self.problem = problem

    def __str__(self) -> str:
        return f"candle store {self.root}: {self.problem}"


class RateLimited(Unavailable):
    """A vendor asks for a pause before the next request."""

    def __init__(self, vendor: str, retry_after_s: float) -> None:
        super().__init__(vendor, retry_after_s)
        self.vendor = vendor
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.vendor} asks for a pause of {self.retry_after_s:g} s"


class OutcomeUnknown(Unavailable):
    """A broker call that may or may not have been executed."""


class UnexpectedAnswer(FxcastError):
    """An answer that is none of the API's, or says that the API has a bug.

    Attributes:
        status: HTTP status.
        request_id: Of the call of the API.
    """

    def __init__(self, status: int, problem: str, request_id: str | None = None) -> None:
        super().__init__(status, problem, request_id)
        self.status = status
        self.problem = problem
        self.request_id = request_id

    def __str__(self) -> str:
        return _with_id(f"HTTP {self.status}: {self.problem}", self.request_id)


class MustStop(FxcastError):
    """Going on would risk money."""


class ReconciliationFailed(MustStop):
    """The ledger and the broker disagree in a way that can't be resolved by itself."""


class LeaseLost(MustStop):
    """Another engine has taken the account over; this one may send and save nothing more."""
