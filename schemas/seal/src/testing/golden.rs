//! The golden vectors of `tests/vectors`: made here from fixed seeds, read back by
//! tests of other crates, checked by an implementation in another language.

#![expect(
    clippy::expect_used,
    reason = "test code: a broken vector must fail loudly"
)]

use std::path::{Path, PathBuf};

use super::{Alteration, Kit, TestKeys, TestSigner, WireEvent};
use crate::{
    Datum, Draft, Expect, ExpectDelivery, FieldSet, KeyStatus, LastBatch, Layout, Verifier, encode,
    headers, project_schema, schema_digest, seal_batch, unframe,
};

/// Where the vectors lie in the repository.
pub fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

/// Everything the vectors rest on, and the vectors.
pub struct Golden {
    pub bus: String,
    pub department: String,
    pub stream: String,
    pub dataset: String,
    pub streams: Vec<String>,
    pub lanes: u16,
    pub schema_id: u32,
    pub projected_schema_id: u32,
    pub avsc: Vec<u8>,
    pub schema_digest: [u8; 32],
    pub projected_avsc: String,
    pub subject_field: usize,
    pub record_fields: Vec<usize>,
    pub kept: Vec<u16>,
    pub layout: Layout,
    pub projected_layout: Layout,
    pub keys: TestKeys,
    pub signer: TestSigner,
    pub revoked: TestSigner,
    pub unknown: TestSigner,
    pub events: Vec<EventVector>,
    pub deliveries: Vec<DeliveryVector>,
    pub altered: Vec<Altered>,
    pub altered_deliveries: Vec<Altered>,
}

/// A good event.
pub struct EventVector {
    pub name: String,
    pub event: WireEvent,
    pub subject: String,
    pub record: String,
    pub digest: [u8; 32],
    pub root: [u8; 32],
}

/// A good delivery, made from event `of`.
pub struct DeliveryVector {
    pub name: String,
    pub of: usize,
    pub kept: Vec<u16>,
    pub subject: Option<String>,
    pub record: Option<String>,
    pub event: WireEvent,
}

/// A bad event or delivery and the code that it must be refused with.
pub struct Altered {
    pub name: String,
    pub code: String,
    /// The seal alone can't tell; only the gateway, which knows lanes, ids and sequences.
    pub needs_gateway: bool,
    /// Number of the good event or delivery it was made from.
    pub of: usize,
    pub event: WireEvent,
}

const AVSC: &str = include_str!("../../../../tests/vectors/source.avsc");

struct Person {
    id: &'static str,
    kind: &'static str,
    lane: u16,
    sequence: u64,
    months: i64,
    wage: i128,
    employer: Option<&'static str>,
    withdrawn: bool,
}

const PEOPLE: [Person; 6] = [
    Person {
        id: "11010519491231002X",
        kind: "PENSION",
        lane: 3,
        sequence: 41,
        months: 300,
        wage: 895_000,
        employer: Some("91441900MA4UQ00001"),
        withdrawn: false,
    },
    Person {
        id: "440524188001010014",
        kind: "MEDICAL",
        lane: 0,
        sequence: 7,
        months: 12,
        wage: -5,
        employer: None,
        withdrawn: false,
    },
    Person {
        id: "11010519491231002X",
        kind: "UNEMPLOYMENT",
        lane: 3,
        sequence: 42,
        months: 128,
        wage: 128,
        employer: Some("91441900MA4UQ00002"),
        withdrawn: true,
    },
    Person {
        id: "34052419800101001X",
        kind: "INJURY",
        lane: 5,
        sequence: 1,
        months: 0,
        wage: 0,
        employer: None,
        withdrawn: false,
    },
    Person {
        id: "513101198201130014",
        kind: "MATERNITY",
        lane: 0,
        sequence: 8,
        months: 64,
        wage: 9_999_999_999,
        employer: Some("91441900MA4UQ00003"),
        withdrawn: false,
    },
    Person {
        id: "34052419800101001X",
        kind: "PENSION",
        lane: 5,
        sequence: 2,
        months: 1,
        wage: 12_345,
        employer: None,
        withdrawn: false,
    },
];

