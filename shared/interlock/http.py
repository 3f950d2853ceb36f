"""HTTP: the same shape for every service; bearer tokens, problem documents (RFC 9457), health, metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interlock import metrics, semconv, telemetry
from interlock.auth import Identity, Verifier, authorize
from interlock.cause import Cause
from interlock.errors import Code, Refusal, Transient
from interlock.ids import uuid7

PROBLEM_TYPE = "urn:interlock:error:"
PROBLEM_MEDIA_TYPE = "application/problem+json"
BODY_BYTES_MAX = 64 * 1024 * 1024
READY_SECONDS_MAX = 2.0
IDEMPOTENCY_KEY_LETTERS_MAX = 200
_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds by those who watch

Ready = Callable[[], Awaitable[None]]

NOT_FOUND = Code("NOT_FOUND", 404, "There is nothing at this address", "GET /openapi.json lists every route.")
METHOD_NOT_ALLOWED = Code(
    "METHOD_NOT_ALLOWED", 405, "This address does not take that method", "GET /openapi.json lists every route."
)
BODY_TOO_LARGE = Code(
    "BODY_TOO_LARGE", 413, "The request is too large", "The bound is INTERLOCK_HTTP_BODY_BYTES_MAX of the service."
)
REQUEST_INVALID = Code(
    "REQUEST_INVALID", 422, "The request does not fit the route", "Mend the fields named in `errors`."
)
REQUEST_BAD = Code("REQUEST_BAD", 400, "The request cannot be read", "GET /openapi.json describes every request.")
UNAVAILABLE = Code(
    "UNAVAILABLE",
    503,
    "A server behind this one is away",
    "Try again after the seconds in Retry-After, with the same Idempotency-Key.",
)
INTERNAL = Code(
    "INTERNAL",
    500,
    "The service has a fault",
    "Report it with the request id; the service's log has the rest under it.",
)
_BY_STATUS = {code.status: code for code in (REQUEST_BAD, NOT_FOUND, METHOD_NOT_ALLOWED, BODY_TOO_LARGE, UNAVAILABLE)}

log = structlog.get_logger("interlock.http")
_bearer = HTTPBearer(auto_error=False, description="A token from `interlock token issue`.")


def application(
    name: str,
    routers: Sequence[APIRouter],
    verifier: Verifier | None,
    ready: Sequence[Ready],
    *,
    mounts: Mapping[str, ASGIApp] | None = None,
    streams: Sequence[str] = (),
    body_bytes_max: int = BODY_BYTES_MAX,
    ready_seconds_max: float = READY_SECONDS_MAX,
    stopping: asyncio.Event | None = None,
) -> FastAPI:
    """Return the service's ASGI application; every error it answers with is a problem document.

    `ready` are checks that raise Transient while something is missing. Without a verifier no token is accepted.
    Bodies below the path prefixes `streams` are not bounded here: their routes bound them as they read.
    The documentation page is off, because it would load scripts from elsewhere; /openapi.json is on.
    """
    app = FastAPI(title=f"Interlock {name}", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.verifier = verifier
    app.include_router(_health(ready, ready_seconds_max, stopping or asyncio.Event()))
    for router in routers:
        app.include_router(router)
    for path, mounted in (mounts or {}).items():
        app.mount(path, mounted)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(Transient, _on_transient)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(_Edge, body_bytes_max=body_bytes_max, streams=tuple(streams))
    return app


def require(*roles: str) -> Callable[..., Awaitable[Identity]]:
    """Return a dependency that yields the caller's Identity; refuses with 401 without a token, 403 without a role."""

    async def identity(request: Request, _shown: Annotated[Any, Depends(_bearer)]) -> Identity:
        found = identify(request)
        authorize(found, *roles)
        return found

    return identity


