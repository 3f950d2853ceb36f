"""The bare repositories, one per model: read by object, written only from a quarantine that has been looked through."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import dulwich.pack
from dulwich.errors import (
    ApplyDeltaError,
    ChecksumMismatch,
    FileFormatException,
    GitProtocolError,
    NotGitRepository,
    ObjectMissing,
    RefFormatError,
)
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID
from dulwich.pack import UnresolvedDeltas
from dulwich.protocol import ReceivableProtocol
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import BackendRepo, DictBackend, UploadPackHandler

from interlock.errors import Refusal
from interlock_registry import errors, git_tree
from interlock_registry.git_wire import MAIN, ZERO

# dulwich unmaps a pack as soon as it has read it, and fails with BufferError if a view into it has not been collected
# yet: now and then a push broke off. Read into memory, which the bound on a push limits, nothing can be unmapped early.
dulwich.pack.has_mmap = False

_MAIN: Final = Ref(MAIN)
# What dulwich raises for bytes that are no good; AssertionError and ValueError are among the ways it says so.
BROKEN: Final = (
    ApplyDeltaError,
    AssertionError,
    ChecksumMismatch,
    EOFError,
    FileFormatException,
    IndexError,
    KeyError,
    ObjectMissing,
    UnresolvedDeltas,
    ValueError,
    zlib.error,
)


class Quarantine:
    """A pushed pack in a folder of its own, with the model's repository behind it for what is there already."""

    def __init__(self, folder: Path, behind: Path | None) -> None:
        self._folder = folder
        self._store = DiskObjectStore.init(str(folder))
        if behind is not None:
            self._store.add_alternate_path(str(behind))

    def unpack(self, file: BinaryIO) -> None:
        """Receive the pack, which has been measured, and see that nothing it points to is missing.

        Every tree of the pack is looked through for dangerous names. Raises Refusal(PUSH_MALFORMED | TREE_REFUSED).
        """
        try:
            pack = self._store.add_thin_pack(file.read, None)
            for oid in pack:
                kind, content = pack.get_raw(oid)
                for wanted in git_tree.links(kind, content):
                    if ObjectID(wanted) not in self._store:
                        raise Refusal(
                            errors.PUSH_MALFORMED, f"The push lacks an object that it needs: {wanted.decode()}."
                        )
        except BROKEN as error:
            raise Refusal(errors.PUSH_MALFORMED, f"The push is broken: {type(error).__name__}.") from error

    def read(self, oid: bytes) -> tuple[int, bytes]:
        """Return an object's type number and content; raises Refusal(PUSH_MALFORMED) where it is absent or broken."""
        try:
            kind, content = self._store.get_raw(ObjectID(oid))
        except BROKEN as error:
            raise Refusal(errors.PUSH_MALFORMED, f"The push lacks an object that it needs: {oid.decode()}.") from error
        return int(kind), bytes(content)

    def move_into(self, objects: Path) -> None:
        """Move the pack into a repository: its data first, then the index that makes it seen."""
        packs = self._folder / "pack"
        target = objects / "pack"
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(packs.iterdir(), key=lambda path: path.suffix == ".idx"):
            path.replace(target / path.name)

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()


