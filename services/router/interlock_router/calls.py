"""Calls to versions that lanes share: what is asked of a version while a call to it is under way, is asked in one.

A call costs router and replica some milliseconds whatever it holds (ADR 0014), and lanes of a quiet topic ask of thirty
rows at a time. Nobody waits in order to share: the first call goes at once, and those behind it go when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from interlock.errors import InterlockError
from interlock.serving.failures import ModelRaised
from interlock.signature import Matrix

SHARED_BYTES_MAX: Final = 256 * 1024
"""What a call to be shared holds at most; a larger matrix is worth a call of its own, and goes at once."""

Answer = tuple[str, Matrix]
"""The digest that the replica echoes, and its outputs."""


class Serving(Protocol):
    """Calls to versions by the name of their application (`interlock.serving.cluster.Handles`)."""

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> Answer:
        """Return the replica's digest and outputs; raises Transient, ModelRaised, ModelDied, ModelTimedOut."""
        ...


@dataclass(frozen=True)
class _Asked:
    """Rows that wait for the call before theirs, with the trace that they belong to."""

    matrix: Matrix
    seconds_max: float
    answer: asyncio.Future[Answer]
    context: Context = field(default_factory=copy_context)


class SharedCalls:
    """Serving for all lanes of a process, in one event loop; to each of them it looks as if it were alone.

    A version that raises for rows of several lanes is asked again for the rows of each, so that nobody's rows are
    blamed for another's. Deaths and time-outs are told to all who were in the call, as to any calls that are under way
    at once when a replica dies.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._waiting: dict[str, list[_Asked]] = {}  # by application; an entry while a call is under way
        self._calls: set[asyncio.Task[None]] = set()

    async def call(self, name: str, matrix: Matrix, seconds_max: float) -> Answer:
        """Score a matrix by the application `name`; raises what the call raises."""
        if matrix.nbytes > SHARED_BYTES_MAX:
            return await self._serving.call(name, matrix, seconds_max)
        if name in self._waiting:
            asked = _Asked(matrix, seconds_max, asyncio.get_running_loop().create_future())
            self._waiting[name].append(asked)
            return await asked.answer
        self._waiting[name] = []
        try:
            return await self._serving.call(name, matrix, seconds_max)
        finally:
            self._go_on(name)

    def _go_on(self, name: str) -> None:
        """Begin the next call with those who wait and have not given up, if there are any."""
        waiting = [each for each in self._waiting.pop(name) if not each.answer.done()]
        if not waiting:
            return
        ends = np.cumsum([each.matrix.nbytes for each in waiting])
        count = max(1, int(np.searchsorted(ends, SHARED_BYTES_MAX, side="right")))
        self._waiting[name] = waiting[count:]
        call = asyncio.get_running_loop().create_task(self._together(name, waiting[:count]), context=waiting[0].context)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _together(self, name: str, asked: Sequence[_Asked]) -> None:
        try:
            if len(asked) == 1 or not await self._shared(name, asked):
                await asyncio.gather(*(self._alone(name, each) for each in asked))
        finally:
            for each in asked:
                each.answer.cancel()  # where this task was ended; an answer that is there stays
            self._go_on(name)

    async def _shared(self, name: str, asked: Sequence[_Asked]) -> bool:
        """Ask for all rows in one call; return False where each must be asked alone to learn what is the matter."""
        whole = np.concatenate([each.matrix for each in asked])
        try:
            digest, outputs = await self._serving.call(name, whole, max(each.seconds_max for each in asked))
        except ModelRaised:
            return False
        except InterlockError as error:
            for each in asked:
                _fail(each, error)
            return True
        if not isinstance(outputs, np.ndarray) or len(outputs) != len(whole):
            return False
        ends = np.cumsum([len(each.matrix) for each in asked])
        for each, part in zip(asked, np.split(outputs, ends[:-1]), strict=True):
            if not each.answer.done():
                each.answer.set_result((digest, part))
        return True

    async def _alone(self, name: str, asked: _Asked) -> None:
        try:
            answer = await self._serving.call(name, asked.matrix, asked.seconds_max)
        except InterlockError as error:
            _fail(asked, error)
        else:
            if not asked.answer.done():
                asked.answer.set_result(answer)


def _fail(asked: _Asked, error: InterlockError) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)
