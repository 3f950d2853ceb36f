"""The schema registry: Avro schemas under subjects, with ids that are global, fixed and never given twice."""

from __future__ import annotations

import json
from typing import Any, Final

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from interlock.codec import compatibility, contract
from interlock.errors import Refusal
from interlock.ids import digest_of
from interlock.postgres.pool import Connection
from interlock.schemas import TOPICS, endpoint_topics
from interlock.schemas.events import EVENTS
from interlock.signature import Signature
from interlock_registry import errors
from interlock_registry import store_schemas as store
from interlock_registry.store_schemas import Registered

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
SCHEMA_BYTES_MAX: Final = 256 * 1024
SCHEMA_DEPTH_MAX: Final = 64


class SchemaRefusal(Exception):
    """A refusal in the Confluent shape: its number, of which the first three digits are the HTTP status."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.message = message


def parse(text: str, *, bytes_max: int = SCHEMA_BYTES_MAX, depth_max: int = SCHEMA_DEPTH_MAX) -> Any:
    """Return a schema as JSON; raises SchemaRefusal(42201) saying why it is invalid or too dangerous to take."""
    if len(text.encode()) > bytes_max:
        raise SchemaRefusal(42201, f"The schema is longer than {bytes_max} bytes.")
    try:
        schema = text if text in PRIMITIVES else json.loads(text)
        if _depth(schema, depth_max) > depth_max:
            raise SchemaRefusal(42201, f"The schema is nested deeper than {depth_max}.")
        parse_schema(schema, _write_hint=False)
    except SchemaRefusal:
        raise
    except UnknownType as error:
        raise SchemaRefusal(42201, f"Invalid Avro schema: the type {error.name} is not known.") from error
    except (SchemaParseException, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SchemaRefusal(42201, f"Invalid Avro schema: {str(error)[:300]}") from error
    dangers = compatibility.refuse_dangerous(schema)
    if dangers:
        raise SchemaRefusal(42201, "The schema is refused: " + "; ".join(dangers))
    return schema


def _depth(schema: Any, limit: int) -> int:
    """Return how deep a JSON value is nested, looking no deeper than just past the limit."""
    depth, level = 0, [schema]
    while level and depth <= limit * 3:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    # A schema's nesting takes up to three of JSON's: fields, the field, its type.
    return -(-depth // 3)


def fingerprint(schema: Any) -> str:
    """Return what makes two schemas the same one: everything in them, whatever the order and spacing of the JSON."""
    return digest_of(json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


async def schema_by_id(connection: Connection, number: int) -> str:
    """Return a schema's text; raises SchemaRefusal(40403)."""
    # An id beyond the column's range is simply one that was never given.
    text = await store.text_of(connection, number) if 0 < number < 2**31 else None
    if text is None:
        raise SchemaRefusal(40403, f"Schema {number} not found")
    return text


async def uses(connection: Connection, number: int) -> list[tuple[str, int]]:
    """Return where an id is used, as (subject, version); raises SchemaRefusal(40403)."""
    await schema_by_id(connection, number)
    return await store.uses(connection, number)


async def subjects(connection: Connection, *, deleted: bool = False) -> list[str]:
    """Return the subjects that have a version."""
    return await store.subjects(connection, ["no", "soft"] if deleted else ["no"])


async def versions(connection: Connection, subject: str, *, deleted: bool = False) -> list[Registered]:
    """Return a subject's versions, oldest first; raises SchemaRefusal(40401) where it has none."""
    seen = ("no", "soft") if deleted else ("no",)
    found = [row for row in await store.versions(connection, subject) if row.deleted in seen]
    if not found:
        raise SchemaRefusal(40401, f"Subject '{subject}' not found.")
    return found


async def version(connection: Connection, subject: str, wanted: str, *, deleted: bool = False) -> Registered:
    """Return one version of a subject, by number or "latest"; raises SchemaRefusal(40401 | 40402 | 42202)."""
    number = version_number(wanted)
    found = await versions(connection, subject, deleted=deleted)
    if number is None:
        return found[-1]
    for each in found:
        if each.version == number:
            return each
    raise SchemaRefusal(40402, f"Version {number} not found.")


def version_number(wanted: str) -> int | None:
    """Return a version's number, None for the latest; raises SchemaRefusal(42202)."""
    if wanted in ("latest", "-1"):
        return None
    if not wanted.isascii() or not wanted.isdigit() or not 0 < int(wanted[:11]) < 2**31:
        raise SchemaRefusal(42202, f"The specified version '{wanted[:40]}' is not a valid version id.")
    return int(wanted)


async def lookup(connection: Connection, subject: str, schema: Any, *, deleted: bool = False) -> Registered:
    """Return the version under which a schema stands; raises SchemaRefusal(40401 | 40403)."""
    number = await store.id_of(connection, fingerprint(schema))
    for each in await versions(connection, subject, deleted=deleted):
        if each.id == number:
            return each
    raise SchemaRefusal(40403, "Schema not found")


