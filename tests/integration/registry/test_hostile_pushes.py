"""Pushes that no honest git would make: refused with a sentence, and nothing is written outside staging."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.registry.checkout import MANIFEST
from tests.integration.registry.room import Room
from tests.unit.registry.packs import BLOB, REF_DELTA, Objects, entry, pack, push, varint

FILE, FOLDER, LINK, SUBMODULE = b"100644", b"40000", b"120000", b"160000"


def honest(objects: Objects) -> list[tuple[bytes, bytes, bytes]]:
    """Return the lines of a sound tree, without its holdout set."""
    return [
        (FILE, b"interlock.toml", objects.add(BLOB, MANIFEST.format(name="fraud", version=1).encode())),
        (FILE, b"model.onnx", objects.add(BLOB, b"\x08\x0amodel")),
        (FILE, b"vectors.json", objects.add(BLOB, b"{}")),
    ]


async def sent(room: Room, body: bytes, model: str = "fraud") -> str:
    """Send a push and return what came back."""
    async with room.client("mallory", "author") as client:
        answer = await client.post(
            f"/git/{model}.git/git-receive-pack",
            content=body,
            headers={"Content-Type": "application/x-git-receive-pack-request"},
        )
    assert answer.status_code == 200, answer.text
    return answer.content.decode("utf-8", "replace")


async def nothing_kept(room: Room) -> bool:
    """Say whether a refused push left nothing: no repository, no staging, no version."""
    async with room.client("eve") as client:
        models = (await client.get("/v1/models")).json()
    git: Path = room.settings.git_folder
    staging = git / ".incoming"
    return models == [] and not (git / "fraud.git").exists() and not (staging.exists() and any(staging.iterdir()))


@pytest.mark.parametrize(
    ("mode", "name", "said"),
    [
        (LINK, b"holdout.csv", "holdout.csv is a symbolic link"),
        (SUBMODULE, b"vendor", "vendor is a submodule"),
        (FILE, b"..", "leads out of its folder"),
        (FILE, b"/etc/passwd", "separator"),
        (FILE, b".git", "git keeps for itself"),
        (FILE, b"model.onnx", "twice"),
    ],
)
async def test_a_hostile_tree_is_refused(room: Room, mode: bytes, name: bytes, said: str) -> None:
    """Symbolic links, submodules, paths that lead elsewhere, names twice."""
    objects = Objects()
    target = objects.add(BLOB, b"../../../etc/passwd")
    commit = objects.commit(objects.tree(*honest(objects), (mode, name, target)))
    answer = await sent(room, push(commit, objects.pack()))
    assert said in answer
    assert "ng refs/heads/main" in answer
    assert await nothing_kept(room)


async def test_a_hostile_tree_in_the_history_is_refused_too(room: Room) -> None:
    """Who clones the repository gets the history as well."""
    objects = Objects()
    bad = objects.commit(objects.tree((FILE, b"..", objects.add(BLOB, b"x"))))
    lines = [*honest(objects), (FILE, b"holdout.csv", objects.add(BLOB, b"a"))]
    commit = objects.commit(objects.tree(*lines), bad)
    assert "leads out of its folder" in await sent(room, push(commit, objects.pack()))
    assert await nothing_kept(room)


async def test_a_push_with_something_missing_is_refused(room: Room) -> None:
    """A parent, a tree or a blob that is nowhere; a branch that points to no commit; a base that is absent."""
    objects = Objects()
    lines = honest(objects)
    missing = b"ab" * 20
    parentless = objects.commit(objects.tree(*lines), missing)
    assert f"lacks an object that it needs: {missing.decode()}" in await sent(room, push(parentless, objects.pack()))
    hole = objects.commit(objects.tree(*lines, (FILE, b"holdout.csv", missing)))
    assert "lacks an object" in await sent(room, push(hole, objects.pack()))
    blob = Objects()
    assert "does not point to a commit" in await sent(room, push(blob.add(BLOB, b"x"), blob.pack()))
    delta = pack([entry(REF_DELTA, varint(5) + varint(5) + b"\x90\x05", base=missing)])
    assert "The push is broken" in await sent(room, push(missing, delta))
    assert "lacks an object" in await sent(room, push(missing, pack([])))
    assert await nothing_kept(room)


async def test_broken_bytes_and_bombs_are_refused(room: Room) -> None:
    """No pack, half a pack, a wrong checksum, objects that grow: a sentence each."""
    objects = Objects()
    commit = objects.commit(objects.tree(*honest(objects)))
    whole = objects.pack()
    assert "the pack ends too early" in await sent(room, push(commit, b""))
    assert "the pack ends too early" in await sent(room, push(commit, whole[:-30]))
    assert "The push is broken" in await sent(room, push(commit, whole[:-20] + bytes(20)))
    assert "longer than it says" in await sent(room, push(commit, pack([entry(BLOB, bytes(10_000_000), size=5)])))
    assert "accepted for one file" in await sent(room, push(commit, pack([entry(BLOB, b"x", size=2**40)])))
    grown = varint(5) + varint(2**40) + b"\x90\x05"
    assert "accepted for one file" in await sent(room, push(commit, pack([entry(REF_DELTA, grown, base=b"1" * 40)])))
    assert "not consist of git packets" in await sent(room, b"GET / HTTP/1.1")
    assert await nothing_kept(room)


async def test_names_that_lead_out_of_the_folder_are_no_models(room: Room) -> None:
    """The repository's name is checked before any path is made of it."""
    async with room.client("mallory", "author") as client:
        for name in ("..", "%2e%2e%2fx", "A", "x--y", "x" * 70):
            answer = await client.get(f"/git/{name}.git/info/refs?service=git-receive-pack")
            assert answer.status_code in (404, 422), answer.text
        assert (await client.get("/git/fraud.git/info/refs?service=rm")).status_code == 400
        assert (await client.get("/git/fraud.git/HEAD")).status_code == 404


async def test_gzip_bodies_are_understood_and_gzip_bombs_refused(room: Room) -> None:
    """What is counted is what comes out."""
    import gzip

    objects = Objects()
    lines = [*honest(objects), (LINK, b"x", objects.add(BLOB, b"y"))]
    body = gzip.compress(push(objects.commit(objects.tree(*lines)), objects.pack()))
    async with room.client("mallory", "author") as client:
        headers = {"Content-Encoding": "gzip"}
        answer = await client.post("/git/fraud.git/git-receive-pack", content=body, headers=headers)
        assert "x is a symbolic link" in answer.text
        bomb = gzip.compress(bytes(8_000_000))
        answer = await client.post("/git/fraud.git/git-upload-pack", content=bomb, headers=headers)
        assert answer.status_code == 404
        answer = await client.post("/git/fraud.git/git-receive-pack", content=b"no gzip", headers=headers)
        assert answer.status_code == 400
