"""One client's connection through the proxy: two sockets, two directions, each frame when it may go.

Whatever is done to a frame, those behind it on its connection wait for it: the order of a connection is never changed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.rig.proxy_addresses import NAMES_ADDRESSES, Address, rewritten
from tests.rig.proxy_frames import FrameError, Request, Splitter, correlation_of, framed, request_of
from tests.rig.proxy_rules import Cut, Delay, DropRequest, DropResponse, Hold, Rule, Side

WAITING_BYTES_MAX: Final = 4 * 1024 * 1024
"""How much of one direction of a connection may wait here before nothing more is read from it."""

CONNECT_SECONDS_MAX: Final = 10.0
LINGER_SECONDS: Final = 5.0
"""How long a broker may take to answer a request that was delivered after its client had left."""


class House(Protocol):
    """What a connection needs of the proxy that it belongs to."""

    def count(self, request: Request) -> None:
        """Count a request that came."""

    def rule_for(self, request: Request, side: Side) -> Rule | None:
        """Return the rule that acts on a request, having counted it."""

    def translate(self, host: str, port: int) -> Address:
        """Return the proxy's own address for a broker's."""

    def fault(self, text: str) -> None:
        """Note a frame that could not be understood."""

    def forget_closed(self, connection: Connection) -> None:
        """Drop a connection if both of its ends are closed."""


@dataclass(slots=True)
class _Waiting:
    """A frame on its way: sent once it is not held and its time has come."""

    content: bytes
    request: Request
    due: float
    is_held: bool = False
    cuts: bool = False


class End(asyncio.Protocol):
    """One of the two sockets of a connection: what comes in goes into `feeds`, what goes out comes from `drains`."""

    transport: asyncio.Transport | None = None

    def __init__(self, lost: Callable[[], None]) -> None:
        self.feeds: _Pipe
        self.drains: _Pipe
        self.closed = asyncio.Event()
        self._lost = lost
        self._paused_for: set[str] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.feeds.feed(data)

    def pause_writing(self) -> None:
        self.drains.source.pause("the other end does not read")

    def resume_writing(self) -> None:
        self.drains.source.resume("the other end does not read")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._lost()

    def pause(self, reason: str) -> None:
        """Read nothing until there is no reason left."""
        if not self._paused_for and self.transport is not None:
            self.transport.pause_reading()
        self._paused_for.add(reason)

    def resume(self, reason: str) -> None:
        """Drop a reason."""
        if reason not in self._paused_for:
            return
        self._paused_for.discard(reason)
        if not self._paused_for and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, frame: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(framed(frame))

    def close(self) -> None:
        """Close once all that was written is sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class _Pipe:
    """One direction of a connection: frames in order, each when it may go."""

    def __init__(
        self,
        source: End,
        take: Callable[[bytes], None],
        send: Callable[[_Waiting], None],
        done: Callable[[], None],
        faulty: Callable[[FrameError], None],
    ) -> None:
        self.source = source
        self.queue: deque[_Waiting] = deque()
        self.is_open = True
        """Whether anything may be sent yet."""
        self._take = take
        self._send = send
        self._done = done
        self._faulty = faulty
        self._splitter = Splitter()
        self._bytes = 0
        self._ends = False
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes) -> None:
        try:
            for frame in self._splitter.feed(data):
                self._take(frame)
        except FrameError as error:
            self._faulty(error)

    def put(self, waiting: _Waiting) -> None:
        self.queue.append(waiting)
        self._bytes += len(waiting.content)
        self.flush()

    def flush(self) -> None:
        """Send what may go, in order."""
        now = asyncio.get_running_loop().time
        while self.is_open and self.queue and not (head := self.queue[0]).is_held:
            if (wait := head.due - now()) > 0:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._wake)
                break
            self.queue.popleft()
            self._bytes -= len(head.content)
            self._send(head)
        if self._bytes > WAITING_BYTES_MAX:
            self.source.pause("too much waits")
        else:
            self.source.resume("too much waits")
        if self._ends and not self.queue:
            self._done()

    def end(self) -> None:
        """Send what waits when its time comes, then be done."""
        self._ends = True
        self.flush()

    def discard(self) -> None:
        """Forget what waits: nobody is there to take it."""
        self.queue.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self._timer = None
        self.flush()


