"""`git push` of one version's tree, with git where it is installed and with dulwich otherwise."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from examples.fraud.processes import DemoFailed

PUSH_SECONDS_MAX: Final = 120.0
BRANCH: Final = "main"


class Repository:
    """The data scientist's working copy: every version is a commit on one branch."""

    def __init__(self, folder: Path, url: str, author: str, token: str) -> None:
        self._folder = folder
        self._url = url
        self._author = author
        self._token = token
        self._git = shutil.which("git")

    async def push(self, tree: Path, message: str, show: Callable[[str], None]) -> bool:
        """Copy a tree over the working copy, commit it and push; show each line that comes back.

        Returns whether the push was accepted.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in tree.iterdir():
            shutil.copy2(file, self._folder / file.name)
        if self._git is None:
            return await asyncio.to_thread(self._push_with_dulwich, message, show)
        if not (self._folder / ".git").exists():
            await self._run("init", "--quiet", f"--initial-branch={BRANCH}")
        await self._run("add", ".")
        await self._run("commit", "--quiet", "-m", message)
        status, lines = await self._call("push", self._url, BRANCH, show=show)
        if status and not lines:
            raise DemoFailed("git push failed without a word.")
        return status == 0

    async def _run(self, *words: str) -> None:
        status, lines = await self._call(*words, show=None)
        if status:
            raise DemoFailed(f"git {words[0]} failed: {' '.join(lines)}")

    async def _call(self, *words: str, show: Callable[[str], None] | None) -> tuple[int, list[str]]:
        process = await asyncio.create_subprocess_exec(
            str(self._git),
            *words,
            cwd=self._folder,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(PUSH_SECONDS_MAX):
                async for raw in process.stderr:
                    line = raw.decode(errors="replace").rstrip().rsplit("\r", 1)[-1]
                    lines.append(line)
                    if show is not None and line.strip():
                        show(line)
                return await process.wait(), lines
        except TimeoutError:
            process.kill()
            await process.wait()
            raise DemoFailed(f"git {words[0]} took longer than {PUSH_SECONDS_MAX:.0f} seconds.") from None

    def _environment(self) -> dict[str, str]:
        """The token goes by the environment, which other users cannot read, not by the command line."""
        settings = {
            "user.name": self._author,
            "user.email": f"{self._author}@example.org",
            "commit.gpgsign": "false",
            "credential.helper": "",
            "http.proxy": "",
            "http.extraHeader": f"Authorization: Bearer {self._token}",
        }
        numbered = {
            f"GIT_CONFIG_{kind}_{index}": text
            for index, pair in enumerate(settings.items())
            for kind, text in zip(("KEY", "VALUE"), pair, strict=True)
        }
        plain = {"GIT_CONFIG_COUNT": str(len(settings)), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        return os.environ | {"LC_ALL": "C"} | plain | numbered

    def _push_with_dulwich(self, message: str, show: Callable[[str], None]) -> bool:
        from dulwich import porcelain
        from dulwich.errors import GitProtocolError
        from dulwich.refs import Ref
        from dulwich.repo import Repo

        fresh = not (self._folder / ".git").exists()
        with Repo.init(str(self._folder)) if fresh else Repo(str(self._folder)) as repository:
            if fresh:
                repository.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(f"refs/heads/{BRANCH}".encode()))
            porcelain.add(repository, [str(path) for path in self._folder.iterdir() if path.is_file()])
            identity = f"{self._author} <{self._author}@example.org>".encode()
            porcelain.commit(repository, message=message.encode(), author=identity, committer=identity)
            try:
                answer = porcelain.push(
                    repository, self._url, BRANCH, errstream=_Lines(show), username=self._author, password=self._token
                )
            except (porcelain.Error, GitProtocolError) as error:
                show(str(error))
                return False
        return not any((answer.ref_status or {}).values())


class _Lines(io.RawIOBase):
    """A binary stream that shows each line written to it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show
        self._rest = b""

    def write(self, data: Any) -> int:
        """Take bytes and show the lines they complete."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            self._show("remote: " + line.decode(errors="replace"))
        return len(data)

    def flush(self) -> None:
        """Show what is left."""
        if self._rest:
            self.write(b"\n")
