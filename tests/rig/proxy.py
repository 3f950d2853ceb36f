"""A TCP proxy between Kafka and its clients that knows where requests begin, and can hold, delay, drop or cut them.

`async with KafkaProxy(bootstrap) as proxy:` listens on a port of its own for every broker it hears of, and puts those
ports in the place of the brokers' addresses, so that clients stay behind it. It speaks PLAINTEXT and SASL_PLAINTEXT,
not TLS, and does not rewrite the answers to share groups. `python -m tests.rig.proxy` runs it as a process of its own
(`proxy_process`).

`proxy_frames` knows what a frame is, `proxy_addresses` which addresses an answer names, `proxy_rules` what can be done
to a frame, `proxy_connection` does it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from types import TracebackType
from typing import Final, Self

from tests.rig.proxy_addresses import Address
from tests.rig.proxy_connection import Connection, End
from tests.rig.proxy_frames import Api, FrameError, Request, label_of
from tests.rig.proxy_rules import Action, Cut, Delay, DropRequest, DropResponse, Hold, Rule, Side

__all__ = ["Action", "Api", "Cut", "Delay", "DropRequest", "DropResponse", "Hold", "KafkaProxy", "Rule", "Side"]

CLOSE_SECONDS_MAX: Final = 5.0


class KafkaProxy:
    """Stands before a Kafka cluster for the length of an `async with` block; clients connect to `bootstrap`."""

    def __init__(self, bootstrap: str, *rules: Rule) -> None:
        self.seen: Counter[str] = Counter()
        """How many requests of each kind came, by Kafka's names."""
        self.acks: Counter[int] = Counter()
        """How many produce requests asked for which acknowledgement (-1 is all)."""
        self.faults: list[str] = []
        """Frames that could not be understood; any of them is raised when the block is left."""
        self._rules = list(rules)
        self._upstreams = [self._address(each) for each in bootstrap.split(",")]
        self._ports: dict[Address, int] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def __aenter__(self) -> Self:
        """Listen for the bootstrap brokers."""
        for each in self._upstreams:
            self.translate(*each)
        await asyncio.gather(*self._opening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; raises FrameError where a frame could not be understood."""
        await asyncio.gather(*self._opening)
        for server in self._servers:
            server.close()
        ending = list(self._connections)
        for each in ending:
            each.abort()
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await asyncio.gather(*(each.closed() for each in ending))
        if self.faults and error is None:
            raise FrameError("; ".join(self.faults))

    @property
    def bootstrap(self) -> str:
        """The proxy's own host:port, comma-separated."""
        return ",".join(f"127.0.0.1:{self._ports[each]}" for each in self._upstreams)

    @property
    def connections(self) -> int:
        """How many connections are open, those included that only wait to deliver something late."""
        return len(self._connections)

    @property
    def lingering(self) -> int:
        """How many connections live on without their client, to deliver something late and see it answered."""
        return sum(each.client.closed.is_set() for each in self._connections)

    @property
    def waiting(self) -> int:
        """How many frames wait for their time or their release."""
        return sum(len(each.requests.queue) + len(each.answers.queue) for each in self._connections)

    def on(
        self,
        api: str | int,
        action: Action,
        *,
        times: int | None = None,
        skip: int = 0,
        every: int = 1,
        transactional_id: str | None = None,
        client_id: str | None = None,
    ) -> Rule:
        """Take an action on requests of a kind, from now on.

        The first `skip` that match are let by, then each `every`-th is taken, `times` in all (None: without end).
        Of several rules that match, the one given first acts.
        """
        rule = Rule(
            Api.named(api),
            action,
            times=times,
            skip=skip,
            every=every,
            transactional_id=transactional_id,
            client_id=client_id,
        )
        return self.add(rule)

    def add(self, rule: Rule) -> Rule:
        """Add a rule that was made elsewhere."""
        self._rules.append(rule)
        return rule

    def release(self) -> int:
        """Let go all that is held; return how many frames that were."""
        return sum(rule.release() for rule in self._rules)

    def count(self, request: Request) -> None:
        """Count a request that came."""
        self.seen[label_of(request.api)] += 1
        if request.acks is not None:
            self.acks[request.acks] += 1

    def fault(self, text: str) -> None:
        """Note a frame that could not be understood."""
        self.faults.append(text)

    def rule_for(self, request: Request, side: Side) -> Rule | None:
        """Return the rule that acts on a request, having counted it."""
        return next((rule for rule in self._rules if rule.takes(request, side)), None)

    def translate(self, host: str, port: int) -> Address:
        """Return the proxy's own address for a broker's, listening there from now on."""
        if (host, port) not in self._ports:
            listening = socket.create_server(("127.0.0.1", 0), backlog=128)
            self._ports[host, port] = listening.getsockname()[1]
            opening = asyncio.get_running_loop().create_task(self._listen(listening, (host, port)))
            self._opening.add(opening)
        return "127.0.0.1", self._ports[host, port]

    def forget_closed(self, connection: Connection) -> None:
        """Drop a connection of which both ends are closed."""
        if connection.is_closed:
            self._connections.discard(connection)

    async def _listen(self, listening: socket.socket, upstream: Address) -> None:
        def connection() -> End:
            made = Connection(self, upstream)
            self._connections.add(made)
            return made.client

        self._servers.append(await asyncio.get_running_loop().create_server(connection, sock=listening))

    @staticmethod
    def _address(text: str) -> Address:
        host, _, port = text.strip().rpartition(":")
        return host, int(port)


if __name__ == "__main__":
    from tests.rig.proxy_process import main

    main(sys.argv[1:])
