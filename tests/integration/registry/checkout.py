"""A model repository on the author's machine, handled with the real git, knowing nothing of the user's own settings."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

GIT = shutil.which("git")

MANIFEST = """\
[model]
name = "{name}"
version = {version}
owner = "risk"

[artifact]
path = "model.onnx"
format = "onnx"

[[inputs]]
name = "amount"
type = "double"

[[inputs]]
name = "country"
type = "string"
categories = ["de", "fr"]

[[outputs]]
name = "score"
type = "double"
minimum = 0.0
maximum = 1.0

[vectors]
path = "vectors.json"

[[gates]]
name = "auc"
metric = "auc"
data = "holdout.csv"
label = "fraud"
minimum = 0.9
"""


@dataclass
class Said:
    """What a git command left behind."""

    status: int
    text: str


@dataclass
class Checkout:
    """One working copy."""

    folder: Path

    async def git(self, *arguments: str, seconds: float = 60) -> Said:
        """Run git in the working copy, without the user's settings and without questions."""
        assert GIT is not None
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0", "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org", "LC_ALL": "C",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            GIT, *arguments, cwd=self.folder, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
        return Said(process.returncode or 0, output.decode())

    async def commit(self, files: dict[str, bytes | str], message: str = "change") -> None:
        """Write files and commit them."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        await self.git("add", "-A")
        said = await self.git("commit", "-q", "--allow-empty", "-m", message)
        assert said.status == 0, said.text


async def checkout(folder: Path, name: str = "fraud", version: int = 1, **files: bytes | str) -> Checkout:
    """Return a new repository with one commit that holds a sound model."""
    folder.mkdir(parents=True)
    made = Checkout(folder)
    await made.git("init", "-q", "-b", "main")
    plain: dict[str, bytes | str] = {
        "interlock.toml": MANIFEST.format(name=name, version=version),
        "model.onnx": b"\x08\x0aonnx-like" + bytes(range(200)),
        "vectors.json": '{"inputs": [[1.0, "de"]], "outputs": [[0.5]]}',
        "holdout.csv": "amount,country,fraud\n1.0,de,0\n9.0,fr,1\n",
    }
    await made.commit(plain | {key.replace("__", "."): value for key, value in files.items()}, "first")
    return made
