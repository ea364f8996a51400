//! The latest verified fact per person and record; evidence bundles; answers backfill.
