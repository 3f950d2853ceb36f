"""Connections to Postgres: the one home of its driver's pool, and what counts as the server being away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import structlog

from interlock.backoff import Backoff
from interlock.errors import Transient

COMMAND_SECONDS_MAX = 30.0
CONNECT_SECONDS_MAX = 5.0
ACQUIRE_SECONDS_MAX = 10.0
IDLE_CONNECTION_SECONDS_MAX = 300.0

Pool: TypeAlias = Any
"""An asyncpg pool."""
Connection = Any
"""An asyncpg connection or its proxy from the pool."""

# Each of these passes by itself: the server is away, restarting or full, or two transactions met.
_PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the driver lost its way on a connection that died between two statements
    ConnectionError,
    TimeoutError,
    socket.gaierror,
)

log = structlog.get_logger("interlock.postgres")


async def connect(
    dsn: str, *, connections_max: int = 10, retry_seconds_max: float = 5.0, application: str = "interlock"
) -> Pool:
    """Return a pool once the server answers; until then wait with growing pauses, saying so once.

    A missing role, database or schema is waited for too: `interlock migrate` may make it a moment later.
    """
    backoff, said = Backoff(retry_seconds_max), False
    while True:
        # A new pool for each attempt: one that failed to start counts as started, and then opens connections lazily.
        pool = asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=connections_max,
            command_timeout=COMMAND_SECONDS_MAX,
            timeout=CONNECT_SECONDS_MAX,
            max_inactive_connection_lifetime=IDLE_CONNECTION_SECONDS_MAX,
            server_settings={"application_name": application},
        )
        try:
            await pool
            break
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            pool.terminate()
            if not said:
                log.warning(
                    "postgres.away",
                    detail=f"{type(error).__name__}: {error}",
                    todo="waiting; start it or set INTERLOCK_POSTGRES_DSN",
                )
                said = True
        await asyncio.sleep(backoff.next_seconds())
    if said:
        log.info("postgres.back")
    return pool


def passes(error: BaseException) -> bool:
    """Say whether waiting helps. The driver also raises InterfaceError for our own mistakes; those are bugs."""
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.DataError):
        return any(word in str(error) for word in ("is closed", "was closed", "closing", "released"))
    return isinstance(error, _PASSING)


@asynccontextmanager
async def passing() -> AsyncIterator[None]:
    """Turn a failure that waiting will mend, inside the body, into Transient; anything else goes through as it is."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        if not passes(error):
            raise
        raise Transient(f"Postgres: {type(error).__name__}: {error}") from error


@asynccontextmanager
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection within ACQUIRE_SECONDS_MAX; raises Transient where the server is away or all are in use."""
    async with passing(), pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
        yield connection


@asynccontextmanager
async def dedicated(dsn: str) -> AsyncIterator[Connection]:
    """Open a connection beside the pool, for what lives as long as it does: advisory locks and LISTEN.

    Raises Transient where the server is away.
    """
    async with passing():
        connection = await asyncpg.connect(
            dsn,
            command_timeout=COMMAND_SECONDS_MAX,
            timeout=CONNECT_SECONDS_MAX,
            server_settings={"application_name": "interlock-dedicated"},
        )
        try:
            yield connection
        finally:
            connection.terminate()


def readiness(pool: Pool) -> Callable[[], Awaitable[None]]:
    """Return the readiness check of a pool, under a name that a person reads."""

    async def postgres_ready() -> None:
        await check(pool)

    return postgres_ready


async def check(pool: Pool) -> None:
    """Return if the server answers a query; raises Transient."""
    async with borrowed(pool) as connection:
        await connection.fetchval("SELECT 1")