def identify(request: Request) -> Identity:
    """Return who the request's token speaks for; raises Refusal. For routes that cannot use `require`."""
    verifier: Verifier | None = request.app.state.verifier
    if verifier is None:
        raise Transient("No public key is configured to check tokens with: set INTERLOCK_TOKEN_PUBLIC_KEY_FILE.")
    return verifier.identify(request.headers.get("authorization"))


async def cause(request: Request) -> Cause:
    """Return the cause of what the request brings about: caller, own id, trace. A FastAPI dependency."""
    name = request.scope["interlock.request_id"]
    return Cause(
        event_id=name,
        correlation_id=name,
        traceparent=telemetry.current_traceparent() or request.headers.get("traceparent"),
        actor=identify(request).subject,
    )


async def idempotency_key(
    key: Annotated[
        str | None, Header(alias="Idempotency-Key", max_length=IDEMPOTENCY_KEY_LETTERS_MAX, min_length=1)
    ] = None,
) -> str | None:
    """Return the sender's Idempotency-Key, or None. A FastAPI dependency."""
    return key


def problem(request: Request, code: Code, detail: str, status: int | None = None, **fields: Any) -> JSONResponse:
    """Return a problem document (RFC 9457) with the code's title and hint, and ids to find it in log and trace."""
    body = fields | {
        "type": PROBLEM_TYPE + code.id,
        "title": code.title,
        "status": status or code.status,
        "detail": detail,
        "instance": request.url.path,
        "code": code.id,
        "hint": code.hint,
        "request_id": request.scope.get("interlock.request_id"),
        "trace_id": request.scope.get("interlock.trace_id"),
    }
    response = JSONResponse(body, status_code=status or code.status, media_type=PROBLEM_MEDIA_TYPE)
    if code is INTERNAL:
        response.headers["x-request-id"] = str(body["request_id"])  # this answer is made outside of the edge
    if response.status_code == 401:
        # git and curl choose Basic from the challenge; everybody else Bearer.
        response.headers.append("WWW-Authenticate", 'Bearer realm="interlock"')
        response.headers.append("WWW-Authenticate", 'Basic realm="interlock", charset="UTF-8"')
    return response


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    log.info("http.refused", code=error.code.id, detail=error.detail, path=request.url.path)
    return problem(request, error.code, error.detail, **error.fields)


