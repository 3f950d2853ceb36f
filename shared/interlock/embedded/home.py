"""The stack's data folder: where its data, logs, secrets, ports and running record are kept."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

SOCKET_PATH_BYTES_MAX = 107  # what Linux allows for the path of a unix socket
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - the one place that is short everywhere; what is made in it is private


def default_folder() -> Path:
    """Return $INTERLOCK_HOME, or ~/.interlock."""
    given = os.environ.get("INTERLOCK_HOME")
    return Path(given).expanduser().absolute() if given else Path.home() / ".interlock"


def cache_folder() -> Path:
    """Return the folder for what can be fetched again: $XDG_CACHE_HOME/interlock, or ~/.cache/interlock."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "interlock"


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader sees either the old content or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        written.chmod(mode)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


class Home:
    """One stack's data folder. Only its owner can read it: it holds secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def create(self) -> None:
        """Make the folders that are missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in ("data", "logs", "run", "secrets", "blobs"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def data(self, part: str) -> Path:
        """Return the folder of a part's data."""
        return self.folder / "data" / part

    def log(self, part: str) -> Path:
        """Return the file that a part's output goes to."""
        return self.folder / "logs" / f"{part}.log"

    @property
    def blobs(self) -> Path:
        """Return the folder of the content-addressed store."""
        return self.folder / "blobs"

    @property
    def run(self) -> Path:
        """Return the folder of what only matters while the stack runs."""
        return self.folder / "run"

    @property
    def record_file(self) -> Path:
        """Return the file in which the supervisor says how the stack is."""
        return self.run / "stack.json"

    @property
    def stack_id(self) -> str:
        """Return the mark that every process of this home carries in its environment, so that strays can be found."""
        path = self.folder / "stack-id"
        if not path.exists():
            write_whole(path, secrets.token_hex(12).encode())
        return path.read_text().strip()

    def secret(self, name: str) -> str:
        """Return the named secret; the first call makes it up (43 characters safe in URLs)."""
        path = self.secret_file(name)
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(32).encode())
        return path.read_text().strip()

    def secret_file(self, name: str) -> Path:
        """Return where the named secret is kept (mode 0600)."""
        return self.folder / "secrets" / name

    def short_folder(self, name: str, room_bytes: int) -> Path:
        """Return a folder for unix sockets whose paths below it have `room_bytes` left of the 107 that Linux allows.

        A home with a long path gets a private folder in the system's temporary folder instead, and where that has a
        long path too, in /tmp.
        """
        strayed = f"il-{self.stack_id[:10]}-{name}"
        places = (self.run / name, Path(tempfile.gettempdir()) / strayed, SHORT_FOLDER / strayed)
        folder = next(
            (each for each in places if len(os.fsencode(each)) + room_bytes <= SOCKET_PATH_BYTES_MAX), places[-1]
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own.")
        return folder

    def record(self) -> dict[str, Any] | None:
        """Return what the supervisor wrote last, or None where no stack was ever started here."""
        try:
            content: dict[str, Any] = json.loads(self.record_file.read_bytes())
        except FileNotFoundError:
            return None
        return content

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace the running record (mode 0600: it holds the addresses with their passwords)."""
        write_whole(self.record_file, json.dumps(record, indent=1).encode())
