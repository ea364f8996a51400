-- The vault: the latest verified fact per person and record, and how far each source was read.
-- Names are unqualified: the connection's search_path decides the schema.

-- Who may write a lane. Each take-over raises the token; each writing transaction shows its own
-- under a row lock, so that a former owner that wakes up late can commit nothing.
CREATE TABLE lane_owner (
    lane      integer     PRIMARY KEY CHECK (lane BETWEEN 0 AND 65535),
    token     bigint      NOT NULL CHECK (token > 0),
    owner     text        NOT NULL,
    taken_at  timestamptz NOT NULL DEFAULT now()
);

-- Next source offset to read. Moves in the transaction that stores what was read before it.
CREATE TABLE source_position (
    lane         integer NOT NULL,
    topic        text    NOT NULL,
    next_offset  bigint  NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (lane, topic)
);

-- One row per record of one person. `dataset` is the source schema id (schemas/schema-ids.yaml).
-- Tags are keyed; `body` holds value and seal as received, through the cipher named by `cipher`.
-- Hash-partitioned by lane: growing means attaching tables, not rewriting one.
CREATE TABLE fact (
    lane           integer  NOT NULL,
    subject        bytea    NOT NULL CHECK (octet_length(subject) = 16),
    dataset        integer  NOT NULL,
    record         bytea    NOT NULL CHECK (octet_length(record) = 16),
    stream         text     NOT NULL,
    epoch          bigint   NOT NULL,
    counter        bigint   NOT NULL,
    source_offset  bigint   NOT NULL,
    ce_time_ms     bigint   NOT NULL,
    withdrawn      boolean  NOT NULL,
    cipher         smallint NOT NULL,
    body           bytea    NOT NULL,
    PRIMARY KEY (lane, subject, dataset, record)
) PARTITION BY HASH (lane);

CREATE TABLE fact_p0 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE fact_p1 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE fact_p2 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE fact_p3 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE fact_p4 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE fact_p5 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE fact_p6 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE fact_p7 PARTITION OF fact FOR VALUES WITH (MODULUS 8, REMAINDER 7);
