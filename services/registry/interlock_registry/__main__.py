"""`python -m interlock_registry` runs the registry."""

from __future__ import annotations

import sys

from interlock.service import run

sys.exit(run("registry"))
