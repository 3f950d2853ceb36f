"""A PostgreSQL in memory, as far as the platform's statements go: transactions, snapshots, locks, broken sessions.

What it models, and the contract suite (tests/contract/test_statements.py) holds against a real server: READ COMMITTED,
transaction ids that are handed out when something is first written, `pg_snapshot_xmin`, identity columns that are
handed out before transactions commit, row locks (shared, exclusive) and advisory locks that are waited for, and a
statement that is carried out afresh on what its wait left. The statements are in `postgres_statements`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from interlock.errors import Transient
from tests.simulation.loop import Process, VirtualLoop, current
from tests.simulation.network import Away, Connection, Server, Told

DEADLOCK_SECONDS = 5.0
CLOSED_SECONDS = 0.02
DATABASE = "database"

Row = dict[str, Any]
Statement = Callable[..., Any]
Statements = Callable[[str], Statement]


class Blocked(Exception):
    """The statement must wait until some transaction or session has let go."""


class Failed(Told):
    """The server refuses the statement, by the error that the driver would raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(eq=False)
class Version:
    """One version of a row: who wrote it and who replaced it."""

    row: Row
    by: int
    gone_by: int | None = None


@dataclass(eq=False)
class Session:
    """One connection, on the server's side."""

    process: Process
    transaction: bool = False
    xid: int | None = None
    locks: set[str] = field(default_factory=set)  # to the end of the transaction
    held: set[str] = field(default_factory=set)  # to the end of the session
    fenced: tuple[Any, ...] | None = None
    closed: bool = False


