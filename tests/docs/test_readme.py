"""The README and the how-to pages, read to a machine: what they tell a newcomer to type works, in their order."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.embedded.home import Home
from interlock.embedded.launch import down, is_running
from tests.docs.blocks import Block, BlockFailed, Shell, blocks

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
HOWTO = ROOT / "docs" / "howto"
TRIED_HOWTO = ("connect-a-client", "push-a-model", "roll-back", "dead-letters", "watch-a-version", "explain-a-decision")
"""In this order, each going on where the one before ended."""
UNTRIED_HOWTO = {
    "grown-installation": "it needs servers of somebody else's",
    "compose": "there is no container engine where the tests run",
    "trace-a-request": "Jaeger takes minutes to build; tests/integration/tracing does what it says",
    "online-features": "its endpoint has a model with such an input, which this newcomer has not",
}

BLOCK_SECONDS_MAX = 90.0
RUN, DEMO, TARGETS, PICTURE = "bash", "bash demo", "text", "mermaid"
"""What a fence may say: run here; run by the demo's own test; names make's targets; drawn by `make generate`."""
DEMO_TESTS = ROOT / "tests" / "integration" / "demo"
DEMO_MODULE = "examples.fraud.demo"


def uncovered(page: list[Block], content: str) -> list[str]:
    """Return the blocks that nothing would try: those of another kind, and pictures that nobody generates."""
    generated = "".join(re.findall(r"<!-- generated: \w+ -->.*?<!-- /generated -->", content, re.DOTALL))
    return [
        f"{block}: nobody tries a block of kind {block.kind!r}"
        for block in page
        if block.kind not in {RUN, DEMO, TARGETS, PICTURE} or (block.kind == PICTURE and block.text not in generated)
    ]


def unknown_targets(page: list[Block], makefile: str) -> list[str]:
    """Return what the blocks of targets name that is none."""
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    return [
        f"{block}: {line!r}"
        for block in page
        if block.kind in {TARGETS, DEMO}
        for line in block.text.splitlines()
        if not ((match := re.match(r"make ([a-z-]+)(\s|$)", line)) and match[1] in targets)
    ]


def test_every_block_of_the_readme_is_tried() -> None:
    """A block is run here, by the demo's own test, compared with the Makefile, or generated; there is no other kind."""
    page = blocks(README)
    assert not uncovered(page, README.read_text())
    assert not unknown_targets(page, (ROOT / "Makefile").read_text())
    assert [block.text for block in page if block.kind == DEMO] == ["make demo\n"]
    assert f"$(BIN)/python -m {DEMO_MODULE}\n" in (ROOT / "Makefile").read_text()
    assert any(DEMO_MODULE in path.read_text() for path in DEMO_TESTS.glob("test_*.py"))


@pytest.mark.parametrize(
    "planted",
    [
        "```python\nimport interlock\n```\n",
        "```\ninterlock up\n```\n",
        "```console\n$ ls\n```\n",
        "```mermaid\nx\n```\n",
    ],
)
def test_a_block_that_nobody_tries_is_found(tmp_path: Path, planted: str) -> None:
    """A fence of another kind, or a picture drawn by hand, does not slip into the README."""
    page = tmp_path / "README.md"
    page.write_text(README.read_text() + planted)
    assert len(uncovered(blocks(page), page.read_text())) == 1


def test_a_target_that_make_does_not_know_is_found(tmp_path: Path) -> None:
    """The list of targets in the README cannot outlive the Makefile's."""
    page = tmp_path / "README.md"
    page.write_text(README.read_text() + "```text\nmake money   at once\n```\n")
    (wrong,) = unknown_targets(blocks(page), (ROOT / "Makefile").read_text())
    assert "make money" in wrong


def test_every_howto_is_tried_or_says_why_not() -> None:
    """Each page under docs/howto is in one of the two lists, and a tried one holds nothing but blocks to run."""
    assert {path.stem for path in HOWTO.glob("*.md")} == {*TRIED_HOWTO, *UNTRIED_HOWTO}
    assert not [
        block for name in TRIED_HOWTO for block in blocks(HOWTO / f"{name}.md") if block.kind not in {RUN, TARGETS}
    ]
    linked = README.read_text()
    assert not [name for name in (*TRIED_HOWTO, *UNTRIED_HOWTO) if f"docs/howto/{name}.md" not in linked]


@pytest.mark.parametrize(
    ("text", "seconds", "why"),
    [("echo begun; false; echo after\n", 20.0, "ended with an error"), ("echo begun; sleep 60\n", 0.5, "not through")],
)
def test_a_block_that_fails_or_hangs_is_seen(tmp_path: Path, text: str, seconds: float, why: str) -> None:
    """The shell stops at the first command that fails, a block has its time and no more, and both show its output."""
    block = Block(README, 1, RUN, text)
    with Shell(tmp_path, tmp_path, os.environ) as shell, pytest.raises(BlockFailed, match=why) as failed:
        shell.run(block, seconds)
    assert "begun" in str(failed.value)
    assert "after" not in str(failed.value).rpartition("--- printed")[2]