async def _on_transient(request: Request, error: Exception) -> Response:
    assert isinstance(error, Transient)
    log.warning("http.unavailable", detail=error.detail, path=request.url.path)
    response = problem(request, UNAVAILABLE, error.detail)
    response.headers["Retry-After"] = str(max(1, round(error.retry_seconds)))
    return response


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"pointer": "/" + "/".join(str(part) for part in each["loc"]), "detail": each["msg"]} for each in error.errors()
    ]
    said = "; ".join(f"{each['pointer']}: {each['detail']}" for each in errors)
    return problem(request, REQUEST_INVALID, said, errors=errors)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, REQUEST_BAD if error.status_code < 500 else INTERNAL)
    said = (
        f"{request.method} {request.url.path}: {error.detail}"
        if code in (NOT_FOUND, METHOD_NOT_ALLOWED)
        else str(error.detail)
    )
    response = problem(request, code, said, status=error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_bug(request: Request, error: Exception) -> Response:
    return problem(request, INTERNAL, f"{type(error).__name__} while answering {request.method} {request.url.path}.")


def _health(ready: Sequence[Ready], seconds_max: float, stopping: asyncio.Event) -> APIRouter:
    """Return the routes by which a supervisor sees the process: alive, ready, figures."""
    router = APIRouter(tags=["health"])

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """Say that the process's loop turns."""
        return {"status": "alive"}

    @router.get("/readyz", response_model=None)
    async def readyz(request: Request) -> Response:
        """Say whether all that the service needs answers, 503 while something does not; `?verbose` in lines."""
        said = await asyncio.gather(*(_check(each, seconds_max) for each in ready))
        checks = [(_name(each), problem) for each, problem in zip(ready, said, strict=True)]
        if stopping.is_set():
            checks.append(("process", "the process is stopping"))
        waiting = [problem for _, problem in checks if problem is not None]
        status = 503 if waiting else 200
        if "verbose" in request.query_params:
            return PlainTextResponse(_verbose(checks), status_code=status)
        return JSONResponse({"status": "waiting" if waiting else "ready", "waiting_for": waiting}, status_code=status)

    @router.get("/metrics", response_class=Response)
    async def exposition(request: Request) -> Response:
        """Give all metrics in Prometheus' text format, or as OpenMetrics where the request accepts that."""
        content, media_type = metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": media_type})

    return router


async def _check(ready: Ready, seconds_max: float) -> str | None:
    """Return what a readiness check waits for, or None."""
    try:
        async with asyncio.timeout(seconds_max):
            await ready()
    except Transient as error:
        return error.detail
    except TimeoutError:
        return f"{getattr(ready, '__qualname__', 'a check')} took longer than {seconds_max:g} s"
    return None


def _name(ready: Ready) -> str:
    """Return what a readiness check is called: `Keeper.ready` is keeper, and `postgres_ready` is postgres."""
    parts = [part for part in getattr(ready, "__qualname__", "check").split(".") if part != "<locals>"]
    named = parts[-2] if parts[-1] == "ready" and len(parts) > 1 else parts[-1].removesuffix("_ready")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", named).strip("_").lower()


def _verbose(checks: Sequence[tuple[str, str | None]]) -> str:
    """Return a line for each check, as Kubernetes' own health endpoints write them."""
    lines = [f"[+]{name} ok" if said is None else f"[-]{name} failed: {said}" for name, said in checks]
    return "\n".join([*lines, "readyz check " + ("failed" if any(said for _, said in checks) else "passed"), ""])


class _Edge:
    """Around every request: an id, a span, a bound on the body, a count."""

    def __init__(self, app: ASGIApp, body_bytes_max: int, streams: tuple[str, ...] = ()) -> None:
        self._app = app
        self._streams = streams
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = scope["interlock.request_id"] = uuid7()
        traceparent = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"traceparent"), None)
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", name.encode())]
            await send(message)

        start = asyncio.get_running_loop().time()
        try:
            if scope["path"] in _UNTRACED:
                await self._app(scope, receive, answer)
                return
            title, attributes = semconv.http_server(scope["method"], scope["path"], scope["scheme"])
            with telemetry.span(title, "server", traceparent, **attributes) as span:
                scope["interlock.trace_id"] = telemetry.current_trace_id()
                await self._app(scope, self._bounded(scope, receive), answer)
                span.update_name(f"{scope['method']} {_route(scope)}")
                span.set_attribute(semconv.HTTP_ROUTE, _route(scope))
                span.set_attribute(semconv.HTTP_STATUS, status)
                if status >= 500:
                    telemetry.failed(span, str(status))
        finally:
            metrics.HTTP_REQUESTS.labels(scope["method"], _route(scope), str(status)).inc()
            metrics.HTTP_SECONDS.labels(scope["method"], _route(scope)).observe(
                asyncio.get_running_loop().time() - start
            )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` with the body counted: what is over the bound is refused before it is held in memory."""
        if self._streams and scope["path"].startswith(self._streams):
            return receive
        declared = next(
            (int(value) for key, value in scope["headers"] if key == b"content-length" and value.isdigit()), 0
        )
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if max(taken, declared) > self._body_bytes_max:
                raise HTTPException(413, f"The body is larger than {self._body_bytes_max} bytes.")
            return message

        return bounded


def _route(scope: Scope) -> str:
    """Return the template of the route that answered, so that metrics have a bounded number of series."""
    return getattr(scope.get("route"), "path", None) or (
        "/" + scope["path"].split("/")[1] + "/*" if "app_root_path" in scope else "unmatched"
    )
