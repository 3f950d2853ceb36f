from __future__ import annotations

import pytest

from interlock.errors import Refusal
from interlock_registry import errors, git_tree
from tests.unit.registry.packs import BLOB, Objects

FILE, FOLDER, LINK, SUBMODULE = b"100644", b"40000", b"120000", b"160000"


def read(objects: Objects, oid: bytes) -> tuple[int, bytes]:
    return objects.held[oid]


def files(objects: Objects, tree: bytes, entries_max: int = 100, depth_max: int = 5) -> dict[str, bytes]:
    return git_tree.files(tree, lambda oid: read(objects, oid), entries_max=entries_max, depth_max=depth_max)


def test_an_honest_tree_gives_every_file_by_its_path() -> None:
    """Files of all three ordinary modes, at the root and in folders, names with umlauts and spaces."""
    objects = Objects()
    blob = objects.add(BLOB, b"x")
    inner = objects.tree((b"100755", b"run.sh", blob), (b"100664", "größe neu.csv".encode(), blob))
    tree = objects.tree((FILE, b".gitignore", blob), (FOLDER, b"data", inner))
    assert set(files(objects, tree)) == {".gitignore", "data/run.sh", "data/größe neu.csv"}


@pytest.mark.parametrize(
    ("mode", "name", "said"),
    [
        (LINK, b"model.onnx", "model.onnx is a symbolic link"),
        (SUBMODULE, b"vendor", "vendor is a submodule"),
        (b"100600", b"odd", "mode 100600"),
        (FILE, b"..", "leads out of its folder"),
        (FILE, b".", "leads out of its folder"),
        (FILE, b"/etc/passwd", "separator"),
        (FILE, b"..\\x", "separator"),
        (FILE, b"a/b", "separator"),
        (FILE, b"", "empty"),
        (FILE, b"x" * 256, "longer than 255"),
        (FILE, b".git", "git keeps for itself"),
        (FOLDER, b".GIT", "git keeps for itself"),
        (FILE, b".git. ", "git keeps for itself"),
        (FILE, b"GIT~1", "git keeps for itself"),
        (FILE, ".g\u200cit".encode(), "invisible"),
        (FILE, b"a\x1b[2Jb", "invisible"),
        (FILE, b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_dangerous_entry_is_refused_by_name(mode: bytes, name: bytes, said: str) -> None:
    """Each is refused wherever it stands, and the sentence says where."""
    objects = Objects()
    blob = objects.add(BLOB, b"x")
    inner = objects.tree((mode, name, blob))
    for tree in (inner, objects.tree((FOLDER, b"data", inner))):
        with pytest.raises(Refusal, match=said) as refused:
            files(objects, tree)
        assert refused.value.code is errors.TREE_REFUSED


def test_a_name_that_stands_twice_is_refused() -> None:
    """Two entries of one name: whoever checks one could be served the other."""
    objects = Objects()
    tree = objects.tree((FILE, b"m", objects.add(BLOB, b"a")), (FILE, b"m", objects.add(BLOB, b"b")))
    with pytest.raises(Refusal, match="twice"):
        files(objects, tree)


def test_depth_and_number_of_entries_are_bounded() -> None:
    """A chain of folders and a wide one both end at their bound; so does one tree used a thousandfold."""
    objects = Objects()
    blob = objects.add(BLOB, b"x")
    tree = objects.tree((FILE, b"f", blob))
    for _ in range(7):
        tree = objects.tree((FOLDER, b"d", tree))
    with pytest.raises(Refusal, match="deeper than 5"):
        files(objects, tree)
    wide = objects.tree(*((FILE, b"%d" % number, blob) for number in range(5)))
    for _ in range(3):
        wide = objects.tree(*((FOLDER, b"%d" % number, wide) for number in range(30)))
    with pytest.raises(Refusal, match="more than 100"):
        files(objects, wide)


def test_an_unreadable_tree_is_refused() -> None:
    """Bytes that are no tree give a sentence, not an exception of the reader."""
    objects = Objects()
    tree = objects.add(2, b"100644 no-end")
    with pytest.raises(Refusal, match="cannot be read"):
        files(objects, tree)
