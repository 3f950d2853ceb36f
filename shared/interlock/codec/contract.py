"""The contract of one endpoint: the Avro schemas of its requests and results, derived from a signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.signature import ONLINE_PREFIX

if TYPE_CHECKING:
    from interlock.signature import Input, Signature

REQUEST_FIELDS = ("request_id", "requested_at")
"""What every request carries besides its features; no input may bear one of these names."""

RESULT_FIELDS_BEFORE = ("request_id", "offset", "requested_at")
RESULT_FIELDS_AFTER = (
    "topic",
    "partition",
    "endpoint",
    "model",
    "version",
    "digest",
    "epoch",
    "arm",
    "request_schema_id",
    "scored_at",
    "rejection",
    "dead_letter",
)
RESULT_FIELDS_ONLINE = ("features_age_milliseconds", "features_missing")
"""What a result carries behind the outputs and the online inputs, where there are any of these."""

RESULT_FIELDS = RESULT_FIELDS_BEFORE + RESULT_FIELDS_ONLINE + RESULT_FIELDS_AFTER
"""What results carry besides outputs and online inputs; no output may bear one of these names."""

_INSTANT = {"type": "long", "logicalType": "timestamp-millis"}


def namespace(endpoint: str) -> str:
    """Return the Avro namespace of an endpoint; Avro allows no hyphen in names, endpoints do."""
    return "io.interlock." + endpoint.replace("-", "_")


def request_schema(endpoint: str, signature: Signature) -> dict[str, Any]:
    """Return the Avro schema of `<endpoint>.requests`: the envelope, then one field per input, in order.

    Inputs that are looked up are not asked for. Raises ValueError where an input bears a name of the envelope; the
    manifest refuses such a signature earlier.
    """
    _refuse_clash("input", (each.name for each in signature.inputs), REQUEST_FIELDS)
    fields: list[dict[str, Any]] = [
        {
            "name": "request_id",
            "type": "string",
            "doc": "The caller's own name for this request; the result bears it again.",
        },
        {"name": "requested_at", "type": _INSTANT, "doc": "When the caller asked, by the caller's clock."},
    ]
    fields.extend(_input_field(each) for each in signature.inputs if not each.online)
    return _record(endpoint, "Request", f"One request to the endpoint {endpoint}.", fields)


def result_schema(endpoint: str, signature: Signature) -> dict[str, Any]:
    """Return the Avro schema of `<endpoint>.results`: coordinates, outputs, then the provenance of the answer.

    Outputs are nullable doubles, null where the request was rejected. Where the signature has online inputs, the
    values used, their age and what was missing stand behind the outputs. Raises ValueError where an output bears a
    name of the envelope, or one that could be such a value's.
    """
    looked_up = tuple(ONLINE_PREFIX + each.name for each in signature.online)
    prefixed = tuple(each.name for each in signature.outputs if looked_up and each.name.startswith(ONLINE_PREFIX))
    _refuse_clash("output", (each.name for each in signature.outputs), RESULT_FIELDS + prefixed)
    fields: list[dict[str, Any]] = [
        {"name": "request_id", "type": "string", "doc": "The caller's own name for the request."},
        {"name": "offset", "type": "long", "doc": "The request's offset in its partition."},
        {"name": "requested_at", "type": _INSTANT, "doc": "When the caller asked, by the caller's clock."},
    ]
    fields.extend(
        {
            "name": each.name,
            "type": ["null", "double"],
            "default": None,
            "doc": "An output of the model; null in a rejection.",
        }
        for each in signature.outputs
    )
    if looked_up:
        fields.extend(_looked_up(looked_up))
    fields.extend(_provenance())
    return _record(endpoint, "Result", f"One answer of the endpoint {endpoint}.", fields)


def _input_field(each: Input) -> dict[str, Any]:
    described = {"doc": each.description or "A feature."}
    if each.nullable:
        return {"name": each.name, "type": ["null", each.type], "default": None, **described}
    return {"name": each.name, "type": each.type, **described}


def _looked_up(names: tuple[str, ...]) -> list[dict[str, Any]]:
    values = "The value of an online input that the model was given; null where it was given NaN, or was not asked."
    age = "How old the oldest value used was, when it was looked up; null where none was used."
    missing = "Bit i: no value of the i-th online field was there, or it was too old, and its default was used."
    described = [(name, "double", values) for name in names]
    described += [(name, "long", doc) for name, doc in zip(RESULT_FIELDS_ONLINE, (age, missing), strict=True)]
    return [{"name": name, "type": ["null", kind], "default": None, "doc": doc} for name, kind, doc in described]


def _provenance() -> list[dict[str, Any]]:
    described = {
        "topic": ("string", "The topic the request came from."),
        "partition": ("int", "The partition the request came from."),
        "endpoint": ("string", "The endpoint that answers."),
        "model": ("string", "The model that answered; empty where none was asked."),
        "version": ("int", "The version that answered; 0 where none was asked."),
        "digest": ("string", "The version's digest, as the replica computed it from the bytes it loaded."),
        "epoch": ("long", "The epoch of the route the request went by."),
        "arm": ("string", "The arm of that route; empty where none was asked."),
        "request_schema_id": ("int", "The schema id the request was written with; 0 where it had none."),
        "scored_at": (_INSTANT, "When the batch of this request was scored."),
    }
    fields: list[dict[str, Any]] = [{"name": name, "type": kind, "doc": doc} for name, (kind, doc) in described.items()]
    for name, doc in (
        ("rejection", "Why there is no answer; null where there is one."),
        ("dead_letter", "The dead letter that keeps the rejected request: topic/partition/offset."),
    ):
        fields.append({"name": name, "type": ["null", "string"], "default": None, "doc": doc})
    return fields


def _record(endpoint: str, name: str, doc: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": namespace(endpoint), "doc": doc, "fields": fields}


def _refuse_clash(kind: str, names: Any, reserved: tuple[str, ...]) -> None:
    clash = sorted(set(names) & set(reserved))
    if clash:
        raise ValueError(f"{kind} names {', '.join(clash)} belong to the envelope")
