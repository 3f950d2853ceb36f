"""The cache: live figures and other things that can be rebuilt, in Redis or Valkey, behind short bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from interlock.errors import Transient

LIVE_KEYS_MAX = 1000


class Cache:
    """One client of the cache. Away or slow: a call raises Transient within `seconds_max`; it recovers by itself."""

    def __init__(self, url: str, seconds_max: float = 0.25, connections_max: int = 8) -> None:
        self._seconds_max = seconds_max
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=seconds_max,
            socket_connect_timeout=seconds_max,
            max_connections=connections_max,
            health_check_interval=0,
            retry=None,
        )

    @property
    def redis(self) -> Any:
        """The driver's client, for pipelined reads of features; its errors go through `bounded`."""
        return self._redis

    async def put_live(self, name: str, value: dict[str, Any], ttl_seconds: float) -> None:
        """Keep a JSON object under `name` until it is `ttl_seconds` old."""
        await self.bounded(self._redis.set(name, msgspec.json.encode(value), px=max(1, int(ttl_seconds * 1000))))

    async def get_live(self, prefix: str) -> list[dict[str, Any]]:
        """Return the objects whose names begin with `prefix` in the order of their names, at most LIVE_KEYS_MAX."""
        found: list[dict[str, Any]] = await self.bounded(self._get_live(prefix))
        return found

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
