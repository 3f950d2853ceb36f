"""The list of commands: what `interlock --help` shows, and which module answers when one is called.

It is data and imports nothing heavy, so that the help appears at once; a command's own module, and whatever
that needs, is imported when the command is called.
"""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One command of the first level: its name, the module whose `register` adds it, and what it is for."""

    name: str
    module: str
    sentence: str
    panel: str


_STACK = "The stack on this machine"
_TRAIN = "Models on their way to live traffic"
_WATCH = "Watching and mending"
_PARTS = "Running the parts"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "up",
        "interlock.cli.stack",
        "Start Kafka, PostgreSQL, Valkey, Ray and the services, and wait until they work.",
        _STACK,
    ),
    Entry("down", "interlock.cli.stack", "Stop everything that `up` started.", _STACK),
    Entry("status", "interlock.cli.stack", "Show what runs, where, and how much memory it takes.", _STACK),
    Entry("doctor", "interlock.cli.stack", "Check this machine, and say what to do about each finding.", _STACK),
    Entry("logs", "interlock.cli.stack", "Print or follow the logs of one part, or of all.", _STACK),
    Entry("env", "interlock.cli.stack", "Print the addresses and the token that any client needs.", _STACK),
    Entry("token", "interlock.cli.stack", "Issue bearer tokens for people and services.", _STACK),
    Entry("model", "interlock.cli.model", "List and show models; export one from scikit-learn.", _TRAIN),
    Entry("version", "interlock.cli.version", "List and show the versions of a model, with their gates.", _TRAIN),
    Entry(
        "endpoint", "interlock.cli.endpoint", "List, show and create endpoints, the names that callers bind to.", _TRAIN
    ),
    Entry("approve", "interlock.cli.route", "Consent to a version for an endpoint; never to one's own.", _TRAIN),
    Entry("promote", "interlock.cli.route", "Let a proven and approved version answer an endpoint.", _TRAIN),
    Entry("rollback", "interlock.cli.route", "Go back to the version that answered before.", _TRAIN),
    Entry("follow", "interlock.cli.follow", "Print every control event as it happens.", _WATCH),
    Entry(
        "top", "interlock.cli.top", "Show rate, lag, latency, version shares, drift and the audit head, live.", _WATCH
    ),
    Entry("console", "interlock.cli.console", "Print or open the address of the web console.", _WATCH),
    Entry(
        "dead-letters",
        "interlock.cli.dead_letters",
        "List, show and replay the requests that could not be scored.",
        _WATCH,
    ),
    Entry("audit", "interlock.cli.audit", "Show and verify the record of all that happened.", _WATCH),
    Entry("case", "interlock.cli.case", "Explain one result, with proofs; write them for a stranger.", _WATCH),
    Entry("run", "interlock.cli.process", "Run one service in the foreground.", _PARTS),
    Entry("migrate", "interlock.cli.process", "Bring the database to the schema the services expect.", _PARTS),
    Entry(
        "completion",
        "interlock.cli.completion",
        "Print the script that completes commands and names in your shell.",
        _PARTS,
    ),
)

BY_NAME: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}

HELP = "Continuous delivery for machine-learning models whose callers live on Kafka."

OPTIONS: tuple[tuple[str, str], ...] = (
    ("--help", "Show this page; after a command, show that command's."),
    ("--version", "Show the version of Interlock."),
    ("--debug", "Show the whole traceback when something breaks."),
)


def page(width: int | None = None) -> str:
    """Return the help page as plain text, at most `width` columns (the terminal's by default)."""
    width = max(60, min(width or shutil.get_terminal_size().columns, 110))
    lines = ["", "Usage: interlock COMMAND [OPTIONS] [ARGUMENTS]", "", HELP]
    for panel in dict.fromkeys(entry.panel for entry in ENTRIES):
        lines += ["", f"{panel}:"]
        for entry in ENTRIES:
            if entry.panel == panel:
                lines += _row(entry.name, entry.sentence, width)
    lines += ["", "Options:"]
    for name, sentence in OPTIONS:
        lines += _row(name, sentence, width)
    lines += [
        "",
        "Begin with `interlock up`, then `interlock env`. Each command explains itself: `interlock COMMAND --help`.",
        "",
    ]
    return "\n".join(lines)


def _row(name: str, sentence: str, width: int) -> list[str]:
    first, *rest = textwrap.wrap(sentence, width - 17)
    return [f"  {name:<14} {first}", *(" " * 17 + line for line in rest)]
