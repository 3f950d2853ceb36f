"""The peers' shared work, and what the bench is told of them; `python -m tests.bench.peers --smoke` runs the peers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from interlock import embedded
from tests.bench import work
from tests.bench.peers import contenders, environments, smoke, table
from tests.bench.peers.contenders import CONTENDERS
from tests.bench.peers.work import Assignment, Work, encode, read_result

REQUESTS = 600


@pytest.fixture
def peer_work(tmp_path: Path) -> Work:
    """The work as a peer does it."""
    schema = tmp_path / "requests.avsc"
    schema.write_text(json.dumps(work.SCHEMA))
    return Work(work.model_file(), schema)


def test_a_peer_answers_with_the_scores_of_the_model(peer_work: Work) -> None:
    """Decoding, one call of the model for a batch, encoding: ids and scores are those of the bench's own work."""
    answers = [read_result(value) for value in peer_work.answer([work.request(number) for number in range(REQUESTS)])]
    assert [request_id for request_id, _ in answers] == [work.name(number) for number in range(REQUESTS)]
    np.testing.assert_allclose([score for _, score in answers], work.expected()[:REQUESTS], rtol=0, atol=1e-6)


def test_one_row_scores_as_it_does_in_a_batch(peer_work: Work) -> None:
    """A peer that works row by row gets the same score as one that works batch by batch."""
    rows = work.rows()[:5]
    single = [peer_work.score([row])[0] for row in rows.tolist()]
    np.testing.assert_array_equal(single, peer_work.score(rows.tolist()))


def test_a_request_for_mlserver_holds_the_same_row() -> None:
    """JSON carries the doubles without loss, the id and the instant; there is one row."""
    row = work.rows()[3]
    body = json.loads(contenders.encode_v2("r1", 17, row.tolist()))
    assert body["id"] == "r1" and body["parameters"] == {"requested_at": 17}
    assert body["inputs"][0]["shape"] == [1, work.FEATURES]
    np.testing.assert_array_equal(body["inputs"][0]["data"], row)


def test_each_format_of_result_is_read_back() -> None:
    """Framed Avro from all but MLServer, whose answer is a tensor in JSON."""
    assert contenders.read_result("quix", encode("r1", 0.25)) == ("r1", 0.25)
    tensor = {"name": "score", "shape": [1, 1], "datatype": "FP64", "data": [0.25]}
    answer = json.dumps({"model_name": "peer", "id": "r1", "outputs": [tensor]}).encode()
    assert contenders.read_result("mlserver", answer) == ("r1", 0.25)


def test_every_peer_pins_every_package_exactly() -> None:
    """A rerun gets the same versions; nothing says where from."""
    for contender in CONTENDERS:
        lines = (environments.HERE / contender.name / "requirements.txt").read_text().splitlines()
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9.+!]+( ; .+)?", line) for line in lines)
        assert contender.version


def test_all_peers_run_the_model_by_the_same_runtime() -> None:
    """A peer must not win or lose by another build of onnxruntime or numpy."""
    for package in ("onnxruntime", "numpy"):
        assert len({environments.pins(each.name)[package] for each in CONTENDERS}) == 1, package


def test_a_peer_reads_its_command_line() -> None:
    """What `command` writes is what `Assignment` reads."""
    told = contenders.command(
        "quix",
        bootstrap="127.0.0.1:1",
        requests="in",
        results="out",
        group="g",
        model=Path("m.onnx"),
        schema=Path("s.avsc"),
        more=("--form", "batch"),
    )
    assert Assignment.read(told[3:]) == Assignment(
        "127.0.0.1:1", "in", "out", "g", Path("m.onnx"), Path("s.avsc"), 4, "batch"
    )


def test_a_peer_sees_nothing_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither our settings nor our packages reach a peer through its environment."""
    monkeypatch.setenv("INTERLOCK_HOME", "/somewhere")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert not {"INTERLOCK_HOME", "PYTHONPATH"} & contenders.environment().keys()


def test_smoke_sees_lost_and_repeated_and_wrong_answers() -> None:
    """The smoke's own verdict is not always yes."""
    seen = smoke.Seen(4)
    scores = work.expected()
    for number in (0, 1, 1):
        seen.add(work.name(number), float(scores[number]))
    seen.add(work.name(2), float(scores[2]) + 0.01)
    assert (seen.lost, seen.repeated.total(), seen.wrong) == (1, 1, 1)


def test_the_table_of_peers_is_fresh() -> None:
    """README.md shows the versions that are pinned and the ratios that are asked for."""
    assert table.render() in (environments.HERE / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
def test_each_peer_answers_each_request_once(contender: contenders.Contender, kafka: str) -> None:
    """In an environment of its own, on a real Kafka, without faults: nothing lost, repeated or wrong, exit status 0."""
    try:
        environments.prepare(contender.name, lambda _: None)
    except environments.CannotInstall as error:
        pytest.skip(f"cannot be set up here: {error}")
    seen = smoke.run(contender, kafka, 2_000)
    assert (seen.lost, seen.repeated.total(), seen.wrong, seen.exit_code) == (0, 0, 0, 0), seen.log


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A Kafka for the peers."""
    with embedded.running(tmp_path_factory.mktemp("kafka"), ("kafka",)) as environment:
        yield environment["INTERLOCK_KAFKA_BOOTSTRAP_SERVERS"]
