"""What the auditor and the witness can be told beyond what every process can."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from interlock.settings import PlatformSettings


class WitnessSettings(PlatformSettings):
    """What both need to know; environment variables begin with INTERLOCK_."""

    audit_origin: str = Field("interlock/audit", description="The log's name, the first line of its checkpoints.")
    witness_name: str = Field("interlock/witness", description="The name under which the witness co-signs.")
    audit_public_key_file: Path = Field(
        Path("audit-public.pem"), description="PEM file with the log's public Ed25519 key."
    )
    witness_key_file: Path = Field(
        Path("witness-private.pem"), description="PEM file with the witness's private Ed25519 key; only it has it."
    )
    witness_folder: Path = Field(Path("witness"), description="The folder of the witness's own memory.")
    witness_leaves_max: int = Field(
        65_536, gt=0, description="The most leaf hashes that are sent to or asked of the witness in one request."
    )


class Settings(WitnessSettings):
    """The auditor's keys, waits and bounds; environment variables begin with INTERLOCK_."""

    audit_key_file: Path = Field(
        Path("audit-private.pem"), description="PEM file with the log's private Ed25519 key; only the auditor has it."
    )
    witness_public_key_file: Path = Field(
        Path("witness-public.pem"), description="PEM file with the witness's public Ed25519 key."
    )
    chunk_rows_max: int = Field(1_000, gt=0, description="The most records that are entered in one transaction.")
    chunk_seconds: float = Field(0.2, gt=0, description="How long a chunk waits for its first record.")
    topics_seconds: float = Field(1.0, gt=0, description="How often topics that do not exist yet are looked for.")
    checkpoint_seconds: float = Field(
        1.0, gt=0, description="How often a checkpoint is signed while there is something new."
    )
    checkpoint_entries: int = Field(1_000, gt=0, description="After how many new entries one is signed without delay.")
    witness_seconds_max: float = Field(2.0, gt=0, description="How long the witness may take to answer.")
    witness_lost_seconds: float = Field(
        5.0, gt=0, description="After how long without the witness it counts as lost: promotions wait."
    )
    patrol_seconds: float = Field(2.0, gt=0, description="How often a part of the table is compared with memory.")
    patrol_entries: int = Field(4_096, gt=0, description="How many entries such a part has.")
    verify_workers: int = Field(
        2, gt=0, description="In how many processes `interlock audit verify` hashes rows; at most one a core."
    )
    unsure_seconds: float = Field(
        10.0, gt=0, description="How often a table that is not what was witnessed is looked at again."
    )
    entries_page_max: int = Field(1_000, gt=0, description="The most entries in one answer over HTTP.")
    case_seconds_max: float = Field(10.0, gt=0, description="How long one reading of a topic for a case may take.")
    case_wait_seconds: float = Field(3.0, gt=0, description="How long a case waits for the witness to see its batch.")
    case_rows_beside_max: int = Field(
        20_000, gt=0, description="The most records besides the batch's own among which a case looks for them."
    )
    case_search_seconds: float = Field(
        60.0, gt=0, description="How far from its time a request is looked for by its id, before and after."
    )
    case_search_rows_max: int = Field(
        200_000, gt=0, description="The most requests of a partition among which one is looked for by its id."
    )
    case_schemas_max: int = Field(1_000, gt=0, description="The most request schemas that are kept in memory.")
