"""The cache: live figures and other things that can be rebuilt, in Redis or Valkey, behind short bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from interlock.errors import Transient

LIVE_KEYS_MAX = 1000
_LATE_TURNS = 3
"""Turns that a loop which comes late to a bound still gives to an answer that may already lie in the socket."""


class Cache:
    """One client of the cache. Away or slow: a call raises Transient within `seconds_max`; it recovers by itself."""

    def __init__(self, url: str, seconds_max: float = 0.25, connections_max: int = 8) -> None:
        self._seconds_max = seconds_max
        self._free = asyncio.Semaphore(connections_max)
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            # The bound is `bounded`'s; the driver's own is there for whoever forgets it.
            socket_timeout=2 * seconds_max,
            socket_connect_timeout=2 * seconds_max,
            max_connections=connections_max,
            health_check_interval=0,
            retry=None,
        )

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        """Keep a JSON object under `name` until it is `ttl_seconds` old."""
        await self.bounded(self._redis.set(name, msgspec.json.encode(value), px=max(1, int(ttl_seconds * 1000))))

    async def get_live(self, prefix: str) -> list[dict[str, Any]]:
        """Return the objects whose names begin with `prefix` in the order of their names, at most LIVE_KEYS_MAX."""
        found: list[dict[str, Any]] = await self.bounded(self._get_live(prefix))
        return found

    async def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what is kept under each name, in their order."""
        found: list[bytes | None] = await self.bounded_late(self._redis.mget(names))
        return found

    def script(self, source: str) -> Script:
        """Return a Lua script that runs on the server, as one step that nothing else comes between."""
        return Script(self, self._redis.register_script(source))

    async def ping(self) -> None:
        """Return if the cache answers."""
        await self.bounded(self._redis.ping())

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def bounded(self, call: Any) -> Any:
        """Await a driver call within the bound; away, slow or confused becomes Transient."""
        try:
            async with asyncio.timeout(self._seconds_max):
                return await call
        except (TimeoutError, RedisError, OSError) as error:
            raise Transient(f"The cache does not answer: {type(error).__name__}: {error}") from error

    async def bounded_late(self, call: Any) -> Any:
        """Await a driver call like `bounded`, but do not blame the cache where this process's own loop was late.

        A loop that was busy beyond the bound sees the bound pass before it has looked into the socket.
        """
        async with self._free:
            task = asyncio.ensure_future(call)
            try:
                await asyncio.wait({task}, timeout=self._seconds_max)
                for _ in range(_LATE_TURNS):
                    if not task.done():
                        await asyncio.sleep(0)
            finally:
                if not task.done():
                    task.cancel()  # the driver drops the connection: an answer that comes yet must meet nobody
                await asyncio.wait({task})
        if task.cancelled():
            raise Transient(f"The cache does not answer within {self._seconds_max:g} s.")
        try:
            return task.result()
        except (TimeoutError, RedisError, OSError) as error:
            raise Transient(f"The cache does not answer: {type(error).__name__}: {error}") from error

    async def _get_live(self, prefix: str) -> list[dict[str, Any]]:
        pattern = "".join(f"[{letter}]" if letter in "*?[]\\" else letter for letter in prefix) + "*"
        names: list[bytes] = []
        async for name in self._redis.scan_iter(match=pattern, count=LIVE_KEYS_MAX):
            names.append(name)
            if len(names) >= LIVE_KEYS_MAX:
                break
        if not names:
            return []
        values = await self._redis.mget(sorted(set(names)))
        return [msgspec.json.decode(value) for value in values if value is not None]


class Script:
    """One Lua script; the server is sent its text once, and again when it has forgotten it."""

    def __init__(self, cache: Cache, script: Any) -> None:
        self._cache = cache
        self._script = script

    async def __call__(self, keys: Sequence[bytes], arguments: Sequence[str | bytes] = ()) -> Any:
        """Run it; raises Transient where the cache is away or slow, and then it may have run or not."""
        return await self._cache.bounded_late(self._script(keys=keys, args=arguments))
