-- What happened in this service, in order, for ever: every event it decided. State as of any time is a fold of this.
CREATE TABLE journal (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream         text        NOT NULL,
    event_id       uuid        NOT NULL UNIQUE,
    type           text        NOT NULL,
    value          bytea       NOT NULL,             -- the framed Avro bytes, exactly as published
    event          jsonb       NOT NULL,             -- the same for people and for SQL
    correlation_id text        NOT NULL,
    causation_id   text        NOT NULL,
    actor          text        NOT NULL,
    traceparent    text,
    appended_at    timestamptz NOT NULL
);
CREATE INDEX journal_stream ON journal (stream, position);

-- What of it has yet to be said on Kafka. xid is the transaction that wrote the row: the relay stops at the first row
-- whose transaction is not older than every running one.
CREATE TABLE outbox (
    position     bigint PRIMARY KEY REFERENCES journal,
    xid          xid8        NOT NULL DEFAULT pg_current_xact_id(),
    topic        text        NOT NULL,
    key          text        NOT NULL,
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (position) WHERE published_at IS NULL;

CREATE FUNCTION outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('interlock_outbox_' || TG_TABLE_SCHEMA, '');   -- only a hint: the relay also polls
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_wake AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_wake();

-- What this service has heard: an event id stands here exactly when its effect is in the tables.
CREATE TABLE inbox (
    consumer text        NOT NULL,
    event_id text        NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, event_id)
);

-- Commands already carried out, by the key their sender chose: the same key gets the same answer.
CREATE TABLE commands (
    actor          text        NOT NULL,
    key            text        NOT NULL,
    request_digest text        NOT NULL,
    answer         jsonb       NOT NULL,
    done_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (actor, key)
);

-- Who leads, and in which epoch. The row is never deleted, so that epochs only rise.
CREATE TABLE lease (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    epoch      bigint      NOT NULL CHECK (epoch > 0),
    expires_at timestamptz NOT NULL
);

REVOKE UPDATE, DELETE ON journal, outbox, inbox, commands FROM {role};
REVOKE DELETE ON lease FROM {role};
GRANT UPDATE (published_at) ON outbox TO {role};
