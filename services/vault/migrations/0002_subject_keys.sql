-- Facts rest encrypted, under a key for each person; whoever destroys the key erases the person.

-- Which master key wraps the keys below. One row: `probe` is a key that only it can unwrap, so that
-- a vault with another master key refuses to start instead of failing person by person.
CREATE TABLE master_key (
    one     boolean     PRIMARY KEY DEFAULT true CHECK (one),
    key_id  text        NOT NULL,
    probe   bytea       NOT NULL,
    set_at  timestamptz NOT NULL DEFAULT now()
);

-- A person's key, wrapped by the master key and bound to lane and person. An erased person's row has
-- an empty `wrapped`; facts that the register publishes later rest under a new key in the same row,
-- and `destroyed_at` goes on saying when the last one was destroyed.
CREATE TABLE subject_key (
    lane          integer     NOT NULL,
    subject       bytea       NOT NULL CHECK (octet_length(subject) = 16),
    wrapped       bytea       NOT NULL,
    made_at       timestamptz NOT NULL DEFAULT now(),
    destroyed_at  timestamptz,
    PRIMARY KEY (lane, subject),
    CHECK (octet_length(wrapped) > 0 OR destroyed_at IS NOT NULL)
);

-- Up to where each source was written when the person was erased: what lies below never comes back,
-- also when a source is read again from an earlier offset.
CREATE TABLE erased_below (
    lane         integer NOT NULL,
    subject      bytea   NOT NULL CHECK (octet_length(subject) = 16),
    dataset      integer NOT NULL,
    next_offset  bigint  NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (lane, subject, dataset)
);

-- Orders that were carried out: a repeat erases nothing that came since.
CREATE TABLE erasure (
    order_id   bytea       PRIMARY KEY CHECK (octet_length(order_id) = 16),
    lane       integer     NOT NULL,
    subject    bytea       NOT NULL CHECK (octet_length(subject) = 16),
    erased_at  timestamptz NOT NULL DEFAULT now()
);

-- Rows from before this migration: found quickly, and none is left after a while.
CREATE INDEX fact_plain ON fact (lane) WHERE cipher = 0;