fn fields(person: &Person) -> Vec<Datum> {
    let period = |from: i32, to: Option<i32>, status: &str| {
        Datum::Record(vec![
            ("status".into(), Datum::Enum(status.into())),
            ("since".into(), Datum::Date(from)),
            ("until".into(), to.map_or(Datum::Null, Datum::Date)),
        ])
    };
    let optional = |text: Option<&str>| text.map_or(Datum::Null, |text| Datum::Str(text.into()));
    vec![
        Datum::Str(person.id.into()),
        Datum::Str("张三丰".into()),
        Datum::Enum(person.kind.into()),
        Datum::Enum("ACTIVE".into()),
        Datum::Date(16_801),
        Datum::Date(18_262),
        Datum::Int(person.months),
        Datum::Int(person.months.min(12)),
        Datum::Decimal {
            unscaled: person.wage,
            scale: 2,
        },
        optional(person.employer),
        optional(person.employer.map(|_| "东莞市某某电子有限公司")),
        Datum::Bool(person.employer.is_none()),
        Datum::Array(vec![
            period(16_801, Some(17_000), "ACTIVE"),
            period(17_001, None, "PAUSED"),
        ]),
        Datum::Str("441900".into()),
        Datum::TimestampMillis(1_740_787_200_123),
    ]
}

fn fixed<const N: usize>(tag: u8, index: usize) -> [u8; N] {
    std::array::from_fn(|at| tag.wrapping_add((index * 31 + at * 7) as u8))
}

impl Golden {
    /// Makes all vectors from their fixed seeds.
    pub fn make() -> Self {
        Self::make_with(AVSC.as_bytes().to_vec())
    }

    /// The same events under another schema of the same shape: a test that runs them through a whole
    /// installation needs one that the contract's lint accepts.
    pub fn make_with(avsc: Vec<u8>) -> Self {
        let kept = vec![0, 3, 6, 8, 12, 14];
        let projected_avsc =
            project_schema(&avsc, &kept, "police.talent_settlement.InsuranceStatus")
                .expect("the source schema projects");
        let signer = TestSigner::new("hrss-seal-2", [0x11; 32]);
        let revoked = TestSigner::new("hrss-seal-1", [0x22; 32]);
        let keys = TestKeys::default()
            .with("hrss", "hrss-seal-2", signer.info(KeyStatus::Active))
            .with(
                "hrss",
                "hrss-seal-1",
                revoked.info(KeyStatus::Revoked {
                    last_batch: vec![LastBatch {
                        stream: "insurance".into(),
                        epoch: 1,
                        batch: 6,
                    }],
                }),
            );
        let mut golden = Self {
            bus: "dg-bus".into(),
            department: "hrss".into(),
            stream: "insurance".into(),
            dataset: "hrss.insurance.status.v1".into(),
            streams: vec!["insurance".into(), "insurance-archive".into()],
            lanes: 8,
            schema_id: 1002,
            projected_schema_id: 2002,
            layout: Layout::compile(&avsc).expect("the source schema compiles"),
            projected_layout: Layout::compile(projected_avsc.as_bytes())
                .expect("the projection compiles"),
            schema_digest: schema_digest(&avsc),
            avsc,
            projected_avsc,
            subject_field: 0,
            record_fields: vec![0, 2],
            kept,
            keys,
            signer,
            revoked,
            unknown: TestSigner::new("hrss-seal-9", [0x33; 32]),
            events: Vec::new(),
            deliveries: Vec::new(),
            altered: Vec::new(),
            altered_deliveries: Vec::new(),
        };
        // A batch of five across three lanes, then a batch of one.
        golden.seal(7, 0..5);
        golden.seal(8, 5..6);
        golden.redact();
        golden.alter();
        golden.alter_deliveries();
        golden
    }

