-- One row a version: what is to be built, by whom it is being built, and what came of it.
CREATE TABLE builds (
    model           text        NOT NULL,
    version         integer     NOT NULL CHECK (version > 0),
    digest          text        NOT NULL,
    manifest        text        NOT NULL,
    manifest_digest text        NOT NULL,
    artifact_digest text        NOT NULL,
    files           jsonb       NOT NULL,             -- path -> digest
    cause           jsonb       NOT NULL,             -- of the registration: carried into every event of the build
    state           text        NOT NULL DEFAULT 'waiting'
                    CHECK (state IN ('waiting', 'running', 'succeeded', 'failed')),
    attempt         bigint      NOT NULL DEFAULT 0,   -- rises with each claim; a result of another attempt is refused
    holder          text,
    lease_until     timestamptz,
    code            text,
    detail          text,
    evidence_digest text,
    profile_digest  text,
    registered_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at     timestamptz,
    PRIMARY KEY (model, version)
);
CREATE INDEX builds_open ON builds (registered_at) WHERE state IN ('waiting', 'running');

-- Which version each endpoint answers with, as promotions and rollbacks say; the newest promotion rules.
CREATE TABLE champions (
    endpoint   text        PRIMARY KEY,
    model      text        NOT NULL,
    version    integer     NOT NULL,
    digest     text        NOT NULL,
    promotion  bigint      NOT NULL,
    since      timestamptz NOT NULL
);
CREATE INDEX champions_model ON champions (model, since);

REVOKE DELETE ON builds, champions FROM {role};
