"""The manifest: what is right is read, and whatever is wrong is named with its line, all at once."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import Refusal
from interlock.manifest import MANIFEST_INVALID, Manifest
from interlock.signature import Input, Online

GOOD = """\
[model]
name = "fraud"
version = 2
owner = "risk"

[artifact]
path = "model/model.onnx"
format = "onnx"

[[inputs]]
name = "amount"
type = "double"

[[inputs]]
name = "kind"
type = "string"
categories = [
  "chip",   # a comment with ] in it
  "web",
]
nullable = true

[[outputs]]
name = "score"
type = "double"
minimum = 0
maximum = 1.0

[vectors]
path = "vectors.json"

[[gates]]
name = "ranks well"
metric = "auc"
data = "holdout.csv"
label = "fraud"
minimum = 0.9
margin = -0.01
rows_minimum = 100

[resources]
cpus = 0.5
gpus = 0.25
"""


def problems(text: str | bytes) -> list[tuple[int, str]]:
    """Return line and message of every problem."""
    with pytest.raises(Refusal) as refused:
        Manifest.parse(text)
    assert refused.value.code is MANIFEST_INVALID
    found = refused.value.fields["problems"]
    assert refused.value.fields["line"] == found[0]["line"]
    for problem in found:
        assert f"interlock.toml:{problem['line']}: {problem['message']}" in refused.value.detail
    return [(problem["line"], problem["message"]) for problem in found]


def line_of(text: str, words: str) -> int:
    """Return the number of the line that begins with the words."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(words))


def test_a_good_manifest_is_read_whole() -> None:
    """Every table comes through with its types and defaults."""
    manifest = Manifest.parse(GOOD)
    assert (manifest.name, manifest.version, manifest.owner, manifest.description) == ("fraud", 2, "risk", "")
    assert manifest.files == ("model/model.onnx", "vectors.json", "holdout.csv")
    assert manifest.inputs[1].categories == ("chip", "web")
    assert manifest.inputs[1].nullable is True
    assert (manifest.outputs[0].minimum, manifest.outputs[0].maximum) == (0.0, 1.0)
    assert (manifest.gates[0].margin, manifest.gates[0].threshold) == (-0.01, 0.5)
    assert (manifest.resources.cpus, manifest.resources.gpus) == (0.5, 0.25)
    assert Manifest.parse(GOOD.replace("\n", "\r\n").encode()) == manifest


def test_the_data_of_the_profile_is_a_file_like_the_others() -> None:
    """`[profile]` may be left out; what it names belongs to the version's files, once."""
    assert Manifest.parse(GOOD).profile is None
    named = Manifest.parse(GOOD + '\n[profile]\ndata = "reference.csv"\n')
    assert named.profile is not None and named.profile.data == "reference.csv"
    assert named.files == ("model/model.onnx", "vectors.json", "holdout.csv", "reference.csv")
    same = Manifest.parse(GOOD + '\n[profile]\ndata = "holdout.csv"\n')
    assert same.files == Manifest.parse(GOOD).files


@pytest.mark.parametrize(
    ("table", "begins", "words"),
    [
        ("[profile]", "[profile]", "'data' is missing"),
        ('[profile]\ndata = "../reference.csv"', "data =", "inside the tree"),
        ("[profile]\ndata = 3", "data = 3", "path of a file"),
        ('[profile]\ndata = "r.csv"\nrows = 5', "rows", "unknown key"),
        ('[profil]\ndata = "r.csv"', "[profil]", "did you mean 'profile'"),
    ],
)
def test_mistakes_in_the_profile_are_named(table: str, begins: str, words: str) -> None:
    """As for every other table: the line, and what to write instead."""
    text = f"{table}\n\n{GOOD}"
    found = problems(text)
    assert any(line == line_of(text, begins) and words in message for line, message in found), found


ONLINE = """[[inputs]]
name = "spent"
type = "double"
online = { default = 0.0, age_seconds_max = 3600.0 }

[[outputs]]
"""


def test_an_online_input_is_read_with_its_age_and_default() -> None:
    """As an inline table or one of its own; a default fits its type, and may be left out where null is allowed."""
    manifest = Manifest.parse(GOOD.replace("[[outputs]]\n", ONLINE))
    assert manifest.signature.online == (Input("spent", "double", online=Online(3600.0, 0.0)),)
    home = '[[inputs]]\nname = "home"\ntype = "boolean"\n[inputs.online]\nage_seconds_max = 5\ndefault = true\n\n'
    mood = '[[inputs]]\nname = "mood"\ntype = "float"\nnullable = true\nonline = { age_seconds_max = 0.5 }\n\n'
    manifest = Manifest.parse(GOOD.replace("[[outputs]]\n", f"{home}{mood}[[outputs]]\n"))
    assert [each.online for each in manifest.signature.online] == [Online(5.0, 1.0), Online(0.5)]
    assert math.isnan(Online(0.5).stand_in) and not Manifest.parse(GOOD).signature.online


