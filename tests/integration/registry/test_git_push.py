"""A push by the real git: registered, followed to its verdict, refused with a sentence."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from interlock.schemas.events import Verdict
from tests.integration.registry.checkout import GIT, MANIFEST, checkout
from tests.integration.registry.room import Room, registry
from tests.integration.registry.wire import wire_to

pytestmark = pytest.mark.skipif(GIT is None, reason="git is not installed")


async def play_builder(room: Room, model: str, version: int, gates: dict[str, Verdict] | None = None) -> str:
    """Wait until a version is registered, then build it as the builder would; return its digest."""
    async with room.client("eve", "viewer") as client, asyncio.timeout(30):
        while True:
            found = await client.get(f"/v1/models/{model}/versions/{version}")
            if found.status_code == 200:
                digest: str = found.json()["digest"]
                await room.build(model, version, digest, gates=gates)
                return digest
            await asyncio.sleep(0.05)


async def test_a_push_registers_a_version_and_its_verdict_comes_back_on_the_terminal(
    room: Room, tmp_path: Path
) -> None:
    """Registration, build, vectors, gate with its number, verdict and what to do next: all behind "remote:"."""
    work = await checkout(tmp_path / "work")
    said, digest = await asyncio.gather(
        work.git("push", room.remote("fraud"), "HEAD:main"), play_builder(room, "fraud", 1)
    )
    assert said.status == 0, said.text
    lines = [line.removeprefix("remote: ").strip() for line in said.text.splitlines() if line.startswith("remote: ")]
    assert lines[0] == f"registered fraud version 1 {digest}"
    assert "build started" in lines
    assert "vectors 64 ok" in lines
    assert "gate auc: auc 0.931 >= 0.900 PASS" in lines
    assert "fraud version 1 is proven" in lines
    async with room.client("eve", "viewer") as client:
        version = (await client.get("/v1/models/fraud/versions/1")).json()
        assert version["state"] == "proven"
        assert version["author"] == "ann"
        commit = (await work.git("rev-parse", "HEAD")).text.strip()
        assert version["commit"] == commit
        assert set(version["files"]) == {"model.onnx", "vectors.json", "holdout.csv"}
        assert (await client.get(f"/v1/blobs/{version['files']['holdout.csv']}")).content.startswith(b"amount,")
        types = [entry["type"] for entry in (await client.get("/v1/timeline?model=fraud")).json()["entries"]]
    assert types == ["ModelCreated", "VersionRegistered", "BuildStarted", "BuildSucceeded", "GateEvaluated"]


async def test_a_gate_that_fails_says_its_number_on_the_terminal(room: Room, tmp_path: Path) -> None:
    """The push is taken, the version is refused, and the pusher reads by how much."""
    work = await checkout(tmp_path / "work")
    said, _ = await asyncio.gather(
        work.git("push", room.remote("fraud"), "HEAD:main"), play_builder(room, "fraud", 1, {"auc": Verdict.FAIL})
    )
    assert "remote: gate auc: auc 0.810 < 0.900 FAIL" in said.text
    assert "is REFUSED by auc" in said.text


async def test_the_terminal_is_given_back_where_the_builder_is_away(servers: dict[str, str], tmp_path: Path) -> None:
    """The wait is bounded, and says that the build goes on."""
    async with registry(servers, tmp_path / "r", push_wait_seconds=1.5, push_quiet_seconds=0.5) as room:
        work = await checkout(tmp_path / "work")
        said = await work.git("push", room.remote("fraud"), "HEAD:main")
    assert said.status == 0, said.text
    assert "nothing heard from the builder" in said.text
    assert "goes on without this terminal" in said.text


async def test_the_same_push_from_another_place_is_the_same_version(servers: dict[str, str], tmp_path: Path) -> None:
    """Equal bytes in another commit make no second version and no second event."""
    async with registry(servers, tmp_path / "r", push_wait_seconds=0) as room:
        first = await checkout(tmp_path / "first")
        assert (await first.git("push", room.remote("fraud"), "HEAD:main")).status == 0
        await first.commit({"notes.md": "only words"})
        again = await first.git("push", room.remote("fraud", "bob"), "HEAD:main")
        assert again.status == 0, again.text
        assert "registered already, byte for byte" in again.text
        assert "Everything up-to-date" in (await first.git("push", room.remote("fraud"), "HEAD:main")).text
        async with room.client("eve") as client:
            assert len((await client.get("/v1/models/fraud/versions")).json()) == 1
            assert len((await client.get("/v1/timeline")).json()["entries"]) == 2
            assert (await client.get("/v1/models/fraud/versions/1")).json()["author"] == "ann"


@pytest.mark.parametrize("path", ["model.onnx", "holdout.csv"])
async def test_the_same_number_with_other_bytes_is_refused(servers: dict[str, str], tmp_path: Path, path: str) -> None:
    """A version never changes, not even in a data file; the branch stays where it was."""
    async with registry(servers, tmp_path / "r", push_wait_seconds=0) as room:
        work = await checkout(tmp_path / "work")
        await work.git("push", room.remote("fraud"), "HEAD:main")
        await work.commit({path: "other bytes"})
        said = await work.git("push", room.remote("fraud"), "HEAD:main")
        assert said.status != 0
        assert f"already registered with other bytes ({path} differs)" in said.text
        assert "raise `version`" in said.text
        assert "[remote rejected]" in said.text
        await work.commit({"interlock.toml": MANIFEST.format(name="fraud", version=2)})
        assert "registered fraud version 2" in (await work.git("push", room.remote("fraud"), "HEAD:main")).text
        copy = await checkout(tmp_path / "copy")
        assert (
            await copy.git("clone", "-q", room.remote("fraud", "eve", "viewer"), str(tmp_path / "clone"))
        ).status == 0
        assert (tmp_path / "clone" / path).read_text() == "other bytes"
        tags = await copy.git("-C", str(tmp_path / "clone"), "tag")
        assert tags.text.split() == ["v1", "v2"]


async def test_a_broken_manifest_is_shown_with_file_and_line(room: Room, tmp_path: Path) -> None:
    """Every problem stands on the pusher's terminal as file:line, and nothing is registered."""
    broken = MANIFEST.format(name="fraud", version=1).replace('format = "onnx"', 'formatt = "onnx"')
    work = await checkout(tmp_path / "work", interlock__toml=broken)
    said = await work.git("push", room.remote("fraud"), "HEAD:main")
    assert said.status != 0
    assert "interlock.toml:8" in said.text
    assert "format" in said.text.split("interlock.toml:8")[1]
    assert "Traceback" not in said.text
    async with room.client("eve") as client:
        assert (await client.get("/v1/models")).json() == []
    assert not (room.settings.git_folder / "fraud.git").exists()
    assert list((room.settings.git_folder / ".incoming").iterdir()) == []


