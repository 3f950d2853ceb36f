"""What the audit log costs and what it finds: `python -m tests.bench.bench_audit [--entries N] [--forgeries N]`.

A real Postgres table of a million entries is filled, checked whole against the witness's folder, and forged in memory
ten thousand times; a real auditor with its witness then enters batches from Kafka, and its processor time is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import psutil
from rich.console import Console

from interlock import auth, embedded, merkle
from interlock.cause import Cause
from interlock.postgres import journal, migrate, pool
from interlock.schemas.events import CheckpointSigned
from interlock_auditor import store
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, Checkpoint, NoteKey
from interlock_auditor.entry import leaves
from interlock_auditor.verify_run import Asked, run
from interlock_auditor.witness_memory import Memory
from tests.integration.auditor.rig import PASSWORD, SQL, Room, batch, endpoint_created
from tests.unit.auditor.forgeries import Forger, made_entry, made_tiles, named

CHUNK = 1_000
PROOFS = 20_000
BATCHES = 30_000
console = Console(highlight=False, soft_wrap=True)


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Yield a function that says how many seconds have passed."""
    started = time.perf_counter()

    def passed() -> float:
        return time.perf_counter() - started

    yield passed


def proofs(entries: int) -> None:
    """Time proofs in memory."""
    hashes = b"".join(merkle.leaf_hash(number.to_bytes(8, "big")) for number in range(entries))
    tree = merkle.Tree()
    with timed() as passed:
        tree.extend_with(hashes)
        console.print(f"tree of {entries:,} leaves from hashes: {passed():.2f} s")
    asked = [number * 7919 % entries for number in range(PROOFS)]
    root = tree.root()
    _microseconds("inclusion proof", [_one(partial(tree.inclusion_path, index)) for index in asked])
    checks = [
        partial(merkle.verify_inclusion, tree.leaf(at), at, entries, tree.inclusion_path(at), root) for at in asked
    ]
    _microseconds("its check", [_one(each) for each in checks])
    _microseconds("consistency proof", [_one(partial(tree.consistency_path, old + 1)) for old in asked])
    _microseconds("append of one leaf", [_one(partial(tree.append, root)) for _ in range(PROOFS)])


def forge(entries: int, forgeries: int) -> bool:
    """Forge a log in memory again and again; say whether all was seen and exactly located."""
    with timed() as passed:
        forger = Forger(made_tiles(entries), seed=7)
        console.print(f"{entries:,} entries made and hashed: {passed():.1f} s")
    wrong, counts = 0, dict.fromkeys((*(kind.__name__ for kind in forger.kinds), "old_head"), 0)
    with timed() as passed:
        for number in range(forgeries):
            turn = number % (len(forger.kinds) + 1)
            if turn == len(forger.kinds):
                counts["old_head"] += 1
                findings, expected = forger.old_head()
                wrong += not expected <= named(findings)
            else:
                kind = forger.kinds[turn]
                counts[kind.__name__] += 1
                tiles, expected = kind()
                wrong += named(forger.findings(tiles)) != expected
        console.print(f"{forgeries:,} forgeries of {entries:,} entries: {passed():.0f} s, {counts}")
    console.print(f"seen and located to the row: {forgeries - wrong:,} of {forgeries:,}")
    return not wrong


