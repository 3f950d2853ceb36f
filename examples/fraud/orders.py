"""How the demo's processes are spoken to: orders come in and reports go out, one JSON document a line."""

from __future__ import annotations

import json
import queue
import sys
from typing import Any


def say(what: str, **facts: Any) -> None:
    """Report on standard output."""
    sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
    sys.stdout.flush()


def listen(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Take orders from standard input; its end is an order to stop, so that no stream outlives its demo."""
    for line in sys.stdin:
        orders.put(json.loads(line))
    orders.put({"do": "stop"})
