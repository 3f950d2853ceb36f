"""The contract of an endpoint: online inputs change it where there are any, and nowhere else."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from interlock.codec.compatibility import check_level
from interlock.codec.contract import RESULT_FIELDS_AFTER, RESULT_FIELDS_BEFORE, request_schema, result_schema
from interlock.signature import Input, Online, Output, Signature

KIND = Input("kind", "string", nullable=True, categories=("a",))
PLAIN = Signature((Input("amount", "double"), KIND), (Output("score"), Output("margin")))
SPENT = Input("spent", "double", online=Online(60.0, 0.0))
VISITS = Input("visits", "long", online=Online(60.0, 0.0))


def test_schemas_without_online_inputs_are_what_they_were() -> None:
    """Byte for byte: the digests were taken before there were online inputs."""
    digests = [
        sha256(json.dumps(schema("fraud-eu", PLAIN)).encode()).hexdigest() for schema in (request_schema, result_schema)
    ]
    assert digests == [
        "30a2bfb835313281c313ebd41097c81efb71e1afedb7535d01fa66e26eb023d4",
        "35e4cfe814c3e5516c2dd5eada521969a3fa5c76c3277d30512ee50525f5324e",
    ]


def test_what_is_looked_up_is_not_asked_for_and_stands_in_the_result() -> None:
    """Behind the outputs, in the signature's order, nullable; then age and mask."""
    signature = Signature((SPENT, *PLAIN.inputs, VISITS), PLAIN.outputs)
    assert request_schema("e", signature) == request_schema("e", PLAIN)
    fields = result_schema("e", signature)["fields"]
    names = [each["name"] for each in fields]
    online = ["online_spent", "online_visits", "features_age_milliseconds", "features_missing"]
    assert names == [*RESULT_FIELDS_BEFORE, "score", "margin", *online, *RESULT_FIELDS_AFTER]
    assert [each["type"][1] for each in fields if each["name"] in online] == ["double", "double", "long", "long"]


def test_versions_with_other_online_inputs_follow_each_other_under_one_subject() -> None:
    """More, fewer, none: consumers read old results with the new schema and new ones with the old."""
    versions = [
        result_schema("e", Signature((*PLAIN.inputs, *online), PLAIN.outputs))
        for online in ((), (SPENT,), (SPENT, VISITS), (VISITS,), ())
    ]
    for count in range(1, len(versions)):
        assert check_level("FULL_TRANSITIVE", versions[count], versions[:count]) == []
    asked = Signature((*PLAIN.inputs, Input("spent", "double")), PLAIN.outputs)
    looked_up = Signature((*PLAIN.inputs, SPENT), PLAIN.outputs)
    assert check_level("BACKWARD_TRANSITIVE", request_schema("e", looked_up), [request_schema("e", asked)]) == []


@pytest.mark.parametrize("name", ["online_spent", "online_other", "features_missing", "features_age_milliseconds"])
def test_an_output_cannot_be_mistaken_for_what_was_looked_up(name: str) -> None:
    """The manifest refuses it earlier; here it would be a schema that nobody can read."""
    with pytest.raises(ValueError, match=name):
        result_schema("e", Signature((SPENT,), (Output(name),)))
