"""The events of `interlock.monitor.events`: what the monitor saw: windows closed, drift detected, guardrails breached.

Generated from schemas/ by `make generate`; not written by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from interlock.schemas.event import Event


class StageLatency(msgspec.Struct, frozen=True, kw_only=True):
    """How long one stage took for the window's requests."""

    stage: str
    """`queue`: request to taken; `score`: taken to scored; `total`: request to scored."""
    p50: float
    """The median, in milliseconds."""
    p90: float
    """The 90th percentile."""
    p99: float
    """The 99th percentile."""
    maximum: float
    """The greatest value."""


class WindowClosed(Event, frozen=True, kw_only=True):
    """What one version did in one window of event time, by committed batches; a later revision replaces it."""

    SCHEMA_ID: ClassVar[int] = 23
    TOPIC: ClassVar[str] = "interlock.monitor.events"
    TYPE: ClassVar[str] = "io.interlock.window_closed.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"WindowClosed","doc":"What one version did in one'
        ' window of event time, by committed batches; a later revision replaces it.","fields":[{"name":"endpo'
        'int","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"arm","type":"string","doc":"The arm of the route that answered, such as champion."}'
        ',{"name":"window_start","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first mom'
        'ent of the window, in UTC, of event time."}'
        ',{"name":"window_end","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first momen'
        't after it."}'
        ',{"name":"revision","type":"int","doc":"From 1; it rises when late requests change a window that had'
        ' closed."}'
        ',{"name":"rows","type":"long","doc":"Requests answered with a score."}'
        ',{"name":"rejected","type":"long","doc":"Requests that the version was asked and that got no score."'
        "}"
        ',{"name":"late_rows","type":"long","doc":"Of the rows, those that came after the window had closed."'
        "}"
        ',{"name":"events_per_second","type":"double","doc":"Rows and rejected by the window\'s length."}'
        ',{"name":"latency_milliseconds","doc":"Latencies by stage.","type":{"type":"array","items":{"type":"'
        'record","name":"StageLatency","doc":"How long one stage took for the window\'s requests.","fields":[{'
        '"name":"stage","type":"string","doc":"`queue`: request to taken; `score`: taken to scored; `total`: '
        'request to scored."}'
        ',{"name":"p50","type":"double","doc":"The median, in milliseconds."}'
        ',{"name":"p90","type":"double","doc":"The 90th percentile."}'
        ',{"name":"p99","type":"double","doc":"The 99th percentile."}'
        ',{"name":"maximum","type":"double","doc":"The greatest value."}]}}}'
        ',{"name":"score_mean","type":["null","double"],"default":null,"doc":"The mean of the first output."}'
        ',{"name":"evidence","type":"string","doc":"`enough`, `too_few_rows` or `no_reference`: whether the w'
        'indow was compared with the reference profile."}'
        ',{"name":"drifted","type":{"type":"array","items":"string"},"doc":"The features (or outputs) that dr'
        'ifted in this window."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    arm: str
    """The arm of the route that answered, such as champion."""
    window_start: datetime
    """The first moment of the window, in UTC, of event time."""
    window_end: datetime
    """The first moment after it."""
    revision: int
    """From 1; it rises when late requests change a window that had closed."""
    rows: int
    """Requests answered with a score."""
    rejected: int
    """Requests that the version was asked and that got no score."""
    late_rows: int
    """Of the rows, those that came after the window had closed."""
    events_per_second: float
    """Rows and rejected by the window's length."""
    latency_milliseconds: tuple[StageLatency, ...]
    """Latencies by stage."""
    score_mean: float | None = None
    """The mean of the first output."""
    evidence: str
    """`enough`, `too_few_rows` or `no_reference`: whether the window was compared with the reference profile."""
    drifted: tuple[str, ...]
    """The features (or outputs) that drifted in this window."""
    at: datetime
    """When it happened, in UTC."""


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far one feature moved from the reference profile."""

    feature: str
    """The feature's or output's name."""
    statistic: str
    """What decided: `ks`, `chi_square` or `missing`."""
    value: float
    """The statistic's value."""
    threshold: float
    """The value from which it counts as drift."""
    p_value: float
    """How likely so large a value is without drift."""
    psi: float | None = None
    """Population stability index."""
    jensen_shannon: float | None = None
    """Jensen-Shannon distance, base 2."""
    wasserstein: float | None = None
    """Wasserstein distance, in the feature's unit."""
    missing_rate: float
    """Share of missing values in the window."""
    reference_missing_rate: float
    """The same in the reference."""
    median: float | None = None
    """The window's median."""
    reference_median: float | None = None
    """The reference's median."""


