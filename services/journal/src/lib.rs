//! The records of the bus's own topics (audit, state, grants, fetch, facts): encode and decode, no I/O.
