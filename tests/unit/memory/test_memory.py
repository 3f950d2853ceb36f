"""What a batch frees is there for the next one."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import resource, sys
from interlock.memory import keep_freed
kept = keep_freed() if "keep" in sys.argv else False
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pieces = [bytes(1_100_000) for _ in range(10)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


def faults(*words: str) -> tuple[bool, int]:
    """Run the program in a fresh process; return whether memory was kept, and the page faults of the second time."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


def test_what_a_batch_frees_costs_the_next_one_no_page_faults() -> None:
    """Fifty rounds of eleven megabytes: a fault for every four kilobytes, or none where the C library can be told."""
    kept, count = faults("keep")
    assert not kept or count < 500
    assert not kept or faults()[1] > 10 * max(count, 100)


def test_what_is_there_is_never_searched_for_garbage_again() -> None:
    """In a process of its own, for it changes the collector for good."""
    program = (
        "import gc, json\n"
        "from interlock.memory import NEW_OBJECTS_MAX, spare_what_is_there\n"
        "spare_what_is_there()\n"
        "print(json.dumps([gc.get_freeze_count() > 1000, gc.get_threshold()[0] == NEW_OBJECTS_MAX, gc.isenabled()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [True, True, True]
