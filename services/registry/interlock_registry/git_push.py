"""A push, from its first byte to the verdict: looked through in quarantine, registered, followed on the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import structlog

from interlock.blobs import Blobs
from interlock.cause import Cause
from interlock.clock import Clock
from interlock.errors import Refusal, Transient
from interlock.ids import digest_of, version_digest
from interlock.manifest import MANIFEST_FILE, Manifest
from interlock.postgres.journal import Unit, unit
from interlock.postgres.pool import Pool, passing
from interlock.serving.formats import refuse_executable
from interlock_registry import errors, git_pack, git_progress, git_tree, git_wire, handlers, store, store_timeline
from interlock_registry.git_repositories import Quarantine, Repositories
from interlock_registry.git_wire import MAIN, ZERO, Command, Commands
from interlock_registry.model import Pushed, Version
from interlock_registry.settings import Settings
from interlock_registry.timeline import Timeline

log = structlog.get_logger("interlock.registry")
_LFS: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class _Known:
    """A registered version, whether this push brought it, and the timeline's position before it."""

    version: Version
    new: bool
    position: int


class Pushes:
    """Receives pushes. What a push brings is never run, and lies in its quarantine until it is accepted."""

    def __init__(
        self, settings: Settings, pool: Pool, blobs: Blobs, repositories: Repositories, line: Timeline, clock: Clock
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._blobs = blobs
        self._repositories = repositories
        self._timeline = line
        self._clock = clock
        self._unpacking = asyncio.Semaphore(settings.push_at_once_max)
        self._accepting = asyncio.Lock()
        self._tasks: set[asyncio.Task[_Known]] = set()
        self._bounds = git_pack.Bounds(
            settings.push_objects_max, settings.push_file_bytes_max, settings.push_inflated_bytes_max
        )

    async def receive(self, model: str, cause: Cause, body: BinaryIO) -> AsyncIterator[bytes]:
        """Yield the answer to a push of `model`, whose whole body stands in `body`, as it comes about.

        The report on the references is sent once they are decided; what follows is for the pusher's eyes.
        """
        try:
            head = await asyncio.to_thread(git_wire.read_commands, body)
        except Refusal as refused:
            yield git_wire.report(refused.detail, {}, banded=False)
            return
        if not head.commands:
            return
        outcomes: dict[bytes, str | None] = {command.reference: _refused(command) for command in head.commands}
        known: _Known | None = None
        try:
            if outcomes.get(MAIN, "absent") is None:
                known = await self._in_the_background(self._take(model, cause, head, body))
            lines = [] if known is None else git_progress.greeting(known.version, new=known.new)
            lines += [f"{reference.decode('utf-8', 'replace')}: {why}" for reference, why in outcomes.items() if why]
        except Refusal as refused:
            outcomes[MAIN] = refused.code.title
            lines = git_progress.refusal(refused)
        except Transient as away:
            outcomes[MAIN] = "the registry cannot take it now; push again in a moment"
            lines = [f"not taken: {away.detail}", "push again in a moment; nothing is lost"]
        if head.banded:
            yield b"".join(map(git_wire.terminal, lines))
        yield git_wire.report("ok", outcomes, banded=head.banded)
        if head.banded and known is not None:
            async for piece in self._follow(known):
                yield piece
        if head.banded:
            yield git_wire.FLUSH

    async def _in_the_background(self, work: Coroutine[Any, Any, _Known]) -> _Known:
        """Await work that goes on to its end even if the pusher hangs up: nothing may be left half done."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[_Known]) -> None:
        """Forget a task; a refusal that nobody waits for any more is no error."""
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            log.info("push.ended", outcome=type(error).__name__)

    async def _take(self, model: str, cause: Cause, head: Commands, body: BinaryIO) -> _Known:
        """Look a push through, register its version and take its objects in; raises Refusal or Transient."""
        command = next(command for command in head.commands if command.reference == MAIN)
        async with self._unpacking:
            quarantine = _Held(self._repositories, model)
            try:
                pushed = await asyncio.to_thread(self._look_through, quarantine, command, model, cause.actor, body)
                return await self._accept(quarantine, command, pushed, cause)
            finally:
                await asyncio.to_thread(quarantine.end)

    def _look_through(self, held: _Held, command: Command, model: str, author: str, body: BinaryIO) -> Pushed:
        """Unpack into quarantine, check everything, and keep the files that the manifest names as blobs."""
        start = body.tell()
        count = git_pack.measure(body, self._bounds)
        body.seek(start)
        quarantine = held.begin()
        if count:
            quarantine.unpack(body)
        tree = git_tree.tree_of(command.new, quarantine.read)
        files = git_tree.files(
            tree,
            quarantine.read,
            entries_max=self._settings.tree_entries_max,
            depth_max=self._settings.tree_depth_max,
        )
        return self._pushed(model, author, command.new.decode(), files, quarantine.read)

    def _pushed(self, model: str, author: str, commit: str, files: dict[str, bytes], read: git_tree.Read) -> Pushed:
        if MANIFEST_FILE not in files:
            raise Refusal(
                errors.FILE_NOT_IN_TREE, f"There is no {MANIFEST_FILE} at the root of the tree.", path=MANIFEST_FILE
            )
        text = read(files[MANIFEST_FILE])[1]
        manifest = Manifest.parse(text)
        if manifest.name != model:
            raise Refusal(
                errors.MODEL_NAME_DIFFERS,
                f"{MANIFEST_FILE} names the model {manifest.name}, but it was pushed to {model}.git.",
            )
        _require_files(manifest, files)
        artifact = b""
        kept: dict[str, str] = {}
        for path in manifest.files:
            content = _content(read, path, files[path])
            if path == manifest.artifact.path:
                refuse_executable(path, content, manifest.name, manifest.version, manifest.owner)
                artifact = content
            kept[path] = self._blobs.put(content)
        return Pushed(
            model=model,
            owner=manifest.owner,
            version=manifest.version,
            digest=version_digest(text, artifact),
            manifest=text.decode("utf-8"),
            manifest_digest=self._blobs.put(text),
            artifact_digest=digest_of(artifact),
            artifact_format=manifest.artifact.format,
            artifact_bytes=len(artifact),
            commit=commit,
            author=author,
            files=kept,
        )

    async def _accept(self, held: _Held, command: Command, pushed: Pushed, cause: Cause) -> _Known:
        """Register, then take the objects in: should the second fail, the same push again makes it good."""
        async with self._accepting:
            async with unit(self._pool, cause, clock=self._clock) as opened:
                position, new, version = await self._register(pushed, opened)
            await asyncio.to_thread(held.accept, command.old, command.new, f"v{pushed.version}")
        return _Known(version, new, position)

    async def _register(self, pushed: Pushed, opened: Unit) -> tuple[int, bool, Version]:
        connection = await store.begin(opened)
        position = await store_timeline.end(connection)
        new = await handlers.register(pushed, opened)
        return position, new, await handlers.find_version(connection, pushed.model, pushed.version)

    async def _follow(self, known: _Known) -> AsyncIterator[bytes]:
        """Yield a line for everything that happens to the version, until its verdict or the end of patience."""
        name, number = known.version.model, known.version.version
        quiet = 0.0
        told = False
        keepalive = self._settings.push_keepalive_seconds
        try:
            version = await self._version(name, number)
            if not known.new and version.settled:
                yield self._say(git_progress.verdict(version, await self._endpoints(name)))
                return
            async for entry in self._timeline.follow(
                known.position, model=name, seconds=self._settings.push_wait_seconds, idle_seconds=keepalive
            ):
                if entry is None:
                    quiet += keepalive
                    yield git_wire.KEEPALIVE
                    if quiet >= self._settings.push_quiet_seconds and not told:
                        told = True
                        yield self._say([git_progress.away(known.version, quiet)])
                    continue
                if entry.event.get("version") != number:
                    continue
                quiet = 0.0
                yield self._say(git_progress.of_event(entry.type, entry.event))
                version = await self._version(name, number)
                if version.settled and _last(entry, version):
                    yield self._say(git_progress.verdict(version, await self._endpoints(name)))
                    return
            yield self._say(git_progress.left(known.version, self._settings.push_wait_seconds))
        except Transient as away:
            yield self._say(
                [f"the registry lost sight of the build: {away.detail}", "it goes on without this terminal"]
            )

    async def _version(self, name: str, number: int) -> Version:
        async with passing(), self._pool.acquire() as connection:
            return await handlers.find_version(connection, name, number)

    async def _endpoints(self, name: str) -> list[str]:
        async with passing(), self._pool.acquire() as connection:
            return [endpoint.name for endpoint in await store.endpoints(connection, name)]

    @staticmethod
    def _say(lines: list[str]) -> bytes:
        return b"".join(map(git_wire.terminal, lines))


class _Held:
    """A quarantine whose folder outlives the thread that opened it, until `end`."""

    def __init__(self, repositories: Repositories, model: str) -> None:
        self._repositories = repositories
        self._model = model
        self._context = repositories.quarantine(model)
        self._quarantine: Quarantine | None = None

    def begin(self) -> Quarantine:
        """Make the folder."""
        self._quarantine = self._context.__enter__()
        return self._quarantine

    def accept(self, old: bytes, new: bytes, tag: str) -> None:
        """Move what it holds into the repository and set the references."""
        assert self._quarantine is not None
        self._repositories.accept(self._model, self._quarantine, old, new, tag)

    def end(self) -> None:
        """Remove the folder."""
        if self._quarantine is not None:
            self._context.__exit__(None, None, None)


def _refused(command: Command) -> str | None:
    """Return why a reference may not be pushed, or None."""
    if command.reference != MAIN:
        return "only the branch main can be pushed; use: git push REMOTE HEAD:main"
    return "versions are kept for ever; the branch main cannot be deleted" if command.new == ZERO else None


def _require_files(manifest: Manifest, files: dict[str, bytes]) -> None:
    missing = [path for path in manifest.files if path not in files]
    if missing:
        raise Refusal(
            errors.FILE_NOT_IN_TREE,
            "\n".join(f"{MANIFEST_FILE} names {path}, which is not in the pushed tree." for path in missing),
            paths=missing,
        )


def _content(read: Callable[[bytes], tuple[int, bytes]], path: str, oid: bytes) -> bytes:
    kind, content = read(oid)
    if kind != git_tree.BLOB:
        raise Refusal(errors.TREE_REFUSED, f"{path} is not a file.", path=path)
    if content.startswith(_LFS):
        raise Refusal(
            errors.FILE_NOT_IN_TREE,
            f"{path} is a Git LFS pointer, not the file itself; take it out of LFS (git lfs untrack) and commit it.",
            path=path,
        )
    return content


def _last(entry: store_timeline.Entry, version: Version) -> bool:
    """Say whether an entry is the last that belongs to the verdict, so that no gate's line is left unsaid."""
    if entry.type == "GateEvaluated":
        return bool(entry.event["gate"] == version.gates[-1].name)
    return entry.type == "BuildFailed" or (entry.type == "BuildSucceeded" and not version.gates_expected)
