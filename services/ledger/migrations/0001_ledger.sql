-- The search index of the audit ledger. The log decides: everything here can be made again from it, but
-- for `hidden`, `legal_hold` and `expired`. No identity number and no name is in any table: people are tags.
-- Names are unqualified: the connection's search_path decides the schema.

-- Writes rows and can't change or remove one. The owner of the schema migrates and expires, no more.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ledger_writer') THEN
        CREATE ROLE ledger_writer NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles are the cluster's: another database's migration was faster
END $$;
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'ledger_writer', 'SET') THEN
        EXECUTE format('GRANT ledger_writer TO %I', current_user);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO ledger_writer', current_schema());
END $$;

-- Logs by number: one shard in one period each.
CREATE TABLE log (
    id          integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin      text        NOT NULL UNIQUE CHECK (origin <> '')
);

-- Agreements, consumers, purposes, datasets and rules by number. The empty text is null, not a word.
CREATE TABLE word (
    id          integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text        text        NOT NULL UNIQUE CHECK (text <> '')
);

-- One row per leaf of a log. Widest columns first: no padding. Null: does not apply. Counters of 64 (and
-- epochs of 32) unsigned bits are stored as the signed number with the same bits.
CREATE TABLE entry (
    at              timestamptz NOT NULL,
    leaf            bigint      NOT NULL,
    number          bigint      NOT NULL,
    version_counter bigint,
    source_offset   bigint,
    output_sequence bigint,
    log             integer     NOT NULL,
    lane            integer     NOT NULL,
    agreement       integer,
    consumer        integer,
    purpose         integer,
    dataset         integer,
    rule            integer,
    version_epoch   integer,
    writer          smallint    NOT NULL,
    kind            smallint    NOT NULL,
    cause           smallint    NOT NULL,
    subject         bytea,
    record          bytea,
    grant_id        bytea,
    event           bytea,
    fields          bytea,
    operator        text,
    reason          text,
    matched         bigint,
    delivered       bigint,
    denied          bigint,
    out_of_scope    bigint,
    from_offset     bigint,
    to_offset       bigint
) PARTITION BY RANGE (at);
CREATE INDEX entry_subject ON entry (subject, at, log, leaf) WHERE subject IS NOT NULL;
-- A few pages a month: by time, and by place in a log.
CREATE INDEX entry_place ON entry USING brin (at, log, leaf) WITH (pages_per_range = 32, autosummarize = on);

-- What can't be a time of this system is kept all the same, and never expires.
CREATE TABLE entry_before PARTITION OF entry FOR VALUES FROM (MINVALUE) TO ('2000-01-01T00:00:00Z');
CREATE TABLE entry_after PARTITION OF entry FOR VALUES FROM ('2200-01-01T00:00:00Z') TO (MAXVALUE);

-- The leaves below the greatest size of a log are indexed. A row per batch, in the batch's transaction.
CREATE TABLE progress (
    log         integer     NOT NULL,
    size        bigint      NOT NULL CHECK (size > 0),
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log, size)
);

-- What each batch adds to a day (UTC). `fields`: how often each source field was in an entry, from field 0.
CREATE TABLE usage_day (
    entries     bigint      NOT NULL,
    denied      bigint      NOT NULL,
    log         integer     NOT NULL,
    day         date        NOT NULL,
    agreement   integer,
    consumer    integer,
    purpose     integer,
    dataset     integer,
    rule        integer,
    kind        smallint    NOT NULL,
    fields      bigint[]
);
CREATE INDEX usage_day_day ON usage_day USING brin (day) WITH (pages_per_range = 16, autosummarize = on);

-- Adds counts by field, for folding many rows of a day into one.
CREATE FUNCTION add_counts(a bigint[], b bigint[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY field), a)
    FROM unnest(a, b) WITH ORDINALITY AS counts (x, y, field)
$$;
CREATE AGGREGATE sum_counts(bigint[]) (SFUNC = add_counts, STYPE = bigint[]);

-- Entries that a person is not shown until `until`. Two people decide it.
CREATE TABLE hidden (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject      bytea       NOT NULL CHECK (octet_length(subject) = 16),
    consumer     integer     NOT NULL REFERENCES word (id),
    until        timestamptz NOT NULL,
    requested_by text        NOT NULL CHECK (btrim(requested_by) <> ''),
    approved_by  text        NOT NULL CHECK (btrim(approved_by) <> ''),
    reason       text        NOT NULL CHECK (btrim(reason) <> ''),
    at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT hidden_two_people CHECK (lower(btrim(requested_by)) <> lower(btrim(approved_by)))
);
CREATE INDEX hidden_subject ON hidden (subject, consumer);

-- What must not expire, and when that ended.
CREATE TABLE legal_hold (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    reason      text        NOT NULL CHECK (btrim(reason) <> ''),
    held_by     text        NOT NULL CHECK (btrim(held_by) <> ''),
    at          timestamptz NOT NULL DEFAULT now(),
    CHECK (from_at < to_at)
);
CREATE TABLE legal_hold_end (
    hold        bigint      PRIMARY KEY REFERENCES legal_hold (id),
    reason      text        NOT NULL CHECK (btrim(reason) <> ''),
    ended_by    text        NOT NULL CHECK (btrim(ended_by) <> ''),
    at          timestamptz NOT NULL DEFAULT now()
);

-- Months whose entries were dropped: they don't come back when a log is indexed again.
CREATE TABLE expired (
    month       date        PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now()
);

-- Makes the partition of a month unless it exists or has expired. Attaching leaves running writers alone,
-- where CREATE TABLE ... PARTITION OF would wait for them and hold up the next.
CREATE FUNCTION ensure_month(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    first date := date_trunc('month', day)::date;
    name text := 'entry_' || to_char(first, 'YYYYMM');
    place text := format('%I.%I', current_schema(), name);
BEGIN
    IF first < '2000-01-01' OR first >= '2200-01-01' OR to_regclass(place) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7235416, 1);
    IF to_regclass(place) IS NOT NULL OR EXISTS (SELECT FROM expired WHERE month = first) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE entry INCLUDING ALL)', place);
    EXECUTE format('ALTER TABLE entry ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', place,
        first::text || 'T00:00:00Z', (first + interval '1 month')::date::text || 'T00:00:00Z');
END $$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_month(date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE 'ALTER FUNCTION ensure_month(date) SET datestyle = ''ISO, YMD''';
END $$;
REVOKE ALL ON FUNCTION ensure_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_month(date) TO ledger_writer;

-- Through `entry` alone: nothing is granted on a partition.
GRANT SELECT, INSERT ON log, word, entry, progress, usage_day, hidden, legal_hold TO ledger_writer;
GRANT SELECT ON legal_hold_end, expired, _sqlx_migrations TO ledger_writer;
