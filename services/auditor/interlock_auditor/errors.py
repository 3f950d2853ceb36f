"""The refusals of the auditor and of its witness: each with its id, HTTP status, title and what to do about it."""

from __future__ import annotations

from interlock.errors import Code

ENTRY_UNKNOWN = Code(
    "ENTRY_UNKNOWN", 404, "The log has no such entry", "`interlock audit head` says how many entries there are."
)
SIZE_UNKNOWN = Code(
    "SIZE_UNKNOWN",
    404,
    "The log has never had so many entries",
    "Ask for a size up to that of its head: `interlock audit head`.",
)
LOG_UNSURE = Code(
    "LOG_UNSURE",
    409,
    "The log's table is not what was witnessed",
    "`interlock audit verify` names the rows. Put the table back as it was; the auditor looks again by itself.",
)
NOTE_REFUSED = Code(
    "NOTE_REFUSED",
    403,
    "The checkpoint is not signed by the log that this witness knows",
    "Give the witness the log's public key: INTERLOCK_AUDIT_PUBLIC_KEY_FILE.",
)
WITNESS_SIZE_DIFFERS = Code(
    "WITNESS_SIZE_DIFFERS",
    409,
    "The witness stands at another size",
    "Send the leaf hashes from the size that the answer names.",
)
LOG_SHRUNKEN = Code(
    "LOG_SHRUNKEN",
    409,
    "The log shows fewer entries than it had",
    "The witness never goes back. Put the log's table back; `interlock audit verify` names what is missing.",
)
LOG_FORKED = Code(
    "LOG_FORKED",
    409,
    "The log shows another history than the one it had",
    "The witness never signs two histories. `interlock audit verify` names the entries that were changed.",
)
AUDIT_UNVERIFIABLE = Code(
    "AUDIT_UNVERIFIABLE",
    400,
    "The log cannot be verified from here",
    "Give the database (--dsn), the witness (--witness FOLDER or URL) and both public keys.",
)
