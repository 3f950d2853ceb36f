"""The import contracts, as import-linter sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tidy.rules.tree import service_packages


def broken_contracts(root: Path) -> list[str]:
    """Return the contracts of pyproject.toml that the code under the root breaks.

    The root's own packages come first on the path, so that a copy of the tree is judged and not what is installed.
    """
    folders = [root / "shared", *(package.parent for package in service_packages(root))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "NO_COLOR": "1", "COLUMNS": "200"}
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    broken = [line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line]
    if done.returncode and not broken:
        return [done.stdout[-2000:] + done.stderr[-2000:]]
    return broken
