"""What can be asked of the log: its head, its entries with their proofs, and that it only ever grew."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from interlock.auth import Identity
from interlock.errors import Poison, Refusal, Transient
from interlock.http import require
from interlock.ids import digest_text
from interlock.postgres.pool import Pool, borrowed
from interlock_auditor import store
from interlock_auditor.entry import Entry
from interlock_auditor.errors import ENTRY_UNKNOWN, SIZE_UNKNOWN
from interlock_auditor.log import Log
from interlock_auditor.settings import Settings
from interlock_auditor.verify import Finding

Anybody = Annotated[Identity, Depends(require())]
Size = Annotated[int, Query(ge=0, le=2**62)]


class FindingView(BaseModel):
    """Entries that are not what they were."""

    what: str
    first: int
    last: int
    place: str | None
    detail: str


class GapView(BaseModel):
    """Records that were gone before they could be entered."""

    topic: str
    partition: int
    from_offset: int
    next_offset: int
    detail: str


class HeadView(BaseModel):
    """The log as it stands."""

    log: str = Field(description="The log's name, the origin of its checkpoints.")
    state: str = Field(description="witnessed, unwitnessed, lost (the witness), refused or waiting.")
    size: int | None = Field(description="How many entries; null where this process is not the writer.")
    root: str | None = Field(description="`sha256:` and the root over them.")
    note: str | None = Field(description="The newest checkpoint that log and witness signed.")
    witnessed_size: int = Field(description="How many entries that one covers.")
    witness_lost: str | None = Field(description="Why the witness counts as lost; promotions wait meanwhile.")
    trouble: str | None = Field(description="Why nothing is entered.")
    findings: list[FindingView] = Field(description="The rows at fault, as far as they are known.")
    gaps: list[GapView] = Field(description="Stretches of topics that are missing.")
    lag: int = Field(description="How many offsets lie ahead.")
    key: str = Field(description="The log's verifier key.")
    witness_key: str = Field(description="The witness's verifier key.")


class EntryView(BaseModel):
    """One entry."""

    seq: int
    topic: str
    partition: int
    offset: int
    event_id: str
    action: str
    source: str
    actor: str
    subject: str
    time: int
    schema_digest: str
    payload_digest: str
    event: Any = Field(description="What the payload says, where it is an event of this platform.")


class ProvedEntry(EntryView):
    """One entry with what proves it."""

    entry: str = Field(description="Its canonical bytes, in hexadecimal digits.")
    payload: str = Field(description="The record's value, in hexadecimal digits.")
    size: int = Field(description="The size of the log that the path leads to.")
    path: list[str] = Field(description="The neighbours from the leaf to the root, in hexadecimal digits.")
    note: str | None = Field(description="The checkpoint of that size with both signatures; null where there is none.")


class Consistency(BaseModel):
    """What proves that a log begins with an earlier one."""

    old_size: int
    size: int
    old_root: str
    root: str
    path: list[str]


def router(settings: Settings, log: Log, pool: Pool) -> APIRouter:
    """Return the routes under /v1; all are for anybody with a token, and change nothing."""
    routes = APIRouter(prefix="/v1", tags=["audit"])
    _head(routes, log)
    _entries(routes, settings, log, pool)
    _proofs(routes, log)
    return routes


def _head(routes: APIRouter, log: Log) -> None:
    @routes.get("/head", operation_id="get_audit_head")
    async def head(_: Anybody) -> HeadView:
        """Give size and root, what the witness signed, and what is wrong if anything is."""
        witnessed, trouble = log.witnessed, log.trouble
        return HeadView(
            log=log.origin,
            state=log.state,
            size=log.size if log.leading or trouble else None,
            root=digest_text(log.tree.root()) if log.leading or trouble else None,
            note=None if witnessed is None else witnessed.note,
            witnessed_size=0 if witnessed is None else witnessed.size,
            witness_lost=log.witness_lost,
            trouble=None if trouble is None else trouble.detail,
            findings=[_finding(each) for each in trouble.findings] if trouble else [],
            gaps=[GapView(**{name: getattr(each, name) for name in GapView.model_fields}) for each in log.gaps],
            lag=log.lag,
            key=str(log.key.public),
            witness_key=str(log.witness_key),
        )

    @routes.get("/keys", operation_id="get_audit_keys")
    async def keys(_: Anybody) -> dict[str, str]:
        """Give the verifier keys of log and witness; whoever checks a proof had better have them from elsewhere."""
        return {"log": str(log.key.public), "witness": str(log.witness_key)}

    @routes.get("/checkpoint", operation_id="get_audit_checkpoint", response_class=Response)
    async def checkpoint(_: Anybody) -> Response:
        """Give the newest checkpoint with both signatures, as a signed note."""
        if log.witnessed is None:
            raise Transient("The witness has signed nothing yet.")
        return Response(log.witnessed.note, media_type="text/plain; charset=utf-8")


def _entries(routes: APIRouter, settings: Settings, log: Log, pool: Pool) -> None:
    @routes.get("/entries", operation_id="list_audit_entries")
    async def entries(
        _: Anybody,
        first: Annotated[int, Query(ge=0, le=2**62, description="The number of the first entry.")] = 0,
        limit: Annotated[int, Query(ge=1, description="How many at most.")] = 100,
        action: str | None = None,
        model: str | None = None,
        endpoint: str | None = None,
    ) -> list[EntryView]:
        """Give entries from a number on, of one action, model or endpoint where asked."""
        count = min(limit, settings.entries_page_max)
        async with borrowed(pool) as connection:
            found = await store.page(connection, first, count, action=action, model=model, endpoint=endpoint)
        return [EntryView(**_view(each)) for each in found]

    @routes.get("/entries/{seq}", operation_id="get_audit_entry")
    async def entry(seq: Annotated[int, Path(ge=0, le=2**62)], _: Anybody) -> ProvedEntry:
        """Give one entry with its inclusion proof, in the newest log that the witness signed where it is in that."""
        async with borrowed(pool) as connection:
            found = await store.entry(connection, seq)
        if found is None:
            raise Refusal(ENTRY_UNKNOWN, f"There is no entry {seq}.")
        covered = log.witnessed is not None and seq < log.witnessed.size
        size = log.witnessed.size if covered and log.witnessed else log.size
        return ProvedEntry(
            **_view(found),
            entry=found.entry.hex(),
            payload=found.payload.hex(),
            size=size,
            path=[each.hex() for each in log.proof(seq, size)],
            note=log.witnessed.note if covered and log.witnessed else None,
        )


def _proofs(routes: APIRouter, log: Log) -> None:
    @routes.get("/proofs/consistency", operation_id="get_consistency_proof")
    async def consistency(_: Anybody, old: Size, new: Size | None = None) -> Consistency:
        """Give what proves that the log of `new` entries (all by default) begins with that of `old`."""
        size = log.head()[0] if new is None else new
        path = log.consistency(old, size)
        if not size:
            raise Refusal(SIZE_UNKNOWN, "The log is empty.")
        return Consistency(
            old_size=old,
            size=size,
            old_root=log.tree.root(old).hex(),
            root=log.tree.root(size).hex(),
            path=[each.hex() for each in path],
        )


def _finding(found: Finding) -> FindingView:
    return FindingView(**{name: getattr(found, name) for name in FindingView.model_fields})


def _view(found: Entry) -> dict[str, Any]:
    view = {name: getattr(found, name) for name in EntryView.model_fields if name != "event"}
    try:
        event: Any = found.event
    except Poison:
        event = None
    return view | {"event": msgspec.to_builtins(event)}
