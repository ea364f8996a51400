-- Hiding in two acts by two people: a request, then its approval, a row of `hidden`. Nothing is hidden by a
-- request. Both survive when the index is made again from the log.
CREATE TABLE hide_request (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject      bytea       NOT NULL CHECK (octet_length(subject) = 16),
    lane         integer     NOT NULL,
    consumer     integer     NOT NULL REFERENCES word (id),
    until        timestamptz NOT NULL,
    requested_by text        NOT NULL CHECK (btrim(requested_by) <> ''),
    requested_as text        NOT NULL CHECK (btrim(requested_as) <> ''),
    reason       text        NOT NULL CHECK (btrim(reason) <> ''),
    at           timestamptz NOT NULL DEFAULT now(),
    -- 180 days at most: longer is a new request, and a new approval.
    CONSTRAINT hide_request_term CHECK (until > at AND until <= at + interval '4320 hours'),
    UNIQUE (id, subject, consumer, until, requested_by, requested_as, reason)
);
-- An approval says what was requested, word for word, and comes from another certificate and person.
ALTER TABLE hidden
    ADD COLUMN request      bigint NOT NULL UNIQUE,
    ADD COLUMN requested_as text   NOT NULL,
    ADD COLUMN approved_as  text   NOT NULL CHECK (btrim(approved_as) <> ''),
    ADD CONSTRAINT hidden_two_principals CHECK (requested_as <> approved_as),
    ADD CONSTRAINT hidden_as_requested
        FOREIGN KEY (request, subject, consumer, until, requested_by, requested_as, reason)
        REFERENCES hide_request (id, subject, consumer, until, requested_by, requested_as, reason);
GRANT SELECT, INSERT (subject, lane, consumer, until, requested_by, requested_as, reason)
    ON hide_request TO ledger_writer;
