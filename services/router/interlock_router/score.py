"""Scoring a batch by its versions: one call per version, answers checked, and failing rows found and set apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import structlog

from interlock import metrics
from interlock.backoff import Backoff
from interlock.clock import Clock
from interlock.errors import InterlockError, Reason, Transient
from interlock.serving.failures import ModelDied, ModelRaised, ModelTimedOut
from interlock.serving.runtime import bad_rows
from interlock.signature import Matrix
from interlock_router.batch import Batch, Rejection, Share
from interlock_router.errors import RouteMoved, WrongVersion
from interlock_router.features_store import Lookup
from interlock_router.model import Arm, RouteTable, Rows, parts_of
from interlock_router.results import Answer, Rejected
from interlock_router.settings import Settings

log = structlog.get_logger("interlock.router")
T = TypeVar("T")


class Serving(Protocol):
    """Calls to versions by the name of their application (`interlock.serving.cluster.Handles`)."""

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> tuple[str, Matrix]:
        """Return the replica's digest and outputs; raises Transient, ModelRaised, ModelDied, ModelTimedOut."""
        ...


@dataclass
class Scored:
    """What became of a batch: an answer for every good row, a rejection for every other."""

    table: RouteTable
    answers: list[Answer] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def part(self, share: Share) -> Scored:
        """Return what became of one partition's share of the batch."""
        begin, end = share.begin, share.end
        parts = (answer.part(begin, end) for answer in self.answers)
        rejected = [replace(each, row=each.row - begin) for each in self.rejected if begin <= each.row < end]
        return Scored(self.table, [each for each in parts if each.rows.size], rejected)


class WrongShape(InterlockError):
    """The model answered with another number of rows or outputs than asked."""


_FAILURES = (ModelRaised, ModelDied, ModelTimedOut, WrongShape)
_REASONS: dict[type[InterlockError], Reason] = {
    ModelRaised: Reason.MODEL_RAISED,
    ModelDied: Reason.MODEL_CRASHED,
    ModelTimedOut: Reason.MODEL_TIMEOUT,
    WrongShape: Reason.MODEL_WRONG_SHAPE,
}


class Scorer:
    """Scores batches for all lanes of a process; knows which versions are just being searched for failing rows."""

    def __init__(self, settings: Settings, serving: Serving, clock: Clock, features: Lookup | None = None) -> None:
        self._settings = settings
        self._serving = serving
        self._clock = clock
        self._features = features
        self._searching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def score(self, batch: Batch, table: RouteTable, moved: Callable[[], bool]) -> Scored:
        """Score a batch by the route, all its versions at once, after one look-up of what is online.

        Waits while a version is away, for as long as the route stands: raises RouteMoved as soon as `moved` says that
        it does not. A version that fails is asked again, then in parts, until the rows at fault are alone.
        """
        scored = Scored(table)
        scored.rejected = [Rejected(row, rejection, None) for row, rejection in batch.rejections.items()]
        good = batch.good
        if self._features is not None and table.looks_up:
            with metrics.LANE_SECONDS.labels(table.endpoint, "features").time():
                batch.joined = await self._features.join(table.endpoint, batch, good)
        groups = [(arm, good[rows]) for arm, rows in table.split(batch.keys(good))] if good.size else []
        parts = await _all(self._score_arm(batch, arm, rows, moved) for arm, rows in groups)
        for answers, rejected in parts:
            scored.answers.extend(answers)
            scored.rejected.extend(rejected)
        scored.rejected.sort(key=lambda each: each.row)
        return scored

    async def _score_arm(
        self, batch: Batch, arm: Arm, rows: Rows, moved: Callable[[], bool]
    ) -> tuple[list[Answer], list[Rejected]]:
        matrix, rows, lacking = batch.matrix(arm.signature, rows)
        rejected = [Rejected(row, rejection, arm) for row, rejection in lacking.items()]
        if not rows.size:
            return [], rejected
        search = _Search(self, arm, rows, matrix, moved)
        await search.run()
        answers = [answer for outcome in search.outputs if (answer := _check(arm, *outcome, rejected)) is not None]
        rejected.extend(Rejected(row, rejection, arm) for row, rejection in search.failed)
        return answers, rejected

    async def shadow(self, batch: Batch, table: RouteTable, arm: Arm) -> Answer | None:
        """Ask a version that answers nobody what all were asked: once, and what it cannot score is left out.

        None where it can score nothing. Raises Transient while it is away, and what is the matter with the version.
        """
        good = batch.good
        if self._features is not None and arm.signature.online and batch.joined is None:
            batch.joined = await self._features.join(table.endpoint, batch, good)
        matrix, rows, _ = batch.matrix(arm.signature, good)
        return _check(arm, rows, matrix, await self._call(arm, matrix), []) if rows.size else None

    async def ask(self, arm: Arm, matrix: Matrix, moved: Callable[[], bool]) -> Matrix:
        """Call a version until it is there to answer; raises what is the matter with the version itself."""
        backoff = Backoff(self._settings.lane_retry_seconds_max, self._settings.lane_retry_seconds)
        while True:
            try:
                return await self._call(arm, matrix)
            except Transient as away:
                log.warning("version away", application=arm.application, detail=away.detail)
            if moved():
                raise RouteMoved(f"the route to {arm.application} has changed")
            await asyncio.sleep(backoff.next_seconds())

    async def _call(self, arm: Arm, matrix: Matrix) -> Matrix:
        digest, outputs = await self._serving.call(arm.application, matrix, self._settings.call_seconds_max)
        if digest != arm.digest:
            raise WrongVersion(f"{arm.application} echoes {digest}, the route says {arm.digest}")
        if not isinstance(outputs, np.ndarray) or outputs.shape != (len(matrix), len(arm.signature.outputs)):
            raise WrongShape(f"asked for {len(matrix)} x {len(arm.signature.outputs)} numbers, got {_shape(outputs)}")
        return outputs

    async def let_it_die(self) -> None:
        """Pause after a death: a replica that said it will end must not be asked again before it has."""
        await asyncio.sleep(self._settings.death_pause_seconds)

    def searching(self, application: str) -> asyncio.Lock:
        """Return the lock of a version's search: a search kills replicas, and other lanes' rows must not be blamed."""
        lock = self._searching.get(application)
        if lock is None:
            lock = self._searching[application] = asyncio.Lock()
        return lock

    def deadline(self) -> float:
        """Return when a search that begins now must give up."""
        return self._clock.monotonic() + self._settings.crash_isolation_seconds

    def over(self, deadline: float) -> bool:
        """Say whether a deadline has passed."""
        return self._clock.monotonic() >= deadline

    @property
    def parts(self) -> int:
        """Into how many parts a failing batch is split."""
        return self._settings.isolation_parts


