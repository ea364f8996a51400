//! Takes a good event and makes one bad event of it, each bad in one known way.

#![expect(
    clippy::expect_used,
    reason = "test code: a kit that does not fit its event must fail loudly"
)]

use crate::testing::WireEvent;
use crate::{
    Draft, FRAMING_BYTES, FieldType, Layout, MAX_DATUM_BYTES, Meta, Signer, SourceSeal, Span,
    frame, headers, seal_batch,
};

/// What an alteration may need to forge. All keys belong to the event's department,
/// but only `signer` is published and active.
pub struct Kit<'k> {
    /// Layout of the event's schema.
    pub layout: &'k Layout,
    pub subject_field: usize,
    pub signer: &'k dyn Signer,
    /// Published, revoked before any batch of the event's stream.
    pub revoked: &'k dyn Signer,
    /// Not published.
    pub unknown: &'k dyn Signer,
    /// Lanes of the installation.
    pub lanes: u16,
}

/// One way in which an event can be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alteration {
    NoSeal,
    EmptySeal,
    TruncatedSeal,
    DeliverySealInSource,
    SuiteTwo,
    ForgedSignature,
    RevokedKey,
    UnknownKey,
    ForeignStream,
    ForeignDepartment,
    ForeignBus,
    WrongLane,
    MovedLane,
    CarriedLane,
    Misplaced,
    Replayed,
    ForgedHugeSequence,
    MovedSequence,
    MovedBatch,
    MovedIndex,
    UnknownSchemaId,
    UnknownFraming,
    HeaderContradictsMeta,
    HeaderTwice,
    SealTwice,
    HeaderMissing,
    TrailingValueBytes,
    TrailingSealBytes,
    OversizedValue,
    OversizedSeal,
    HostileLength,
    NegativeLength,
    SwappedSalt,
    ReorderedField,
    AlteredField,
    ForeignPath,
    ShortPath,
    OtherRecord,
    OtherPerson,
    OtherScale,
    OtherSchema,
}

impl Alteration {
    pub const ALL: [Self; 41] = [
        Self::NoSeal,
        Self::EmptySeal,
        Self::TruncatedSeal,
        Self::DeliverySealInSource,
        Self::SuiteTwo,
        Self::ForgedSignature,
        Self::RevokedKey,
        Self::UnknownKey,
        Self::ForeignStream,
        Self::ForeignDepartment,
        Self::ForeignBus,
        Self::WrongLane,
        Self::MovedLane,
        Self::CarriedLane,
        Self::Misplaced,
        Self::Replayed,
        Self::ForgedHugeSequence,
        Self::MovedSequence,
        Self::MovedBatch,
        Self::MovedIndex,
        Self::UnknownSchemaId,
        Self::UnknownFraming,
        Self::HeaderContradictsMeta,
        Self::HeaderTwice,
        Self::SealTwice,
        Self::HeaderMissing,
        Self::TrailingValueBytes,
        Self::TrailingSealBytes,
        Self::OversizedValue,
        Self::OversizedSeal,
        Self::HostileLength,
        Self::NegativeLength,
        Self::SwappedSalt,
        Self::ReorderedField,
        Self::AlteredField,
        Self::ForeignPath,
        Self::ShortPath,
        Self::OtherRecord,
        Self::OtherPerson,
        Self::OtherScale,
        Self::OtherSchema,
    ];

