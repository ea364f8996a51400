//! Ready sources: files (CSV, NDJSON, xlsx) and SQL, mapped to events by YAML.
