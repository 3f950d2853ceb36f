"""What is done to the log behind its back: the auditor refuses to go on, the witness to sign, rows are named."""

from __future__ import annotations

import base64
import shutil

import pytest

from interlock import cores, merkle
from interlock_auditor import verify, verify_table
from interlock_auditor.checkpoint import ED25519, Checkpoint, NoteKey
from interlock_auditor.verify import CHANGED, DELETED, INSERTED, SWAPPED, TRUNCATED
from tests.integration.auditor.rig import Room, model_created

pytestmark = pytest.mark.timeout(300)

FIELDS = (
    "seq, topic, partition, kafka_offset, event_id, action, source, actor, subject, time_milliseconds, schema_digest,"
    " payload"
)
KEPT = f"CREATE TABLE kept AS SELECT {FIELDS} FROM entries"
BACK = f"INSERT INTO entries ({FIELDS}) SELECT * FROM kept"


@pytest.fixture
async def filled(room: Room) -> Room:
    """The log with some hundred entries, all witnessed."""
    before = (await room.head())["size"]
    await room.say([model_created(number) for number in range(300)])
    await room.until_state("witnessed", size=before + 300)
    return room


async def test_a_row_edited_under_the_running_auditor_stops_it(filled: Room) -> None:
    """It says which row, answers 503 to readyz, enters nothing more, and goes on once the row is put back."""
    size = (await filled.head())["size"]
    seq = size - 20
    await filled.owner(f"UPDATE entries SET actor = 'mallory' WHERE seq = {seq}")
    head = await filled.until_state("refused")
    assert f"entry {seq} " in head["trouble"]
    assert (await filled.ask("GET", "/readyz")).status_code == 503
    refused = await filled.ask("GET", f"/v1/entries/{seq}")
    assert (refused.status_code, refused.json()["code"]) == (409, "LOG_UNSURE")
    report = await filled.verify()
    assert [(each.what, each.first, each.last) for each in report.findings] == [(CHANGED, seq, seq)]
    assert report.findings[0].place is not None
    assert report.findings[0].place.startswith("interlock.model.events/0/")
    await filled.say([model_created(1)])
    await filled.owner(f"UPDATE entries SET actor = 'olga' WHERE seq = {seq}")
    await filled.until_state("witnessed", size=size + 1)
    assert (await filled.verify()).findings == []


async def test_what_was_done_to_rows_is_named_row_by_row(filled: Room) -> None:
    """Payloads flipped, rows deleted, swapped, added: each is found, by number and by what it says of itself."""
    filled.auditor.stop()
    size = len(await filled.coordinates())
    flip, gone, left, right = size - 9, size - 7, size - 5, size - 3
    await filled.owner(
        KEPT,
        f"UPDATE entries SET payload = set_byte(payload, 8, get_byte(payload, 8) # 1) WHERE seq = {flip}",
        f"DELETE FROM entries WHERE seq = {gone}",
        f"UPDATE entries SET seq = 1000000 WHERE seq = {left}",
        f"UPDATE entries SET seq = {left} WHERE seq = {right}",
        f"UPDATE entries SET seq = {right} WHERE seq = 1000000",
    )
    found = {(each.what, each.first) for each in (await filled.verify()).findings}
    assert found == {(CHANGED, flip), (DELETED, gone), (SWAPPED, left), (SWAPPED, right)}
    await filled.owner("DELETE FROM entries", BACK, "ALTER TABLE entries ALTER version DROP EXPRESSION")
    await filled.owner(f"UPDATE entries SET version = 7 WHERE seq = {flip}")
    found = {(each.what, each.first) for each in (await filled.verify()).findings}
    assert found == {(verify.COLUMN_FORGED, flip)}
    await filled.owner(f"UPDATE entries SET version = NULL WHERE seq = {flip}")
    await filled.owner("ALTER TABLE entries DROP CONSTRAINT entries_pkey")
    await filled.owner(
        f"INSERT INTO entries ({FIELDS}) SELECT {FIELDS.replace('kafka_offset', '-1')} FROM kept WHERE seq = {flip}"
    )
    found = {(each.what, each.first) for each in (await filled.verify()).findings}
    assert found == {(INSERTED, flip)}
    await filled.owner("DELETE FROM entries WHERE kafka_offset = -1", "DROP TABLE kept")
    await filled.owner("ALTER TABLE entries ADD PRIMARY KEY (seq)")
    assert (await filled.verify()).findings == []