    /// The reason code with which it must be refused.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoSeal => "NO_SEAL",
            Self::EmptySeal | Self::TruncatedSeal | Self::DeliverySealInSource => "SEAL_MALFORMED",
            Self::SuiteTwo => "SUITE_UNKNOWN",
            Self::RevokedKey => "KEY_REVOKED",
            Self::UnknownKey => "KEY_UNKNOWN",
            Self::ForeignStream | Self::ForeignDepartment => "STREAM_FOREIGN",
            Self::ForeignBus => "BUS_FOREIGN",
            Self::WrongLane | Self::MovedLane | Self::Misplaced => "LANE_WRONG",
            Self::Replayed => "REPLAYED",
            Self::UnknownSchemaId => "SCHEMA_UNKNOWN",
            Self::UnknownFraming => "FRAMING_INVALID",
            Self::HeaderContradictsMeta => "META_CONTRADICTS",
            Self::HeaderTwice | Self::SealTwice => "HEADER_DUPLICATE",
            Self::HeaderMissing => "HEADER_MISSING",
            Self::TrailingValueBytes | Self::TrailingSealBytes => "TRAILING_BYTES",
            Self::OversizedValue | Self::OversizedSeal => "TOO_LARGE",
            Self::HostileLength | Self::NegativeLength => "DATUM_MALFORMED",
            Self::ShortPath => "PATH_INVALID",
            Self::OtherScale | Self::OtherSchema => "SCHEMA_MISMATCH",
            Self::ForgedSignature
            | Self::ForgedHugeSequence
            | Self::CarriedLane
            | Self::MovedSequence
            | Self::MovedBatch
            | Self::MovedIndex
            | Self::SwappedSalt
            | Self::ReorderedField
            | Self::AlteredField
            | Self::ForeignPath
            | Self::OtherRecord
            | Self::OtherPerson => "SIGNATURE_INVALID",
        }
    }

    /// Whether the seal alone can't tell: a replay, a schema id of nobody, a person in
    /// another person's lane. The gateway must.
    pub fn needs_gateway(self) -> bool {
        matches!(
            self,
            Self::Replayed | Self::UnknownSchemaId | Self::Misplaced
        )
    }

    /// Kebab-case name, as in `tests/vectors/altered.json`.
    pub fn name(self) -> String {
        let mut out = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !out.is_empty() {
                out.push('-');
            }
            out.push(letter.to_ascii_lowercase());
        }
        out
    }

    /// Makes the bad event. `good` must verify and have a seal.
    ///
    /// # Panics
    /// If `good` is not a good event of the kit's layout.
    pub fn apply(self, good: &WireEvent, kit: &Kit<'_>) -> WireEvent {
        let mut bad = good.clone();
        let seal_bytes = good
            .header(headers::SEAL)
            .expect("a good event has a seal")
            .to_vec();
        let seal = SourceSeal::parse(&seal_bytes).expect("a good event's seal parses");
        let end = seal_bytes.len();
        let meta_length = seal.meta_bytes.len();
        // suite, form, u16 length, meta | seed | u16 length, record | batch part
        let seed_at = 4 + meta_length;
        let record_at = seed_at + 32 + 2;
        let batch_at = record_at + seal.record.len();
        let number_at = batch_at + 1 + seal.batch.key_id.len();
        let datum = &good.value[FRAMING_BYTES..];
        let mut spans = Vec::new();
        kit.layout
            .spans(datum, &mut spans)
            .expect("a good event's value fits its layout");

        match self {
            Self::NoSeal => bad.headers.retain(|(name, _)| name != headers::SEAL),
            Self::EmptySeal => self.seal(&mut bad).clear(),
            Self::TruncatedSeal => self.seal(&mut bad).truncate(end - 1),
            Self::DeliverySealInSource => self.seal(&mut bad)[1] = 2,
            Self::SuiteTwo => self.seal(&mut bad)[0] = 2,
            Self::ForgedSignature => self.seal(&mut bad)[end - 10] ^= 1,
            Self::RevokedKey => bad = self.reseal(good, kit, kit.revoked, |_| {}),
            Self::UnknownKey => bad = self.reseal(good, kit, kit.unknown, |_| {}),
            Self::ForeignStream => {
                bad = self.reseal(good, kit, kit.signer, |meta| meta.stream.push_str("-other"));
            }
            Self::ForeignDepartment => {
                bad = self.reseal(good, kit, kit.signer, |meta| {
                    meta.department.push_str("-other")
                });
            }
            Self::ForeignBus => {
                bad = self.reseal(good, kit, kit.signer, |meta| meta.bus.push_str("-other"))
            }
            Self::WrongLane => bad.lane = (good.lane + 1) % kit.lanes,
            Self::MovedLane => {
                self.remeta(&mut bad, |meta| meta.lane = (meta.lane + 1) % kit.lanes);
            }
            Self::CarriedLane => {
                self.remeta(&mut bad, |meta| meta.lane = (meta.lane + 1) % kit.lanes);
                bad.lane = (good.lane + 1) % kit.lanes;
            }
            Self::Misplaced => {
                bad = self.reseal(good, kit, kit.signer, |meta| {
                    meta.lane = (meta.lane + 1) % kit.lanes
                });
                bad.lane = (good.lane + 1) % kit.lanes;
            }
            Self::Replayed => {}
            Self::ForgedHugeSequence => {
                self.remeta(&mut bad, |meta| meta.sequence = i64::MAX as u64)
            }
            Self::MovedSequence => self.remeta(&mut bad, |meta| meta.sequence += 1),
            Self::MovedBatch => self.seal(&mut bad)[number_at + 7] ^= 0x80,
            Self::MovedIndex => {
                // Another leaf of an imaginary batch of two: same path length, other side.
                let path: Vec<u8> = std::iter::repeat_n(0x5a, 32).collect();
                self.replace_batch(&mut bad, number_at, 2, 1 - (seal.batch.index & 1), &path);
            }
            Self::UnknownSchemaId => bad.value[1..5].copy_from_slice(&u32::MAX.to_be_bytes()),
            Self::UnknownFraming => bad.value[0] = 1,
            Self::HeaderContradictsMeta => {
                let id = bad
                    .header_mut(headers::CE_ID)
                    .expect("a good event has an id");
                id[0] = if id[0] == b'f' { b'0' } else { b'f' };
            }
            Self::HeaderTwice => {
                let source = good
                    .header(headers::CE_SOURCE)
                    .expect("a good event has a source")
                    .to_vec();
                bad.headers.push((headers::CE_SOURCE.to_owned(), source));
            }
            Self::SealTwice => bad
                .headers
                .push((headers::SEAL.to_owned(), seal_bytes.clone())),
            Self::HeaderMissing => bad.headers.retain(|(name, _)| name != headers::CE_TYPE),
            Self::TrailingValueBytes => bad.value.push(0),
            Self::TrailingSealBytes => self.seal(&mut bad).push(0),
            Self::OversizedValue => bad.value.resize(FRAMING_BYTES + MAX_DATUM_BYTES + 1, 0),
            Self::OversizedSeal => self.seal(&mut bad).resize(crate::MAX_SEAL_BYTES + 1, 0),
            Self::HostileLength => {
                let at = FRAMING_BYTES + spans[kit.subject_field].start as usize;
                bad.value.truncate(at);
                bad.value.extend_from_slice(&[
                    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, b'1',
                ]);
            }
            Self::NegativeLength => {
                bad.value[FRAMING_BYTES + spans[kit.subject_field].start as usize] = 0x01
            }
            Self::SwappedSalt => self.seal(&mut bad)[seed_at] ^= 0x40,
            Self::ReorderedField => bad.value = reordered(good, kit.layout, &spans),
            Self::AlteredField => {
                let subject = spans[kit.subject_field].clone();
                let at = (0..datum.len())
                    .rev()
                    .find(|at| {
                        !(subject.start..subject.end).contains(&(*at as u32))
                            && flips(kit.layout, datum, *at)
                    })
                    .expect("some byte can change and still fit the schema");
                bad.value[FRAMING_BYTES + at] ^= 2;
            }
            Self::ForeignPath => {
                if seal.batch.path.is_empty() {
                    self.replace_batch(&mut bad, number_at, 2, 0, &[0x5a; 32]);
                } else {
                    self.seal(&mut bad)[number_at + 17] ^= 1;
                }
            }
            Self::ShortPath => {
                let hashes = number_at + 16;
                let raw = self.seal(&mut bad);
                if seal.batch.path.is_empty() {
                    raw[hashes] = 1;
                    raw.splice(hashes + 1..hashes + 1, [0x5a; 32]);
                } else {
                    raw[hashes] -= 1;
                    raw.drain(hashes + 1..hashes + 33);
                }
            }
            Self::OtherRecord => self.seal(&mut bad)[record_at] ^= 1,
            Self::OtherPerson => {
                // The last digit before the checksum, so that it is still a string of digits.
                let at = FRAMING_BYTES + spans[kit.subject_field].end as usize - 2;
                bad.value[at] = if bad.value[at] == b'9' {
                    b'8'
                } else {
                    bad.value[at] + 1
                };
            }
            Self::OtherScale | Self::OtherSchema => {
                let other = if self == Self::OtherScale { 0x11 } else { 0x22 };
                bad = self.reseal(good, kit, kit.signer, |meta| meta.schema[0] ^= other);
            }
        }
        bad
    }

    fn seal(self, event: &mut WireEvent) -> &mut Vec<u8> {
        event
            .header_mut(headers::SEAL)
            .expect("a good event has a seal")
    }

    /// Rewrites meta without signing again.
    fn remeta(self, event: &mut WireEvent, change: impl FnOnce(&mut Meta)) {
        let bytes = event
            .header(headers::SEAL)
            .expect("a good event has a seal")
            .to_vec();
        let seal = SourceSeal::parse(&bytes).expect("a good event's seal parses");
        let mut meta = seal.meta.to_owned();
        change(&mut meta);
        let mut out = bytes[..2].to_vec();
        let mut encoded = Vec::new();
        meta.encode_into(&mut encoded);
        out.extend_from_slice(&(encoded.len() as u16).to_be_bytes());
        out.extend_from_slice(&encoded);
        out.extend_from_slice(&bytes[4 + seal.meta_bytes.len()..]);
        *self.seal(event) = out;
    }

    /// Puts another count, index and path into the batch part.
    fn replace_batch(
        self,
        event: &mut WireEvent,
        number_at: usize,
        count: u32,
        index: u32,
        path: &[u8],
    ) {
        let raw = self.seal(event);
        let signature = raw[raw.len() - 64..].to_vec();
        raw.truncate(number_at + 8);
        raw.extend_from_slice(&count.to_be_bytes());
        raw.extend_from_slice(&index.to_be_bytes());
        raw.push((path.len() / 32) as u8);
        raw.extend_from_slice(path);
        raw.extend_from_slice(&signature);
    }

    /// Changes meta and signs again, as a batch of one with a number of its own.
    fn reseal(
        self,
        good: &WireEvent,
        kit: &Kit<'_>,
        signer: &dyn Signer,
        change: impl FnOnce(&mut Meta),
    ) -> WireEvent {
        let bytes = good.header(headers::SEAL).expect("a good event has a seal");
        let seal = SourceSeal::parse(bytes).expect("a good event's seal parses");
        let datum = &good.value[FRAMING_BYTES..];
        let mut spans = Vec::new();
        kit.layout
            .spans(datum, &mut spans)
            .expect("a good event's value fits its layout");
        let subject = kit
            .layout
            .read_string(kit.subject_field, datum, &spans)
            .expect("the subject is a string");
        let mut meta = seal.meta.to_owned();
        change(&mut meta);
        let draft = Draft {
            dataset: meta.dataset.clone(),
            lane: meta.lane,
            sequence: meta.sequence,
            ce_id: meta.ce_id,
            ce_time_ms: meta.ce_time_ms,
            schema: meta.schema,
            counter: meta.counter,
            withdrawn: meta.withdrawn,
            subject: subject.to_owned(),
            record: seal.record.to_owned(),
            value: datum.to_vec(),
            spans,
        };
        let sealed = seal_batch(
            &meta.bus,
            &meta.department,
            &meta.stream,
            meta.epoch,
            seal.batch.number + 1000,
            vec![draft],
            &mut || *seal.seed,
            signer,
        )
        .expect("a good event can be sealed again");
        let schema_id =
            u32::from_be_bytes([good.value[1], good.value[2], good.value[3], good.value[4]]);
        let mut event = WireEvent::of(&sealed[0], schema_id);
        event.value = frame(schema_id, datum);
        event.lane = good.lane;
        event
    }
}

