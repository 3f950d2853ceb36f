"""The signer of checkpoints: heads the growing log, has the witness co-sign, publishes, and misses the witness."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from interlock import metrics
from interlock.backoff import pause
from interlock.cause import Cause
from interlock.clock import Clock
from interlock.codec import rows
from interlock.errors import Refusal, Transient
from interlock.ids import digest_text
from interlock.postgres import journal
from interlock.postgres.pool import Pool, borrowed
from interlock.schemas.events import CheckpointSigned, WitnessLost, WitnessReturned
from interlock_auditor import store
from interlock_auditor.checkpoint import BadNote, Checkpoint
from interlock_auditor.errors import WITNESS_SIZE_DIFFERS
from interlock_auditor.log import Log, Trouble
from interlock_auditor.settings import Settings
from interlock_auditor.witness_client import WitnessClient

LOOK_SECONDS: Final = 0.1
ACTOR: Final = "auditor"

log_ = structlog.get_logger("interlock.auditor")


class Signer:
    """Signs for the process that writes; another stays silent."""

    def __init__(
        self, settings: Settings, log: Log, witness: WitnessClient, pool: Pool, clock: Clock, stopping: asyncio.Event
    ) -> None:
        self._settings = settings
        self._log = log
        self._witness = witness
        self._pool = pool
        self._clock = clock
        self._stopping = stopping
        self._signed_at = self._asked_at = self._answered_at = clock.monotonic()
        self._known: int | None = None
        """How many entries the witness knows, as far as this process does."""
        self._detail = "The witness has not answered."
        self._recalled = False

    async def run(self) -> None:
        """Sign until told to stop; raises Transient where Postgres is away."""
        while not self._stopping.is_set():
            if self._log.leading or self._log.trouble is not None:
                await self._recall()
                await self._turn()
            else:
                self._answered_at = self._clock.monotonic()
            await pause(self._stopping, LOOK_SECONDS)

    async def _recall(self) -> None:
        """Learn once from the journal what was said last: whether the witness is lost, and the last co-signed head."""
        if self._recalled:
            return
        async with borrowed(self._pool) as connection:
            said = await store.last_said(connection)
            signed = await store.newest_checkpoint(connection, witnessed=True)
        event: Any = rows.decode(said) if said is not None else None
        self._log.witness_lost = event.detail if isinstance(event, WitnessLost) else None
        if signed is not None and self._log.witnessed is None:
            head = Checkpoint.parse(rows.decode(signed).note)
            if head.size <= self._log.size and self._log.tree.root(head.size) == head.root:
                self._log.witnessed = head
        self._recalled = True

    async def _turn(self) -> None:
        """Sign what is due, hear the witness, and say when it is lost or back."""
        now = self._clock.monotonic()
        if self._log.trouble is None:
            if self._due(now):
                await self._sign(now)
            elif now - self._asked_at >= self._settings.checkpoint_seconds:
                await self._ask(now)
        await self._miss(now)

    def _due(self, now: float) -> bool:
        signed = 0 if self._log.signed is None else self._log.signed.size
        new = self._log.size - signed
        late = now - self._signed_at >= self._settings.checkpoint_seconds
        return new >= self._settings.checkpoint_entries or (new > 0 and late)

    async def _sign(self, now: float) -> None:
        """Sign the head, have it co-signed if the witness is there, and publish it."""
        size, root = self._log.head()
        head = Checkpoint.signed(self._log.origin, size, root, self._log.key)
        self._log.signed, self._signed_at = head, now
        cosigned = await self._cosigned(head, now)
        if self._log.trouble is None:
            await self._publish(cosigned or head, witnessed=cosigned is not None)

    async def _ask(self, now: float) -> None:
        """Look whether the witness is there though nothing is new; show it what it missed."""
        head = self._log.signed
        if head is None:
            self._asked_at = now
            try:
                await self._witness.head()
                self._answered_at = now
            except Transient:
                return
        elif (cosigned := await self._cosigned(head, now)) is not None and (
            self._log.witnessed is None or self._log.witnessed.size < cosigned.size
        ):
            await self._publish(cosigned, witnessed=True)

    async def _cosigned(self, head: Checkpoint, now: float) -> Checkpoint | None:
        """Return the head with the witness's signature, or None where it is away or refuses (which is trouble)."""
        self._asked_at = now
        try:
            cosigned = await self._shown(head)
        except Transient as error:
            self._detail = error.detail
            return None
        except Refusal as refusal:
            self._known = None
            log_.error("auditor.witness_refuses", code=refusal.code.id, detail=refusal.detail)
            self._log.trouble = Trouble(f"The witness refuses the log's head: {refusal.detail}")
            return None
        self._answered_at = self._clock.monotonic()
        return cosigned

    async def _shown(self, head: Checkpoint) -> Checkpoint:
        """Show the witness a head and the hashes it lacks, in steps where they are many; return it co-signed.

        Raises Transient where it is away or its signature does not hold, Refusal where it will not sign.
        """
        if self._known is None:
            last = await self._witness.head()
            self._known = 0 if last is None else last.size
        while True:
            known = min(self._known, head.size)
            step = min(head.size, known + self._settings.witness_leaves_max)
            shown = head
            if step < head.size:
                shown = Checkpoint.signed(self._log.origin, step, self._log.tree.root(step), self._log.key)
            try:
                cosigned = await self._witness.cosign(shown, known, self._log.tree.leaves(known, step))
                self._log.witness_key.check(cosigned.note)
            except Refusal as refusal:
                self._known = None
                if refusal.code is WITNESS_SIZE_DIFFERS:  # it was put back or moved on: ask where it stands
                    raise Transient(refusal.detail) from refusal
                raise
            except BadNote as error:
                raise Transient(f"The witness's signature is not good: {error}.") from error
            self._known = step
            if step == head.size:
                return cosigned

    async def _publish(self, head: Checkpoint, *, witnessed: bool) -> None:
        """Publish a head; only then it counts as witnessed here."""
        await self._say(
            CheckpointSigned(
                log=self._log.origin,
                size=head.size,
                root=digest_text(head.root),
                note=head.note,
                witnessed=witnessed,
                at=self._clock.now(),
            )
        )
        if witnessed:
            self._log.witnessed = head
            metrics.AUDIT_WITNESSED.set(head.size)

    async def _miss(self, now: float) -> None:
        """Say that the witness is lost, or that it is back and has caught up."""
        trouble, witnessed = self._log.trouble, self._log.witnessed
        size = 0 if witnessed is None else witnessed.size
        away = now - self._answered_at
        if self._log.witness_lost is None and (trouble is not None or away > self._settings.witness_lost_seconds):
            detail = trouble.detail if trouble is not None else f"{self._detail} For {away:.0f} s now."
            await self._say(WitnessLost(log=self._log.origin, size=size, detail=detail, at=self._clock.now()))
            log_.warning("auditor.witness_lost", detail=detail, todo="promotions wait")
            self._log.witness_lost = detail
        elif self._log.witness_lost is not None and trouble is None and self._answered_at >= self._asked_at > 0:
            signed = self._log.signed
            if self._log.size and (signed is None or signed.size > size):
                return
            await self._say(WitnessReturned(log=self._log.origin, size=size, at=self._clock.now()))
            log_.info("auditor.witness_returned", size=size)
            self._log.witness_lost = None

    async def _say(self, event: Any) -> None:
        async with journal.unit(self._pool, Cause.start(ACTOR), clock=self._clock) as unit:
            if not await store.leads(unit.connection, self._log.writer):
                raise Transient("Another auditor has become the writer of the log.")
            await unit.append("log", event)
