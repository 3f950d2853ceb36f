"""The proxy as a process of its own, told what to do by lines of JSON, so that it outlives whoever is killed.

`python -m tests.rig.proxy --bootstrap HOST:PORT` says `{"bootstrap": ...}` once it listens, then answers each line on
its standard input (`{"id": 1, "do": "on", "api": "EndTxn", "action": "Delay", "seconds": 2}`) by one on its standard
output; it ends when its input does. `ProxyProcess` starts it and speaks that language.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvloop

from tests.rig.proxy import KafkaProxy
from tests.rig.proxy_frames import Api, FrameError
from tests.rig.proxy_rules import Action, Rule, plain, rule_of

ROOT: Final = Path(__file__).parents[2]
START_SECONDS_MAX: Final = 20.0
ANSWER_SECONDS_MAX: Final = 10.0
END_SECONDS_MAX: Final = 10.0


class ProxyProcess:
    """A `KafkaProxy` in a process of its own; the same words, but each must be awaited."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        """The cluster's until the block is entered, then the proxy's own."""
        self._process: Process | None = None
        self._ids = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start it and learn where it listens."""
        arguments = ("-m", "tests.rig.proxy", "--bootstrap", self.bootstrap)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        said = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS_MAX)
        self.bootstrap = json.loads(said)["bootstrap"]
        self._listening = asyncio.create_task(self._listen(self._process.stdout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; raises FrameError where it ended badly, which is what a frame it did not understand makes it do."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = await asyncio.wait_for(self._process.wait(), END_SECONDS_MAX)
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        if self._listening is not None:
            await self._listening
        if status and error is None:
            raise FrameError(f"the proxy ended with status {status}")

    @property
    def pid(self) -> int:
        """The process's pid."""
        assert self._process is not None
        return self._process.pid

    async def on(self, api: str | int, action: Action, **when: Any) -> RemoteRule:
        """Take an action on requests of a kind, as `KafkaProxy.on`."""
        answer = await self.ask("on", api=Api.named(api).label, **plain(action), **when)
        return RemoteRule(self, answer["rule"])

    async def seen(self) -> dict[str, int]:
        """Return how many requests of each kind came."""
        return dict((await self.ask("seen"))["seen"])

    async def acks(self) -> dict[int, int]:
        """Return how many produce requests asked for which acknowledgement (-1 is all)."""
        return {int(acks): count for acks, count in (await self.ask("seen"))["acks"].items()}

    async def waiting(self) -> int:
        """Return how many frames wait for their time or their release."""
        return int((await self.ask("seen"))["waiting"])

    async def lingering(self) -> int:
        """Return how many connections live on without their client, to deliver something late."""
        return int((await self.ask("seen"))["lingering"])

    async def release(self) -> int:
        """Let go all that is held; return how many frames that were."""
        return int((await self.ask("release"))["released"])

    async def ask(self, do: str, seconds_max: float = ANSWER_SECONDS_MAX, **more: Any) -> dict[str, Any]:
        """Send one line and return its answer; raises RuntimeError with what the proxy objects to."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": do} | more).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(self._answers[number], seconds_max)
        finally:
            del self._answers[number]
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    async def _listen(self, said: asyncio.StreamReader) -> None:
        while line := await said.readline():
            answer = json.loads(line)
            if (future := self._answers.get(answer["id"])) is not None and not future.done():
                future.set_result(answer)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(RuntimeError("the proxy has ended"))


class RemoteRule:
    """A rule of a `ProxyProcess`."""

    def __init__(self, proxy: ProxyProcess, number: int) -> None:
        self._proxy = proxy
        self._number = number

    async def count(self) -> int:
        """Return how often it has acted."""
        return int((await self._proxy.ask("rule", rule=self._number))["count"])

    async def holds(self) -> int:
        """Return how many frames it holds now."""
        return int((await self._proxy.ask("rule", rule=self._number))["holds"])

    async def end(self) -> None:
        """Take no more; what is held stays held."""
        await self._proxy.ask("end", rule=self._number)

    async def release(self) -> int:
        """Let go what it holds; return how many frames that were."""
        return int((await self._proxy.ask("release", rule=self._number))["released"])

    async def acted(self, count: int = 1, seconds_max: float = 30.0) -> None:
        """Return once it acted `count` times; raises TimeoutError."""
        await self._proxy.ask("acted", seconds_max, rule=self._number, count=count)


class _Control:
    """What the lines on standard input may ask."""

    def __init__(self, proxy: KafkaProxy) -> None:
        self._proxy = proxy
        self._rules: list[Rule] = []

    def on(self, **given: Any) -> dict[str, Any]:
        self._rules.append(self._proxy.add(rule_of(**given)))
        return {"rule": len(self._rules) - 1}

    def release(self, rule: int | None = None) -> dict[str, Any]:
        return {"released": self._proxy.release() if rule is None else self._rules[rule].release()}

    def rule(self, rule: int) -> dict[str, Any]:
        return {"count": self._rules[rule].count, "holds": self._rules[rule].holds}

    def end(self, rule: int) -> dict[str, Any]:
        self._rules[rule].end()
        return {}

    def seen(self) -> dict[str, Any]:
        proxy = self._proxy
        counts = {"seen": dict(proxy.seen), "acks": dict(proxy.acks)}
        return counts | {"waiting": proxy.waiting, "lingering": proxy.lingering}

    async def acted(self, rule: int, count: int) -> dict[str, Any]:
        await self._rules[rule].acted(count, None)
        return {"count": self._rules[rule].count}


async def serve(bootstrap: str) -> None:
    """Be the proxy until standard input ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    waiting: set[asyncio.Task[None]] = set()
    async with KafkaProxy(bootstrap) as proxy:
        _say({"bootstrap": proxy.bootstrap})
        control = _Control(proxy)
        while line := await lines.readline():
            given = json.loads(line)
            number, do = given.pop("id"), given.pop("do")
            try:
                if do == "acted":
                    task = asyncio.create_task(_answer_later(control, number, given))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                else:
                    _say({"id": number} | getattr(control, do)(**given))
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                _say({"id": number, "error": f"{type(error).__name__}: {error}"})
        for task in waiting:
            task.cancel()


async def _answer_later(control: _Control, number: int, given: dict[str, Any]) -> None:
    _say({"id": number} | await control.acted(**given))


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig.proxy", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="the cluster's host:port, comma-separated")
    uvloop.run(serve(parser.parse_args(arguments).bootstrap))
