"""`interlock dead-letters`: the requests that could not be scored, why, and once more from the start."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from interlock.cli import screen
from interlock.cli.completion import endpoint_names
from interlock.cli.screen import AsJson
from interlock.errors import REASON_MEANINGS, Code, Reason, Refusal

if TYPE_CHECKING:
    from interlock.client.dead_letters import Choice, DeadLetters, Lying, Page, Tally
    from interlock.schemas.events import DeadLetter

T = TypeVar("T")

VALUE_BYTES_SHOWN = 64
_SPAN = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

DEAD_LETTER_UNKNOWN = Code(
    "DEAD_LETTER_UNKNOWN",
    404,
    "There is no such dead letter",
    "`interlock dead-letters list ENDPOINT` shows their names; the topic keeps them for thirty days.",
)
NOTHING_CHOSEN = Code(
    "NOTHING_CHOSEN",
    422,
    "No dead letter is chosen",
    "Name some, or give --reason, --version, --since, --until or --all.",
)
TIME_UNREADABLE = Code(
    "TIME_UNREADABLE",
    422,
    "A time cannot be read",
    "Give 90s, 15m, 2h or 3d for so long ago, or 2026-01-31T12:00+00:00.",
)
PLACE_UNREADABLE = Code(
    "PLACE_UNREADABLE",
    422,
    "A place cannot be read",
    "Give PARTITION/OFFSET as the end of a list says it, such as 0/1500.",
)

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=endpoint_names)]
OfReason = Annotated[
    list[Reason] | None, typer.Option("--reason", help="Only those with this reason; may be repeated.")
]
OfVersion = Annotated[int | None, typer.Option("--version", help="Only those that this version was asked for.", min=1)]
Since = Annotated[str | None, typer.Option(help="Only those since then: 2h, 3d, or a time with its zone.")]
Until = Annotated[str | None, typer.Option(help="Only those before then, given likewise.")]


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="List, show and replay the requests that could not be scored.")
    group.command("list")(list_letters)
    group.command("show")(show_letter)
    group.command("replay")(replay_letters)
    app.add_typer(group, name="dead-letters")


def list_letters(
    endpoint: Endpoint,
    reason: OfReason = None,
    version: OfVersion = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="Show the newest so many.", min=1, max=10_000)] = 50,
    before: Annotated[
        list[str] | None, typer.Option(help="Only what lies before PARTITION/OFFSET; one for each partition.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List an endpoint's dead letters, newest first, a page at a time."""
    choice = _choice((), reason, version, since, until)
    places = dict(map(_place, before or ()))

    async def work(letters: DeadLetters) -> Page:
        return await letters.page(choice, limit, places)

    page = _with_letters(endpoint, work)
    if as_json:
        screen.print_json(
            [_plain(each.letter) | {"lies_at": f"{each.partition}/{each.offset}"} for each in page.letters]
        )
    else:
        _show_list(endpoint, [each.letter for each in page.letters])
    if not page.whole:
        rest = " ".join(f"--before {partition}/{offset}" for partition, offset in sorted(page.before.items()))
        screen.notes().print(f"There may be older ones: {rest}", soft_wrap=True)


def _show_list(endpoint: str, letters: list[DeadLetter]) -> None:
    screen.print_table(
        ("at", "name", "reason", "version", "detail"),
        [
            (screen.moment(each.at.isoformat()), each.name, each.reason, each.version, each.detail[:120])
            for each in letters
        ],
        empty=f"{endpoint} has no dead letters.",
    )


