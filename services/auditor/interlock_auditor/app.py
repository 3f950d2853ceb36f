"""The auditor: read this first. What it listens to, serves and repeats."""

from __future__ import annotations

from typing import Final

from interlock.errors import InterlockError
from interlock.kafka.lookup import Lookup
from interlock.service import Host, Service
from interlock_auditor import case_http, http
from interlock_auditor.case_evidence import Cases
from interlock_auditor.case_schemas import CaseSchemas
from interlock_auditor.checkpoint import COSIGNATURE, ED25519, NoteKey, VerifierKey
from interlock_auditor.checkpoint_signer import Signer
from interlock_auditor.log import Log
from interlock_auditor.log_writer import Writer
from interlock_auditor.settings import Settings
from interlock_auditor.witness_client import WitnessClient

__all__ = ["USES", "Settings", "build"]

USES: Final = ("postgres",)


async def build(host: Host) -> Service:
    """Put the auditor together; raises InterlockError where a key is missing.

    It listens by its writer rather than by a table of handlers: it keeps every record as it is, whatever it says.
    """
    settings: Settings = host.settings
    assert host.pool is not None, "USES asks for Postgres"
    log = _log(settings)
    token = settings.token.get_secret_value() if settings.token else ""
    witness = WitnessClient(settings.witness_url, token, settings.witness_seconds_max, settings.witness_leaves_max)
    writer = Writer(settings, log, witness, host.clock, host.stopping)
    signer = Signer(settings, log, witness, host.pool, host.clock, host.stopping)
    schemas = CaseSchemas(settings, settings.case_seconds_max, settings.case_schemas_max)
    cases = Cases(host.pool, log, Lookup(settings, settings.case_seconds_max), schemas, settings, host.clock)
    return Service(
        name="auditor",
        routers=[http.router(settings, log, host.pool), case_http.router(cases)],
        loops=[writer.run, signer.run],
        ready=[log.ready],
        close=[witness.close, cases.close],
    )


def _log(settings: Settings) -> Log:
    try:
        key = NoteKey(settings.audit_origin, ED25519, settings.audit_key_file.read_bytes())
        witness = VerifierKey.of_pem(settings.witness_name, COSIGNATURE, settings.witness_public_key_file.read_bytes())
    except (OSError, ValueError) as error:
        raise InterlockError(f"The auditor has no keys: {error}.") from error
    return Log(settings.audit_origin, key, witness)
