-- The registry's tables: the present state, folded from the journal and from what the builder and the deployer say.
CREATE TABLE models (
    model      text        PRIMARY KEY,
    owner      text        NOT NULL,
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE versions (
    model           text        NOT NULL REFERENCES models,
    version         integer     NOT NULL CHECK (version > 0),
    digest          text        NOT NULL UNIQUE,
    manifest        text        NOT NULL,
    manifest_digest text        NOT NULL,
    artifact_digest text        NOT NULL,
    artifact_format text        NOT NULL,
    artifact_bytes  bigint      NOT NULL,
    files           jsonb       NOT NULL,             -- path -> digest, everything that the manifest names
    commit          text        NOT NULL,
    author          text        NOT NULL,
    registered_at   timestamptz NOT NULL,
    state           text        NOT NULL,
    attempt         bigint      NOT NULL,             -- the newest attempt to build it that was heard of
    vectors         integer,
    evidence_digest text,
    profile_digest  text,
    gates_expected  text[]      NOT NULL,
    gates           jsonb       NOT NULL,
    approvals       jsonb       NOT NULL,
    failure         text,
    PRIMARY KEY (model, version)
);

CREATE TABLE endpoints (
    name        text        PRIMARY KEY,
    model       text        NOT NULL,
    partitions  integer     NOT NULL,
    created_by  text        NOT NULL,
    created_at  timestamptz NOT NULL,
    promotion   bigint      NOT NULL,                 -- what was asked for: rises with promotions and rollbacks
    line        integer[]   NOT NULL,                 -- the versions one could go back along; the last one is asked for
    served      integer[]   NOT NULL,
    champion    integer,                              -- what is in force, as the deployer says
    previous    integer,
    route_epoch bigint      NOT NULL,
    failure     text
);
CREATE INDEX endpoints_model ON endpoints (model);

-- Every control event that was written or heard here, in the order in which it became visible. Rows are written
-- under one lock, so that no position appears behind one that a reader has already seen.
CREATE TABLE timeline (
    position bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text        NOT NULL UNIQUE,
    type     text        NOT NULL,
    model    text,
    endpoint text,
    at       timestamptz NOT NULL,
    event    jsonb       NOT NULL
);
CREATE INDEX timeline_model ON timeline (model, position);
CREATE INDEX timeline_endpoint ON timeline (endpoint, position);

-- The schema registry. An id is never given twice, so schemas are never deleted; 1 to 999 belong to the platform.
CREATE SEQUENCE schema_ids START 1000;
CREATE TABLE schemas (
    id          integer     PRIMARY KEY,
    fingerprint text        NOT NULL UNIQUE,
    schema      text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE subjects (
    subject text    NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    id      integer NOT NULL REFERENCES schemas,
    deleted text    NOT NULL DEFAULT 'no' CHECK (deleted IN ('no', 'soft', 'hard')),
    PRIMARY KEY (subject, version)
);
CREATE INDEX subjects_id ON subjects (id);

CREATE TABLE levels (
    subject text PRIMARY KEY,                         -- '' is the level of subjects that have none of their own
    level   text NOT NULL
);
INSERT INTO levels VALUES ('', 'BACKWARD');

GRANT USAGE ON SEQUENCE schema_ids TO {role};
REVOKE UPDATE, DELETE ON timeline, schemas FROM {role};
REVOKE DELETE ON models, versions, endpoints, subjects FROM {role};
