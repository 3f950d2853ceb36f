"""An event loop without a machine under it: its time is a number, and who runs next follows from a seed.

It is asyncio's own loop with the selector taken out, so that the product's coroutines, tasks, locks and time-outs run
as they are. Within one process callbacks run in the order in which asyncio promises to run them; between processes the
seed decides, and now and then a process is not given the processor for a while. When nobody can run, time jumps.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from asyncio import base_events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

STALL_SHARE = 0.002
STALL_SECONDS_MAX = 0.05
STEPS_MAX = 3_000_000
TRACE_TAIL_LINES = 60
START = datetime(2026, 1, 2, tzinfo=UTC)


class Stuck(AssertionError):
    """Nobody can run, and no timer is set: the simulated world has come to an unwanted end."""


class Process:
    """Whoever runs on a machine of its own: it can be killed, or not be given the processor for a while."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.loop = loop
        self.dead = False
        self.frozen_until = 0.0
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.at_death: list[Callable[[], object]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task of this process."""
        context = Context()
        context.run(CURRENT.set, self)
        return self.loop.create_task(coroutine, context=context)

    def freeze(self, seconds: float) -> None:
        """Let nothing of it run for so long (SIGSTOP, SIGCONT)."""
        self.frozen_until = max(self.frozen_until, self.loop.time() + seconds)

    def kill(self) -> None:
        """End it at once: what it asks of the world from here on is not heard (SIGKILL)."""
        if not self.dead:
            self.dead = True
            self.frozen_until = 0.0
            self.loop.note(self.name, "killed")
            for task in self.tasks:
                task.cancel()
            for notice in self.at_death:
                notice()


CURRENT: ContextVar[Process] = ContextVar("process")


class _Task(asyncio.Task[T]):
    """A task whose hash is its number: sets of tasks are then walked in the same order in each run."""

    def __init__(self, *arguments: Any, loop: VirtualLoop, **more: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(*arguments, loop=loop, **more)

    def __hash__(self) -> int:
        return self._number

    __eq__ = object.__eq__


class VirtualLoop(base_events.BaseEventLoop):
    """The loop, the clock and the memory of one simulated run."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.chance = random.Random(seed)
        self.numbers = count(1)
        self.steps = 0
        self.lines: deque[str] = deque(maxlen=TRACE_TAIL_LINES)
        self._hash = hashlib.sha256()
        self._now = 0.0
        self.world = Process("world", self)
        self.processes = [self.world]
        self.failures: list[BaseException] = []
        self.things: dict[Any, Any] = {}  # what the fakes of this run share
        self._timers: list[Any] = vars(self)["_scheduled"]  # asyncio's own heap of timers
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._keep_failure)

    def process(self, name: str) -> Process:
        """Begin a process."""
        made = Process(name, self)
        self.processes.append(made)
        return made

    def note(self, who: str, what: str, *details: object) -> None:
        """Write a line into the trace."""
        line = f"{self._now:9.4f} {who:<10} {what} {' '.join(map(str, details))}".rstrip()
        self._hash.update(line.encode())
        self.lines.append(line)

    @property
    def digest(self) -> str:
        """What happened in this run, as a hash."""
        return self._hash.hexdigest()

    def time(self) -> float:
        """Return the seconds since the run began."""
        return self._now

    def finish(self) -> None:
        """End what still runs, and close."""
        for process in self.processes:
            process.frozen_until = 0.0
        for _ in range(10):
            pending = [task for process in self.processes for task in process.tasks if not task.done()]
            if not pending:
                break
            for task in pending:
                task.cancel()
            self.run_until_complete(asyncio.wait(pending, timeout=60))
        self.close()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # refuses all
        """Refuse: a thread would bring the machine's own time in."""
        raise AssertionError(f"{func} asks for a thread")

    def _make_task(self, loop: Any, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = _Task(coroutine, loop=self, **more)
        context = more.get("context")
        owner = context.get(CURRENT, self.world) if context is not None else CURRENT.get(self.world)
        owner.tasks = [each for each in owner.tasks if not each.done()] if len(owner.tasks) > 64 else owner.tasks
        owner.tasks.append(task)
        if owner.dead:
            task.cancel()
        return task

    def _keep_failure(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.failures.append(error)

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def _enqueue(self, handle: Any) -> None:
        handle._context.get(CURRENT, self.world).ready.append(handle)

    def _run_once(self) -> None:
        """Run one callback, or let time pass."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Stuck(f"{STEPS_MAX} steps, and no end")
        scheduled = self._timers
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._enqueue(timer)
        process = self._next_process()
        if process is None:
            self._jump()
            return
        handle = process.ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _next_process(self) -> Process | None:
        able = [each for each in self.processes if each.ready and each.frozen_until <= self._now]
        if not able:
            return None
        chosen = able[0] if len(able) == 1 else self.chance.choice(able)
        if chosen is not self.world and self.chance.random() < STALL_SHARE:
            chosen.freeze(self.chance.random() * STALL_SECONDS_MAX)
            return self._next_process()
        return chosen

    def _jump(self) -> None:
        """Go to the next moment at which anything can happen."""
        moments = [each.frozen_until for each in self.processes if each.ready]
        if self._timers:
            moments.append(self._timers[0]._when)
        if not moments:
            raise Stuck("nobody runs and nothing is awaited")
        self._now = max(self._now, min(moments))

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Nothing to count: a cancelled timer is dropped when its time comes."""

    def _process_events(self, event_list: Any) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """There is nobody to wake."""


class SimulatedClock:
    """The clocks of one process, in virtual time; wall clocks may be wrong."""

    def __init__(self, loop: VirtualLoop, ahead_seconds: float = 0.0) -> None:
        self._loop = loop
        self._ahead = timedelta(seconds=ahead_seconds)

    def now(self) -> datetime:
        """Return the wall-clock time."""
        return START + timedelta(seconds=self._loop.time()) + self._ahead

    def monotonic(self) -> float:
        """Return the seconds since the run began."""
        return self._loop.time()


def current() -> Process:
    """Return the process that runs just now; raises CancelledError in one that was killed."""
    process = CURRENT.get()
    if process.dead:
        raise asyncio.CancelledError
    return process


def running() -> VirtualLoop:
    """Return the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def simulate(seed: int, story: Callable[[VirtualLoop], Awaitable[T]]) -> tuple[T, VirtualLoop]:
    """Run a story in a loop of its own; the module `random` is seeded while it runs, for it jitters pauses."""
    state = random.getstate()
    random.seed(seed)
    loop = VirtualLoop(seed)
    try:
        told = loop.run_until_complete(loop.world.spawn(_told(story, loop)))
    finally:
        try:
            loop.finish()
        finally:
            random.setstate(state)
    return told, loop


async def _told(story: Callable[[VirtualLoop], Awaitable[T]], loop: VirtualLoop) -> T:
    return await story(loop)