@pytest.mark.parametrize(
    ("old", "new", "begins", "words"),
    [
        ("default = 0.0, ", "", "online", "needs a default or nullable = true"),
        (", age_seconds_max = 3600.0", "", "online", "needs age_seconds_max"),
        ("age_seconds_max = 3600.0", "age_seconds_max = 0", "online", "above 0"),
        ("age_seconds_max = 3600.0", "age_seconds_max = inf", "online", "above 0"),
        ("age_seconds_max", "age_second_max", "online", "did you mean 'age_seconds_max'"),
        ("{ default = 0.0, age_seconds_max = 3600.0 }", "true", "online", "must be a table"),
        ("default = 0.0", "default = nan", "online", "not a finite number"),
        ("default = 0.0", 'default = "none"', "online", "not a finite number"),
        ("default = 0.0", "default = true", "online", "type double must be a number"),
        ('"double"\nonline', '"string"\ncategories = ["a"]\nonline', "online", "categories cannot be online"),
        ('"double"\nonline', '"boolean"\nonline', "", ""),
        (
            '"double"\nonline = { default = 0.0',
            '"boolean"\nonline = { default = 0.5',
            "online",
            "must be true or false",
        ),
        ('"double"\nonline = { default = 0.0', '"long"\nonline = { default = 0.5', "online", "must be a whole number"),
        ('name = "score"', 'name = "online_spent"', 'name = "online_', "given to the online inputs"),
        ('name = "score"', 'name = "features_missing"', 'name = "features_', "the platform gives"),
    ],
)
def test_mistakes_in_an_online_input_are_named(old: str, new: str, begins: str, words: str) -> None:
    """The line and what to write instead; 0 and 1 are booleans too."""
    text = GOOD.replace("[[outputs]]\n", ONLINE)
    assert old in text
    text = text.replace(old, new)
    if not words:
        assert Manifest.parse(text).signature.online[0].type == "boolean"
        return
    found = problems(text)
    assert any(line == line_of(text, begins) and words in message for line, message in found), found


def test_there_are_at_most_as_many_online_inputs_as_the_mask_has_bits() -> None:
    """64 of them are one too many."""
    many = "".join(ONLINE.replace("spent", f"s{number}").removesuffix("[[outputs]]\n") for number in range(64))
    found = problems(GOOD.replace("[[outputs]]\n", f"{many}[[outputs]]\n"))
    assert any("64 online inputs; at most 63" in message for _, message in found), found


@pytest.mark.parametrize(
    ("old", "new", "begins", "words"),
    [
        ('owner = "risk"', 'ownr = "risk"', "ownr", "did you mean 'owner'"),
        ("nullable = true", "nullabel = true", "nullabel", "did you mean 'nullable'"),
        ("[vectors]", "[vector]", "[vector]", "did you mean 'vectors'"),
        ('format = "onnx"', 'format = "onx"', "format", "did you mean 'onnx'"),
        ('metric = "auc"', 'metric = "AUC"', "metric", "must be one of auc"),
        ("version = 2", 'version = "2"', "version", "whole number"),
        ("version = 2", "version = true", "version", "whole number"),
        ("version = 2", "version = 0", "version", "from 1"),
        ('name = "fraud"', 'name = "Fraud Model"', "name", "small letter"),
        ('path = "model/model.onnx"', 'path = "../model.onnx"', "path", "inside the tree"),
        ('path = "model/model.onnx"', 'path = "/etc/passwd"', "path", "inside the tree"),
        ('name = "amount"', 'name = "request_id"', 'name = "request_id"', "the platform gives"),
        ('name = "score"', 'name = "digest"', 'name = "digest"', "the platform gives"),
        ("minimum = 0\n", "minimum = 3\n", "minimum = 3", "above maximum"),
        ("minimum = 0\n", "minimum = nan\n", "minimum = nan", "finite"),
        ("gpus = 0.25", "gpus = -1", "gpus", "from 0"),
        ('label = "fraud"', "label = 3", "label = 3", "must be text"),
    ],
)
def test_each_mistake_is_named_with_its_line(old: str, new: str, begins: str, words: str) -> None:
    """The problem stands on the line where the author made it, with what to write instead."""
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    found = problems(text)
    assert any(line == line_of(text, begins) and words in message for line, message in found), found


def test_all_mistakes_are_told_at_once_in_order() -> None:
    """Nobody has to push four times to learn of four mistakes."""
    text = GOOD.replace('owner = "risk"\n', "").replace('type = "double"', 'type = "dbl"').replace("cpus", "cpu")
    text = text.replace("minimum = 0.9\nmargin = -0.01\n", "")
    found = problems(text)
    assert [line for line, _ in found] == sorted(line for line, _ in found)
    words = " ".join(message for _, message in found)
    for expected in ("'owner' is missing", "dbl", "did you mean 'cpus'", "a minimum, a maximum or a margin"):
        assert expected in words


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + "x = [\n", GOOD.count("\n") + 2, "not TOML"),
        (GOOD.replace('name = "amount"', "name = amount"), line_of(GOOD, 'name = "amount"'), "not TOML"),
        (GOOD.encode() + b"\xff", GOOD.count("\n") + 1, "UTF-8"),
        ("", 1, "[model] is missing"),
        ("x" * 300_000, 1, "longer"),
        ("inputs = 3\nmodel = 1\n", 2, "must be a table"),
        ("inputs = 3\nmodel = 1\n", 1, "must be a list of tables"),
    ],
)
def test_what_is_no_manifest_at_all_is_placed_too(text: str | bytes, line: int, words: str) -> None:
    """Syntax, encoding, length and whole tables of the wrong kind."""
    assert any(abs(found - line) <= 1 and words in message for found, message in problems(text)), problems(text)


def test_names_that_stand_twice_are_refused() -> None:
    """Two inputs, outputs or gates of one name cannot be told apart."""
    text = GOOD.replace('name = "kind"', 'name = "amount"')
    assert any("stands twice" in message for _, message in problems(text))


@given(st.text(max_size=200), st.integers(0, len(GOOD)))
def test_no_text_raises_anything_but_a_refusal(noise: str, place: int) -> None:
    """Whatever is typed into a manifest, the answer is a manifest or a list of problems."""
    with contextlib.suppress(Refusal):
        Manifest.parse(GOOD[:place] + noise + GOOD[place:])