class DriftDetected(Event, frozen=True, kw_only=True):
    """A version's input or output no longer looks like its reference profile; said once, until it is cleared."""

    SCHEMA_ID: ClassVar[int] = 24
    TOPIC: ClassVar[str] = "interlock.monitor.events"
    TYPE: ClassVar[str] = "io.interlock.drift_detected.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"DriftDetected","doc":"A version\'s input or outpu'
        't no longer looks like its reference profile; said once, until it is cleared.","fields":[{"name":"en'
        'dpoint","type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"arm","type":"string","doc":"The arm of the route that answered, such as champion."}'
        ',{"name":"window_start","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first mom'
        'ent of the window, in UTC, of event time."}'
        ',{"name":"window_end","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first momen'
        't after it."}'
        ',{"name":"rows","type":"long","doc":"The rows that the verdict stands on."}'
        ',{"name":"features","doc":"The features to blame, worst first.","type":{"type":"array","items":{"typ'
        'e":"record","name":"FeatureDrift","doc":"How far one feature moved from the reference profile.","fie'
        'lds":[{"name":"feature","type":"string","doc":"The feature\'s or output\'s name."}'
        ',{"name":"statistic","type":"string","doc":"What decided: `ks`, `chi_square` or `missing`."}'
        ',{"name":"value","type":"double","doc":"The statistic\'s value."}'
        ',{"name":"threshold","type":"double","doc":"The value from which it counts as drift."}'
        ',{"name":"p_value","type":"double","doc":"How likely so large a value is without drift."}'
        ',{"name":"psi","type":["null","double"],"default":null,"doc":"Population stability index."}'
        ',{"name":"jensen_shannon","type":["null","double"],"default":null,"doc":"Jensen-Shannon distance, ba'
        'se 2."}'
        ',{"name":"wasserstein","type":["null","double"],"default":null,"doc":"Wasserstein distance, in the f'
        "eature's unit.\"}"
        ',{"name":"missing_rate","type":"double","doc":"Share of missing values in the window."}'
        ',{"name":"reference_missing_rate","type":"double","doc":"The same in the reference."}'
        ',{"name":"median","type":["null","double"],"default":null,"doc":"The window\'s median."}'
        ',{"name":"reference_median","type":["null","double"],"default":null,"doc":"The reference\'s median."}'
        "]}}}"
        ',{"name":"false_alarms_per_window","type":"double","doc":"The rate of false alarms that the threshol'
        'ds were set for, over all features."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    arm: str
    """The arm of the route that answered, such as champion."""
    window_start: datetime
    """The first moment of the window, in UTC, of event time."""
    window_end: datetime
    """The first moment after it."""
    rows: int
    """The rows that the verdict stands on."""
    features: tuple[FeatureDrift, ...]
    """The features to blame, worst first."""
    false_alarms_per_window: float
    """The rate of false alarms that the thresholds were set for, over all features."""
    at: datetime
    """When it happened, in UTC."""


class DriftCleared(Event, frozen=True, kw_only=True):
    """A version's input and output look like the reference profile again."""

    SCHEMA_ID: ClassVar[int] = 25
    TOPIC: ClassVar[str] = "interlock.monitor.events"
    TYPE: ClassVar[str] = "io.interlock.drift_cleared.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"DriftCleared","doc":"A version\'s input and outpu'
        't look like the reference profile again.","fields":[{"name":"endpoint","type":"string","doc":"The en'
        "dpoint's name, which its topics begin with.\"}"
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"arm","type":"string","doc":"The arm of the route that answered, such as champion."}'
        ',{"name":"window_start","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first mom'
        'ent of the window, in UTC, of event time."}'
        ',{"name":"window_end","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first momen'
        't after it."}'
        ',{"name":"detected_at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When the drift'
        ' had been detected."}'
        ',{"name":"features","type":{"type":"array","items":"string"},"doc":"The features that had drifted."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    arm: str
    """The arm of the route that answered, such as champion."""
    window_start: datetime
    """The first moment of the window, in UTC, of event time."""
    window_end: datetime
    """The first moment after it."""
    detected_at: datetime
    """When the drift had been detected."""
    features: tuple[str, ...]
    """The features that had drifted."""
    at: datetime
    """When it happened, in UTC."""


