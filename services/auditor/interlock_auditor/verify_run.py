"""A verification as it is run: the table read by anyone who may read it, the witness asked, or its folder opened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from interlock.errors import Refusal
from interlock.ids import digest_text
from interlock.merkle import Tree
from interlock.postgres.pool import Connection, dedicated
from interlock.settings import PlatformSettings
from interlock_auditor import store, store_blocks
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, BadNote, Checkpoint, VerifierKey
from interlock_auditor.errors import AUDIT_UNVERIFIABLE
from interlock_auditor.settings import Settings
from interlock_auditor.verify import COLUMN_FORGED, WITNESS_DAMAGED, Finding, heads
from interlock_auditor.verify_replay import Replayed, replay
from interlock_auditor.verify_table import Table
from interlock_auditor.verify_worker import Place
from interlock_auditor.witness_client import Witness, WitnessClient, WitnessFolder

HEAD_SECONDS_MAX: Final = 5.0
"""How long the log may take to publish the head that its witness has just signed."""
HEAD_LOOK_SECONDS: Final = 0.2
ANSWER_SECONDS_MAX: Final = 30.0
SCHEMA: Final = "auditor"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be verified, and with what."""

    dsn: str
    """Any role that may read the schema `auditor`."""
    witness: str
    """The witness's URL, or its folder."""
    token: str
    log_key: Path
    """PEM with the log's public key."""
    witness_key: Path
    origin: str = "interlock/audit"
    witness_name: str = "interlock/witness"
    workers: int | None = None
    """In how many processes rows are hashed, at most one a core; None leaves it to the setting."""
    kafka: str | None = None
    """Bootstrap servers, where the topics are to be read again."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found; nothing is wrong where `findings` is empty."""

    rows: int
    witnessed: int
    """How many entries the witness signed; rows behind them are newer."""
    root: str
    findings: list[Finding]
    seconds: float
    replayed: int | None = None
    gone: int | None = None
    replayed_root: str | None = None


async def verify(**asked: Any) -> dict[str, Any]:
    """Verify the log and return the report as plain values; the fields of `Asked` are its arguments.

    Raises Refusal(AUDIT_UNVERIFIABLE) where a key is missing, Transient where a server is away.
    """
    return dict(msgspec.to_builtins(await run(msgspec.convert(asked, Asked, dec_hook=_path))))


def _path(kind: type, value: Any) -> Any:
    """Return a path that was given as text."""
    return kind(value)


async def run(asked: Asked) -> Report:
    """Verify the log; see `verify`."""
    started = time.perf_counter()
    async with _witness(asked) as witness, dedicated(asked.dsn) as first, dedicated(asked.dsn) as second:
        for connection in (first, second):
            await connection.execute(f"SET search_path = {SCHEMA}; {store_blocks.SETUP}")
        head = await witness.head()
        found = [] if head is None else _signed(asked, head)
        table = Table(second)
        workers = Settings().verify_workers if asked.workers is None else asked.workers
        await table.read(first, Place(asked.dsn, SCHEMA), workers, partial(_witnessed, witness, head))
        wrong = table.comparison.findings()
        found += wrong
        found += [Finding(COLUMN_FORGED, seq, seq) for seq in table.forged]
        if head is not None:
            found += heads(await _presented(first, head, asked), head, table.tree)
        # Where nothing is wrong the witness's tree is the table's, but for what is newer.
        tree = _grown(Tree(), table.leaves) if wrong else _grown(table.tree, table.newer)
        again = await _again(asked.kafka, first, tree) if asked.kafka else None
    if again is not None:
        found += again.findings
    return Report(
        rows=table.comparison.rows,
        witnessed=table.comparison.size,
        root=digest_text(tree.root()),
        findings=found,
        seconds=time.perf_counter() - started,
        replayed=again.records if again else None,
        gone=again.gone if again else None,
        replayed_root=digest_text(again.root) if again else None,
    )


@asynccontextmanager
async def _witness(asked: Asked) -> AsyncIterator[Witness]:
    """Lend the witness: its folder, or the process."""
    if not asked.witness.startswith(("http://", "https://")):
        yield WitnessFolder(Path(asked.witness))
        return
    client = WitnessClient(asked.witness, asked.token, ANSWER_SECONDS_MAX, 65_536)
    try:
        yield client
    finally:
        await client.close()


async def _witnessed(witness: Witness, head: Checkpoint | None) -> bytes:
    return b"" if head is None else await witness.leaves(0, head.size)


def _grown(tree: Tree, hashes: bytes) -> Tree:
    tree.extend_with(hashes)
    return tree


def _signed(asked: Asked, head: Checkpoint) -> list[Finding]:
    """Return what is wrong with the signatures of the witness's head."""
    try:
        keys = (
            VerifierKey.of_pem(asked.origin, ED25519, asked.log_key.read_bytes()),
            VerifierKey.of_pem(asked.witness_name, COSIGNATURE, asked.witness_key.read_bytes()),
        )
    except (OSError, ValueError) as error:
        raise Refusal(AUDIT_UNVERIFIABLE, f"A public key is missing: {error}.") from error
    found = []
    for key in keys:
        try:
            key.check(head.note)
        except BadNote as error:
            found.append(Finding(WITNESS_DAMAGED, 0, head.size - 1, detail=f"its head: {error}"))
    if head.origin != asked.origin:
        found.append(Finding(WITNESS_DAMAGED, 0, head.size - 1, detail=f"its head is of {head.origin}"))
    return found


async def _presented(connection: Connection, head: Checkpoint, asked: Asked) -> Checkpoint | None:
    """Return the newest head that the log shows; one just signed by the witness may take a moment to be there."""
    key = VerifierKey.of_pem(asked.origin, ED25519, asked.log_key.read_bytes())
    deadline = time.monotonic() + HEAD_SECONDS_MAX
    while True:
        shown = await store.newest_head(connection)
        if shown is not None:
            try:
                key.check(shown.note)
            except BadNote:
                shown = None
        if (shown is not None and shown.size >= head.size) or time.monotonic() > deadline:
            return shown
        await asyncio.sleep(HEAD_LOOK_SECONDS)


async def _again(bootstrap_servers: str, connection: Connection, tree: Tree) -> Replayed:
    return await replay(PlatformSettings(kafka_bootstrap_servers=bootstrap_servers), connection, tree)