async def register(
    connection: Connection, subject: str, schema: Any, text: str, level: str | None = None
) -> Registered:
    """Put a schema under a subject and return where it stands; one that stands there already changes nothing.

    It must follow the subject's versions at the subject's level, or at `level`. Raises SchemaRefusal(409).
    """
    await store.begin(connection)
    known = await store.versions(connection, subject)
    live = [each for each in known if each.deleted == "no"]
    printed = fingerprint(schema)
    number = await store.id_of(connection, printed)
    for each in live:
        if each.id == number:
            return each
    problems = compatibility.check_level(
        level or await level_of(connection, subject), schema, [read_json(each.schema) for each in live]
    )
    if problems:
        earlier = f"Schema being registered is incompatible with an earlier schema for subject '{subject}'"
        raise SchemaRefusal(409, f"{earlier}: {'; '.join(problems)}")
    if number is None:
        number = await store.new_id(connection, printed, text)
    following = known[-1].version + 1 if known else 1
    await store.add(connection, subject, following, number)
    return Registered(subject, following, number, text)


async def compare(connection: Connection, subject: str, schema: Any, against: list[Registered]) -> list[str]:
    """Return what keeps a schema from following the given versions at the subject's level."""
    level = await level_of(connection, subject)
    return compatibility.check_level(level, schema, [read_json(each.schema) for each in against])


async def delete(connection: Connection, subject: str, wanted: str | None, *, permanent: bool) -> list[int]:
    """Delete one version or (None) all of a subject and return their numbers; neither they nor ids come back.

    Raises SchemaRefusal: 40401, 40402, or 40405/40407 where something is deleted for good before it is softly.
    """
    await store.begin(connection)
    found = await versions(connection, subject, deleted=permanent)
    if wanted is not None:
        found = [await version(connection, subject, wanted, deleted=permanent)]
    if permanent and any(each.deleted == "no" for each in found):
        number = 40405 if wanted is None else 40407
        raise SchemaRefusal(number, f"Subject '{subject}' was not deleted first before being permanently deleted")
    numbers = [each.version for each in found]
    await store.mark(connection, subject, numbers, "hard" if permanent else "soft")
    return numbers


async def level_of(connection: Connection, subject: str, *, own: bool = False) -> str:
    """Return a subject's level, the global one where it has none; with `own` raises SchemaRefusal(40408) instead."""
    level = await store.level(connection, subject)
    if level is None:
        if own:
            raise SchemaRefusal(40408, f"Subject '{subject}' does not have subject-level compatibility configured")
        level = await store.level(connection, "")
    return str(level)


async def set_level(connection: Connection, subject: str, level: str) -> None:
    """Set a subject's level, or with "" the global one; raises SchemaRefusal(42203)."""
    if level not in compatibility.LEVELS:
        raise SchemaRefusal(42203, f"Invalid compatibility level; valid are {', '.join(compatibility.LEVELS)}.")
    await store.set_level(connection, subject, level)


async def clear_level(connection: Connection, subject: str) -> None:
    """Give a subject the global level again."""
    await store.clear_level(connection, subject)


async def seed(connection: Connection) -> None:
    """Register the platform's events under their fixed ids; raises RuntimeError where an id stands for another schema.

    A topic of one type uses the subject `<topic>-value`, a topic of several `<topic>-<full name>`.
    """
    await store.begin(connection)
    for event in EVENTS:
        schema = json.loads(event.SCHEMA)
        if not await store.seed(connection, event.SCHEMA_ID, fingerprint(schema), event.SCHEMA):
            raise RuntimeError(f"Schema id {event.SCHEMA_ID} is not {event.__name__}: the id was given before.")
    by_name = {event.__name__: event for event in EVENTS}
    for topic in TOPICS:
        if not topic.template:
            for name in topic.events:
                subject = f"{topic.name}-value" if len(topic.events) == 1 else f"{topic.name}-io.interlock.{name}"
                await set_level(connection, subject, topic.compatibility)
                text = by_name[name].SCHEMA
                await register(connection, subject, json.loads(text), text)


async def open_endpoint(connection: Connection, endpoint: str, partitions: int) -> None:
    """Give the subjects of a new endpoint their levels, and register the platform's own events in its topics."""
    by_name = {event.__name__: event for event in EVENTS}
    for topic in endpoint_topics(endpoint, partitions):
        subject = f"{topic.name}-value"
        await set_level(connection, subject, topic.compatibility)
        if len(topic.events) == 1:
            text = by_name[topic.events[0]].SCHEMA
            await register(connection, subject, json.loads(text), text)


async def agree(connection: Connection, endpoint: str, signature: Signature, *, replace: bool) -> None:
    """Put the request and result schemas of a signature under the endpoint's subjects.

    `replace` takes the place of what stood there, as long as nothing was approved for the endpoint; else the new
    schemas must be compatible with the old. Raises Refusal(SIGNATURE_INCOMPATIBLE) saying where they are not.
    """
    for what, schema in (
        ("requests", contract.request_schema(endpoint, signature)),
        ("results", contract.result_schema(endpoint, signature)),
    ):
        subject, text = f"{endpoint}.{what}-value", json.dumps(schema)
        try:
            made = await register(connection, subject, schema, text, "NONE" if replace else None)
        except SchemaRefusal as error:
            raise Refusal(errors.SIGNATURE_INCOMPATIBLE, error.message, subject=subject) from error
        if replace:
            older = [each.version for each in await versions(connection, subject) if each.version != made.version]
            await store.mark(connection, subject, older, "soft")


async def latest(connection: Connection, subject: str) -> Registered | None:
    """Return a subject's newest version, or None."""
    live = [each for each in await store.versions(connection, subject) if each.deleted == "no"]
    return live[-1] if live else None


def read_json(text: str) -> Any:
    """Return a registered schema as JSON."""
    return text if text in PRIMITIVES else json.loads(text)