class _Search:
    """The search for the rows of one version's batch that make it fail. In the usual case: one call, no failure.

    The first death costs nobody anything: somebody may have killed the replica. From the second on the rows are under
    suspicion, and split until the culprits are alone; a single row is condemned when it fails twice, or raises once.
    """

    def __init__(self, scorer: Scorer, arm: Arm, rows: Rows, matrix: Matrix, moved: Callable[[], bool]) -> None:
        self._scorer = scorer
        self._arm = arm
        self._rows = rows
        self._matrix = matrix
        self._moved = moved
        self._died = False
        self.outputs: list[tuple[Rows, Matrix, Matrix]] = []  # rows, features, outputs
        self.failed: list[tuple[int, Rejection]] = []

    async def run(self) -> None:
        whole = np.arange(self._rows.size)
        failure = await self._try(whole)
        if failure is None:
            return
        log.warning("version failed", application=self._arm.application, rows=int(whole.size), detail=failure.detail)
        async with self._scorer.searching(self._arm.application):
            deadline = self._scorer.deadline()
            if _is_death(failure):
                failure = await self._try(whole)
            if failure is not None:
                await self._divide(whole, failure, deadline)

    async def _try(self, places: Rows) -> InterlockError | None:
        """Score some rows; return the failure instead of raising it."""
        matrix = self._matrix if places.size == self._rows.size else self._matrix[places]
        if self._died:
            await self._scorer.let_it_die()
        try:
            outputs = await self._scorer.ask(self._arm, matrix, self._moved)
        except _FAILURES as failure:
            self._died = _is_death(failure)
            return failure
        self._died = False
        self.outputs.append((self._rows[places], matrix, outputs))
        return None

    async def _divide(self, places: Rows, failure: InterlockError, deadline: float) -> None:
        """Find the culprits among rows that failed together."""
        if places.size == 1 or self._scorer.over(deadline):
            await self._condemn(places, failure, deadline)
            return
        for part in parts_of(places, self._scorer.parts):
            if self._scorer.over(deadline):
                await self._condemn(part, failure, deadline)
                continue
            found = await self._try(part)
            if found is not None:
                await self._divide(part, found, deadline)

    async def _condemn(self, places: Rows, failure: InterlockError, deadline: float) -> None:
        if _is_death(failure) and places.size == 1 and not self._scorer.over(deadline):
            again = await self._try(places)
            if again is None:
                return
            failure = failure if isinstance(failure, ModelTimedOut) else again
        rejection = Rejection(_REASONS[type(failure)], failure.detail)
        self.failed.extend((int(self._rows[place]), rejection) for place in places.tolist())


async def _all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run side by side; if one fails, end the others before its error goes on."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_death(failure: InterlockError) -> bool:
    """Say whether something else than these rows may have caused the failure."""
    return isinstance(failure, (ModelDied, ModelTimedOut))


def _check(arm: Arm, rows: Rows, features: Matrix, outputs: Matrix, rejected: list[Rejected]) -> Answer | None:
    """Set apart the rows whose outputs are not finite or leave the range that the signature promises."""
    outputs = np.asarray(outputs, dtype=np.float64)
    not_finite, out_of_range = bad_rows(outputs, arm.signature)
    bad = not_finite | out_of_range
    if not bad.any():
        return Answer(arm, rows, outputs, features)
    for place in np.flatnonzero(bad).tolist():
        reason = Reason.MODEL_NOT_FINITE if not_finite[place] else Reason.MODEL_OUT_OF_RANGE
        rejected.append(
            Rejected(int(rows[place]), Rejection(reason, f"the model answered {outputs[place].tolist()}"), arm)
        )
    return Answer(arm, rows[~bad], outputs[~bad], features[~bad]) if not bad.all() else None


def _shape(outputs: object) -> str:
    return " x ".join(map(str, outputs.shape)) if isinstance(outputs, np.ndarray) else type(outputs).__name__
