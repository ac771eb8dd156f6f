"""Ask for a bearer token before a FastAPI route runs.

Annotations are real ones here: Serve pickles a nested function without the names that only a text annotation mentions, and
FastAPI would then take the request for a query parameter.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fxcast.adapters.storage.access_tokens import Scope
from fxcast.serving.access import Access

# Only shows the scheme in OpenAPI: its own refusals would be neither problem details nor tell a missing token from a wrong one.
_SCHEME = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    bearerFormat="fxc_ and 43 letters, digits, - or _",
    description="A token of `python -m jobs.token`. A service without tokens asks for none, and answers its own machine only.",
)


def require(scope: Scope, access: Callable[[], Access]) -> Callable[..., Coroutine[Any, Any, str]]:
    """Return a dependency that lets a request pass only with a token of a scope.

    Args:
        scope: What the route is for.
        access: Gives what decides; called at each request, since an app is built, and pickled, before its replica starts.

    Returns:
        A dependency whose value is the token's name; it raises what `Access.check` raises.
    """

    async def token_name(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)]) -> str:
        client_host = None if request.client is None else request.client.host
        return access().check(request.headers.get("Authorization"), scope, client_host=client_host)

    return token_name