    fn seal(&mut self, batch: u64, people: std::ops::Range<usize>) {
        let start = people.start;
        let drafts = people
            .map(|index| {
                let person = &PEOPLE[index];
                let value = encode(&self.layout, &fields(person)).expect("the person encodes");
                let mut spans = Vec::new();
                self.layout
                    .spans(&value, &mut spans)
                    .expect("what we encode we can walk");
                let mut ce_id: [u8; 16] = fixed(0x60, index);
                ce_id[6] = 0x70 | (ce_id[6] & 0x0f);
                ce_id[8] = 0x80 | (ce_id[8] & 0x3f);
                Draft {
                    dataset: self.dataset.clone(),
                    lane: person.lane,
                    sequence: person.sequence,
                    ce_id,
                    ce_time_ms: 1_740_787_200_000 + index as i64 * 1001,
                    schema: schema_digest(&self.avsc),
                    counter: 1000 + index as u64,
                    withdrawn: person.withdrawn,
                    subject: person.id.into(),
                    record: format!("{}|{}", person.id, person.kind),
                    value,
                    spans,
                }
            })
            .collect();
        let mut next = start;
        let mut seeds = || {
            next += 1;
            fixed::<32>(0xa0, next)
        };
        let sealed = seal_batch(
            &self.bus,
            &self.department,
            &self.stream,
            1,
            batch,
            drafts,
            &mut seeds,
            &self.signer,
        )
        .expect("the batch seals");
        for (offset, event) in sealed.into_iter().enumerate() {
            let wire = WireEvent::of(&event, self.schema_id);
            let person = &PEOPLE[start + offset];
            let (digest, root) = {
                let mut verifier = Verifier::new();
                let verified = verifier
                    .verify_source(
                        &self.expect(wire.lane),
                        &event.value,
                        &event.seal,
                        &self.keys,
                    )
                    .expect("what we seal verifies");
                (verified.event_digest, verified.batch_root)
            };
            self.events.push(EventVector {
                name: format!("batch-{batch}-event-{offset}"),
                subject: person.id.into(),
                record: format!("{}|{}", person.id, person.kind),
                event: wire,
                digest,
                root,
            });
        }
    }

