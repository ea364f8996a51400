//! The two halves of a backfill: the gateway asks the vault for what it knew below the fences,
//! the vault answers with the original bytes, then says that it is done.

use crate::codec::{
    Decoder, MAX_BLOB_BYTES, Record, put_bytes, put_count, put_list, put_long, put_text,
};
use crate::malformed::Malformed;
use crate::tags::{GrantId, SubjectTag};

/// The gateway had processed `topic` in this lane up to, not including, `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub topic: String,
    pub offset: i64,
}

/// Gateway to vault, on `bus.fetch`, keyed by the subject tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub grant: GrantId,
    pub attempt: u32,
    pub subject: SubjectTag,
    pub agreement: String,
    pub fences: Vec<Fence>,
    /// Dataset ids that the agreement may read.
    pub datasets: Vec<String>,
}

impl Record for Fetch {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/fetch.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.grant.0);
        put_long(out, i64::from(self.attempt));
        out.extend_from_slice(&self.subject.0);
        put_text(out, &self.agreement);
        put_list(out, &self.fences, |out, fence| {
            put_text(out, &fence.topic);
            put_long(out, fence.offset);
        });
        put_list(out, &self.datasets, |out, dataset| put_text(out, dataset));
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let fetch = Self {
            grant: GrantId(from.fixed("grant")?),
            attempt: from.number("attempt")?,
            subject: SubjectTag(from.fixed("subject")?),
            agreement: from.owned_text("agreement")?,
            fences: from.list("fences", |from| {
                Ok(Fence {
                    topic: from.owned_text("fences.topic")?,
                    offset: from.long("fences.offset")?,
                })
            })?,
            datasets: from.list("datasets", |from| from.owned_text("datasets"))?,
        };
        from.finish()?;
        Ok(fetch)
    }
}

/// A fact as its department published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFact {
    pub dataset: String,
    pub source_offset: i64,
    /// The framed Kafka value, byte for byte.
    pub value: Vec<u8>,
    /// The `mz-seal` header, byte for byte.
    pub seal: Vec<u8>,
    /// CloudEvents id (UUID), as 16 bytes; `ce_time` and the rest are in the seal's meta.
    pub ce_id: [u8; 16],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactBody {
    Fact(StoredFact),
    /// All `count` facts of this attempt were sent before this record.
    Done {
        count: u64,
    },
}

/// Vault to gateway, on `bus.facts`, keyed by the subject tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactReply {
    pub grant: GrantId,
    pub attempt: u32,
    pub subject: SubjectTag,
    pub body: FactBody,
}

impl Record for FactReply {
    const SCHEMA: &'static str = include_str!("../../../schemas/bus/fact-reply.v1.avsc");

    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.grant.0);
        put_long(out, i64::from(self.attempt));
        out.extend_from_slice(&self.subject.0);
        match &self.body {
            FactBody::Fact(fact) => {
                put_long(out, 0);
                put_text(out, &fact.dataset);
                put_long(out, fact.source_offset);
                put_bytes(out, &fact.value);
                put_bytes(out, &fact.seal);
                out.extend_from_slice(&fact.ce_id);
            }
            FactBody::Done { count } => {
                put_long(out, 1);
                put_count(out, *count);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder::new(bytes);
        let reply = Self {
            grant: GrantId(from.fixed("grant")?),
            attempt: from.number("attempt")?,
            subject: SubjectTag(from.fixed("subject")?),
            body: match from.branch("body", 2)? {
                0 => FactBody::Fact(StoredFact {
                    dataset: from.owned_text("body.dataset")?,
                    source_offset: from.long("body.source_offset")?,
                    value: from.bytes("body.value", MAX_BLOB_BYTES)?.to_vec(),
                    seal: from.bytes("body.seal", MAX_BLOB_BYTES)?.to_vec(),
                    ce_id: from.fixed("body.ce_id")?,
                }),
                _ => FactBody::Done {
                    count: from.count("body.count")?,
                },
            },
        };
        from.finish()?;
        Ok(reply)
    }
}
