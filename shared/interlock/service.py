"""The process runner: turns a service's `build` into a process that starts, waits, works, drains and ends.

This is the only place that catches everything: a bug is logged and ends the process, the offset stays where it
was, and the supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pydantic
import structlog
import uvicorn
from fastapi import APIRouter
from starlette.types import ASGIApp

from interlock import http, metrics, telemetry
from interlock.auth import Verifier
from interlock.backoff import Backoff, pause
from interlock.blobs import Blobs
from interlock.cache import Cache
from interlock.clock import Clock, SystemClock
from interlock.dispatch import Consumes, Dispatch
from interlock.errors import InterlockError, Transient
from interlock.kafka.consumer import ControlConsumer
from interlock.kafka.producer import TransactionalPublisher
from interlock.postgres import pool as postgres
from interlock.postgres.outbox import Relay
from interlock.settings import PlatformSettings, tell_libraries

ENTRY_POINTS = "interlock.services"
EXIT_OK = 0
EXIT_USAGE = 2
EXIT_BUG = 70
CLOSE_SECONDS_MAX = 5.0

log = structlog.get_logger("interlock.service")

Step = Callable[[], Awaitable[None]]
T = TypeVar("T")


@dataclass
class Host:
    """What the process gives to the service it runs."""

    service: str
    settings: Any
    clock: Clock
    pool: postgres.Pool | None
    blobs: Blobs
    verifier: Verifier | None
    cache: Cache
    stopping: asyncio.Event
    """Set when the process is to end; loops return soon after, within `drain_seconds`."""


@dataclass
class Service:
    """What a service is: what it listens to, serves and repeats. Made by its `build`."""

    name: str
    consumes: Consumes = field(default_factory=dict)
    routers: Sequence[APIRouter] = ()
    mounts: Mapping[str, ASGIApp] = field(default_factory=dict)
    streams: Sequence[str] = ()
    """Path prefixes whose bodies the service bounds itself, as it reads them."""
    loops: Sequence[Step] = ()
    every: Mapping[float, Step] = field(default_factory=dict)
    ready: Sequence[Step] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)
    close: Sequence[Step] = ()


def run(name: str) -> int:
    """Run the service `name` until SIGTERM; return the exit status (0 drained, 2 cannot be configured, 70 a bug)."""
    try:
        entry = _find(name)
    except LookupError as error:
        telemetry.setup(name)
        log.error("process.unconfigured", detail=str(error.args[0]))
        return EXIT_USAGE
    return run_entry(entry)


def run_entry(entry: EntryPoint) -> int:
    """Run the service that an entry point names (`module:build`, with `Settings` in the same module); see `run`."""
    name = entry.name
    tell_libraries()
    try:
        module = import_module(entry.module)
        settings = module.Settings()
    except (ImportError, pydantic.ValidationError) as error:
        telemetry.setup(name)
        log.error("process.unconfigured", detail=_plain(error))
        return EXIT_USAGE
    telemetry.setup(name, settings.log_level)
    try:
        _run_loop(_live(name, entry.load(), settings, tuple(getattr(module, "USES", ("postgres",)))))
    except InterlockError as error:
        log.error("process.refused", detail=str(error))
        return EXIT_USAGE
    except BaseException as error:
        log.error("process.bug", detail=_plain(error), exc_info=error)
        telemetry.shutdown()
        sys.stderr.flush()
        # Not sys.exit: a thread that hangs in the very code that failed would keep the process alive.
        os._exit(EXIT_BUG)
    telemetry.shutdown()
    return EXIT_OK


def _find(name: str) -> EntryPoint:
    """Return the entry point of a service; raises LookupError naming those there are."""
    known = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in known:
        raise LookupError(f"there is no service {name!r}; the services are {', '.join(sorted(known))}")
    return known[name]


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is to be had."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _live(
    name: str, build: Callable[[Host], Awaitable[Service]], settings: PlatformSettings, uses: tuple[str, ...]
) -> None:
    """Start, work until told to stop, drain, close."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    host = await _until(stopping, _host(name, settings, uses, stopping))
    if host is None:
        return
    service: Service | None = None
    try:
        service = await _until(stopping, _build(build, host))
        if service is not None:
            await _work(host, service)
    finally:
        await _close([*(service.close if service else ()), host.cache.close, *([host.pool.close] if host.pool else [])])
        log.info("process.ended")


async def _host(name: str, settings: PlatformSettings, uses: tuple[str, ...], stopping: asyncio.Event) -> Host:
    """Bring up what the service stands on; a Postgres that is away is waited for."""
    clock = SystemClock()
    key_file = settings.token_public_key_file
    pool = None
    if "postgres" in uses:
        pool = await postgres.connect(
            settings.postgres_dsn.get_secret_value(),
            connections_max=settings.postgres_connections_max,
            retry_seconds_max=settings.connect_retry_seconds_max,
            application=f"interlock-{name}",
        )
    return Host(
        service=name,
        settings=settings,
        clock=clock,
        pool=pool,
        blobs=Blobs(settings.blob_folder),
        verifier=Verifier(key_file.read_bytes(), clock) if key_file is not None else None,
        cache=Cache(settings.redis_url.get_secret_value(), settings.cache_seconds_max),
        stopping=stopping,
    )


async def _build(build: Callable[[Host], Awaitable[Service]], host: Host) -> Service:
    """Build the service; where it needs a server that is away, say so once and wait."""
    backoff, said = Backoff(host.settings.connect_retry_seconds_max), False
    while True:
        try:
            return await build(host)
        except Transient as error:
            if not said:
                log.warning("process.waiting", detail=error.detail)
                said = True
        await asyncio.sleep(backoff.next_seconds())


