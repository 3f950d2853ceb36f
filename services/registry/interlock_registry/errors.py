"""The refusals of the registry: each with its id, HTTP status, title and what to do about it."""

from __future__ import annotations

from interlock.errors import Code

MODEL_UNKNOWN = Code(
    "MODEL_UNKNOWN",
    404,
    "There is no such model",
    "`interlock model list` names those that exist; the first push creates one.",
)
VERSION_UNKNOWN = Code(
    "VERSION_UNKNOWN", 404, "The model has no such version", "`interlock version list MODEL` names those that exist."
)
ENDPOINT_UNKNOWN = Code(
    "ENDPOINT_UNKNOWN",
    404,
    "There is no such endpoint",
    "`interlock endpoint list` names those that exist; an operator creates one with `interlock endpoint create`.",
)
PARTITIONS_INVALID = Code(
    "PARTITIONS_INVALID",
    422,
    "The endpoint cannot have so many partitions",
    "The bound is INTERLOCK_ENDPOINT_PARTITIONS_MAX of the registry.",
)
NAME_INVALID = Code(
    "NAME_INVALID",
    422,
    "The name cannot be used",
    "Use small letters, digits, `-` and `_`, beginning with a letter, 64 characters at most.",
)
VERSION_TAKEN = Code(
    "VERSION_TAKEN",
    409,
    "This version number already stands for other bytes",
    "A version never changes: raise `version` in interlock.toml and push again.",
)
MODEL_NAME_DIFFERS = Code(
    "MODEL_NAME_DIFFERS",
    422,
    "The manifest names another model than the repository",
    "Push to the repository of that name, or correct `name` in interlock.toml.",
)
ENDPOINT_TAKEN = Code(
    "ENDPOINT_TAKEN",
    409,
    "The endpoint exists already",
    "An endpoint's model and partitions are fixed when it is created.",
)
OWN_APPROVAL = Code(
    "OWN_APPROVAL", 403, "An author cannot approve their own version", "Ask somebody else who holds the role approver."
)
NOT_PROVEN = Code(
    "NOT_PROVEN",
    409,
    "The version is not proven",
    "Only a version that was built and passed every gate can be approved or promoted; improve it and push the next.",
)
NOT_APPROVED = Code(
    "NOT_APPROVED",
    409,
    "Nobody has approved this version for the endpoint",
    "Ask somebody other than the author: `interlock approve MODEL VERSION --endpoint ENDPOINT`.",
)
OTHER_MODEL = Code(
    "OTHER_MODEL",
    409,
    "The endpoint belongs to another model",
    "`interlock endpoint list` shows whose it is.",
)
ALREADY_CHAMPION = Code(
    "ALREADY_CHAMPION", 409, "The version is already the champion", "There is nothing to do: it answers the endpoint."
)
NO_WAY_BACK = Code(
    "NO_WAY_BACK",
    409,
    "There is no version to roll back to",
    "A rollback goes to a version that served this endpoint before; name one with --to-version, or promote another.",
)
SIGNATURE_INCOMPATIBLE = Code(
    "SIGNATURE_INCOMPATIBLE",
    409,
    "The version's signature does not fit the endpoint's callers",
    "Give new inputs `nullable = true`, keep the outputs, or create another endpoint for this signature.",
)
PUSH_MALFORMED = Code(
    "PUSH_MALFORMED", 400, "The push cannot be read", "Push again; if it fails again, run `git fsck`."
)
PUSH_TOO_LARGE = Code(
    "PUSH_TOO_LARGE",
    413,
    "The push is larger than the registry accepts",
    "Keep training data and old artifacts out of the repository.",
)
REF_REFUSED = Code("REF_REFUSED", 422, "Only the branch main can be pushed", "Push with: git push REMOTE HEAD:main")
TREE_REFUSED = Code(
    "TREE_REFUSED",
    422,
    "The tree holds something that the registry does not take",
    "Remove it, commit, and push again.",
)
FILE_NOT_IN_TREE = Code(
    "FILE_NOT_IN_TREE",
    422,
    "A file that the manifest names is not in the tree",
    "Is it committed, and not ignored by .gitignore? `git ls-files` shows what is in the tree.",
)
PUSH_RACED = Code("PUSH_RACED", 409, "Another push moved the branch meanwhile", "Fetch, look, and push again.")
AUDIT_UNWITNESSED = Code(
    "AUDIT_UNWITNESSED",
    409,
    "Promotions wait until the audit log is witnessed again",
    "See `interlock audit head`; bring the witness back, or let `interlock promote --wait` try again. A rollback"
    " never waits.",
)
CONSOLE_FULL = Code(
    "CONSOLE_FULL",
    503,
    "Too many console pages are being watched",
    "Close some, or raise INTERLOCK_CONSOLE_VIEWERS_MAX.",
)
PAGE_UNKNOWN = Code("PAGE_UNKNOWN", 404, "The console has no such file", "Begin at /console.")