    /// What the gateway expects of an event read from `lane`.
    pub fn expect(&self, lane: u16) -> Expect<'_> {
        Expect {
            bus: &self.bus,
            dataset: &self.dataset,
            department: &self.department,
            streams: &self.streams,
            lane,
            layout: &self.layout,
            schema_digest: &self.schema_digest,
            subject_field: self.subject_field,
        }
    }

    /// What a consumer expects of a delivery with the vectors' own projection.
    pub fn expect_delivery<'g>(
        &'g self,
        lane: u16,
        kept: &'g [u16],
        projected: &'g Layout,
    ) -> ExpectDelivery<'g> {
        ExpectDelivery {
            bus: &self.bus,
            dataset: &self.dataset,
            department: &self.department,
            streams: &self.streams,
            lane: Some(lane),
            source_layout: &self.layout,
            source_schema_digest: &self.schema_digest,
            kept,
            projected_layout: projected,
        }
    }

    pub fn kit(&self) -> Kit<'_> {
        Kit {
            layout: &self.layout,
            subject_field: self.subject_field,
            signer: &self.signer,
            revoked: &self.revoked,
            unknown: &self.unknown,
            lanes: self.lanes,
        }
    }

    fn redact(&mut self) {
        let disclosures = [
            ("kept-fields", 0, true, true, self.kept.clone()),
            (
                "kept-fields-subject-withheld",
                1,
                false,
                false,
                self.kept.clone(),
            ),
            ("kept-fields-withdrawn", 2, true, true, self.kept.clone()),
            ("batch-of-one", 5, true, true, self.kept.clone()),
            ("every-field", 4, true, true, (0..15).collect()),
            ("no-field", 3, false, true, Vec::new()),
            ("withdrawal", 2, false, false, Vec::new()),
        ];
        for (name, of, subject, record, kept) in disclosures {
            let source = &self.events[of];
            let (_, datum) = unframe(&source.event.value).expect("a vector is framed");
            let seal = source
                .event
                .header(headers::SEAL)
                .expect("a vector has a seal");
            let mut verifier = Verifier::new();
            let verified = verifier
                .verify_source(&self.expect(source.event.lane), datum, seal, &self.keys)
                .expect("a vector verifies");
            let mut value = crate::frame(self.projected_schema_id, &[]);
            verified.project(&kept, &mut value);
            let mut delivery_seal = Vec::new();
            verified.redact(&FieldSet::of(&kept), subject, record, &mut delivery_seal);
            let mut event = source.event.clone();
            event.value = value;
            *event
                .header_mut(headers::SEAL)
                .expect("a vector has a seal") = delivery_seal;
            self.deliveries.push(DeliveryVector {
                name: name.into(),
                of,
                kept,
                subject: subject.then(|| source.subject.clone()),
                record: record.then(|| source.record.clone()),
                event,
            });
        }
    }

    fn alter(&mut self) {
        for (index, alteration) in Alteration::ALL.into_iter().enumerate() {
            // In turn on an event of the large batch and on the batch of one.
            let of = if index % 4 == 3 { 5 } else { index % 4 };
            let event = alteration.apply(&self.events[of].event, &self.kit());
            self.altered.push(Altered {
                name: alteration.name(),
                code: alteration.code().into(),
                needs_gateway: alteration.needs_gateway(),
                of,
                event,
            });
        }
    }

    fn alter_deliveries(&mut self) {
        let good = &self.deliveries[0].event;
        let seal = good
            .header(headers::SEAL)
            .expect("a vector has a seal")
            .to_vec();
        let meta = usize::from(u16::from_be_bytes([seal[2], seal[3]]));
        let bitmap = 4 + meta + 2;
        let leaves = bitmap + 3;
        let mut add = |name: &str, code: &str, change: &dyn Fn(&mut WireEvent, &mut Vec<u8>)| {
            let mut event = good.clone();
            let mut seal = seal.clone();
            change(&mut event, &mut seal);
            *event
                .header_mut(headers::SEAL)
                .expect("a vector has a seal") = seal;
            self.altered_deliveries.push(Altered {
                name: name.into(),
                code: code.into(),
                needs_gateway: false,
                of: 0,
                event,
            });
        };
        add("withheld-leaf-flipped", "SIGNATURE_INVALID", &|_, seal| {
            // Leaves 1, 2 and 3 are disclosed (16 bytes each); leaf 4 is a hash.
            seal[leaves + 48] ^= 1;
        });
        add("salt-flipped", "SIGNATURE_INVALID", &|_, seal| {
            seal[leaves + 32] ^= 1
        });
        add("salts-swapped", "SIGNATURE_INVALID", &|_, seal| {
            let first: Vec<u8> = seal[leaves..leaves + 16].to_vec();
            let second: Vec<u8> = seal[leaves + 16..leaves + 32].to_vec();
            seal[leaves..leaves + 16].copy_from_slice(&second);
            seal[leaves + 16..leaves + 32].copy_from_slice(&first);
        });
        add("value-altered", "SIGNATURE_INVALID", &|event, _| {
            let last = event.value.len() - 1;
            event.value[last] ^= 1;
        });
        add(
            "value-with-trailing-bytes",
            "TRAILING_BYTES",
            &|event, _| event.value.push(0),
        );
        add("seal-with-trailing-bytes", "TRAILING_BYTES", &|_, seal| {
            seal.push(0)
        });
        add("seal-truncated", "SEAL_MALFORMED", &|_, seal| {
            seal.pop();
        });
        add("source-seal-in-delivery", "SEAL_MALFORMED", &|_, seal| {
            seal[1] = 1
        });
        add(
            "other-fields-disclosed",
            "DISCLOSURE_MISMATCH",
            &|_, seal| {
                // Withholds leaf 3 and discloses leaf 4 instead: lengths stay, meaning does not.
                let (three, four) = (
                    seal[leaves + 32..leaves + 48].to_vec(),
                    seal[leaves + 48..leaves + 80].to_vec(),
                );
                seal[bitmap] ^= 0x30;
                let swapped: Vec<u8> = four.into_iter().chain(three).collect();
                seal[leaves + 32..leaves + 80].copy_from_slice(&swapped);
            },
        );
        add("bit-past-the-last-leaf", "SEAL_MALFORMED", &|_, seal| {
            seal[bitmap + 2] ^= 1
        });
        add("leaf-count-differs", "SEAL_MALFORMED", &|_, seal| {
            seal[bitmap - 1] ^= 1
        });
        add("wrong-lane", "LANE_WRONG", &|event, _| {
            event.lane = (event.lane + 1) % 8
        });
        add("signature-flipped", "SIGNATURE_INVALID", &|_, seal| {
            let last = seal.len() - 1;
            seal[last - 20] ^= 1;
        });
    }
}