class Connection:
    """A client's connection and the one to the broker that stands for it."""

    def __init__(self, proxy: House, upstream: Address) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._awaited: deque[Request] = deque()
        self._lingers = False
        self._is_cut = False
        self.client = End(self._client_lost)
        self.broker = End(self._broker_lost)
        self.requests = _Pipe(self.client, self._take_request, self._send_request, self._all_requested, self._faulty)
        self.answers = _Pipe(self.broker, self._take_answer, self._send_answer, self.client.close, self._faulty)
        self.client.feeds = self.broker.drains = self.requests
        self.broker.feeds = self.client.drains = self.answers
        self.requests.is_open = False
        self.task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        host, port = self._upstream
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await asyncio.get_running_loop().create_connection(lambda: self.broker, host, port)
        except OSError:  # and a TimeoutError, which is one
            self.broker.closed.set()
            self.client.abort()
            self._proxy.forget_closed(self)
            return
        self.requests.is_open = True
        self.requests.flush()

    def _faulty(self, error: FrameError) -> None:
        """End the connection over a frame that cannot be understood; it is told when the proxy ends."""
        self._proxy.fault(str(error))
        self.abort()

    def _take_request(self, frame: bytes) -> None:
        if self._is_cut:
            return
        request = request_of(frame)
        self._proxy.count(request)
        rule = self._proxy.rule_for(request, Side.REQUEST)
        if rule is not None and isinstance(rule.action, DropRequest):
            return
        self._pass_on(self.requests, frame, request, rule)

    def _take_answer(self, frame: bytes) -> None:
        correlation_id = correlation_of(frame)
        request = self._asked(correlation_id)
        if self.client.closed.is_set():
            if not self._awaited and not self.requests.queue:
                self.broker.close()
            return
        if request.api in NAMES_ADDRESSES:
            frame = rewritten(request.api, request.version, frame, self._proxy.translate)
        rule = self._proxy.rule_for(request, Side.RESPONSE)
        if rule is not None and isinstance(rule.action, DropResponse):
            return
        self._pass_on(self.answers, frame, request, rule)

    def _asked(self, correlation_id: int) -> Request:
        """Return the request of an answer; a broker answers in order, so what it passes over it will not answer."""
        while self._awaited:
            if (request := self._awaited.popleft()).correlation_id == correlation_id:
                return request
        raise FrameError(f"an answer to {correlation_id}, which nobody asked")

    def _pass_on(self, pipe: _Pipe, frame: bytes, request: Request, rule: Rule | None) -> None:
        waiting = _Waiting(frame, request, 0.0)
        if rule is not None:
            if isinstance(rule.action, Delay):
                waiting.due = asyncio.get_running_loop().time() + rule.action.seconds
            elif isinstance(rule.action, Cut):
                waiting.cuts = True
            elif isinstance(rule.action, Hold):
                waiting.is_held = True
                rule.hold(lambda: self._let_go(pipe, waiting))
        pipe.put(waiting)

    def _let_go(self, pipe: _Pipe, waiting: _Waiting) -> None:
        waiting.is_held = False
        pipe.flush()

    def _send_request(self, waiting: _Waiting) -> None:
        if waiting.cuts:
            self._cut()
            return
        if waiting.request.is_answered:
            self._awaited.append(waiting.request)
        self.broker.write(waiting.content)

    def _send_answer(self, waiting: _Waiting) -> None:
        if waiting.cuts:
            self._cut()
            return
        self.client.write(waiting.content)

    def _cut(self) -> None:
        """Break it for the client; what the broker was given before is still its to do."""
        self._is_cut = True
        self.requests.discard()
        self.answers.discard()
        self.client.abort()
        self.broker.close()

    def _client_lost(self) -> None:
        self.answers.discard()
        self._lingers = bool(self.requests.queue)
        self.requests.end()
        self._proxy.forget_closed(self)

    def _all_requested(self) -> None:
        """Close the broker's end; what was delivered late is waited for, so that the broker surely has done it."""
        if self._lingers and self._awaited:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.broker.close)
        else:
            self.broker.close()

    def _broker_lost(self) -> None:
        self.requests.discard()
        self.answers.end()
        self._proxy.forget_closed(self)

    def abort(self) -> None:
        """End both ends at once, and whatever waits between them."""
        self.requests.discard()
        self.answers.discard()
        self.client.abort()
        self.broker.abort()

    @property
    def is_closed(self) -> bool:
        """Whether both ends are closed."""
        return self.client.closed.is_set() and self.broker.closed.is_set()

    async def closed(self) -> None:
        """Return once both ends are closed."""
        await self.task
        await self.client.closed.wait()
        await self.broker.closed.wait()