async def test_what_cannot_be_a_version_is_refused_with_a_sentence(room: Room, tmp_path: Path) -> None:
    """Another model's name, a missing file, a pickle, an LFS pointer, another branch, a deletion."""
    work = await checkout(tmp_path / "work", name="fraud")
    other = await work.git("push", room.remote("loans"), "HEAD:main")
    assert "names the model fraud, but it was pushed to loans.git" in other.text
    branch = await work.git("push", room.remote("fraud"), "HEAD:topic")
    assert "only the branch main can be pushed" in branch.text
    assert branch.status != 0
    await work.git("rm", "-q", "holdout.csv")
    await work.commit({})
    assert (
        "names holdout.csv, which is not in the pushed tree"
        in (await work.git("push", room.remote("fraud"), "HEAD:main")).text
    )
    await work.commit({"holdout.csv": "a", "model.onnx": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00]."})
    assert "interlock model export" in (await work.git("push", room.remote("fraud"), "HEAD:main")).text
    await work.commit({"model.onnx": "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"})
    assert "Git LFS pointer" in (await work.git("push", room.remote("fraud"), "HEAD:main")).text
    gone = await work.git("push", room.remote("fraud"), ":main")
    assert gone.status != 0
    async with room.client("eve") as client:
        assert (await client.get("/v1/models")).json() == []


async def test_tokens_are_asked_for_and_roles_are_named(room: Room, tmp_path: Path) -> None:
    """No token: 401, so that git asks for one; a token without the role: 403, and git shows which is needed."""
    work = await checkout(tmp_path / "work")
    bare = await work.git("push", f"{room.url}/git/fraud.git", "HEAD:main")
    assert bare.status != 0
    assert "could not read Username" in bare.text
    viewer = await work.git("push", room.remote("fraud", "eve", "viewer"), "HEAD:main")
    assert "remote: This needs the role author; eve has viewer." in viewer.text
    assert "403" in viewer.text
    wrong = await work.git("push", room.url.replace("http://", "http://ann:nonsense@") + "/git/fraud.git", "HEAD:main")
    assert "Authentication failed" in wrong.text
    header = f"http.extraHeader=Authorization: Bearer {room.token('ann', 'author')}"
    play = asyncio.create_task(play_builder(room, "fraud", 1))
    bearer = await work.git("-c", header, "push", f"{room.url}/git/fraud.git", "HEAD:main")
    await play
    assert bearer.status == 0, bearer.text
    missing = await work.git("-c", header, "clone", f"{room.url}/git/nothing.git", str(tmp_path / "x"))
    assert "Nothing has been pushed for nothing yet" in missing.text


async def test_a_large_push_in_chunks_is_taken_and_a_too_large_one_refused(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Above git's post buffer the body comes in chunks, after a probe; the bounds hold there too."""
    import random

    noise = random.Random(3).randbytes(2_000_000)
    async with registry(servers, tmp_path / "r", push_wait_seconds=0, push_file_bytes_max=3_000_000) as room:
        work = await checkout(tmp_path / "work", model__onnx=b"\x08\x0a" + noise)
        said = await work.git("push", room.remote("fraud"), "HEAD:main")
        assert said.status == 0, said.text
        await work.commit({"model.onnx": b"\x08\x0a" + bytes(4_000_000)})
        large = await work.git("push", room.remote("fraud"), "HEAD:main")
        assert large.status != 0
        assert "a file of 4000002 bytes; 3000000 are accepted" in large.text


async def test_two_pushes_of_one_number_at_once_make_one_version(servers: dict[str, str], tmp_path: Path) -> None:
    """One is taken, the other is refused, and the branch is at the one that was taken."""
    async with registry(servers, tmp_path / "r", push_wait_seconds=0) as room:
        works = [await checkout(tmp_path / f"work{number}", model__onnx=f"model {number}") for number in range(3)]
        said = await asyncio.gather(*(work.git("push", room.remote("fraud"), "HEAD:main") for work in works))
        taken = [number for number, each in enumerate(said) if each.status == 0]
        assert len(taken) == 1, [each.text for each in said]
        head = (await works[taken[0]].git("rev-parse", "HEAD")).text.strip()
        there = await works[0].git("ls-remote", room.remote("fraud"), "main")
        assert there.text.split()[0] == head
        async with room.client("eve") as client:
            assert (await client.get("/v1/models/fraud/versions/1")).json()["commit"] == head


async def test_a_pusher_who_hangs_up_leaves_nothing_half_done(room: Room, tmp_path: Path) -> None:
    """Killed while it waits for the verdict: the version and the branch are there, the staging folder is empty."""
    work = await checkout(tmp_path / "work")
    pushing = asyncio.create_task(work.git("push", room.remote("fraud"), "HEAD:main", seconds=4))
    with pytest.raises(TimeoutError):
        await pushing
    async with room.client("eve") as client:
        assert (await client.get("/v1/models/fraud/versions/1")).json()["state"] == "registered"
    assert "refs/heads/main" in (await work.git("ls-remote", room.remote("fraud"))).text
    assert list((room.settings.git_folder / ".incoming").iterdir()) == []


async def test_postgres_away_is_a_sentence_and_the_same_push_succeeds_later(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is taken, nothing is lost, and no traceback reaches the pusher."""
    port = urlsplit(servers["INTERLOCK_POSTGRES_OWNER_DSN"]).port
    assert port is not None
    async with (
        wire_to(port) as wire,
        registry(servers, tmp_path / "r", push_wait_seconds=0, postgres_port=wire.port) as room,
    ):
        work = await checkout(tmp_path / "work")
        wire.cut()
        said = await work.git("push", room.remote("fraud"), "HEAD:main")
        assert said.status != 0
        assert "push again in a moment; nothing is lost" in said.text
        assert "Traceback" not in said.text
        wire.mend()
        assert (await work.git("push", room.remote("fraud"), "HEAD:main")).status == 0


async def test_a_registry_killed_between_registering_and_taking_in_is_healed_by_the_same_push(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """The version is known but its commit is not: the next push of it brings the branch, and no second version."""
    async with registry(servers, tmp_path / "r", push_wait_seconds=0) as room:
        work = await checkout(tmp_path / "work")
        await work.git("push", room.remote("fraud"), "HEAD:main")
        (room.settings.git_folder / "fraud.git").rename(tmp_path / "lost.git")
        said = await work.git("push", room.remote("fraud"), "HEAD:main")
        assert said.status == 0, said.text
        assert "registered already, byte for byte" in said.text
        assert "refs/tags/v1" in (await work.git("ls-remote", room.remote("fraud"))).text


async def test_what_a_killed_push_left_behind_is_swept_at_the_next_start(
    servers: dict[str, str], tmp_path: Path
) -> None:
    """Old staging folders go, young ones may belong to a push in progress beside this process."""
    staging = tmp_path / "r" / "git" / ".incoming"
    for name in ("old", "young"):
        (staging / name / "objects").mkdir(parents=True)
    os.utime(staging / "old", (1, 1))
    async with registry(servers, tmp_path / "r"):
        assert [path.name for path in staging.iterdir()] == ["young"]


async def test_dulwich_pushes_and_clones_too(servers: dict[str, str], tmp_path: Path) -> None:
    """A client that is not git speaks the same protocol."""
    import io

    from dulwich import porcelain

    async with registry(servers, tmp_path / "r", push_wait_seconds=0) as room:
        work = await checkout(tmp_path / "work")
        errors = io.BytesIO()
        address = room.remote("fraud")

        def push_and_clone() -> None:
            porcelain.push(str(work.folder), address, "HEAD:refs/heads/main", outstream=io.BytesIO(), errstream=errors)
            porcelain.clone(address, str(tmp_path / "clone"), errstream=io.BytesIO()).close()

        await asyncio.to_thread(push_and_clone)
    assert b"registered fraud version 1" in errors.getvalue()
    assert (tmp_path / "clone" / "model.onnx").exists()
