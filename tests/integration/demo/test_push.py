from __future__ import annotations

from pathlib import Path

import pytest

from examples.fraud.push import Repository
from interlock.embedded.home import Home
from interlock.embedded.services import token
from tests.integration.client.journey import TOKEN_SECONDS, session_of, small_model

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.mark.parametrize("client", ["git", "dulwich"])
async def test_the_demo_pushes_with_git_and_without_it(client: str, stack: dict[str, str], tmp_path: Path) -> None:
    """Where git is not installed dulwich pushes: the registry's words come back, a bad tree is refused."""
    model = f"{client}-{tmp_path.parent.name[-6:].replace('_', '')}{tmp_path.name[-1]}"
    secret = token(Home(Path(stack["INTERLOCK_HOME"])), "alice", ("author",), TOKEN_SECONDS)
    repository = Repository(tmp_path / "clone", f"{stack['INTERLOCK_URL']}/git/{model}.git", "alice", secret)
    if client == "dulwich":
        repository._git = None
    elif repository._git is None:
        pytest.skip("git is not installed here")
    tree = small_model(tmp_path / "tree", model)
    lines: list[str] = []
    assert await repository.push(tree, "one", lines.append)
    assert any("registered" in line for line in lines), lines
    async with session_of(stack, "vera", "viewer") as il:
        assert [each["author"] for each in await il.versions(model)] == ["alice"]
    (tree / "interlock.toml").write_text("[model]\nnmae = 'x'\n")
    lines.clear()
    assert not await repository.push(tree, "two", lines.append)
    assert any("did you mean" in line for line in lines), lines
