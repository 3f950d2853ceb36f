-- The endpoints whose topics exist, as their first route says.
CREATE TABLE endpoints (
    endpoint text        PRIMARY KEY,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The reference profile of each version: a blob's digest; the newest build's.
CREATE TABLE profiles (
    model          text   NOT NULL,
    version        integer NOT NULL,
    digest         text   NOT NULL,
    attempt        bigint NOT NULL,
    profile_digest text   NOT NULL,
    PRIMARY KEY (model, version)
);

-- How far each partition of observations and labels is in the tables below: moved only by the transaction that brings
-- what was read. Kafka's own committed offsets are copies of these, for other eyes.
CREATE TABLE positions (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    endpoint    text    NOT NULL,
    next_offset bigint  NOT NULL DEFAULT 0,
    event_time  bigint,                            -- the newest seen, milliseconds since 1970; none for labels
    seen_at     bigint  NOT NULL,                  -- when something was last read, or known to wait: milliseconds
    PRIMARY KEY (topic, partition)
);

-- Which requests are counted: everything from first_offset to next_offset, less the gaps.
CREATE TABLE coverage (
    topic        text    NOT NULL,                 -- of the requests
    partition    integer NOT NULL,
    endpoint     text    NOT NULL,
    first_offset bigint  NOT NULL,
    next_offset  bigint  NOT NULL,
    rows         bigint  NOT NULL DEFAULT 0,       -- requests counted, rejected ones included
    PRIMARY KEY (topic, partition)
);

-- What cannot be told of: requests that no observation covers any more, or that a second one covers in part.
CREATE TABLE gaps (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    from_offset bigint  NOT NULL,
    next_offset bigint  NOT NULL,
    kind        text    NOT NULL CHECK (kind IN ('missing', 'overlap')),
    found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, from_offset, next_offset, kind)
);

-- One row for each window of event time, version and arm. Until sketches_keep_hours `state` holds the mergeable whole.
CREATE TABLE windows (
    endpoint            text    NOT NULL,
    model               text    NOT NULL,          -- with version 0 and empty words: requests that reached no version
    version             integer NOT NULL,
    digest              text    NOT NULL,
    arm                 text    NOT NULL,
    start_milliseconds  bigint  NOT NULL,
    length_milliseconds integer NOT NULL CHECK (length_milliseconds > 0),
    state               bytea,
    rows                bigint  NOT NULL DEFAULT 0,
    rejected            bigint  NOT NULL DEFAULT 0,
    late_rows           bigint  NOT NULL DEFAULT 0,
    revision            integer NOT NULL DEFAULT 0,   -- 0 while open
    changed             boolean NOT NULL DEFAULT true, -- since the newest revision
    closed_at           bigint,                    -- when the newest revision was made, milliseconds
    closed              jsonb,                     -- the newest WindowClosed
    verdict             jsonb,                     -- the newest comparison with the reference profile
    PRIMARY KEY (endpoint, start_milliseconds, length_milliseconds, model, version, digest, arm)
);
ALTER TABLE windows ALTER COLUMN state SET STORAGE EXTERNAL;   -- sketches do not compress
CREATE INDEX windows_due ON windows (endpoint, start_milliseconds) WHERE revision = 0 OR changed;
CREATE INDEX windows_sketched ON windows (start_milliseconds) WHERE state IS NOT NULL;

-- The alarm of each version and arm: what the state machine remembers between windows.
CREATE TABLE alarms (
    endpoint text    NOT NULL,
    model    text    NOT NULL,
    version  integer NOT NULL,
    digest   text    NOT NULL,
    arm      text    NOT NULL,
    state    jsonb   NOT NULL,
    PRIMARY KEY (endpoint, model, version, digest, arm)
);

REVOKE DELETE ON endpoints, profiles, positions, coverage, gaps FROM {role};
