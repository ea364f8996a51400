-- The adapter's own bookkeeping. It stands in the consumer's schema, because positions and
-- records must commit together.

-- One row: whoever raised the generation last may write.
CREATE TABLE mz_owner (
    only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    generation bigint NOT NULL,
    since      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO mz_owner (generation) VALUES (0);

-- Where each topic and lane stands, and what became of its records.
-- delivered = stored + superseded + withdrawn + rejected, always.
CREATE TABLE mz_positions (
    topic           text NOT NULL,
    lane            integer NOT NULL,
    next_offset     bigint NOT NULL DEFAULT -1,
    last_sequence   bigint NOT NULL DEFAULT 0,
    marked_sequence bigint,
    marked_at       timestamptz,
    delivered       bigint NOT NULL DEFAULT 0,
    stored          bigint NOT NULL DEFAULT 0,
    superseded      bigint NOT NULL DEFAULT 0,
    withdrawn       bigint NOT NULL DEFAULT 0,
    rejected        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, lane)
);
COMMENT ON COLUMN mz_positions.next_offset IS 'Kafka offset to go on from; -1 before the first record';
COMMENT ON COLUMN mz_positions.last_sequence IS 'last delivery sequence seen';
COMMENT ON COLUMN mz_positions.marked_sequence IS 'newest delivery sequence under a valid signature of the bus';

-- What is odd about a delivery sequence: gap (numbers that did not come), compacted (the same,
-- but old enough that the topic may have dropped superseded records), repeat (a number again),
-- mark_invalid (the bus's signature over the number does not verify).
CREATE TABLE mz_sequence_faults (
    topic          text NOT NULL,
    lane           integer NOT NULL,
    "offset"       bigint NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('gap', 'compacted', 'repeat', 'mark_invalid')),
    first_sequence bigint NOT NULL,
    last_sequence  bigint NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, lane, "offset", kind)
);

-- Records that were refused, by position and reason code. No values.
CREATE TABLE mz_rejects (
    topic    text NOT NULL,
    lane     integer NOT NULL,
    "offset" bigint NOT NULL,
    code     text NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, lane, "offset")
);

-- Records that must no longer be used, with the version that ended them: an older version that
-- arrives late must not bring them back.
CREATE TABLE mz_withdrawn (
    topic        text NOT NULL,
    mz_person    bytea NOT NULL,
    mz_record    bytea NOT NULL,
    mz_epoch     bigint NOT NULL,
    mz_counter   bigint NOT NULL,
    reason       text NOT NULL,
    withdrawn_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, mz_person, mz_record)
);
