"""The worker: claims builds under a lease, runs each in a confined child, writes what came of it in one unit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from interlock import metrics, semconv, telemetry
from interlock.backoff import pause
from interlock.blobs import Blobs
from interlock.cause import Cause
from interlock.clock import Clock
from interlock.errors import ALL_CODES, Code, Refusal, Transient
from interlock.manifest import Manifest
from interlock.postgres import journal
from interlock.postgres.journal import Unit
from interlock.postgres.pool import Pool
from interlock.serving import sandbox
from interlock.serving.confinement import Limits
from interlock_builder import bench, model
from interlock_builder.errors import FILE_MISSING
from interlock_builder.model import Build, ChampionBuild
from interlock_builder.settings import Settings
from interlock_builder.store import Store

log = structlog.get_logger("interlock.builder")

_RENEWALS_PER_LEASE: Final = 4
_ACTOR: Final = "builder"

Write = Callable[[Unit], Awaitable[bool]]


class Lost(Exception):
    """The build belongs to another attempt now, or this process is to end."""


class Worker:
    """Builds one version at a time; several workers, in this process or others, share the table of builds."""

    def __init__(
        self, pool: Pool, store: Store, blobs: Blobs, settings: Settings, clock: Clock, stopping: asyncio.Event
    ) -> None:
        self._pool = pool
        self._store = store
        self._blobs = blobs
        self._settings = settings
        self._clock = clock
        self._stopping = stopping

    async def run(self) -> None:
        """Build whatever waits until the process is to end. Raises Transient where Postgres is away between builds."""
        while not self._stopping.is_set():
            build = await self._claim() if await self._store.is_any_open() else None
            if build is None:
                await pause(self._stopping, self._settings.build_poll_seconds)
                continue
            with contextlib.suppress(Lost):
                await self._traced(build)

    async def _claim(self) -> Build | None:
        async with journal.unit(self._pool, Cause.start(_ACTOR), clock=self._clock) as unit:
            build = await self._store.claim(unit, self._settings.build_lease_seconds)
            if build is None:
                return None
            unit.cause = build.cause
            if build.attempt > self._settings.build_attempts_max:
                return build
            await unit.append(_stream(build), model.started(build, self._clock.now()))
        log.info("build.started", model=build.model, version=build.version, attempt=build.attempt)
        return build

    async def _traced(self, build: Build) -> None:
        """Build within a span of the trace that the push began; what comes of it goes on from there."""
        title, attributes = semconv.pipeline(build.model, "BUILD", f"{build.model}/{build.version}/{build.attempt}")
        attributes |= semconv.version(build.model, build.version, build.digest)
        with telemetry.span(title, "internal", build.cause.traceparent, **attributes):
            cause = msgspec.structs.replace(build.cause, traceparent=telemetry.current_traceparent())
            await self._build(msgspec.structs.replace(build, cause=cause))

    async def _build(self, build: Build) -> None:
        begun = self._clock.monotonic()
        try:
            model.refuse_abandoned(build, self._settings.build_attempts_max)
            champion = await self._store.champion(build.model)
            order = await asyncio.to_thread(self._order, build, champion)
            result = await self._kept_alive(build, order)
            if result.refusal is not None:
                raise _refusal_of(*result.refusal)
            await self._succeed(build, champion, result, self._clock.monotonic() - begun)
        except Refusal as refusal:
            await self._fail(build, refusal)

    def _order(self, build: Build, champion: ChampionBuild | None) -> bench.Order:
        """Look the files up in the store. Raises Refusal for one that is missing or too large."""
        manifest = Manifest.parse(build.manifest)
        paths: dict[str, Path] = {}
        for path in manifest.files:
            if path not in build.files:
                raise Refusal(FILE_MISSING, f"{path} is named in the manifest but is not in the version.")
            paths[path] = self._blobs.path(build.files[path]).resolve()
            if not paths[path].is_file():
                raise Refusal(FILE_MISSING, f"the bytes of {path} are not in the store ({build.files[path]}).")
        sizes = {path: place.stat().st_size for path, place in paths.items()}
        settings = self._settings
        model.refuse_large(sizes, manifest.artifact.path, settings.artifact_bytes_max, settings.data_bytes_max)
        return bench.Order(
            digest=build.digest,
            manifest=build.manifest,
            files={path: str(place) for path, place in paths.items()},
            digests={path: build.files[path] for path in paths},
            champion=self._champion_files(champion) if champion else None,
            data_rows_max=settings.data_rows_max,
        )

    def _champion_files(self, champion: ChampionBuild) -> bench.ChampionFiles:
        return bench.ChampionFiles(
            version=champion.version,
            digest=champion.digest,
            manifest=str(self._blobs.path(champion.manifest_digest).resolve()),
            artifact=str(self._blobs.path(champion.artifact_digest).resolve()),
        )

    async def _kept_alive(self, build: Build, order: bench.Order) -> sandbox.Result:
        """Run the child and renew the lease beside it. Raises Lost, the child killed, when the build is taken away."""
        child = asyncio.create_task(self._child(order))
        stop = asyncio.create_task(self._stopping.wait())
        pause = self._settings.build_lease_seconds / _RENEWALS_PER_LEASE
        try:
            while not child.done():
                await asyncio.wait({child, stop}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if stop.done() and not child.done():
                    await self._store.release(build)
                    raise Lost
                if not child.done() and not await self._still_ours(build):
                    log.warning("build.lost", model=build.model, version=build.version, attempt=build.attempt)
                    raise Lost
            return child.result()
        finally:
            for task in (child, stop):
                task.cancel()
            await asyncio.gather(child, stop, return_exceptions=True)

    async def _still_ours(self, build: Build) -> bool:
        try:
            return await self._store.renew(build, self._settings.build_lease_seconds)
        except Transient as away:
            # The work goes on: whether it still counts is decided when its result is written.
            log.warning("build.lease_not_renewed", model=build.model, version=build.version, detail=away.detail)
            return True

    async def _child(self, order: bench.Order) -> sandbox.Result:
        settings = self._settings
        limits = Limits(
            seconds_max=settings.build_seconds_max,
            cpu_seconds_max=settings.build_cpu_seconds_max,
            memory_mib_max=settings.build_memory_mib_max,
        )
        champion = [order.champion.manifest, order.champion.artifact] if order.champion else []
        reads = [Path(place) for place in [*order.files.values(), *champion]]
        argument = msgspec.to_builtins(order)
        return await sandbox.run(
            bench.TARGET, argument, limits=limits, reads=reads, folder=settings.build_scratch_folder
        )

    async def _succeed(
        self, build: Build, champion: ChampionBuild | None, result: sandbox.Result, seconds: float
    ) -> None:
        built = msgspec.convert(result.value, bench.Built)
        at = self._clock.now()
        profile_digest = await asyncio.to_thread(self._blobs.put, bench.as_json(built.profile))
        evidence = model.evidence(build, built, champion, result.confinement, profile_digest, seconds, at)
        evidence_digest = await asyncio.to_thread(self._blobs.put, bench.as_json(evidence))

        async def write(unit: Unit) -> bool:
            if not await self._store.finish(
                unit, build, evidence_digest=evidence_digest, profile_digest=profile_digest
            ):
                return False
            for event in model.succeeded(build, built, evidence_digest, profile_digest, seconds, at):
                await unit.append(_stream(build), event)
            return True

        await self._end(build, write, "succeeded")
        metrics.BUILD_SECONDS.observe(seconds)

    async def _fail(self, build: Build, refusal: Refusal) -> None:
        async def write(unit: Unit) -> bool:
            detail = str(refusal)[: model.DETAIL_CHARACTERS_MAX]
            if not await self._store.finish(unit, build, code=refusal.code.id, detail=detail):
                return False
            await unit.append(_stream(build), model.failed(build, refusal, self._clock.now()))
            return True

        log.info("build.refused", model=build.model, version=build.version, code=refusal.code.id, **refusal.fields)
        await self._end(build, write, "failed")

    async def _end(self, build: Build, write: Write, verdict: str) -> None:
        """Write the end in one unit, waiting for Postgres; refused when another attempt holds the build by then."""
        while True:
            try:
                async with journal.unit(self._pool, build.cause, clock=self._clock) as unit:
                    counted = await write(unit)
                break
            except Transient as away:
                log.warning("build.end_not_written", model=build.model, version=build.version, detail=away.detail)
                if self._stopping.is_set():
                    raise Lost from away
                await pause(self._stopping, away.retry_seconds)
        metrics.BUILDS.labels(verdict if counted else "late").inc()
        log.info(
            "build.ended" if counted else "build.late_result_refused",
            model=build.model,
            version=build.version,
            attempt=build.attempt,
            verdict=verdict,
        )


def _stream(build: Build) -> str:
    return f"build/{build.model}"


def _refusal_of(code_id: str, detail: str) -> Refusal:
    """Return the child's refusal as one of this process; a code that nobody declared is no code."""
    code = next((code for code in ALL_CODES if code.id == code_id), None)
    return Refusal(code if isinstance(code, Code) else sandbox.CHILD_RAISED, detail)
