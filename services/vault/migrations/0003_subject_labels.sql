-- What people are called in the ledger, so that it can prove what was never read about them: the value of
-- a verifiable random function. Computed once a person; told to bus.audit at least once a year of the
-- ledger. An erased person's row stays: it says no more than the ledger does, and what was read about them
-- must stay provable.
CREATE TABLE subject_label (
    lane     integer NOT NULL,
    subject  bytea   NOT NULL CHECK (octet_length(subject) = 16),
    -- Of which function: the first 16 bytes of SHA-256 over its public key.
    key      bytea   NOT NULL CHECK (octet_length(key) = 16),
    label    bytea   NOT NULL CHECK (octet_length(label) = 32),
    -- Year, Beijing time, in which bus.audit was last told; 0: not yet.
    told     integer NOT NULL,
    PRIMARY KEY (lane, subject)
);

-- Who is still to be told: few at any time.
CREATE INDEX subject_label_untold ON subject_label (lane) WHERE told = 0;
