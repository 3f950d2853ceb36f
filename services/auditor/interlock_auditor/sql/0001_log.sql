-- The log. A row holds the fields of one entry, and the record's value as it lay in Kafka; the entry's bytes, and so
-- its leaf in the tree, follow from them (entry.py). Nothing is kept twice, so nothing can disagree with itself.
CREATE TABLE entries (
    seq               bigint  PRIMARY KEY CHECK (seq >= 0),   -- its place in the tree, without a gap
    topic             text    NOT NULL,
    partition         integer NOT NULL,
    kafka_offset      bigint  NOT NULL,
    event_id          text    NOT NULL,
    action            text    NOT NULL,                      -- the event's name, such as VersionPromoted
    source            text    NOT NULL,
    actor             text    NOT NULL,
    subject           text    NOT NULL,                      -- model/version/endpoint, or //endpoint/from/next of a batch
    time_milliseconds bigint  NOT NULL,
    schema_digest     text    NOT NULL,
    payload           bytea   NOT NULL,
    model       text    GENERATED ALWAYS AS (nullif(split_part(subject, '/', 1), '')) STORED,
    version     integer GENERATED ALWAYS AS (nullif(split_part(subject, '/', 2), '')::integer) STORED,
    endpoint    text    GENERATED ALWAYS AS (nullif(split_part(subject, '/', 3), '')) STORED,
    from_offset bigint  GENERATED ALWAYS AS (nullif(split_part(subject, '/', 4), '')::bigint) STORED,
    next_offset bigint  GENERATED ALWAYS AS (nullif(split_part(subject, '/', 5), '')::bigint) STORED,
    UNIQUE (topic, partition, kafka_offset)                  -- a record is entered once, whoever tries
);
CREATE INDEX entries_model ON entries (model, action, seq) WHERE from_offset IS NULL;
CREATE INDEX entries_endpoint ON entries (endpoint, action, seq) WHERE from_offset IS NULL;
CREATE INDEX entries_batch ON entries (topic, partition, from_offset) WHERE from_offset IS NOT NULL;

-- Stretches of a topic that were gone before they were read: said once, kept for ever.
CREATE TABLE gaps (
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    from_offset bigint      NOT NULL,
    next_offset bigint      NOT NULL,
    detail      text        NOT NULL,
    noticed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, from_offset, next_offset)
);

-- The auditor may add and read. Whoever owns the table can do more: what he changes, the witness's hashes show.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is only added to: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER entries_kept BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_whole BEFORE TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER gaps_kept BEFORE UPDATE OR DELETE ON gaps FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER gaps_whole BEFORE TRUNCATE ON gaps FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON entries, gaps FROM {role};
