-- Whether each audit log is being witnessed, as the auditor says; no row before it has ever said so.
CREATE TABLE IF NOT EXISTS witnesses (
    log     text        PRIMARY KEY,
    lost_at timestamptz,                              -- null: it is being witnessed
    detail  text        NOT NULL,
    at      timestamptz NOT NULL
);
REVOKE DELETE ON witnesses FROM {role};
