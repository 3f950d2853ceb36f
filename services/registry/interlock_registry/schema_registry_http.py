"""The schema registry's routes, as stock Confluent clients call them; errors in their shape, not in ours.

Source: the Confluent Schema Registry API; numbers of errors as Confluent and Karapace give them. Avro only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Body, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from interlock.auth import authorize
from interlock.errors import Refusal, Transient
from interlock.http import identify
from interlock.postgres.pool import Connection, Pool, passing
from interlock_registry import schema_registry as registry
from interlock_registry.schema_registry import SchemaRefusal
from interlock_registry.settings import Settings
from interlock_registry.store_schemas import Registered

T = TypeVar("T")
MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
SUBJECT_LETTERS_MAX: Final = 300
WRITERS: Final = ("author", "operator", "service")


class NewSchema(BaseModel):
    """A schema as a client sends it; what only Confluent's own server knows is left aside."""

    schema_: str = Field(alias="schema")
    schema_type: str = Field("AVRO", alias="schemaType")
    references: list[Any] | None = None


class NewLevel(BaseModel):
    """A compatibility level as a client sends it."""

    compatibility: str = Field(max_length=40)


class _Route(APIRoute):
    """Turns every refusal into `{"error_code": …, "message": …}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with its errors answered in the Confluent shape."""
        handle = super().get_route_handler()
        # Lookups and comparisons are sent by POST too; a registration decides for itself who may make it.
        asked = (
            self.path.endswith(("/subjects/{subject}", "/subjects/{subject}/versions"))
            or "/compatibility/" in self.path
        )
        reads = self.methods == {"GET"} or (self.methods == {"POST"} and asked)

        async def answer(request: Request) -> Response:
            try:
                identity = identify(request)
                authorize(identity, *(() if reads else WRITERS))
                return await handle(await _as_json(request))
            except SchemaRefusal as error:
                return _error(error.number, error.message)
            except RequestValidationError as error:
                said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
                return _error(42201 if request.method == "POST" else 42203, said)
            except Transient as error:
                return _error(50003, error.detail, status=503)
            except Refusal as error:
                response = _error(error.code.status * 100 + 1, str(error))
                if error.code.status == 401:
                    response.headers["WWW-Authenticate"] = 'Basic realm="interlock"'
                return response

        return answer


def router(settings: Settings, pool: Pool) -> APIRouter:
    """Return the routes under /schema-registry."""
    routes = APIRouter(
        prefix="/schema-registry", tags=["schema registry"], route_class=_Route, default_response_class=_Answer
    )
    _schemas(routes, pool)
    _subjects(routes, settings, pool)
    _subject_versions(routes, pool)
    _deletions(routes, pool)
    _levels(routes, pool)
    _compatibility(routes, settings, pool)
    _fixed(routes)
    return routes


class _Answer(JSONResponse):
    media_type = MEDIA_TYPE


def _schemas(routes: APIRouter, pool: Pool) -> None:
    @routes.get("/schemas/types")
    async def types() -> list[str]:
        """Name the kinds of schema that are taken."""
        return ["AVRO"]

    @routes.get("/schemas/ids/{number}")
    async def by_id(number: int) -> dict[str, Any]:
        """Give a schema by its id."""
        return {"schema": await _with(pool, lambda connection: registry.schema_by_id(connection, number))}

    @routes.get("/schemas/ids/{number}/schema", response_class=PlainTextResponse)
    async def text_by_id(number: int) -> Response:
        """Give a schema's bare text by its id."""
        text = await _with(pool, lambda connection: registry.schema_by_id(connection, number))
        return Response(text, media_type=MEDIA_TYPE)

    @routes.get("/schemas/ids/{number}/versions")
    async def versions_of_id(number: int) -> list[dict[str, Any]]:
        """Say under which subjects and versions an id stands."""
        found = await _with(pool, lambda connection: registry.uses(connection, number))
        return [{"subject": subject, "version": version} for subject, version in found]

    @routes.get("/schemas/ids/{number}/subjects")
    async def subjects_of_id(number: int) -> list[str]:
        """Say under which subjects an id stands."""
        found = await _with(pool, lambda connection: registry.uses(connection, number))
        return list(dict.fromkeys(subject for subject, _ in found))


