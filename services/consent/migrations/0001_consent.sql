-- Consents and cases, who holds what, and what must still be done about it. Names are unqualified:
-- the connection's search_path decides the schema. No identity number is in any table: people are tags.

-- One active owner. Each start raises the token; each writing transaction shows its own under a row
-- lock, so that a former owner that wakes up late can commit nothing.
CREATE TABLE owner (
    one       boolean     PRIMARY KEY DEFAULT true CHECK (one),
    token     bigint      NOT NULL,
    name      text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT now()
);

-- Every grant that this service made or read from bus.grants. `kind`: 0 consent, 1 case. `status`:
-- 0 open, 1 paused, 2 closed.
CREATE TABLE grants (
    id          bytea    PRIMARY KEY CHECK (octet_length(id) = 16),
    kind        smallint NOT NULL,
    lane        integer  NOT NULL,
    subject     bytea    NOT NULL CHECK (octet_length(subject) = 16),
    agreement   text     NOT NULL,
    datasets    text[]   NOT NULL,
    status      smallint NOT NULL,
    counter     bigint   NOT NULL,
    opened_ms   bigint   NOT NULL,
    expires_ms  bigint   NOT NULL,
    closed_ms   bigint,
    cause       text     NOT NULL,
    reason      text     NOT NULL,
    -- The consent record (ISO/IEC TS 27560) of a consent; null for a case.
    record      jsonb,
    -- Where this counter and status lies in bus.grants; null until it was read back.
    offset_seen bigint,
    -- What ended was settled: its data life is over and every order was given.
    settled     boolean  NOT NULL DEFAULT false
);
CREATE INDEX grants_subject ON grants (subject);
CREATE INDEX grants_agreement ON grants (agreement, id);
CREATE INDEX grants_ending ON grants (expires_ms) WHERE NOT settled;
CREATE INDEX grants_ended ON grants (closed_ms) WHERE NOT settled AND status = 2;

-- What was done to a grant, by whom and why.
CREATE TABLE history (
    id          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grant_id    bytea    NOT NULL,
    at_ms       bigint   NOT NULL,
    action      text     NOT NULL,
    counter     bigint   NOT NULL,
    principal   text     NOT NULL,
    operator    text     NOT NULL,
    reason      text     NOT NULL,
    evidence    jsonb
);
CREATE INDEX history_grant ON history (grant_id, id);

-- What an erasure found and did; the numbers are filled in as they become known.
CREATE TABLE erasure (
    order_id      bytea    PRIMARY KEY CHECK (octet_length(order_id) = 16),
    lane          integer  NOT NULL,
    subject       bytea    NOT NULL,
    at_ms         bigint   NOT NULL,
    destroyed     text,
    destroyed_ms  bigint
);

-- Answers to requests that were carried out: the same request again gets the same answer.
CREATE TABLE request (
    principal   text     NOT NULL,
    request_id  text     NOT NULL,
    digest      bytea    NOT NULL,
    answer      jsonb    NOT NULL,
    at_ms       bigint   NOT NULL,
    PRIMARY KEY (principal, request_id)
);

-- What must go to Kafka, in the order of the changes: ids rise in commit order, because every change
-- holds the owner's row. `topic` null: only the audit record.
CREATE TABLE outbox (
    id          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane        integer  NOT NULL,
    topic       text,
    key         bytea,
    value       bytea,
    -- The audit record, not numbered yet.
    audit       bytea
);

-- Next offset to read, moved in the transaction that stores what was read before it.
CREATE TABLE position (
    topic       text     NOT NULL,
    lane        integer  NOT NULL,
    next_offset bigint   NOT NULL,
    PRIMARY KEY (topic, lane)
);

-- Who holds which version of which record, as the audit log says. Answers go with their dataset.
CREATE TABLE holding (
    lane        integer  NOT NULL,
    agreement   text     NOT NULL,
    dataset     text     NOT NULL,
    subject     bytea    NOT NULL,
    record      bytea    NOT NULL,
    epoch       bigint   NOT NULL,
    counter     bigint   NOT NULL,
    grant_id    bytea,
    at_ms       bigint   NOT NULL,
    PRIMARY KEY (lane, subject, agreement, dataset, record)
) PARTITION BY HASH (lane);
CREATE TABLE holding_p0 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE holding_p1 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE holding_p2 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE holding_p3 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE holding_p4 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE holding_p5 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE holding_p6 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE holding_p7 PARTITION OF holding FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- A withdrawal that is to be ordered when its change is enforced and everything that was delivered
-- before it is known, not before `due_ms`.
CREATE TABLE due (
    id          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    due_ms      bigint   NOT NULL,
    -- What: one grant's deliveries, one agreement's (of one dataset), or one person's.
    grant_id    bytea,
    agreement   text,
    dataset     text,
    lane        integer,
    subject     bytea,
    reason      text     NOT NULL,
    condition   smallint NOT NULL,
    occasion    bytea    NOT NULL
);
CREATE INDEX due_when ON due (due_ms);

-- Orders, and what became of them.
CREATE TABLE orders (
    id            bytea    PRIMARY KEY CHECK (octet_length(id) = 16),
    lane          integer  NOT NULL,
    agreement     text     NOT NULL,
    dataset       text     NOT NULL,
    subject       bytea    NOT NULL,
    record        bytea    NOT NULL,
    epoch         bigint   NOT NULL,
    counter       bigint   NOT NULL,
    reason        text     NOT NULL,
    condition     smallint NOT NULL,
    ordered_ms    bigint   NOT NULL,
    executed_ms   bigint,
    sequence      bigint,
    declined_ms   bigint,
    declined      text,
    -- When the last of its topics had a receipt, and what the section's said.
    receipt_ms    bigint,
    action        text
);
CREATE INDEX orders_open ON orders (ordered_ms) WHERE receipt_ms IS NULL AND declined_ms IS NULL;
CREATE INDEX orders_subject ON orders (subject);

-- The topics in which an order was carried out (the section's, and those of its answers), each with the
-- receipt that the consumer gave for it.
CREATE TABLE order_topic (
    order_id      bytea    NOT NULL,
    topic         text     NOT NULL,
    executed_ms   bigint,
    receipt_ms    bigint,
    action        text,
    receipt       bytea,
    PRIMARY KEY (order_id, topic)
);

-- Every contract version that was put in force, and the agreement acts that made it.
CREATE TABLE contract_version (
    version     bigint   PRIMARY KEY,
    digest      bytea    NOT NULL,
    act         text     NOT NULL,
    agreement   text     NOT NULL,
    principal   text     NOT NULL,
    operator    text     NOT NULL,
    reason      text     NOT NULL,
    at_ms       bigint   NOT NULL
);
CREATE TABLE contract_file (
    digest      bytea    NOT NULL,
    path        text     NOT NULL,
    body        text     NOT NULL,
    PRIMARY KEY (digest, path)
);
