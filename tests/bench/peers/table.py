"""The table of peers in README.md, made from the list of contenders, the pins and each peer's own first sentence.

`python -m tests.bench.peers.table` writes it anew.
"""

from __future__ import annotations

import ast
import sys

from tests.bench.peers.contenders import CONTENDERS, Contender
from tests.bench.peers.environments import HERE

START, END = "<!-- peers: start -->", "<!-- peers: end -->"


def render() -> str:
    """Return the table in Markdown, between its marks."""
    head = ["| peer | version | how it is used | guarantee | Interlock must be | hope |", "|---|---|---|---|---|---|"]
    return "\n".join([START, *head, *map(_line, CONTENDERS), END])


def _line(contender: Contender) -> str:
    must, hope = (
        f"≥ {ratio:g}\N{MULTIPLICATION SIGN}" if ratio else "shown" for ratio in (contender.must, contender.hope)
    )
    cells = (f"`{contender.name}`", f"{contender.package} {contender.version}", _used(contender), contender.guarantee)
    return "| " + " | ".join((*cells, must, hope)) + " |"


def _used(contender: Contender) -> str:
    """Return the first sentence of the peer's program, after the colon."""
    said = ast.get_docstring(ast.parse((HERE / contender.name / "peer.py").read_text())) or ""
    first = said.partition("\n")[0]
    return (first.partition(": ")[2] or first).rstrip(".")


def main() -> int:
    """Write the table into README.md."""
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.partition(START)[0], text.partition(END)[2]
    readme.write_text(before + render() + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