def _subjects(routes: APIRouter, settings: Settings, pool: Pool) -> None:
    @routes.get("/subjects")
    async def subjects(*, deleted: bool = False) -> list[str]:
        """List the subjects."""
        return await _with(pool, lambda connection: registry.subjects(connection, deleted=deleted))

    @routes.post("/subjects/{subject}")
    async def lookup(subject: str, body: NewSchema, *, deleted: bool = False) -> dict[str, Any]:
        """Say under which version and id a schema stands."""
        schema = _parsed(body, settings)
        return _shown(
            await _with(pool, lambda connection: registry.lookup(connection, subject, schema, deleted=deleted))
        )

    @routes.get("/subjects/{subject}/versions")
    async def versions(subject: str, *, deleted: bool = False) -> list[int]:
        """List a subject's versions."""
        found = await _with(pool, lambda connection: registry.versions(connection, subject, deleted=deleted))
        return [each.version for each in found]

    @routes.post("/subjects/{subject}/versions")
    async def register(subject: str, body: NewSchema, request: Request) -> dict[str, Any]:
        """Register a schema; the same one again gives the same id, to whoever asks.

        Stock serializers register by default, so a caller without the role may "register" what stands there.
        """
        if not subject or len(subject) > SUBJECT_LETTERS_MAX or any(ord(sign) < 32 for sign in subject):
            raise SchemaRefusal(42208, "The subject's name is not valid.")
        schema = _parsed(body, settings)
        identity = identify(request)

        async def decide(connection: Connection) -> Registered:
            if identity.roles.isdisjoint(WRITERS):
                with contextlib.suppress(SchemaRefusal):
                    return await registry.lookup(connection, subject, schema)
                authorize(identity, *WRITERS)
            return await registry.register(connection, subject, schema, body.schema_)

        made = await _with(pool, decide)
        return {"id": made.id, "version": made.version, "schemaType": "AVRO", "schema": made.schema}


def _subject_versions(routes: APIRouter, pool: Pool) -> None:
    @routes.get("/subjects/{subject}/versions/{version}")
    async def version(subject: str, version: str, *, deleted: bool = False) -> dict[str, Any]:
        """Give one version of a subject, by number or `latest`."""
        return _shown(
            await _with(pool, lambda connection: registry.version(connection, subject, version, deleted=deleted))
        )

    @routes.get("/subjects/{subject}/versions/{version}/schema", response_class=PlainTextResponse)
    async def text(subject: str, version: str) -> Response:
        """Give the bare text of one version."""
        found = await _with(pool, lambda connection: registry.version(connection, subject, version))
        return Response(found.schema, media_type=MEDIA_TYPE)

    @routes.get("/subjects/{subject}/versions/{version}/referencedby")
    async def referenced_by(subject: str, version: str) -> list[int]:
        """Say which schemas refer to this one: none, since references are not taken."""
        await _with(pool, lambda connection: registry.version(connection, subject, version))
        return []


def _deletions(routes: APIRouter, pool: Pool) -> None:
    @routes.delete("/subjects/{subject}")
    async def subject(subject: str, *, permanent: bool = False) -> list[int]:
        """Delete a subject, softly unless `permanent`; its ids keep resolving."""
        return await _with(pool, lambda connection: registry.delete(connection, subject, None, permanent=permanent))

    @routes.delete("/subjects/{subject}/versions/{version}")
    async def version(subject: str, version: str, *, permanent: bool = False) -> int:
        """Delete one version of a subject, softly unless `permanent`."""
        found = await _with(pool, lambda connection: registry.delete(connection, subject, version, permanent=permanent))
        return found[0]


def _levels(routes: APIRouter, pool: Pool) -> None:
    @routes.get("/config")
    async def level() -> dict[str, str]:
        """Give the level of subjects that have none of their own."""
        return {"compatibilityLevel": await _with(pool, lambda connection: registry.level_of(connection, ""))}

    @routes.put("/config")
    async def set_level(body: NewLevel) -> dict[str, str]:
        """Set the level of subjects that have none of their own."""
        await _with(pool, lambda connection: registry.set_level(connection, "", body.compatibility))
        return {"compatibility": body.compatibility}

    @routes.get("/config/{subject}")
    async def level_of(subject: str, *, defaultToGlobal: bool = False) -> dict[str, str]:  # noqa: N803 - Confluent's word
        """Give a subject's level."""
        own = not defaultToGlobal
        found = await _with(pool, lambda connection: registry.level_of(connection, subject, own=own))
        return {"compatibilityLevel": found}

    @routes.put("/config/{subject}")
    async def set_level_of(subject: str, body: NewLevel) -> dict[str, str]:
        """Set a subject's level."""
        if not subject.strip():
            raise SchemaRefusal(42208, "The subject's name is not valid.")
        await _with(pool, lambda connection: registry.set_level(connection, subject, body.compatibility))
        return {"compatibility": body.compatibility}

    @routes.delete("/config/{subject}")
    async def clear_level(subject: str) -> dict[str, str]:
        """Give a subject the general level again, and say which one it had."""

        async def clear(connection: Connection) -> str:
            had = await registry.level_of(connection, subject, own=True)
            await registry.clear_level(connection, subject)
            return had

        return {"compatibility": await _with(pool, clear)}