class Database(Server):
    """The server, with one database. A statement is carried out at one moment, or waits."""

    def __init__(self, loop: VirtualLoop, statements: Statements, name: str = "postgres") -> None:
        super().__init__(loop, name)
        self.statements = statements
        self.tables: dict[str, dict[Any, list[Version]]] = {}
        self.sequences: dict[str, int] = {}
        self.sessions: list[Session] = []
        self.running: set[int] = set()
        self.aborted: set[int] = set()
        self.next_xid = 100
        self.listeners: dict[str, list[tuple[Session, Callable[..., object]]]] = {}
        self.at_commit: list[Callable[[Session], None]] = []
        self._waiting: list[tuple[float, Session, asyncio.Future[Any], Any, Any]] = []

    # What statements are made of.

    def xid(self, session: Session) -> int:
        """Return the session's transaction id, handing one out."""
        if session.xid is None:
            session.xid, self.next_xid = self.next_xid, self.next_xid + 1
            self.running.add(session.xid)
        return session.xid

    def xmin(self) -> int:
        """Return `pg_snapshot_xmin`: the oldest transaction that runs, or the one that comes next."""
        return min(self.running, default=self.next_xid)

    def sees(self, session: Session | None, version: Version) -> bool:
        """Say whether a statement that begins now sees a version: of this session, or of one that has done nothing."""
        return self._done(session, version.by) and (version.gone_by is None or not self._done(session, version.gone_by))

    def rows(self, session: Session | None, table: str) -> list[Row]:
        """Return what the session sees of a table, by key; without a session, what is committed."""
        found = self.tables.get(table, {})
        return [version.row for key in sorted(found) for version in found[key] if self.sees(session, version)]

    def row(self, session: Session, table: str, key: Any) -> Row | None:
        """Return a row that the session sees."""
        versions = self.tables.get(table, {}).get(key, [])
        return next((version.row for version in versions if self.sees(session, version)), None)

    def lock(self, session: Session, table: str, key: Any, *, shared: bool = False) -> None:
        """Lock a row to the end of the transaction; Blocked while another has it in a way that does not agree."""
        name = f"row {table}/{key}"
        for other in self.sessions:
            if other is not session and (name in other.locks or (not shared and f"shared {name}" in other.locks)):
                raise Blocked
        self.xid(session)
        session.locks.add(f"shared {name}" if shared else name)

    def insert(self, session: Session, table: str, key: Any, row: Row) -> bool:
        """Write a new row; False where there is one. Blocked while another transaction is about to write it."""
        versions = self.tables.setdefault(table, {}).setdefault(key, [])
        if any(version.by in self.running and version.by != session.xid for version in versions):
            raise Blocked
        if any(self.sees(session, version) for version in versions):
            return False
        versions.append(Version(row, self.xid(session)))
        return True

    def update(self, session: Session, table: str, key: Any, changes: Row) -> None:
        """Replace a row that the session sees."""
        self.lock(session, table, key)
        xid, versions = self.xid(session), self.tables[table][key]
        version = next(each for each in versions if self.sees(session, each))
        version.gone_by = xid
        versions.append(Version(version.row | changes, xid))

    def advise(self, session: Session, name: str, *, whole_session: bool = False, wait: bool = True) -> bool:
        """Take an advisory lock; Blocked (or False) while another has it."""
        full = f"advice {name}"
        for other in self.sessions:
            if other is not session and (full in other.locks or full in other.held):
                if wait:
                    raise Blocked
                return False
        (session.held if whole_session else session.locks).add(full)
        return True

    def next_of(self, sequence: str) -> int:
        """Hand out the next number; it is used up whatever becomes of the transaction."""
        self.sequences[sequence] = self.sequences.get(sequence, 0) + 1
        return self.sequences[sequence]

    # What the wire carries.

    def connect(self, process: Process) -> Session:
        """Begin a session."""
        session = Session(process)
        self.sessions.append(session)
        process.at_death.append(lambda: self.later(CLOSED_SECONDS, self.close, session))
        return session

    def begin(self, session: Session) -> None:
        """BEGIN."""
        self._alive(session)
        session.transaction = True

    def commit(self, session: Session) -> None:
        """COMMIT."""
        self._alive(session)
        for look in self.at_commit:
            look(session)
        self._end(session, committed=True)

    def rollback(self, session: Session) -> None:
        """ROLLBACK."""
        self._end(session, committed=False)

    def close(self, session: Session) -> None:
        """End a session, and what it had begun."""
        if not session.closed:
            session.closed = True
            self.sessions.remove(session)
            session.held.clear()
            self._end(session, committed=False)

    def execute(self, session: Session, sql: str, arguments: tuple[Any, ...]) -> Any:
        """Carry a statement out, or return a future where it has to wait."""
        self._alive(session)
        statement = self.statements(sql)
        try:
            return self._carry_out(session, statement, arguments)
        except Blocked:
            answer: asyncio.Future[Any] = self.loop.create_future()
            self._waiting.append((self.loop.time(), session, answer, statement, arguments))
            self.later(DEADLOCK_SECONDS, self._give_up, answer)
            return answer

    def restart(self, seconds: float) -> None:
        """Kill the server and bring it back: what had not committed never happened."""
        super().restart(seconds)
        for session in list(self.sessions):
            self.close(session)

    def _carry_out(self, session: Session, statement: Statement, arguments: tuple[Any, ...]) -> Any:
        # A statement by itself is a transaction by itself.
        found = statement(self, session, *arguments)
        if not session.transaction:
            self._end(session, committed=True)
        return found

    def _end(self, session: Session, *, committed: bool) -> None:
        if session.xid is not None:
            self.running.discard(session.xid)
            if not committed:
                self.aborted.add(session.xid)
        session.transaction, session.xid, session.fenced = False, None, None
        session.locks.clear()
        self._retry()

    def _retry(self) -> None:
        """Let those that wait try again, in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        for since, session, answer, statement, arguments in waiting:
            if answer.done() or session.closed:
                continue
            try:
                found = self._carry_out(session, statement, arguments)
            except Blocked:
                self._waiting.append((since, session, answer, statement, arguments))
            except Failed as failed:
                answer.set_exception(failed)
            else:
                answer.set_result(found)

    def _give_up(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(Failed(asyncpg.DeadlockDetectedError("waited too long")))

    def _alive(self, session: Session) -> None:
        if session.closed:
            raise Failed(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))

    def _done(self, session: Session | None, xid: int) -> bool:
        return (session is not None and xid == session.xid) or (xid not in self.running and xid not in self.aborted)


class SimulatedConnection:
    """A connection as the driver gives it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wire = Connection(database)
        self._session: Session | None = None

    async def open(self) -> None:
        """Connect; raises what the driver raises."""
        self._session = await self._ask(self._database.connect, current())

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        found = await self.fetchrow(sql, *arguments)
        return next(iter(found.values())) if found is not None else None

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        found = await self.fetch(sql, *arguments)
        return found[0] if found else None

    async def fetch(self, sql: str, *arguments: Any) -> list[Row]:
        found: list[Row] = await self._ask(self._database.execute, self._session, sql, arguments)
        return found

    async def execute(self, sql: str, *arguments: Any) -> None:
        await self.fetch(sql, *arguments)

    async def executemany(self, sql: str, every: list[tuple[Any, ...]]) -> None:
        for arguments in every:
            await self.fetch(sql, *arguments)

    async def add_listener(self, channel: str, heard: Callable[..., object]) -> None:
        """Nothing is heard: a notice is only a hint."""

    def transaction(self) -> Any:
        return self._within()

    def terminate(self) -> None:
        if self._session is not None:
            self._database.later(CLOSED_SECONDS, self._database.close, self._session)

    @asynccontextmanager
    async def _within(self) -> AsyncIterator[None]:
        await self._ask(self._database.begin, self._session)
        try:
            yield
        except BaseException:
            if self._session is not None and not self._session.closed:
                self._database.later(CLOSED_SECONDS / 2, self._database.rollback, self._session)
                self.terminate()
            raise
        await self._ask(self._database.commit, self._session)

    async def _ask(self, what: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self._wire.ask(what, *arguments)
        except Away as error:
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError(str(error)) from error
        except Failed as failed:
            self.terminate()
            raise failed.error from failed


class SimulatedPool:
    """A pool as the driver gives it; each loan is a connection of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def acquire(self, timeout: float = 10.0) -> AsyncIterator[SimulatedConnection]:  # noqa: ASYNC109 - the driver's word
        connection = SimulatedConnection(self.database)
        await connection.open()
        try:
            yield connection
        finally:
            connection.terminate()

    async def fetch(self, sql: str, *arguments: Any) -> list[Row]:
        async with self.acquire() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(sql, *arguments)


@asynccontextmanager
async def dedicated(dsn: str) -> AsyncIterator[SimulatedConnection]:
    """`interlock.postgres.pool.dedicated`; the address is the name of a database of this run."""
    database = current().loop.things[dsn]
    connection = SimulatedConnection(database)
    try:
        await connection.open()
        yield connection
    except (asyncpg.PostgresError, OSError) as error:
        raise Transient(f"Postgres: {error}") from error
    finally:
        connection.terminate()