class Repositories:
    """A folder of bare repositories. Calls are synchronous; async callers use `asyncio.to_thread`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, model: str) -> Path:
        """Return where a model's repository lies or would lie; the name has been checked by `model.named`."""
        return self._folder / f"{model}.git"

    def exists(self, model: str) -> bool:
        """Say whether anything has been pushed for the model."""
        return self.path(model).is_dir()

    def references(self, model: str) -> dict[bytes, bytes]:
        """Return every reference of the repository, none where it does not exist."""
        if not self.exists(model):
            return {}
        with contextlib.closing(self._open(model)) as repository:
            names = {bytes(name): bytes(oid) for name, oid in repository.get_refs().items()}
        return {name: oid for name, oid in names.items() if name.startswith(b"refs/")}

    @contextlib.contextmanager
    def quarantine(self, model: str) -> Iterator[Quarantine]:
        """Yield a quarantine for one push; its folder is gone at the end, whatever happened."""
        staging = self._folder / ".incoming"
        staging.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=staging, prefix=f"{model}-"))
        behind = self.path(model).resolve() / "objects" if self.exists(model) else None
        held: Quarantine | None = None
        try:
            held = Quarantine(folder / "objects", behind)
            yield held
        finally:
            if held is not None:
                held.close()
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, before: datetime) -> None:
        """Remove what pushes whose process was killed left in the staging folder before an instant."""
        staging = self._folder / ".incoming"
        for folder in staging.iterdir() if staging.is_dir() else ():
            if folder.stat().st_mtime < before.timestamp():
                shutil.rmtree(folder, ignore_errors=True)

    def accept(self, model: str, quarantine: Quarantine, old: bytes, new: bytes, tag: str) -> None:
        """Take a push in: move its objects, set the branch main and the version's tag.

        The tag keeps a version's commit reachable even if the branch is later pushed with force.
        Raises Refusal(PUSH_RACED) where the branch is not at `old` any more.
        """
        if not self.exists(model):
            self._create(model)
        quarantine.move_into(self.path(model) / "objects")
        with contextlib.closing(self._open(model)) as repository:
            current = repository.get_refs().get(_MAIN, ObjectID(ZERO))
            if current != new and not _moved(repository, current, old, new):
                raise Refusal(errors.PUSH_RACED, f"The branch main of {model} is at {current.decode()[:12]} now.")
            repository.refs.add_if_new(Ref(b"refs/tags/" + tag.encode()), ObjectID(new))

    def fetch(self, model: str, asked: BinaryIO, answer: BinaryIO) -> None:
        """Answer one request of a fetch or clone; raises Refusal(PUSH_MALFORMED) for one that cannot be read."""
        self._upload(model, asked, answer, advertise=False)

    def advertise(self, model: str, answer: BinaryIO) -> None:
        """Write what a fetch or clone can have."""
        self._upload(model, io.BytesIO(), answer, advertise=True)

    def _upload(self, model: str, asked: BinaryIO, answer: BinaryIO, *, advertise: bool) -> None:
        with contextlib.closing(self._open(model)) as repository, asked:
            protocol = ReceivableProtocol(asked.read, answer.write)
            known: dict[str, BackendRepo] = {"/": repository}
            handler = UploadPackHandler(
                DictBackend(known), ["/"], protocol, stateless_rpc=True, advertise_refs=advertise
            )
            try:
                handler.handle()
            except (*BROKEN, GitProtocolError, RefFormatError) as error:
                raise Refusal(errors.PUSH_MALFORMED, f"The request cannot be answered: {error}.") from error

    def _create(self, model: str) -> None:
        """Make a bare repository beside and rename it into place, so that half of one is never seen."""
        beside = Path(tempfile.mkdtemp(dir=self._folder / ".incoming", prefix=f"{model}-new-"))
        Repo.init_bare(str(beside / "git"), mkdir=True, default_branch=b"main").close()
        try:
            (beside / "git").rename(self.path(model))
        except OSError:
            if not self.exists(model):
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _open(self, model: str) -> Repo:
        try:
            return Repo(str(self.path(model)))
        except NotGitRepository as error:
            raise Refusal(errors.MODEL_UNKNOWN, f"There is no repository for {model}.") from error


def _moved(repository: Repo, current: bytes, old: bytes, new: bytes) -> bool:
    """Set the branch main from `old` to `new` and say whether it was at `old`."""
    if current != old:
        return False
    if old == ZERO:
        return bool(repository.refs.add_if_new(_MAIN, ObjectID(new)))
    return bool(repository.refs.set_if_equals(_MAIN, ObjectID(old), ObjectID(new)))
