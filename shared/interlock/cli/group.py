"""The top of the command tree: shows every command from the menu, imports a command's module when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from interlock.cli.menu import ENTRIES, HELP, Entry
from interlock.errors import InterlockError


class LazyGroup(TyperGroup):
    """A group whose commands are names and sentences until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command by name (suggesting a near one if there is none), then put the real one in its place."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, _Stub):
            command = command.load()
        return name, command, rest


class _Stub(TyperCommand):
    """A command as the menu knows it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.sentence, rich_help_panel=entry.panel)
        self._entry = entry

    def load(self) -> Any:
        """Import the module and return the command that its `register` adds under this name."""
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        import_module(self._entry.module).register(app)
        return typer.main.get_group(app).commands[self._entry.name]


def tree() -> LazyGroup:
    """Return the whole command tree, nothing imported yet."""
    return LazyGroup(name="interlock", help=HELP, commands=[_Stub(entry) for entry in ENTRIES], no_args_is_help=True)


def run(words: Sequence[str], *, debug: bool) -> int:
    """Run the command that the words name; expected failures become a sentence, a bug becomes one with a way on."""
    if "_INTERLOCK_COMPLETE" in os.environ:
        # Typer registers its shells only for applications that bring the completion options of its own.
        from typer._completion_classes import completion_init

        completion_init()
    if not debug:
        sys.excepthook = _say_bug
    try:
        status = tree().main(args=list(words), prog_name="interlock", standalone_mode=True)
    except InterlockError as error:
        if debug:
            raise
        from interlock.cli.screen import explain

        explain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return status if isinstance(status, int) else 0


def _say_bug(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Say that this is our mistake, and how to see where it happened."""
    sys.stderr.write(
        f"error: {kind.__name__}: {error}\n"
        "  why: this is a mistake in Interlock, not in what you did.\n"
        "  do:  run the same command with --debug and report what it prints.\n"
    )
