from __future__ import annotations

import io
import random

import pytest

from interlock.errors import Refusal
from interlock_registry import git_wire

ONE, TWO = b"1" * 40, b"2" * 40


def test_commands_and_capabilities_are_read_and_the_pack_is_left() -> None:
    """Shallow lines are passed over; what follows the flush is untouched."""
    body = (
        git_wire.packet(b"shallow " + ONE + b"\n")
        + git_wire.packet(ONE + b" " + TWO + b" refs/heads/main\0 report-status side-band-64k\n")
        + git_wire.packet(ONE + b" " + TWO + b" refs/tags/x\n")
        + b"0000PACK"
    )
    file = io.BytesIO(body)
    head = git_wire.read_commands(file)
    assert [command.reference for command in head.commands] == [b"refs/heads/main", b"refs/tags/x"]
    assert head.banded
    assert file.read() == b"PACK"


@pytest.mark.parametrize("seed", range(100))
def test_a_broken_head_is_a_refusal(seed: int) -> None:
    """Whatever stands there instead, nothing else is raised."""
    luck = random.Random(seed)
    body = bytearray(git_wire.packet(ONE + b" " + TWO + b" refs/heads/main\0 report-status\n") + b"0000")
    for _ in range(3):
        body[luck.randrange(len(body))] = luck.randrange(256)
    try:
        git_wire.read_commands(io.BytesIO(bytes(body)))
    except Refusal:
        return


def test_the_terminal_cannot_be_steered_by_what_a_push_holds() -> None:
    """Escape sequences and carriage returns of a hostile manifest become spaces."""
    assert git_wire.terminal("a\x1b[31mb\rc\u202ed") == b"0011\x02a [31mb c d\n"


def test_a_report_names_every_reference_with_its_reason_on_one_line() -> None:
    """Git shows the reason behind "remote rejected"."""
    said = git_wire.report("ok", {b"refs/heads/main": None, b"refs/heads/x": "two\nlines"}, banded=False)
    assert said == b"000eunpack ok\n0017ok refs/heads/main\n001eng refs/heads/x two lines\n0000"


def test_long_output_is_cut_into_packets_that_git_can_read() -> None:
    """No packet is longer than 65520 bytes."""
    pieces = list(git_wire.band(1, bytes(200_000)))
    assert max(map(len, pieces)) == git_wire.PACKET_BYTES_MAX
    assert sum(len(piece) - 5 for piece in pieces) == 200_000
