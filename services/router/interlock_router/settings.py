"""What the router can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from interlock.settings import PlatformSettings


class Settings(PlatformSettings):
    """The bounds of the lanes, and how long each of their waits may take."""

    group: str = Field(
        "interlock.router", description="The consumer group of the lanes; transactional ids begin with it."
    )
    guarantee: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once",
        description="`at_least_once` answers without transactions: sooner, but twice what a crash or a take-over "
        "interrupts. Audit and monitor then see batches overlap.",
    )
    lane_partitions: int = Field(
        2,
        gt=0,
        description="How many neighbouring partitions of an endpoint make one lane: they are answered in common "
        "transactions, by one router. More make fewer and larger transactions, fewer spread over more routers. The "
        "same for all routers of a group; to be changed while none runs.",
    )
    batch_rows_max: int = Field(
        16_384,
        gt=0,
        description="The most requests a lane takes at once for one version; up to four times as many where several "
        "share them, so that each is still asked for many.",
    )
    batch_seconds_aim: float = Field(
        1.0,
        gt=0,
        description="A lane takes no more requests at once than its versions lately scored in so long; well under "
        "INTERLOCK_CALL_SECONDS_MAX.",
    )
    batch_bytes_max: int = Field(
        16 * 1024 * 1024, gt=0, description="The most bytes of requests that are scored in one batch."
    )
    batch_interval_seconds: float = Field(
        0.04,
        ge=0,
        description="Under load a lane takes no batch sooner than this after the last; a lone request at once.",
    )
    batch_interval_seconds_max: float = Field(
        0.25, ge=0, description="The longest such interval, where batches take long to be answered."
    )
    batches_in_flight_max: int = Field(
        2, ge=2, description="Batches of one lane at work: one commits, the others are being scored."
    )
    request_bytes_max: int = Field(1024 * 1024, gt=0, description="A larger request becomes a dead letter (TOO_LARGE).")
    observation_columns_bytes_max: int = Field(
        8 * 1024 * 1024,
        ge=0,
        description="A batch whose features take more as columns is observed in sketches: a tenth of the bytes, "
        "at many times the work.",
    )
    fetch_bytes_max: int = Field(
        8 * 1024 * 1024, gt=0, description="The most bytes of one partition that one fetch brings."
    )
    result_batch_bytes_max: int = Field(768 * 1024, gt=0, description="The size of one record batch of results.")
    call_seconds_max: float = Field(
        8.0, gt=0, description="How long one call to a version may take; more than its replica's own bound."
    )
    crash_isolation_seconds: float = Field(
        60.0,
        gt=0,
        description="How long a batch may be taken apart to find rows that fail their model; the rest are given up.",
    )
    isolation_parts: int = Field(
        64, ge=2, description="Into how many parts a failing batch is split at each step of that search."
    )
    death_pause_seconds: float = Field(
        0.5, ge=0, description="The pause after a replica died, before its version is asked again."
    )
    lane_retry_seconds: float = Field(
        0.2, gt=0, description="The first pause before a version, the registry or Kafka is tried again."
    )
    lane_retry_seconds_max: float = Field(2.0, gt=0, description="The longest such pause.")
    transaction_seconds_max: float = Field(
        10.0, gt=0, description="How long one transaction may take before its producer is discarded."
    )
    revoke_seconds_max: float = Field(
        5.0, gt=0, description="How long a lane may finish its batch when its partition is taken away."
    )
    poll_seconds: float = Field(
        0.2, gt=0, description="How long one look for new requests waits; bounds how soon a lane notices a stop."
    )
    schemas_max: int = Field(1024, gt=0, description="Writer schemas kept in memory.")
    schema_unknown_seconds: float = Field(
        2.0, gt=0, description="For how long an unregistered schema id is remembered as unknown."
    )
    schema_request_seconds_max: float = Field(
        5.0, gt=0, description="How long one question to the schema registry may take."
    )
    features_group: str = Field(
        "interlock.router.features", description="The consumer group that feeds online features into the store."
    )
    features_seconds_max: float = Field(
        0.05, gt=0, description="How long a batch may wait for its online features before defaults are used."
    )
    features_pause_seconds: float = Field(
        0.25, gt=0, description="The first pause before a store of online features that is away is asked again."
    )
    features_pause_seconds_max: float = Field(5.0, gt=0, description="The longest such pause.")
    features_connections_max: int = Field(
        16, gt=0, description="Look-ups of online features at once; further lanes wait for one of them to end."
    )
    features_feed_rows_max: int = Field(
        500, gt=0, description="Updates that are written into the store at once; it answers nobody meanwhile."
    )
    features_check_seconds: float = Field(
        1.0, gt=0, description="How often the feeder looks whether the store was flushed."
    )
    features_ttl_seconds: float = Field(
        7 * 86_400.0, gt=0, description="How long an entity's online features are kept without a new value."
    )
    features_ahead_seconds_max: float = Field(
        60.0, ge=0, description="An update whose time is further ahead than this is refused."
    )
    live_seconds: float = Field(1.0, gt=0, description="How often the live figures are written.")
    live_ttl_seconds: float = Field(5.0, gt=0, description="How long live figures stay without being renewed.")
    trace_links_max: int = Field(
        8, ge=0, description="Sampled requests that one lane links to their batches in a second; the rest go without."
    )