def test_blocks_share_one_session(tmp_path: Path) -> None:
    """A variable and a folder of one block are there in the next."""
    with Shell(tmp_path, tmp_path, os.environ) as shell:
        shell.run(Block(README, 1, RUN, "mkdir deep && cd deep\nplace=here\n"), 20)
        assert shell.run(Block(README, 2, RUN, 'echo "$place $PWD"\n'), 20) == f"here {tmp_path / 'deep'}\n"


@dataclass(frozen=True)
class Newcomer:
    """Somebody who has typed the README's blocks, all but the one that stops the stack."""

    shell: Shell
    home: Home
    printed: dict[str, str]
    """What each block printed, by the last line of the block."""
    last: Block


def clone(folder: Path) -> Path:
    """Return a checkout of this tree, by links, with the environment that the tests run in as its `.venv`."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {".venv", ".git", ".interlock"}:
            (folder / path.name).symlink_to(path)
    environment = folder / ".venv"
    environment.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != ".installed":
            (environment / path.name).symlink_to(path)
    (environment / ".installed").touch()
    return folder


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Type the README's blocks into one shell; whatever happens, nothing is left running."""
    missing = [tool for tool in ("git", "make", "bash") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed here; the README asks for it")
    scratch = tmp_path_factory.mktemp("readme")
    (scratch / "blocks").mkdir()
    home = Home(scratch / "home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "RAY_"))}
    environment |= {"INTERLOCK_HOME": str(home.folder), "TMPDIR": str(scratch)}
    *first, last = (block for block in blocks(README) if block.kind == RUN)
    try:
        with Shell(scratch / "blocks", clone(scratch / "clone"), environment) as shell:
            printed = {block.text.splitlines()[-1]: shell.run(block, BLOCK_SECONDS_MAX) for block in first}
            yield Newcomer(shell, home, printed, last)
    finally:
        down(home)


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_readme_takes_a_newcomer_to_a_served_model(newcomer: Newcomer) -> None:
    """From `make setup` to a score by version 1: each block works as it stands."""
    status = newcomer.printed["interlock status"]
    assert re.search(r"^ready, \d+ MiB resident", status, re.MULTILINE)
    pushed = newcomer.printed['git push "$INTERLOCK_GIT_URL/iris.git" main']
    assert "version 1 is proven" in pushed
    assert "tells virginica apart" in pushed
    promoted = newcomer.printed["interlock promote iris 1 --wait"]
    assert "iris is answered by version 1" in promoted
    answer = re.fullmatch(r"1 (sha256:[0-9a-f]{64}) (\d\.\d+)\n", newcomer.printed["python ask.py"])
    assert answer, newcomer.printed["python ask.py"]
    assert 0.9 < float(answer[2]) <= 1, "a flower like this is a virginica"


HOWTO_PRINTS = {
    "connect-a-client": (r"^iris 1 \d[\d.e-]* None$",),
    "push-a-model": ("iris version 2 is proven", "iris is answered by version 2, epoch 2"),
    "roll-back": (
        "iris is answered by version 1 again, epoch 3",
        "version 2 rejects too much",
        "iris is back at version 1",
    ),
    "dead-letters": ("BAD_FRAMING", "flower-3", "1 of 1 requests are on their way again", "0 of 0 requests"),
    "watch-a-version": ("^iris  ", "/console$", r"^rows in all windows: [1-9]\d*$", r"^labelled: 4\d$"),
    "explain-a-decision": ("approved for iris", "^1$", "^Everything above holds.$", "^WRONG: "),
}


@pytest.mark.stack
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TRIED_HOWTO)
def test_a_howto_works_where_the_readme_ends(newcomer: Newcomer, name: str) -> None:
    """Each page's blocks work as they stand, one page after the other, and print what the page promises."""
    printed = "".join(
        newcomer.shell.run(block, BLOCK_SECONDS_MAX) for block in blocks(HOWTO / f"{name}.md") if block.kind == RUN
    )
    assert not [words for words in HOWTO_PRINTS[name] if not re.search(words, printed, re.MULTILINE)], printed


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_readmes_last_block_stops_everything(newcomer: Newcomer) -> None:
    """What the README started, its last word stops."""
    assert is_running(newcomer.home)
    assert newcomer.shell.run(newcomer.last, BLOCK_SECONDS_MAX) == "Stopped.\n"
    assert not is_running(newcomer.home)