def _compatibility(routes: APIRouter, settings: Settings, pool: Pool) -> None:
    @routes.post("/compatibility/subjects/{subject}/versions/{version}")
    async def one(subject: str, version: str, body: NewSchema, *, verbose: bool = False) -> dict[str, Any]:
        """Say whether a schema could follow one version of a subject."""
        schema = _parsed(body, settings)

        async def look(connection: Connection) -> list[str]:
            against = await registry.version(connection, subject, version)
            return await registry.compare(connection, subject, schema, [against])

        return _verdict(await _with(pool, look), verbose=verbose)

    @routes.post("/compatibility/subjects/{subject}/versions")
    async def every(subject: str, body: NewSchema, *, verbose: bool = False) -> dict[str, Any]:
        """Say whether a schema could be registered under a subject."""
        schema = _parsed(body, settings)

        async def look(connection: Connection) -> list[str]:
            against = await registry.versions(connection, subject)
            return await registry.compare(connection, subject, schema, against)

        return _verdict(await _with(pool, look), verbose=verbose)


def _fixed(routes: APIRouter) -> None:
    """Add what stock clients ask and the answer to which never changes."""

    @routes.get("/")
    async def root() -> dict[str, Any]:
        """Say that there is a schema registry here."""
        return {}

    @routes.get("/contexts")
    async def contexts() -> list[str]:
        """Name the contexts: there is one."""
        return ["."]

    @routes.get("/mode")
    @routes.get("/mode/{subject}")
    async def mode(subject: str = "") -> dict[str, str]:
        """Say that schemas can be read and registered."""
        return {"mode": "READWRITE"}

    @routes.put("/mode")
    @routes.put("/mode/{subject}")
    async def set_mode(body: Annotated[dict[str, Any], Body()], subject: str = "") -> dict[str, str]:
        """Refuse every mode but the one there is."""
        if body.get("mode") != "READWRITE":
            raise SchemaRefusal(42204, "The only mode is READWRITE.")
        return {"mode": "READWRITE"}

    @routes.get("/associations/{rest:path}")
    async def associations(rest: str) -> Response:
        """Say that no resource has associations; clients then go by the subject's name."""
        return _error(40401, "No associations found")

    @routes.get("/{rest:path}")
    async def nothing(rest: str) -> Response:
        """Say that there is no such route."""
        return _error(40400, f"HTTP 404 Not Found: {rest[:200]}")


async def _with(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run a request's work in one transaction; raises Transient where Postgres is away."""
    async with passing(), pool.acquire() as connection, connection.transaction():
        return await work(connection)


async def _as_json(request: Request) -> Request:
    """Return the request with its body as JSON, whatever of the three media types the client calls it."""
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    request.scope["headers"] = [*headers, (b"content-type", b"application/json")]
    return Request(request.scope, request.receive)


def _parsed(body: NewSchema, settings: Settings) -> Any:
    if body.schema_type != "AVRO":
        raise SchemaRefusal(42201, f"Schemas of type {body.schema_type[:40]} are not taken; AVRO is.")
    if body.references:
        raise SchemaRefusal(42201, "Schemas with references are not taken; write the schema out in full.")
    return registry.parse(body.schema_, bytes_max=settings.schema_bytes_max, depth_max=settings.schema_depth_max)


def _shown(found: Registered) -> dict[str, Any]:
    return {
        "subject": found.subject, "version": found.version, "id": found.id, "schemaType": "AVRO", "schema": found.schema
    }  # fmt: skip


def _verdict(problems: list[str], *, verbose: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"is_compatible": not problems}
    return answer | {"messages": problems} if verbose else answer


def _error(number: int, message: str, status: int | None = None) -> Response:
    """Return an error: the first three digits of its number are the status."""
    return _Answer({"error_code": number, "message": message}, status_code=status or int(str(number)[:3]))
