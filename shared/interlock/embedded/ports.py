"""The stack's ports: the usual ones when they are free, else free ones that the home remembers."""

from __future__ import annotations

import json
import random
import socket

from interlock.embedded.home import Home, write_whole

USUAL = {
    "kafka": 9092,
    "kafka-controller": 9093,
    "postgres": 5432,
    "valkey": 6379,
    "ray": 6380,
    "registry": 8080,
    "builder": 8091,
    "deployer": 8092,
    "router": 8093,
    "monitor": 8084,
    "auditor": 8085,
    "witness": 8086,
}
# Below the range from which the system takes ports for outgoing connections, so that none slips in between.
FREE_FIRST, FREE_LAST = 20_000, 32_000
ATTEMPTS_MAX = 500


class NoFreePort(RuntimeError):
    """No free port was found on 127.0.0.1."""


class Ports:
    """Reserves ports for as long as this object lives.

    A reservation is an abstract unix socket named after the port: the kernel frees it when its holder dies, so
    two stacks that start at the same moment never choose the same port, and nothing stale can be left behind.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file = home.folder / "ports.json"
        self._held: dict[str, socket.socket] = {}
        self.chosen: dict[str, int] = json.loads(self._file.read_bytes()) if self._file.exists() else {}

    def reserve(self, name: str, usual: bool = True) -> int:
        """Return the port for a name: as last time, else the usual one, else a free one; raises NoFreePort."""
        candidates = [self.chosen[name]] if name in self.chosen else []
        if usual and name in USUAL:
            candidates.append(USUAL[name])
        chooser = random.SystemRandom()
        candidates += [chooser.randint(FREE_FIRST, FREE_LAST) for _ in range(ATTEMPTS_MAX)]
        for port in candidates:
            if self._take(name, port):
                self.chosen[name] = port
                write_whole(self._file, json.dumps(self.chosen).encode())
                return port
        raise NoFreePort(f"No free port between {FREE_FIRST} and {FREE_LAST} on 127.0.0.1 for {name}.")

    def _take(self, name: str, port: int) -> bool:
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0interlock-port-{port}")
        except OSError:
            mark.close()
            return False
        if not is_free(port):
            mark.close()
            return False
        self._held[name] = mark
        return True

    def release(self) -> None:
        """Give all reservations back."""
        for mark in self._held.values():
            mark.close()
        self._held.clear()


def is_free(port: int) -> bool:
    """Say whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))  # fails beside a listener on all addresses, too
        except OSError:
            return False
    return True
