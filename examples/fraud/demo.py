"""The train and its watchers: one endpoint, three versions, a quarter of a million card transactions, in minutes.

`python -m examples.fraud.demo` starts a stack of its own under `.interlock/demo`, tells the story on real parts,
prints the closing table, stops the stack, and ends with status 0 only if every promise was kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

from examples.fraud.display import Display
from examples.fraud.processes import REPOSITORY, Child, DemoFailed, environment, interlock
from examples.fraud.stage import Stage
from examples.fraud.story import Story
from examples.fraud.watchers import WATCHING, Watchers
from interlock.errors import InterlockError

STORY_SECONDS_MAX: Final = 900.0
PREPARE_SECONDS_MAX: Final = 300.0


async def tell(home: Path, display: Display, *, keep: bool) -> bool:
    """Start everything, tell the story, stop everything; return whether every promise was kept."""
    await _clear(home)
    work = home / "work"
    work.mkdir(parents=True)
    display.chapter("The stack starts; meanwhile three versions of a model are trained on simulated transactions")
    training = asyncio.create_task(_train(work))
    children: list[Child] = []
    try:
        await interlock(home, "up", "--free-ports", quiet=False, settings=WATCHING)
        display.say("The stack is up: Kafka, PostgreSQL, Valkey, Ray Serve and the services, all on this machine.")
        await training
        display.say("Three versions are trained, and the stream is prepared.")
        stage = Stage(home, work, display, children)
        story, watchers = Story(stage), Watchers(stage)
        await stage.prepare()
        await story.first_version()
        await story.better_version()
        await story.worse_version()
        await story.burst()
        await watchers.world_changes()
        await watchers.truth_arrives()
        await story.way_back()
        await watchers.one_case()
        await watchers.whole_record()
        kept = await story.closing(watchers.seen)
        await stage.close()
        return kept
    finally:
        training.cancel()
        display.still()
        for child in children:
            await child.stop()
        if not keep:
            display.say("The stack stops.")
            await interlock(home, "down")


async def _train(work: Path) -> None:
    with (work / "train.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "examples.fraud.train",
            str(work),
            cwd=REPOSITORY,
            env=environment(work.parent),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(PREPARE_SECONDS_MAX):
            if await process.wait():
                raise DemoFailed(f"The training failed; see {work / 'train.log'}.")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _clear(home: Path) -> None:
    """Stop and forget an earlier demo; the folder is the demo's own."""
    if (home / "run" / "stack.json").exists():
        await interlock(home, "down")
    if home.exists():
        shutil.rmtree(home)


async def _bounded(home: Path, display: Display, *, keep: bool) -> bool:
    async with asyncio.timeout(STORY_SECONDS_MAX):
        return await tell(home, display, keep=keep)


def main() -> int:
    """Read the command line and tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--home",
        type=Path,
        default=REPOSITORY / ".interlock" / "demo",
        help="the demo's own data folder; emptied first",
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    arguments = parser.parse_args()
    home: Path = arguments.home.absolute()
    with Display() as display:
        try:
            kept = asyncio.run(_bounded(home, display, keep=arguments.keep))
        except (DemoFailed, InterlockError, TimeoutError) as error:
            display.say(
                f"The story ends early: {error or 'it took too long.'} Logs are in {home / 'logs'}.", "bold red"
            )
            return 1
        except KeyboardInterrupt:
            display.say("Stopped by you.")
            return 130
        if arguments.keep:
            display.say(
                f"The stack is still running: INTERLOCK_HOME={home} interlock status; `interlock down` stops it."
            )
        return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
