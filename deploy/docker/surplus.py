"""Lists the installed packages that no service needs, one a line: the lock holds the developers' tools too."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from packaging.requirements import Requirement

EXTRAS = ("registry", "builder", "deployer", "router", "monitor", "auditor")
KEPT = ("pip",)


def name_of(text: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def needed(installed: dict[str, Distribution], root: str, extras: Iterable[str]) -> set[str]:
    """Return the names of all packages that `root` with its extras needs, itself included."""
    found: set[str] = set()
    asked: set[tuple[str, str]] = set()
    waiting = [(name_of(root), extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in asked or name not in installed:
            continue
        asked.add((name, extra))
        found.add(name)
        for text in installed[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(name_of(requirement.name), each) for each in ("", *requirement.extras)]
    return found


def main() -> int:
    """Write the list."""
    installed = {name_of(each.metadata["Name"]): each for each in distributions()}
    surplus = sorted(set(installed) - needed(installed, "interlock", EXTRAS) - set(KEPT))
    sys.stdout.write("\n".join([*surplus, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
