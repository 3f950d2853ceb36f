"""`python -m interlock_monitor`: run the monitor."""

from __future__ import annotations

import sys

from interlock.service import run

if __name__ == "__main__":
    sys.exit(run("monitor"))