async def table(environment: dict[str, str], folder: Path, entries: int) -> bool:
    """Fill a real table and check it whole; say whether nothing was found."""
    owner = environment["INTERLOCK_POSTGRES_OWNER_DSN"]
    await migrate.migrate(owner, "auditor", [SQL], PASSWORD)
    dsn = f"{owner.partition('://')[0]}://{migrate.role_of('auditor')}:{PASSWORD}@{owner.rpartition('@')[2]}"
    log, witness = (
        NoteKey(name, kind, _kept(folder, name.rpartition("/")[2]))
        for name, kind in (("interlock/audit", ED25519), ("interlock/witness", COSIGNATURE))
    )
    tree = merkle.Tree()
    connection = await asyncpg.connect(dsn)
    with timed() as passed:
        for first in range(0, entries, CHUNK):
            made = [made_entry(seq) for seq in range(first, min(first + CHUNK, entries))]
            hashes = b"".join(leaves(made))
            async with connection.transaction():
                assert await store.end(connection) == tree.size
                await store.append(connection, made)
            tree.extend_with(hashes)
        seconds = passed()
    console.print(f"appended durably, chunks of {CHUNK:,}: {entries / seconds:,.0f} entries/s ({seconds:.0f} s)")
    memory = Memory(folder / "witness", log.public, "interlock/audit", witness)
    memory.open()
    head = Checkpoint.signed("interlock/audit", entries, tree.root(), log)
    with timed() as passed:
        line = memory.take(head.note, 0, tree.leaves(), int(time.time()))
        console.print(f"witness takes {entries:,} hashes at once: {passed():.2f} s")
    opened = await pool.connect(dsn)
    async with journal.unit(opened, Cause.start("bench")) as unit:
        await unit.append("log", _signed(head.cosigned(line)))
    await opened.close()
    await connection.close()
    asked = Asked(
        dsn=dsn,
        witness=str(folder / "witness"),
        token="",
        log_key=folder / "audit-public.pem",
        witness_key=folder / "witness-public.pem",
    )
    before = _own_and_children()
    reports = [await run(asked) for _ in range(3)]
    used = (_own_and_children() - before) / len(reports)
    walls = ", ".join(f"{each.seconds:.2f}" for each in reports)
    console.print(
        f"full check of {entries:,} rows against the witness: {walls} s; {used:.2f} s of our own CPU in all processes; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    console.print(f"findings: {reports[-1].findings}")
    return not any(each.findings for each in reports)


async def live(environment: dict[str, str], folder: Path) -> None:
    """Let a real auditor and witness enter batches from Kafka, and take their processor time."""
    room = Room(environment, folder)
    await room.prepare()
    room.witness.start()
    await room.endpoint("bench", partitions=4)
    for number in range(0, BATCHES // 4, 250):
        await room.say(
            [batch("bench", part, each, each + 1) for part in range(4) for each in range(number, number + 250)]
        )
    await room.say([endpoint_created("last", 1)])
    room.auditor.start()
    assert room.auditor.child is not None and room.witness.child is not None
    processes = [psutil.Process(each.child.pid) for each in (room.auditor, room.witness) if each.child]
    started = None
    while (size := (await room.head()).get("size") or 0) < BATCHES:
        if started is None and size:
            started = (time.perf_counter(), size, [_cpu(each) for each in processes])
        await asyncio.sleep(0.05)
    assert started is not None, "it was entered before it could be looked at: take more batches"
    seconds, count = time.perf_counter() - started[0], size - started[1]
    memory = ", ".join(f"{each.memory_info().rss / 2**20:.0f} MiB" for each in processes)
    used = [(_cpu(each) - before) / count * 1e6 for each, before in zip(processes, started[2], strict=True)]
    console.print(
        f"entered from Kafka: {count / seconds:,.0f} entries/s; auditor {used[0]:.0f} µs CPU an entry, "
        f"witness {used[1]:.1f} µs; memory {memory}"
    )
    await room.close()
    room.end()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _own_and_children() -> float:
    """Return the processor seconds of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _signed(head: Checkpoint) -> CheckpointSigned:
    return CheckpointSigned(
        log=head.origin,
        size=head.size,
        root=f"sha256:{head.root.hex()}",
        note=head.note,
        witnessed=True,
        at=datetime.now(UTC),
    )


def _kept(folder: Path, name: str) -> bytes:
    private, public = auth.generate_keys()
    (folder / f"{name}-public.pem").write_bytes(public)
    return private


def _one(work: Callable[[], object]) -> float:
    """Return the processor time of a piece of work: others on the machine do not count."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def _microseconds(what: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    console.print(f"{what}: p50 {cuts[49] * 1e6:.1f} µs, p99 {cuts[98] * 1e6:.1f} µs")


def main() -> int:
    """Measure all of it; exit status 1 where a forgery was missed or a clean log was not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--forgeries", type=int, default=10_000)
    parser.add_argument("--only", choices=["proofs", "table", "live", "forge"])
    options = parser.parse_args()
    held = True
    if options.only in {None, "proofs"}:
        proofs(options.entries)
    if options.only in {None, "table", "live"}:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with embedded.running(folder / "table", ("kafka", "postgres")) as environment:
                if options.only != "live":
                    held = asyncio.run(table(environment, folder, options.entries))
            with embedded.running(folder / "live", embedded.SERVERS) as environment:
                if options.only != "table":
                    asyncio.run(live(environment, folder / "room"))
    if options.only in {None, "forge"}:
        held = forge(options.entries, options.forgeries) and held
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