async def test_rows_hashed_in_two_processes_are_named_as_exactly(filled: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of none, a text with a control character, a flip, a deletion, a row far behind: found by both alike."""
    monkeypatch.setattr(verify_table, "STRETCH_ENTRIES", 256)
    monkeypatch.setattr(cores, "usable", lambda: 2)
    filled.auditor.stop()
    size = len(await filled.coordinates())
    clean = await filled.verify(workers=2)
    assert (clean.findings, clean.rows) == ([], size)
    assert clean.root == (await filled.verify(workers=1)).root
    none, split, flip, gone = size - 280, size - 200, size - 100, size - 7
    await filled.owner(
        KEPT,
        "ALTER TABLE entries ALTER actor DROP NOT NULL",
        f"UPDATE entries SET actor = NULL WHERE seq = {none}",
        f"UPDATE entries SET source = E'a\\x1fb' WHERE seq = {split}",
        f"UPDATE entries SET payload = set_byte(payload, 8, get_byte(payload, 8) # 1) WHERE seq = {flip}",
        f"DELETE FROM entries WHERE seq = {gone}",
        f"INSERT INTO entries ({FIELDS}) SELECT {FIELDS.replace('seq', str(2**60)).replace('kafka_offset', '-1')}"
        f" FROM kept WHERE seq = {flip}",
    )
    expected = {(CHANGED, none), (CHANGED, split), (CHANGED, flip), (DELETED, gone)}
    for workers in (1, 2):
        report = await filled.verify(workers=workers)
        assert {(each.what, each.first) for each in report.findings} == expected
        assert report.rows == size
    await filled.owner("DELETE FROM entries", BACK, "DROP TABLE kept", "ALTER TABLE entries ALTER actor SET NOT NULL")
    assert (await filled.verify(workers=2)).findings == []


@pytest.mark.parametrize("witness_away", [False, True])
async def test_an_old_backup_is_not_gone_on_with(filled: Room, witness_away: bool) -> None:
    """A table shorter than what was signed is refused, by the witness's word, or by the heads on Kafka without it."""
    filled.auditor.stop()
    size = len(await filled.coordinates())
    await filled.owner(KEPT, f"DELETE FROM entries WHERE seq >= {size - 40}")
    if not witness_away:
        report = await filled.verify(replay=True)
        assert (TRUNCATED, size - 40, size - 1) in [(each.what, each.first, each.last) for each in report.findings]
    else:
        filled.witness.stop()
    filled.auditor.start()
    head = await filled.until_state("refused")
    assert f"The table has {size - 40} entries" in head["trouble"]
    await filled.say([model_created(2)])
    assert len(await filled.coordinates()) == size - 40
    await filled.owner("DELETE FROM entries", BACK, "DROP TABLE kept")
    if witness_away:
        filled.witness.start()
    await filled.until_state("witnessed", size=size + 1)


async def test_the_witness_signs_neither_a_fork_nor_a_shorter_log(filled: Room) -> None:
    """Whoever has the log's key can show another history: the witness answers 409, and keeps what it was shown."""
    known = (await filled.get("/v1/checkpoint", filled.witness))["size"]
    key = NoteKey("interlock/audit", ED25519, (filled.folder / "audit-private.pem").read_bytes())
    forged = Checkpoint.signed("interlock/audit", known + 1, merkle.root([bytes(32)] * (known + 1)), key)
    asked = {"note": forged.note, "old_size": known, "leaves": base64.b64encode(bytes(32)).decode()}
    answer = await filled.ask("POST", "/v1/checkpoints", filled.witness, json=asked)
    assert (answer.status_code, answer.json()["code"]) == (409, "LOG_FORKED")
    short = Checkpoint.signed("interlock/audit", known - 1, bytes(32), key)
    asked = {"note": short.note, "old_size": known - 1, "leaves": ""}
    answer = await filled.ask("POST", "/v1/checkpoints", filled.witness, json=asked)
    assert (answer.status_code, answer.json()["code"]) == (409, "LOG_SHRUNKEN")
    stranger = NoteKey("interlock/audit", ED25519, (filled.folder / "witness-private.pem").read_bytes())
    asked["note"] = Checkpoint.signed("interlock/audit", known, bytes(32), stranger).note
    answer = await filled.ask("POST", "/v1/checkpoints", filled.witness, json=asked)
    assert (answer.status_code, answer.json()["code"]) == (403, "NOTE_REFUSED")
    assert len(list((filled.folder / "witness" / "refused").iterdir())) >= 2
    await filled.say([model_created(3)])
    await filled.until_state("witnessed", size=known + 1)


async def test_a_history_rewritten_while_nobody_looks_is_refused(filled: Room) -> None:
    """The whole table made anew, consistent in itself: the witness's memory, read as a folder, names every row."""
    filled.auditor.stop()
    size = len(await filled.coordinates())
    await filled.owner(KEPT, f"UPDATE entries SET actor = 'mallory' WHERE seq >= {size - 200}")
    report = await filled.verify(witness=filled.environment["INTERLOCK_WITNESS_FOLDER"])
    assert [(each.what, each.first, each.last) for each in report.findings] == [(CHANGED, size - 200, size - 1)]
    filled.auditor.start()
    await filled.until_state("refused")
    await filled.owner("DELETE FROM entries", BACK, "DROP TABLE kept")
    await filled.until_state("witnessed", size=size)


async def test_a_witness_whose_disk_was_changed_does_not_serve(filled: Room) -> None:
    """One byte of its leaf hashes is another: the witness ends with a sentence instead of signing."""
    filled.witness.stop()
    leaves = filled.folder / "witness" / "leaves"
    shutil.copy(leaves, filled.folder / "kept")
    content = bytearray(leaves.read_bytes())
    content[40] ^= 1
    leaves.write_bytes(content)
    filled.witness.start()
    assert filled.witness.child is not None
    assert filled.witness.child.wait(20) == 2
    assert "are not those over which the witness signed" in filled.witness.log.read_text()
    shutil.copy(filled.folder / "kept", leaves)
    filled.witness.start()
    await filled.until_state("witnessed")
