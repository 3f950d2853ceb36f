-- What versions answered, kept until the truth may have come: a batch's rows of one arm, cut by window of event time
-- and by pane of the requests' own time. A label knows the request's own time, the block knows the window: so a label
-- finds its request exactly, whatever the sender's clock said. Columns are little-endian, as in the observation.
CREATE TABLE quality_scores (
    endpoint            text    NOT NULL,
    window_milliseconds integer NOT NULL CHECK (window_milliseconds > 0),
    window_start        bigint  NOT NULL,          -- milliseconds since 1970, of event time
    pane                bigint  NOT NULL,          -- requested_at divided by the length of a pane
    topic               text    NOT NULL,          -- of the requests
    partition           integer NOT NULL,
    from_offset         bigint  NOT NULL,
    arm                 text    NOT NULL,
    model               text    NOT NULL,
    version             integer NOT NULL,
    digest              text    NOT NULL,
    scored_at           bigint  NOT NULL,
    request_ids         bytea   NOT NULL,
    request_id_lengths  bytea   NOT NULL,          -- uint32
    requested_at        bytea   NOT NULL,          -- int64
    offsets             bytea   NOT NULL,          -- uint32, less from_offset
    scores              bytea   NOT NULL,          -- float64: the first output
    PRIMARY KEY (endpoint, topic, partition, from_offset, arm, window_milliseconds, window_start, pane)
);
CREATE INDEX quality_scores_pane ON quality_scores (endpoint, pane);
CREATE INDEX quality_scores_window ON quality_scores (endpoint, window_milliseconds, window_start);

-- The newest truth about each request, whether its score has come or not.
CREATE TABLE quality_labels (
    endpoint     text             NOT NULL,
    pane         bigint           NOT NULL,
    requested_at bigint           NOT NULL,
    request_id   bytea            NOT NULL,        -- UTF-8; bytes, because a sender may choose what text cannot hold
    label        double precision NOT NULL,
    weight       double precision,
    source       text             NOT NULL,
    at           bigint           NOT NULL,
    partition    integer          NOT NULL,        -- where it was recorded: of two with the same `at` the later one stands
    record       bigint           NOT NULL,
    joined       boolean          NOT NULL DEFAULT false,
    PRIMARY KEY (endpoint, pane, requested_at, request_id)
);
CREATE INDEX quality_labels_waiting ON quality_labels (endpoint) WHERE NOT joined;

-- Panes in which scores or labels came since the last look. Only ever added to by those who bring them, so that
-- nobody waits for anybody; whoever measures takes away what it has seen.
CREATE TABLE quality_marks (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint text   NOT NULL,
    pane     bigint NOT NULL
);

-- Windows that have labels and changed since they were measured.
CREATE TABLE quality_due (
    endpoint            text    NOT NULL,
    window_milliseconds integer NOT NULL,
    window_start        bigint  NOT NULL,
    due_at              bigint  NOT NULL,
    PRIMARY KEY (endpoint, window_milliseconds, window_start)
);

-- The newest measurement of each version, arm and window. The labelled rows stay beside the figures as long as the
-- scores do, so that figures over several windows are exact as well.
CREATE TABLE quality_windows (
    endpoint            text    NOT NULL,
    window_milliseconds integer NOT NULL,
    window_start        bigint  NOT NULL,
    arm                 text    NOT NULL,
    model               text    NOT NULL,
    version             integer NOT NULL,
    digest              text    NOT NULL,
    revision            integer NOT NULL,
    figures             jsonb   NOT NULL,
    labelled            bytea,                     -- float64: score, label, weight and lag of each labelled row
    measured_at         bigint  NOT NULL,
    PRIMARY KEY (endpoint, window_milliseconds, window_start, arm, model, version, digest)
);

-- What became of the labels that came, by endpoint: how often each.
CREATE TABLE quality_counts (
    endpoint text   NOT NULL,
    what     text   NOT NULL,
    count    bigint NOT NULL,
    PRIMARY KEY (endpoint, what)
);

REVOKE UPDATE ON quality_scores, quality_marks FROM {role};
REVOKE DELETE ON quality_windows, quality_counts FROM {role};