class QualityMeasured(Event, frozen=True, kw_only=True):
    """How right one version was in one window, by the labels so far; a later revision replaces it."""

    SCHEMA_ID: ClassVar[int] = 26
    TOPIC: ClassVar[str] = "interlock.monitor.events"
    TYPE: ClassVar[str] = "io.interlock.quality_measured.v1"
    KEY: ClassVar[str] = "endpoint"
    SCHEMA: ClassVar[str] = (
        '{"type":"record","namespace":"io.interlock","name":"QualityMeasured","doc":"How right one version wa'
        's in one window, by the labels so far; a later revision replaces it.","fields":[{"name":"endpoint","'
        'type":"string","doc":"The endpoint\'s name, which its topics begin with."}'
        ',{"name":"model","type":"string","doc":"The model\'s name."}'
        ',{"name":"version","type":"int","doc":"The version\'s number within its model, from 1."}'
        ',{"name":"digest","type":"string","doc":"The version\'s identity: `sha256:` and 64 hexadecimal digits'
        ' over manifest and artifact."}'
        ',{"name":"arm","type":"string","doc":"The arm of the route that answered, such as champion."}'
        ',{"name":"window_start","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first mom'
        'ent of the window, in UTC, of event time."}'
        ',{"name":"window_end","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"The first momen'
        't after it."}'
        ',{"name":"revision","type":"int","doc":"From 1; it rises with the labels that arrive."}'
        ',{"name":"rows","type":"long","doc":"The window\'s rows that have a score."}'
        ',{"name":"labelled","type":"long","doc":"How many of them have a label."}'
        ',{"name":"positives","type":"long","doc":"How many labels are positive."}'
        ',{"name":"threshold","type":"double","doc":"The score from which a request counts as positive."}'
        ',{"name":"precision","type":["null","double"],"default":null,"doc":"Of those called positive, the sh'
        'are that was."}'
        ',{"name":"recall","type":["null","double"],"default":null,"doc":"Of the positive ones, the share tha'
        't was called so."}'
        ',{"name":"roc_auc","type":["null","double"],"default":null,"doc":"The area under the ROC curve."}'
        ',{"name":"average_precision","type":["null","double"],"default":null,"doc":"The area under the preci'
        'sion-recall curve, stepwise."}'
        ',{"name":"cost","type":["null","double"],"default":null,"doc":"The weight of what was missed and of '
        'false alarms, each by its price."}'
        ',{"name":"label_lag_seconds_p50","type":["null","double"],"default":null,"doc":"The median time from'
        ' request to label."}'
        ',{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"doc":"When it happened, in UT'
        'C."}]}'
    )

    endpoint: str
    """The endpoint's name, which its topics begin with."""
    model: str
    """The model's name."""
    version: int
    """The version's number within its model, from 1."""
    digest: str
    """The version's identity: `sha256:` and 64 hexadecimal digits over manifest and artifact."""
    arm: str
    """The arm of the route that answered, such as champion."""
    window_start: datetime
    """The first moment of the window, in UTC, of event time."""
    window_end: datetime
    """The first moment after it."""
    revision: int
    """From 1; it rises with the labels that arrive."""
    rows: int
    """The window's rows that have a score."""
    labelled: int
    """How many of them have a label."""
    positives: int
    """How many labels are positive."""
    threshold: float
    """The score from which a request counts as positive."""
    precision: float | None = None
    """Of those called positive, the share that was."""
    recall: float | None = None
    """Of the positive ones, the share that was called so."""
    roc_auc: float | None = None
    """The area under the ROC curve."""
    average_precision: float | None = None
    """The area under the precision-recall curve, stepwise."""
    cost: float | None = None
    """The weight of what was missed and of false alarms, each by its price."""
    label_lag_seconds_p50: float | None = None
    """The median time from request to label."""
    at: datetime
    """When it happened, in UTC."""