/// Swaps two fields of one type, so that only the seal can tell.
fn reordered(good: &WireEvent, layout: &Layout, spans: &[Span]) -> Vec<u8> {
    let datum = &good.value[FRAMING_BYTES..];
    let bytes = |index: usize| &datum[spans[index].start as usize..spans[index].end as usize];
    let fields = layout.fields();
    let (left, right) = (0..fields.len())
        .flat_map(|left| (left + 1..fields.len()).map(move |right| (left, right)))
        .find(|(left, right)| {
            same_shape(&fields[*left].ty, &fields[*right].ty)
                && fields[*left].nullable == fields[*right].nullable
                && bytes(*left) != bytes(*right)
        })
        .expect("two fields share a type and differ in value");
    let mut out = good.value[..FRAMING_BYTES].to_vec();
    for index in 0..fields.len() {
        let from = if index == left {
            right
        } else if index == right {
            left
        } else {
            index
        };
        out.extend_from_slice(bytes(from));
    }
    out
}

fn same_shape(left: &FieldType, right: &FieldType) -> bool {
    left == right && !matches!(left, FieldType::Null)
}

/// Whether flipping bit 1 of a byte leaves a datum that fits the schema.
fn flips(layout: &Layout, datum: &[u8], at: usize) -> bool {
    let mut copy = datum.to_vec();
    copy[at] ^= 2;
    layout.spans(&copy, &mut Vec::new()).is_ok()
}
