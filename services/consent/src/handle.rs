//! What others ask of a running consent service. Cheap to clone; async, since HTTP asks.

use crate::model::*;
use crate::refusal::Refusal;

/// Who calls: from the client certificate, nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub department: String,
    pub role: String,
}
