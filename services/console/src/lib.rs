//! HTTP: evidence bundles, who-read, the schema-registry endpoint. Mutual TLS.
