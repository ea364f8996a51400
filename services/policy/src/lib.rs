//! decide(event, agreement, grants) -> Permit or Denial. Pure.