async def _work(host: Host, service: Service) -> None:
    """Run every part side by side. Told to stop: first what takes work in, then what gives answers out."""
    settings, stopping, closing = host.settings, host.stopping, asyncio.Event()
    listener = _listen(settings)
    ready = list(service.ready)
    inward: list[Coroutine[Any, Any, None]] = [
        _loop(step, stopping, settings.retry_seconds_max) for step in service.loops
    ]
    inward += [_every(seconds, step, stopping) for seconds, step in service.every.items()]
    if service.consumes:
        dispatch = Dispatch(service.name, service.consumes, service.needs, host.pool, host.clock)
        consumer = ControlConsumer(
            settings,
            service.name,
            list(service.consumes),
            dispatch.decode,
            dispatch.handle,
            stopping=stopping,
            clock=host.clock,
        )
        inward.append(consumer.run())
        ready.append(consumer.ready)
    outward: list[Coroutine[Any, Any, None]] = []
    if host.pool is not None:
        ready.append(postgres.readiness(host.pool))
        publisher = TransactionalPublisher(settings, f"interlock.{service.name}.outbox")
        outward.append(
            Relay(
                settings.postgres_dsn.get_secret_value(),
                publisher,
                service.name,
                stopping=closing,
                poll_seconds=settings.outbox_poll_seconds,
                retry_seconds_max=settings.connect_retry_seconds_max,
            ).run()
        )
    app = http.application(
        service.name,
        service.routers,
        host.verifier,
        ready,
        mounts=service.mounts,
        streams=service.streams,
        body_bytes_max=settings.http_body_bytes_max,
        ready_seconds_max=settings.ready_seconds_max,
        stopping=stopping,
    )
    outward.append(_serve_http(app, listener, closing))
    async with asyncio.TaskGroup() as group:
        ins = [group.create_task(_audibly(part), name=_title(part)) for part in inward]
        outs = [group.create_task(_audibly(part), name=_title(part)) for part in outward]
        await stopping.wait()
        log.info("process.stopping", drain_seconds=settings.drain_seconds)
        await _finish(ins, settings.drain_seconds)
        closing.set()
        await _finish(outs, CLOSE_SECONDS_MAX)


async def _audibly(part: Coroutine[Any, Any, None]) -> None:
    """Run a part of the process to its end.

    A driver may let the CancelledError of a task of its own through, which a task group takes for a quiet end: the
    process would live on without this part. Here that is what it is, a bug.
    """
    try:
        await part
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{_title(part)} was cancelled by nobody") from error


def _title(part: Coroutine[Any, Any, None]) -> str:
    return getattr(part, "__qualname__", type(part).__name__)


async def _finish(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    """Wait for tasks that were told to end; cancel what takes longer."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        log.warning("process.cut", task=task.get_name(), after_seconds=seconds)
        task.cancel()


async def _loop(step: Step, stopping: asyncio.Event, retry_seconds_max: float) -> None:
    """Run a service's loop; after a Transient begin it again with growing pauses. Anything else is a bug."""
    backoff = Backoff(retry_seconds_max)
    while not stopping.is_set():
        started = asyncio.get_running_loop().time()
        try:
            await step()
            return
        except Transient as error:
            if asyncio.get_running_loop().time() - started > retry_seconds_max:
                backoff.reset()
            log.warning("loop.again", loop=_name(step), detail=error.detail)
            metrics.LOOP_RESTARTS.labels(_name(step)).inc()
        await pause(stopping, backoff.next_seconds())


async def _every(seconds: float, step: Step, stopping: asyncio.Event) -> None:
    """Run a step each so many seconds; a Transient waits for the next time."""
    while not stopping.is_set():
        try:
            await step()
        except Transient as error:
            log.warning("loop.again", loop=_name(step), detail=error.detail)
            metrics.LOOP_RESTARTS.labels(_name(step)).inc()
        await pause(stopping, seconds)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the runner decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _listen(settings: PlatformSettings) -> socket.socket:
    """Return a bound socket; raises InterlockError saying which setting to change."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.http_host, settings.http_port))
    except OSError as error:
        listener.close()
        raise InterlockError(
            f"{settings.http_host}:{settings.http_port} cannot be listened on: {error.strerror}. "
            "Set INTERLOCK_HTTP_PORT to a free port."
        ) from error
    return listener


async def _serve_http(app: ASGIApp, listener: socket.socket, closing: asyncio.Event) -> None:
    """Serve until `closing` is set, then finish the requests in hand."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=int(CLOSE_SECONDS_MAX) - 1,
    )
    server = _Server(config)

    async def end() -> None:
        await closing.wait()
        server.should_exit = True

    ender = asyncio.create_task(end())
    host, port = listener.getsockname()[:2]
    log.info("http.serving", host=host, port=port)
    try:
        await server.serve(sockets=[listener])
    finally:
        ender.cancel()
        listener.close()


async def _until(stopping: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return what `work` yields, or None if the process is told to stop before."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=CLOSE_SECONDS_MAX)
    return None


async def _close(steps: Sequence[Callable[[], Awaitable[Any]]]) -> None:
    """Close what was opened; what does not close in time is left to the end of the process."""
    for step in steps:
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await step()
        except (TimeoutError, OSError, InterlockError) as error:
            log.warning("process.unclosed", step=_name(step), detail=_plain(error))


def _name(step: Callable[..., Any]) -> str:
    """Return what a step is called in logs and metrics."""
    return getattr(step, "__qualname__", type(step).__name__)


def _plain(error: BaseException) -> str:
    """Return an error in one line; of a group, its members."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_plain(each) for each in error.exceptions)
    return " ".join(f"{type(error).__name__}: {error}".split())
