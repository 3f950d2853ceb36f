"""`interlock dead-letters`: the requests that could not be scored, why, and once more from the start."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli import screen
from interlock.cli.completion import endpoint_names
from interlock.cli.screen import AsJson
from interlock.errors import REASON_MEANINGS, Code, Reason, Refusal

if TYPE_CHECKING:
    from interlock.schemas.events import DeadLetter

VALUE_BYTES_SHOWN = 64

DEAD_LETTER_UNKNOWN = Code(
    "DEAD_LETTER_UNKNOWN",
    404,
    "There is no such dead letter",
    "`interlock dead-letters list ENDPOINT` shows their names; the topic keeps them for thirty days.",
)
NOTHING_CHOSEN = Code("NOTHING_CHOSEN", 422, "No dead letter is chosen", "Name some, or give --reason or --all.")

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=endpoint_names)]
OfReason = Annotated[Reason | None, typer.Option("--reason", help="Only those with this reason.")]


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
    limit: Annotated[int, typer.Option(help="Show the newest so many.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List an endpoint's dead letters, oldest first."""
    letters = _letters(endpoint, lambda letter: reason is None or letter.reason == reason, limit)
    if as_json:
        screen.print_json([_plain(each) for each in letters])
        return
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
    found = _letters(endpoint, lambda letter: letter.name == name, 1)
    if not found:
        raise Refusal(DEAD_LETTER_UNKNOWN, f"{endpoint} has no dead letter {name}.")
    letter = found[0]
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
    everything: Annotated[bool, typer.Option("--all", help="Replay every dead letter the topic still holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send requests again as they came, to the partition they came from; each remembers what it is a replay of."""
    wanted = set(names or ())
    if not (wanted or reason or everything):
        raise Refusal(NOTHING_CHOSEN, "Which dead letters?")
    letters = _letters(
        endpoint,
        lambda letter: letter.name in wanted or everything or (reason is not None and letter.reason == reason),
        None,
    )
    missing = wanted - {each.name for each in letters}
    if missing:
        raise Refusal(
            DEAD_LETTER_UNKNOWN, f"{endpoint} has no dead letter {', '.join(sorted(missing))}; none was replayed."
        )
    replayed = _replay(letters)
    if as_json:
        screen.print_json({"replayed": replayed})
    else:
        screen.console().print(f"{len(replayed)} of {len(letters)} requests are on their way again.")
        if len(replayed) < len(letters):
            sys.stderr.write("The others have neither key nor value: there is nothing to send.\n")


def _letters(endpoint: str, chosen: Callable[[DeadLetter], bool], limit: int | None) -> list[DeadLetter]:
    """Read the endpoint's dead letters and keep the newest `limit` of the chosen, in the order they were written."""
    from interlock.client.session import connect
    from interlock.codec.rows import decode
    from interlock.kafka.follow import follow
    from interlock.schemas import endpoint_topic
    from interlock.schemas.topics import ENDPOINT_DEAD_LETTERS

    async def read() -> list[DeadLetter]:
        kept: deque[DeadLetter] = deque(maxlen=limit)
        async with (
            connect() as il,
            aclosing(follow(il.settings, endpoint_topic(ENDPOINT_DEAD_LETTERS, endpoint))) as steps,
        ):
            async for values, complete in steps:
                kept.extend(letter for value in values if value is not None and chosen(letter := decode(value)))
                if complete:
                    break
        return sorted(kept, key=lambda letter: (letter.at, letter.partition, letter.offset))

    return screen.finish(read)


def _replay(letters: list[DeadLetter]) -> list[str]:
    from interlock.client.session import connect
    from interlock.kafka.replay import Again, replay

    again = [
        Again(
            each.name,
            each.topic,
            each.partition,
            each.key,
            each.value,
            [(header.name, header.value) for header in each.headers],
        )
        for each in letters
        if each.key is not None or each.value is not None
    ]

    async def send() -> None:
        async with connect() as il:
            await replay(il.settings, again)

    screen.finish(send)
    return [each.name for each in again]


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
