"""The cache on a real Valkey: bounded when it is away, back by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from interlock.cache import Cache
from interlock.errors import Transient
from interlock.ids import uuid7


@pytest.fixture
async def cache(servers: dict[str, str]) -> AsyncIterator[Cache]:
    """Return a cache on the real server."""
    opened = Cache(servers["INTERLOCK_REDIS_URL"])
    yield opened
    await opened.close()


async def test_live_figures_are_found_by_prefix_and_fade(cache: Cache) -> None:
    """Only those of the prefix, in the order of their names; a key outlives its time by nothing."""
    room = uuid7()
    for instance in ("b", "a"):
        await cache.put_live(f"live:{room}:{instance}", {"instance": instance}, 30)
    await cache.put_live(f"live:{room}-other:c", {"instance": "c"}, 30)
    await cache.put_live(f"live:{room}:gone", {"instance": "gone"}, 0.01)
    await asyncio.sleep(0.05)
    assert await cache.get_live(f"live:{room}:") == [{"instance": "a"}, {"instance": "b"}]


async def test_a_prefix_is_no_pattern(cache: Cache) -> None:
    """Stars and brackets in an endpoint's name match themselves only."""
    room = uuid7()
    await cache.put_live(f"live:{room}:x", {"x": 1}, 30)
    for prefix in (f"live:{room[:-1]}*", f"live:{room[:-1]}?", f"live:[{room[0]}]", "*"):
        assert await cache.get_live(prefix) == []


async def test_a_server_that_is_away_is_transient_within_the_bound() -> None:
    """Nobody listens, and somebody who never answers: both end within a moment."""
    silent = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    for url in ("redis://127.0.0.1:1/0", f"redis://127.0.0.1:{port}/0"):
        cache = Cache(url)
        start = time.monotonic()
        with pytest.raises(Transient, match="cache"):
            await cache.ping()
        assert time.monotonic() - start < 1.0
        await cache.close()
    silent.close()


async def test_it_recovers_by_itself(servers: dict[str, str]) -> None:
    """A door that shuts between client and server, and opens again: the same client goes on."""
    target = servers["INTERLOCK_REDIS_URL"].rsplit("@", 1)[-1].split("/")[0].replace("redis://", "")
    host, port = target.rsplit(":", 1)
    writers: list[asyncio.StreamWriter] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, far_writer))

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
            except ConnectionError:
                pass

        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    server = await asyncio.start_server(door, "127.0.0.1", 0)
    near = server.sockets[0].getsockname()[1]
    cache = Cache(servers["INTERLOCK_REDIS_URL"].replace(target, f"127.0.0.1:{near}"))
    await cache.ping()
    server.close()
    for writer in writers:
        writer.transport.abort()
    with pytest.raises(Transient):
        await cache.ping()
    async with await asyncio.start_server(door, "127.0.0.1", near):
        async with asyncio.timeout(10):
            while True:
                try:
                    await cache.ping()
                    break
                except Transient:
                    await asyncio.sleep(0.02)
        await cache.close()
        for writer in writers:
            writer.transport.abort()
