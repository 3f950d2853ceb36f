"""The keeper: makes Ray Serve run what the rollouts want, over and over, as long as it leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from interlock import metrics, semconv, telemetry
from interlock.cause import Cause
from interlock.clock import Clock
from interlock.errors import Refusal, Transient
from interlock.manifest import Manifest
from interlock.postgres import journal
from interlock.postgres.lease import Lease
from interlock.postgres.pool import Pool
from interlock.serving import replica
from interlock.serving.cluster import ApplicationState, Handles, ServeControl
from interlock_deployer import model
from interlock_deployer.plan import (
    Action,
    Drain,
    Empty,
    Fail,
    Lose,
    Open,
    Prove,
    Remove,
    Seen,
    Start,
    busy,
    openings,
    plan,
)
from interlock_deployer.rollout import Limits, Rollout, Step
from interlock_deployer.settings import Settings
from interlock_deployer.store import Store
from interlock_deployer.warming import Warming

EnsureTopics = Callable[[str, int], Awaitable[None]]
"""Makes the topics of an endpoint with that many partitions, unless they are there."""

#: After a wake-up the event's transaction may not be committed yet: look so often at the busy pace.
_TURNS_AFTER_WAKE: Final = 10

#: As Ray Serve calls them.
_STATES: Final = ("NOT_STARTED", "DEPLOYING", "DEPLOY_FAILED", "RUNNING", "UNHEALTHY", "DELETING")

log = structlog.get_logger("interlock.deployer")


class Keeper:
    """Compares what runs with what is wanted, acts on Ray, and records what came of it.

    Records are fenced: a unit commits only while the lease is held, so a keeper that lost it changes nothing.
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        control: ServeControl,
        handles: Handles,
        warming: Warming,
        lease: Lease,
        ensure_topics: EnsureTopics,
        limits: Limits,
        settings: Settings,
        clock: Clock,
        stopping: asyncio.Event,
    ) -> None:
        self._pool = pool
        self._store = store
        self._control = control
        self._handles = handles
        self._warming = warming
        self._lease = lease
        self._ensure_topics = ensure_topics
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._hands = asyncio.Semaphore(settings.actions_at_once_max)
        self._woken = asyncio.Event()
        self._turns_busy = 0
        self._origins: dict[str, str] = {}
        self._waiting_since: dict[str, float] = {}
        self._complete: set[str] = set()  # endpoints whose topics were looked at since this process began
        self._away: str | None = "nothing was looked at yet"

    def wake(self) -> None:
        """Have a look soon: a rollout has changed or is about to."""
        self._turns_busy = _TURNS_AFTER_WAKE
        self._woken.set()

    async def ready(self) -> None:
        """Raise Transient while Ray (or another server that the last turn needed) is away."""
        if self._away is not None:
            raise Transient(self._away)

    async def lead(self) -> None:
        """Take the lease when it is free and keep it, until the service stops."""
        while not self._stopping.is_set():
            led = self._lease.epoch
            try:
                epoch = await self._lease.acquire()
                if epoch is not None and epoch != led:
                    log.info("deployer.leading", epoch=epoch)
                    self.wake()
            except Transient as away:
                log.warning("deployer.lease_waiting", detail=away.detail)
            await self._pause(self._settings.lease_seconds / 3, self._stopping)
        self.wake()
        with contextlib.suppress(Transient):  # it runs out by itself
            await self._lease.release()

    async def run(self) -> None:
        """Turn after turn until the service stops; servers that are away are waited for."""
        while not self._stopping.is_set():
            pause_seconds = self._settings.reconcile_seconds
            self._woken.clear()
            try:
                if self._lease.epoch is not None and await self.turn():
                    pause_seconds = self._settings.reconcile_busy_seconds
                self._note(None)
            except Transient as away:
                self._note(away)
                pause_seconds = away.retry_seconds
            await self._pause(pause_seconds, self._woken)

    async def turn(self) -> bool:
        """Look once and do what is to be done; return whether looking again soon pays. Raises Transient."""
        rollouts = await self._store.rollouts()
        self._origins = _origins(rollouts)
        problems = await self._act_on(openings(rollouts, self._complete))  # needs no Ray, so it does not wait for it
        seen = self._seen(await self._control.status())
        for state in _STATES:
            metrics.APPLICATIONS.labels(state).set(sum(application.status == state for application in seen.values()))
        actions = plan(rollouts, seen, self._clock.now(), self._settings.deploy_seconds_max)
        problems += await self._act_on(actions)
        # Every action has had its turn; of what went wrong, a bug comes before a server that is away.
        for problem in sorted(problems, key=_is_transient):
            raise problem
        self._turns_busy = max(0, self._turns_busy - 1)
        return bool(actions) or self._turns_busy > 0 or busy(rollouts)

    async def _act_on(self, actions: Sequence[Action]) -> list[BaseException]:
        outcomes = await asyncio.gather(*(self._act(action) for action in actions), return_exceptions=True)
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]

    def _seen(self, states: Mapping[str, ApplicationState]) -> dict[str, Seen]:
        now = self._clock.monotonic()
        seen = {}
        for name, state in states.items():
            since = self._waiting_since.setdefault(name, now)
            seen[name] = Seen(state.state, state.message, now - since)
        running = {name for name, application in seen.items() if application.status == "RUNNING"}
        self._waiting_since = {n: t for n, t in self._waiting_since.items() if n in seen and n not in running}
        return seen

    async def _act(self, action: Action) -> None:
        title, attributes, origin = self._told(action)
        async with self._hands:
            if origin is None:
                await self._carry_out(action)
                return
            with telemetry.span(title, "internal", origin, **attributes):
                await self._carry_out(action)

    def _told(self, action: Action) -> tuple[str, semconv.Attributes, str | None]:
        """Return name and attributes of an action's span, and the trace it goes on with, if it has any."""
        match action:
            case Start(application, name, version, digest):
                title, attributes = semconv.pipeline(name, "DEPLOY", application)
                return title, attributes | semconv.version(name, version, digest), self._origins.get(application)
            case Prove(endpoint, name, version, digest, application):
                title, attributes = semconv.pipeline(name, "WARM", application)
                attributes |= semconv.version(name, version, digest, endpoint)
                return title, attributes, self._origins.get(application)
            case _:
                return "", {}, None

    async def _carry_out(self, action: Action) -> None:
        match action:
            case Open():
                await self._open(action)
            case Start():
                await self._start(action)
            case Remove(application):
                log.info("deployer.removing", application=application)
                await self._control.delete(application)
                self._handles.forget(application)
            case Prove():
                await self._prove(action)
            case Fail(endpoint, version, digest, code, detail):
                await self._fail(endpoint, version, digest, code, detail)
            case Lose(endpoint, version):
                log.warning("deployer.application_lost", endpoint=endpoint, version=version)
                await self._record(endpoint, version, lambda r, now: model.lost(r, version, now))
            case Empty(endpoint, version):
                await self._record(endpoint, version, lambda r, now: model.emptied(r, version, now))
            case Drain(endpoint, version):
                await self._record(endpoint, version, lambda r, now: model.drained(r, version, now, self._limits))

    async def _open(self, action: Open) -> None:
        try:
            await self._ensure_topics(action.endpoint, action.partitions)
        except Refusal as refusal:
            # A person has to mend the topics; the other endpoints go on meanwhile, and so does one that is open.
            if not action.again:
                raise Transient(f"The topics of {action.endpoint} cannot be made: {refusal}") from refusal
            log.warning("deployer.topics_incomplete", endpoint=action.endpoint, detail=refusal.detail)
        self._complete.add(action.endpoint)
        if not action.again:
            await self._record(action.endpoint, None, lambda r, now: model.opened(r, now, self._limits))

    async def _start(self, action: Start) -> None:
        registered = await self._store.version(action.model, action.version, action.digest)
        if registered is None:
            return  # approved before it was heard of as registered: its event is on the way
        resources = Manifest.parse(registered.manifest).resources
        application = replica.application(
            action.model,
            action.version,
            action.digest,
            manifest_digest=registered.manifest_digest,
            artifact_digest=registered.artifact_digest,
            blob_folder=self._settings.blob_folder,
            cpus=resources.cpus,
            gpus=resources.gpus,
            memory_mib=resources.memory_mib,
        )
        log.info("deployer.starting", application=action.application)
        await self._control.deploy(application, action.application)

    async def _prove(self, action: Prove) -> None:
        registered = await self._store.version(action.model, action.version, action.digest)
        if registered is None:
            return
        endpoint, version, digest = action.endpoint, action.version, action.digest
        try:
            proof = await self._warming.prove(registered, endpoint, action.application)
        except Refusal as refusal:
            await self._fail(endpoint, version, digest, refusal.code.id, refusal.detail)
            return
        log.info("deployer.warm", endpoint=endpoint, application=action.application, seconds=proof.seconds)
        await self._record(endpoint, version, lambda r, now: model.warmed(r, version, digest, proof, now, self._limits))

    async def _fail(self, endpoint: str, version: int, digest: str, code: str, detail: str) -> None:
        detail = detail.replace("\0", "")  # Ray's messages may hold anything, jsonb takes no NUL
        log.warning("deployer.failed", endpoint=endpoint, version=version, code=code, detail=detail)
        await self._record(
            endpoint, version, lambda r, now: model.failed(r, version, digest, code, detail, now, self._limits)
        )

    async def _record(self, endpoint: str, version: int | None, decide: Callable[[Rollout, datetime], Step]) -> None:
        """Put a fact into the rollout as it stands now, in one transaction behind the lease's fence."""
        async with journal.unit(self._pool, Cause.start("deployer"), clock=self._clock) as unit:
            await self._lease.fence(unit.connection)
            rollout = await self._store.rollout(unit, endpoint, "")
            unit.cause = _origin(rollout, version, unit.cause)
            await self._store.keep(unit, rollout, decide(rollout, self._clock.now()))

    def _note(self, away: Transient | None) -> None:
        """Say once that a server is away, and once that it is back."""
        if away is not None and self._away != away.detail:
            log.warning("deployer.waiting", detail=away.detail)
        if away is None and self._away is not None:
            log.info("deployer.working")
        self._away = None if away is None else away.detail

    async def _pause(self, seconds: float, until: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), seconds)


def _origins(rollouts: Sequence[Rollout]) -> dict[str, str]:
    """Return, by application, the trace that brought a version onto its way."""
    return {
        rollout.application(placement.version): placement.origin.traceparent
        for rollout in rollouts
        for placement in rollout.placements.values()
        if placement.origin.traceparent is not None and placement.version in rollout.approvals
    }


def _origin(rollout: Rollout, version: int | None, otherwise: Cause) -> Cause:
    """Return what the version is here for, so that what happens minutes later stands in the same trace."""
    if rollout.order is not None and version in (None, rollout.order.version):
        return rollout.order.origin
    placement = rollout.placements.get(version) if version is not None else None
    return placement.origin if placement is not None else otherwise


def _is_transient(problem: BaseException) -> bool:
    return isinstance(problem, Transient)
