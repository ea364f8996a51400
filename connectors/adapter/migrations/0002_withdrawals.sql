-- Withdrawals by the bus: what was done about each, the receipts, and what a legal hold keeps.

-- Filled by the department's records office, read by the adapter: whose records must be kept although
-- they may not be used any more. In force from `since` until `until` or until the row goes.
CREATE TABLE mz_legal_hold (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic     text,
    mz_person bytea NOT NULL CHECK (octet_length(mz_person) = 16),
    reason    text NOT NULL CHECK (reason <> ''),
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz CHECK (until > since)
);
CREATE INDEX mz_legal_hold_person ON mz_legal_hold (mz_person);
COMMENT ON TABLE mz_legal_hold IS '法律保全，由档案部门填写 · legal holds, filled by the records office';
COMMENT ON COLUMN mz_legal_hold.topic IS '为空则适用于本用途全部主题 · null: all topics of this purpose';
COMMENT ON COLUMN mz_legal_hold.until IS '为空则至删除本行为止 · null: until the row is deleted';

-- Withdrawn records that are kept: for storage and protection only (PIPL Art. 47). They are no rows of
-- any table that people query, and not in its shape; row security shows them to nobody but the owner,
-- also where a role may read every table of the schema.
CREATE TABLE mz_frozen (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL,
    mz_person  bytea NOT NULL,
    mz_record  bytea NOT NULL,
    mz_epoch   bigint NOT NULL,
    mz_counter bigint NOT NULL,
    record     jsonb,
    order_id   bytea,
    lane       integer NOT NULL,
    "offset"   bigint NOT NULL,
    sequence   bigint NOT NULL,
    reason     text NOT NULL,
    frozen_at  timestamptz NOT NULL DEFAULT now(),
    release_at timestamptz
);
CREATE INDEX mz_frozen_record ON mz_frozen (topic, mz_person, mz_record);
ALTER TABLE mz_frozen ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE mz_frozen IS '冻结的记录：只可保存，不得使用 · frozen records: kept, not to be used';
COMMENT ON COLUMN mz_frozen.record IS '撤回时的整行；为空表示较早一行已保存 · the row as it was; null: an earlier row here holds it';
COMMENT ON COLUMN mz_frozen.order_id IS '撤回指令；登记簿自行撤回的为空 · the bus''s order; null when the register itself took the record back';
COMMENT ON COLUMN mz_frozen.release_at IS '此时起且无保全时由适配器删除并出具回执；为空则不删 · from then on the adapter deletes it, unless a hold is in force, and sends a receipt; null: not yet';

-- What was done about each withdrawal by the bus, in the transaction in which it was done; then the
-- signed word for it, sent at least once.
CREATE TABLE mz_receipts (
    order_id   bytea NOT NULL CHECK (octet_length(order_id) = 16),
    topic      text NOT NULL,
    lane       integer NOT NULL,
    "offset"   bigint NOT NULL,
    sequence   bigint NOT NULL,
    mz_person  bytea NOT NULL,
    mz_record  bytea NOT NULL,
    mz_epoch   bigint NOT NULL,
    mz_counter bigint NOT NULL,
    reason     text NOT NULL,
    action     text NOT NULL CHECK (action IN ('deleted', 'frozen', 'marked', 'absent')),
    at         timestamptz(3) NOT NULL DEFAULT now(),
    sent_at    timestamptz,
    PRIMARY KEY (topic, order_id, mz_person, mz_record, action)
);
CREATE INDEX mz_receipts_unsent ON mz_receipts (at) WHERE sent_at IS NULL;
COMMENT ON COLUMN mz_receipts.sequence IS 'delivery sequence of the withdrawal';
COMMENT ON COLUMN mz_receipts.sent_at IS 'when the bus acknowledged the receipt; null: not sent yet';

COMMENT ON TABLE mz_withdrawn IS '登记簿撤回的记录；总线的撤回见 mz_receipts · records that their register took back; withdrawals by the bus are in mz_receipts';