def show_letter(
    endpoint: Endpoint,
    name: Annotated[str, typer.Argument(help="The dead letter's name: topic/partition/offset.")],
    value: Annotated[Path | None, typer.Option(help="Write the request's value, byte for byte, to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: what came, what was wrong, who was asked."""

    async def work(letters: DeadLetters) -> list[Lying]:
        return await _named(letters, (name,))

    [found] = _with_letters(endpoint, work)
    letter = found.letter
    if value is not None:
        value.write_bytes(letter.value or b"")
    if as_json:
        screen.print_json(_plain(letter))
        return
    facts = _plain(letter) | {"means": REASON_MEANINGS[Reason(letter.reason)]}
    content = facts.pop("value")
    headers = facts.pop("headers")
    size = len(letter.value or b"")
    facts["value"] = (
        None
        if content is None
        else f"{size} bytes: {content[: 2 * VALUE_BYTES_SHOWN]}{'…' if size > VALUE_BYTES_SHOWN else ''}"
    )
    screen.print_facts(facts | {f"header {each['name']}": each["value"] for each in headers})


def replay_letters(
    endpoint: Endpoint,
    names: Annotated[list[str] | None, typer.Argument(help="The names of those to replay.")] = None,
    reason: OfReason = None,
    version: OfVersion = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay every dead letter the topic still holds.")] = False,
    again: Annotated[
        str | None,
        typer.Option(help="Also those that were replayed before. A name of your own: given twice, it is one replay."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    batch_rows: Annotated[int, typer.Option(help="How many go into one transaction.", min=1, max=10_000)] = 2_000,
    as_json: AsJson = False,
) -> None:
    """Send requests again as they came, to the partition they came from; each remembers what it is a replay of.

    Each dead letter is replayed exactly once: stopped at any moment and begun again, a replay goes on where it was,
    and what one replay has sent another one leaves out, unless --again is given.
    """
    if not (names or reason or version or since or until or everything):
        raise Refusal(NOTHING_CHOSEN, "Which dead letters?")
    choice = _choice(sorted({*(names or ())}), reason, version, since, until, again)

    async def work(letters: DeadLetters) -> Tally:
        from interlock.client.dead_letters import Replay
        from interlock.clock import SystemClock

        run = Replay(letters, choice, SystemClock(), batch_rows)
        named = await _named(letters, choice.names)
        with screen.notes().status("…") as status:
            async with aclosing(run.run(named, dry=dry_run)) as steps:
                async for tally in steps:
                    status.update(f"{tally.looked + tally.passed:,} of {tally.ahead:,} looked at, {tally.sent:,} sent")
        return run.tally

    tally = _with_letters(endpoint, work)
    if as_json:
        from dataclasses import asdict

        screen.print_json(asdict(tally) | {"dry_run": dry_run})
    else:
        _show_tally(tally, dry_run=dry_run)


def _show_tally(tally: Tally, *, dry_run: bool) -> None:
    done = "would be sent" if dry_run else "are on their way again"
    screen.console().print(f"{tally.sent} of {tally.chosen} requests {done}.")
    for reason, count in sorted(tally.reasons.items()):
        screen.console().print(f"  {count} {reason}")
    notes = screen.notes()
    if tally.already:
        notes.print(f"{tally.already} were replayed before: --again NAME sends them once more.", soft_wrap=True)
    if tally.passed:
        notes.print(f"This replay had come past {tally.passed} records before; it went on behind them.", soft_wrap=True)
    if tally.empty:
        notes.print(f"{tally.empty} have neither key nor value: there is nothing to send.", soft_wrap=True)


def _choice(
    names: list[str] | tuple[str, ...],
    reasons: list[Reason] | None,
    version: int | None,
    since: str | None,
    until: str | None,
    again: str | None = None,
) -> Choice:
    from interlock.client.dead_letters import Choice

    return Choice(
        names=tuple(names),
        reasons=tuple(sorted(reasons or ())),
        version=version,
        since=_milliseconds(since),
        until=_milliseconds(until),
        again=again,
    )


def _milliseconds(text: str | None) -> int | None:
    """Return a time, given as so long ago or as an instant, in ms since 1970."""
    from interlock.clock import SystemClock, milliseconds

    if text is None:
        return None
    if ago := _SPAN.fullmatch(text):
        return milliseconds(SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    try:
        return milliseconds(datetime.fromisoformat(text).astimezone())
    except ValueError:
        raise Refusal(TIME_UNREADABLE, f"{text} is no time.") from None


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Refusal(PLACE_UNREADABLE, f"{text} is no place.")
    return int(partition), int(offset)


async def _named(letters: DeadLetters, names: tuple[str, ...]) -> list[Lying]:
    """Return the letters of these names; raises Refusal(DEAD_LETTER_UNKNOWN) where one is missing."""
    found = [(name, await letters.find(name)) for name in names]
    if missing := [name for name, each in found if each is None]:
        raise Refusal(DEAD_LETTER_UNKNOWN, f"{letters.endpoint} has no dead letter {', '.join(missing)}.")
    return [each for _, each in found if each is not None]


def _with_letters(endpoint: str, work: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """Do something with an endpoint's dead letters, and disconnect."""
    from interlock.client.dead_letters import DeadLetters
    from interlock.client.session import connect

    async def whole() -> T:
        async with connect() as il:
            letters = DeadLetters(il.settings, endpoint)
            try:
                return await work(letters)
            finally:
                await letters.close()

    return screen.finish(whole)


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as JSON can hold it: bytes in hexadecimal, the key and headers as text where they are."""
    facts: dict[str, Any] = {field: getattr(letter, field) for field in letter.__struct_fields__}
    facts["at"] = letter.at.isoformat()
    facts["key"] = _text(letter.key)
    facts["value"] = None if letter.value is None else letter.value.hex()
    facts["headers"] = [{"name": header.name, "value": _text(header.value)} for header in letter.headers]
    return facts


def _text(content: bytes | None) -> str | None:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.hex()
