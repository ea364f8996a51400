//! The Kafka headers of an event: CloudEvents (Kafka binding, binary mode) and ours.
//! Each is written from meta and must equal it; none may appear twice.

use crate::fault::SealFault;
use crate::meta::{Meta, uuid_text};

pub const SEAL: &str = "mz-seal";
pub const DELIVERY: &str = "mz-delivery";
pub const CE_SPECVERSION: &str = "ce_specversion";
pub const CE_ID: &str = "ce_id";
pub const CE_SOURCE: &str = "ce_source";
pub const CE_TYPE: &str = "ce_type";
pub const CE_TIME: &str = "ce_time";
pub const CONTENT_TYPE: &str = "content-type";

pub const SPECVERSION: &str = "1.0";
pub const AVRO: &str = "application/avro";

/// The CloudEvents headers that belong to an event, in the order they are written.
pub fn cloud_event<S: AsRef<str>>(meta: &Meta<S>) -> [(&'static str, String); 6] {
    [
        (CE_SPECVERSION, SPECVERSION.to_owned()),
        (CE_ID, meta.ce_id_text()),
        (CE_SOURCE, meta.ce_source()),
        (CE_TYPE, meta.ce_type().to_owned()),
        (CE_TIME, meta.ce_time_text()),
        (CONTENT_TYPE, AVRO.to_owned()),
    ]
}

/// The headers of one record that matter here. Others are ignored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    pub seal: Option<&'a [u8]>,
    pub delivery: Option<&'a [u8]>,
    pub specversion: Option<&'a [u8]>,
    pub id: Option<&'a [u8]>,
    pub source: Option<&'a [u8]>,
    pub ty: Option<&'a [u8]>,
    pub time: Option<&'a [u8]>,
    pub content_type: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// Sorts headers into their places. A second one of the same name is refused, also
    /// under an unknown `mz-` name: which of two is meant must never be a question.
    pub fn collect(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, SealFault> {
        let mut all = Self::default();
        let mut unknown: Vec<&str> = Vec::new();
        for (name, value) in headers {
            let slot = match name {
                SEAL => &mut all.seal,
                DELIVERY => &mut all.delivery,
                CE_SPECVERSION => &mut all.specversion,
                CE_ID => &mut all.id,
                CE_SOURCE => &mut all.source,
                CE_TYPE => &mut all.ty,
                CE_TIME => &mut all.time,
                CONTENT_TYPE => &mut all.content_type,
                other if other.starts_with("mz-") => {
                    if unknown.contains(&other) {
                        return Err(SealFault::HeaderDuplicate);
                    }
                    unknown.push(other);
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(SealFault::HeaderDuplicate);
            }
        }
        Ok(all)
    }

    /// The seal's bytes.
    pub fn seal(&self) -> Result<&'a [u8], SealFault> {
        self.seal.ok_or(SealFault::NoSeal)
    }

    /// Every CloudEvents header is there and says what meta says.
    pub fn check<S: AsRef<str>>(&self, meta: &Meta<S>) -> Result<(), SealFault> {
        let same = |header: Option<&[u8]>, want: &[u8]| match header {
            None => Err(SealFault::HeaderMissing),
            Some(value) if value == want => Ok(()),
            Some(_) => Err(SealFault::MetaContradicts),
        };
        same(self.specversion, SPECVERSION.as_bytes())?;
        same(self.id, &uuid_text(&meta.ce_id))?;
        same(self.ty, meta.dataset.as_ref().as_bytes())?;
        same(self.time, &crate::time::timestamp_bytes(meta.ce_time_ms))?;
        same(self.content_type, AVRO.as_bytes())?;
        let source = self.source.ok_or(SealFault::HeaderMissing)?;
        let agrees = source
            .strip_prefix(b"/")
            .and_then(|rest| rest.strip_prefix(meta.department.as_ref().as_bytes()))
            .and_then(|rest| rest.strip_prefix(b"/"))
            .is_some_and(|stream| stream == meta.stream.as_ref().as_bytes());
        if agrees {
            Ok(())
        } else {
            Err(SealFault::MetaContradicts)
        }
    }
}
