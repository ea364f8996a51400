-- Which source offsets are accounted for: summaries (kind 2) and refused events (kind 4), a small part of
-- all entries, by dataset and lane.
CREATE INDEX entry_source ON entry (dataset, lane, at) WHERE kind IN (2, 4);
