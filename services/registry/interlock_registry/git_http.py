"""The git remote: smart HTTP under /git/MODEL.git; every refusal is plain text, which git shows to its user.

Source: Git's `gitprotocol-http`. Protocol version 0 is spoken; a client that asks for 2 accepts that.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import zlib
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from interlock.auth import authorize
from interlock.errors import Refusal, Transient
from interlock.http import cause, identify
from interlock_registry import errors, git_wire
from interlock_registry.git_push import Pushes
from interlock_registry.git_repositories import Repositories
from interlock_registry.model import named
from interlock_registry.settings import Settings

PUSH: Final = "git-receive-pack"
FETCH: Final = "git-upload-pack"
_MEMORY_BYTES: Final = 1024 * 1024
_NO_CACHE: Final = {"Cache-Control": "no-cache, max-age=0, must-revalidate", "X-Accel-Buffering": "no"}


def router(settings: Settings, repositories: Repositories, pushes: Pushes) -> APIRouter:
    """Return the routes of the git remote."""
    routes = APIRouter(prefix="/git", tags=["git"], include_in_schema=False)
    remote = _Remote(settings, repositories, pushes)
    routes.add_api_route("/{model}.git/info/refs", remote.references, methods=["GET"], response_model=None)
    routes.add_api_route("/{model}.git/" + PUSH, remote.push, methods=["POST"], response_model=None)
    routes.add_api_route("/{model}.git/" + FETCH, remote.fetch, methods=["POST"], response_model=None)
    return routes


class _Remote:
    """The three requests that git makes."""

    def __init__(self, settings: Settings, repositories: Repositories, pushes: Pushes) -> None:
        self._settings = settings
        self._repositories = repositories
        self._pushes = pushes

    async def references(self, model: str, request: Request, service: str = "") -> Response:
        """Answer what git asks first: which references there are, and what the server can do."""
        try:
            self._enter(request, model, service)
            if service == PUSH:
                known = await asyncio.to_thread(self._repositories.references, model)
                body = git_wire.advertisement(service, known.items(), git_wire.PUSH_CAPABILITIES)
            else:
                body = await asyncio.to_thread(self._advertise_fetch, model)
        except (Refusal, Transient) as error:
            return _text(error)
        return Response(body, media_type=f"application/x-{service}-advertisement", headers=_NO_CACHE)

    async def push(self, model: str, request: Request) -> Response:
        """Take a push in; the answer is streamed until the verdict."""
        try:
            self._enter(request, model, PUSH)
            start = await cause(request)
            body = await _spool(request, self._settings.push_bytes_max)
        except (Refusal, Transient) as error:
            return _text(error)
        answer = self._pushes.receive(model, start, body)
        return StreamingResponse(answer, media_type=f"application/x-{PUSH}-result", headers=_NO_CACHE)

    async def fetch(self, model: str, request: Request) -> Response:
        """Answer a fetch or a clone."""
        try:
            self._enter(request, model, FETCH)
            body = await _spool(request, self._settings.fetch_body_bytes_max)
            answer = await asyncio.to_thread(self._answer_fetch, model, body)
        except (Refusal, Transient) as error:
            return _text(error)
        return StreamingResponse(_pieces(answer), media_type=f"application/x-{FETCH}-result", headers=_NO_CACHE)

    def _enter(self, request: Request, model: str, service: str) -> None:
        """Raise Refusal where the caller may not do this, or where there is nothing of this name."""
        identity = identify(request)
        if service == PUSH:
            authorize(identity, "author")
        elif service != FETCH:
            raise Refusal(errors.PUSH_MALFORMED, "Only git's smart HTTP protocol is spoken here.")
        named(model, "a model")
        if service == FETCH and not self._repositories.exists(model):
            raise Refusal(errors.MODEL_UNKNOWN, f"Nothing has been pushed for {model} yet.")

    def _advertise_fetch(self, model: str) -> bytes:
        answer = io.BytesIO(git_wire.packet(f"# service={FETCH}\n".encode()) + git_wire.FLUSH)
        answer.seek(0, io.SEEK_END)
        self._repositories.advertise(model, answer)
        return answer.getvalue()

    def _answer_fetch(self, model: str, body: BinaryIO) -> BinaryIO:
        answer = tempfile.TemporaryFile()  # noqa: SIM115 - it is streamed after this function's end, and closed there
        try:
            self._repositories.fetch(model, body, answer)
        except BaseException:
            answer.close()
            raise
        answer.seek(0)
        return answer


async def _spool(request: Request, bytes_max: int) -> BinaryIO:
    """Return the request's body in a temporary file, without its gzip; raises Refusal(PUSH_TOO_LARGE)."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Refusal(errors.PUSH_MALFORMED, f"The request is encoded with {encoding[:40]}; only gzip is understood.")
    inflater = None if encoding == "identity" else zlib.decompressobj(wbits=31)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it is read and closed by whoever takes the push in
    try:
        size = 0
        async for sent in request.stream():
            data = sent
            while data:
                piece = data if inflater is None else inflater.decompress(data, _MEMORY_BYTES)
                data = b"" if inflater is None else inflater.unconsumed_tail
                size += len(piece)
                if size > bytes_max:
                    raise Refusal(errors.PUSH_TOO_LARGE, f"The request is longer than {bytes_max} bytes.")
                file.write(piece)
        if inflater is not None:
            file.write(inflater.flush())
    except zlib.error as error:
        file.close()
        raise Refusal(errors.PUSH_MALFORMED, "The request's gzip encoding is broken.") from error
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield a file's content and close it."""
    with file:
        while piece := await asyncio.to_thread(file.read, _MEMORY_BYTES):
            yield piece


def _text(error: Refusal | Transient) -> Response:
    """Return a refusal as plain text: git prints it line by line behind "remote:"."""
    if isinstance(error, Transient):
        return PlainTextResponse(f"{error.detail}\n", status_code=503, headers={"Retry-After": "1"})
    headers = {"WWW-Authenticate": 'Basic realm="Interlock: any user name, the token as password"'}
    status = error.code.status
    return PlainTextResponse(f"{error}\n", status_code=status, headers=headers if status == 401 else None)
