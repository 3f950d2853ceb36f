-- What the deployer must know of a version to run it; written once, when the version is registered.
CREATE TABLE versions (
    model text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    digest text NOT NULL,
    manifest text NOT NULL,
    manifest_digest text NOT NULL,
    artifact_digest text NOT NULL,
    artifact_format text NOT NULL,
    files jsonb NOT NULL,
    PRIMARY KEY (model, version)
);

-- The rollout of each endpoint: one row, locked by whoever changes it. `state` is the whole; the columns beside
-- it are for people and for the compare-and-set on the epoch.
CREATE TABLE rollouts (
    endpoint text PRIMARY KEY,
    model text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    promotion bigint NOT NULL DEFAULT 0,
    champion integer,
    previous integer,
    state jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
