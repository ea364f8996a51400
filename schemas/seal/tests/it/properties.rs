//! What must hold for every event: any redaction verifies, and nothing that was
//! touched does, whether the verifier has seen the batch or not.

use mz_seal::testing::{Golden, TestKeys, TestSigner};
use mz_seal::{
    Datum, Draft, Expect, ExpectDelivery, FieldSet, KeyStatus, Layout, SealedEvent, Verifier,
    encode, project_schema, schema_digest, seal_batch,
};
use proptest::prelude::*;

const STREAM: &str = "insurance";

struct World {
    golden: Golden,
    digest: [u8; 32],
}

impl World {
    fn new() -> Self {
        let golden = Golden::make();
        let digest = schema_digest(&golden.avsc);
        Self { golden, digest }
    }

    fn expect(&self, lane: u16) -> Expect<'_> {
        self.golden.expect(lane)
    }

    fn expect_delivery<'w>(
        &'w self,
        lane: u16,
        kept: &'w [u16],
        projected: &'w Layout,
    ) -> ExpectDelivery<'w> {
        self.golden.expect_delivery(lane, kept, projected)
    }

    fn projected(&self, kept: &[u16]) -> Layout {
        let avsc = project_schema(&self.golden.avsc, kept, "police.test.Projected").unwrap();
        Layout::compile(avsc.as_bytes()).unwrap()
    }

    fn seal(&self, batch: u64, records: &[Vec<Datum>], seed: u8) -> Vec<SealedEvent> {
        let drafts = records
            .iter()
            .enumerate()
            .map(|(index, fields)| {
                let value = encode(&self.golden.layout, fields).unwrap();
                let mut spans = Vec::new();
                self.golden.layout.spans(&value, &mut spans).unwrap();
                let Datum::Str(subject) = &fields[0] else {
                    panic!("the subject is a string")
                };
                Draft {
                    dataset: self.golden.dataset.clone(),
                    lane: (index % 8) as u16,
                    sequence: 1 + index as u64,
                    ce_id: [index as u8; 16],
                    ce_time_ms: 1_700_000_000_000 + index as i64,
                    schema: self.digest,
                    counter: 1 + index as u64,
                    withdrawn: index % 3 == 0,
                    subject: subject.clone(),
                    record: format!("{subject}|{index}"),
                    value,
                    spans,
                }
            })
            .collect();
        let mut next = 0u8;
        let mut seeds = || {
            next = next.wrapping_add(1);
            [seed ^ next; 32]
        };
        seal_batch(
            "dg-bus",
            "hrss",
            STREAM,
            1,
            batch,
            drafts,
            &mut seeds,
            &self.golden.signer,
        )
        .unwrap()
    }
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[0-9A-Z张社保\u{1F600} ]{1,24}").unwrap()
}

fn optional<S: Strategy<Value = Datum> + 'static>(inner: S) -> BoxedStrategy<Datum> {
    prop_oneof![Just(Datum::Null), inner].boxed()
}

fn symbol(symbols: &'static [&'static str]) -> impl Strategy<Value = Datum> {
    proptest::sample::select(symbols).prop_map(|symbol| Datum::Enum(symbol.to_owned()))
}

fn record() -> impl Strategy<Value = Vec<Datum>> {
    let date = || (-100_000i32..100_000).prop_map(Datum::Date);
    let state = || symbol(&["ACTIVE", "PAUSED", "ENDED"]);
    let period = (state(), date(), optional(date())).prop_map(|(status, since, until)| {
        Datum::Record(vec![
            ("status".into(), status),
            ("since".into(), since),
            ("until".into(), until),
        ])
    });
    let people = (
        text().prop_map(Datum::Str),
        text().prop_map(Datum::Str),
        symbol(&["PENSION", "UNEMPLOYMENT", "INJURY", "MEDICAL", "MATERNITY"]),
        state(),
        optional(date()),
        optional(date()),
        any::<i32>().prop_map(|n| Datum::Int(n.into())),
        any::<i32>().prop_map(|n| Datum::Int(n.into())),
    );
    let rest = (
        (-999_999_999_999i128..=999_999_999_999)
            .prop_map(|unscaled| Datum::Decimal { unscaled, scale: 2 }),
        optional(text().prop_map(Datum::Str)),
        optional(text().prop_map(Datum::Str)),
        any::<bool>().prop_map(Datum::Bool),
        proptest::collection::vec(period, 0..4).prop_map(Datum::Array),
        text().prop_map(Datum::Str),
        any::<i64>().prop_map(Datum::TimestampMillis),
    );
    (people, rest).prop_map(|((a, b, c, d, e, f, g, h), (i, j, k, l, m, n, o))| {
        vec![a, b, c, d, e, f, g, h, i, j, k, l, m, n, o]
    })
}

fn kept_fields() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::btree_set(0u16..15, 0..=15).prop_map(|set| set.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Any batch, any redaction of any of its events.
    #[test]
    fn any_redaction_of_any_event_verifies(
        records in proptest::collection::vec(record(), 1..20),
        kept in kept_fields(),
        disclose_subject in any::<bool>(),
        disclose_record in any::<bool>(),
        seed in any::<u8>(),
    ) {
        let world = World::new();
        let projected = world.projected(&kept);
        let mut gateway = Verifier::new();
        let mut consumer = Verifier::new();
        for (event, fields) in world.seal(1, &records, seed).iter().zip(&records) {
            let verified = gateway
                .verify_source(&world.expect(event.meta.lane), &event.value, &event.seal, &world.golden.keys)
                .unwrap();
            prop_assert_eq!(verified.event_digest, event.digest);
            prop_assert_eq!(verified.meta.to_owned(), event.meta.clone());
            let (mut value, mut seal) = (Vec::new(), Vec::new());
            verified.project(&kept, &mut value);
            verified.redact(&FieldSet::of(&kept), disclose_subject, disclose_record, &mut seal);
            let delivery = consumer
                .verify_delivery(&world.expect_delivery(event.meta.lane, &kept, &projected), &value, &seal, &world.golden.keys)
                .unwrap();
            prop_assert_eq!(delivery.event_digest, event.digest);
            prop_assert_eq!(delivery.batch_root, verified.batch_root);
            prop_assert_eq!(delivery.subject, disclose_subject.then_some(verified.subject));
            prop_assert_eq!(delivery.record, disclose_record.then_some(verified.record));
            let decoded = projected.decode_record(&value).unwrap();
            let wanted: Vec<Datum> = kept.iter().map(|field| fields[*field as usize].clone()).collect();
            prop_assert_eq!(decoded, wanted);
            gateway.recycle(verified);
        }
    }

    /// Parts of two events never make a third.
    #[test]
    fn parts_of_other_events_do_not_fit(
        records in proptest::collection::vec(record(), 2..9),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let world = World::new();
        let (from, to) = (from.index(records.len()), to.index(records.len()));
        prop_assume!(from != to);
        let events = world.seal(1, &records, 0x5a);
        let again = world.seal(2, &records, 0xa5);
        let mut warm = Verifier::new();
        for event in events.iter().chain(&again) {
            warm.verify_source(&world.expect(event.meta.lane), &event.value, &event.seal, &world.golden.keys).unwrap();
        }
        for verifier in [&mut warm, &mut Verifier::new()] {
            // Another's value under this seal.
            if records[from] != records[to] {
                let outcome = verifier.verify_source(&world.expect(events[to].meta.lane), &events[from].value, &events[to].seal, &world.golden.keys);
                prop_assert!(outcome.is_err());
            }
            // The same event's batch part from another batch, and another event's from the same.
            for (head, tail) in [(&events[to], &again[to]), (&events[to], &events[from])] {
                let spliced = splice(&head.seal, &tail.seal);
                let outcome = verifier.verify_source(&world.expect(head.meta.lane), &head.value, &spliced, &world.golden.keys);
                prop_assert!(outcome.is_err());
            }
        }
    }

    /// Bytes from nowhere neither verify nor panic.
    #[test]
    fn noise_is_refused(value in proptest::collection::vec(any::<u8>(), 0..200), mut seal in proptest::collection::vec(any::<u8>(), 0..400), form in 1u8..=2) {
        let world = World::new();
        if seal.len() > 2 {
            seal[0] = 1;
            seal[1] = form;
        }
        let mut verifier = Verifier::new();
        prop_assert!(verifier.verify_source(&world.expect(0), &value, &seal, &world.golden.keys).is_err());
        prop_assert!(verifier
            .verify_delivery(&world.expect_delivery(0, &world.golden.kept, &world.golden.projected_layout), &value, &seal, &world.golden.keys)
            .is_err());
    }
}

/// The head of one source seal with the batch part of another.
fn splice(head: &[u8], tail: &[u8]) -> Vec<u8> {
    let batch_at = |seal: &[u8]| {
        let meta = usize::from(u16::from_be_bytes([seal[2], seal[3]]));
        let record = 4 + meta + 32;
        record + 2 + usize::from(u16::from_be_bytes([seal[record], seal[record + 1]]))
    };
    [&head[..batch_at(head)], &tail[batch_at(tail)..]].concat()
}

/// Every single bit of seal and value, each flipped once, cold and warm.
#[test]
fn no_flipped_bit_verifies() {
    let golden = Golden::make();
    let mut warm = Verifier::new();
    for vector in &golden.events {
        let (_, datum) = mz_seal::unframe(&vector.event.value).unwrap();
        let seal = vector.event.header("mz-seal").unwrap();
        warm.verify_source(&golden.expect(vector.event.lane), datum, seal, &golden.keys)
            .unwrap();
    }
    for vector in [&golden.events[1], &golden.events[5]] {
        let (_, datum) = mz_seal::unframe(&vector.event.value).unwrap();
        let seal = vector.event.header("mz-seal").unwrap();
        let expect = golden.expect(vector.event.lane);
        for bit in 0..seal.len() * 8 {
            let mut bad = seal.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            for verifier in [&mut warm, &mut Verifier::new()] {
                assert!(
                    verifier
                        .verify_source(&expect, datum, &bad, &golden.keys)
                        .is_err(),
                    "seal bit {bit}"
                );
            }
        }
        for bit in 0..datum.len() * 8 {
            let mut bad = datum.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            for verifier in [&mut warm, &mut Verifier::new()] {
                assert!(
                    verifier
                        .verify_source(&expect, &bad, seal, &golden.keys)
                        .is_err(),
                    "value bit {bit}"
                );
            }
        }
    }
}

#[test]
fn no_flipped_bit_of_a_delivery_verifies() {
    let golden = Golden::make();
    for delivery in &golden.deliveries {
        let avsc = project_schema(&golden.avsc, &delivery.kept, "police.test.Projected").unwrap();
        let projected = Layout::compile(avsc.as_bytes()).unwrap();
        let expect = golden.expect_delivery(delivery.event.lane, &delivery.kept, &projected);
        let (_, datum) = mz_seal::unframe(&delivery.event.value).unwrap();
        let seal = delivery.event.header("mz-seal").unwrap();
        let mut warm = Verifier::new();
        warm.verify_delivery(&expect, datum, seal, &golden.keys)
            .unwrap();
        for bit in 0..seal.len() * 8 {
            let mut bad = seal.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                warm.verify_delivery(&expect, datum, &bad, &golden.keys)
                    .is_err(),
                "{} seal bit {bit}",
                delivery.name
            );
            if bit % 5 == 0 {
                assert!(
                    Verifier::new()
                        .verify_delivery(&expect, datum, &bad, &golden.keys)
                        .is_err()
                );
            }
        }
        for bit in 0..datum.len() * 8 {
            let mut bad = datum.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                warm.verify_delivery(&expect, &bad, seal, &golden.keys)
                    .is_err(),
                "{} value bit {bit}",
                delivery.name
            );
        }
    }
}

/// A schema that differs only in a decimal's scale has Avro's same canonical form, and
/// must not verify: 89.50 would read as 8950.
#[test]
fn a_schema_with_another_scale_does_not_verify() {
    let golden = Golden::make();
    let other =
        String::from_utf8(golden.avsc.clone())
            .unwrap()
            .replacen("\"scale\": 2", "\"scale\": 0", 1);
    assert_ne!(other.as_bytes(), golden.avsc);
    let layout = Layout::compile(other.as_bytes()).unwrap();
    let digest = schema_digest(other.as_bytes());
    let vector = &golden.events[0];
    let (_, datum) = mz_seal::unframe(&vector.event.value).unwrap();
    let expect = Expect {
        layout: &layout,
        schema_digest: &digest,
        ..golden.expect(vector.event.lane)
    };
    let fault = Verifier::new()
        .verify_source(
            &expect,
            datum,
            vector.event.header("mz-seal").unwrap(),
            &golden.keys,
        )
        .unwrap_err();
    assert_eq!(fault.code(), "SCHEMA_MISMATCH");
}

/// A revocation cuts at a batch number of a stream, not at a time.
#[test]
fn a_revoked_key_speaks_for_the_batches_before() {
    let world = World::new();
    let events = world.seal(6, &[record_of("1"), record_of("2")], 1);
    let later = world.seal(7, &[record_of("1")], 2);
    let revoked = |stream: &str| {
        let last = mz_seal::LastBatch {
            stream: stream.into(),
            epoch: 1,
            batch: 6,
        };
        let info = world.golden.signer.info(KeyStatus::Revoked {
            last_batch: vec![last],
        });
        TestKeys::default().with("hrss", "hrss-seal-2", info)
    };
    let mut verifier = Verifier::new();
    // The batch is known before the key is revoked: memory must not outlive the revocation.
    for event in [&events[0], &later[0]] {
        verifier
            .verify_source(
                &world.expect(0),
                &event.value,
                &event.seal,
                &world.golden.keys,
            )
            .unwrap();
    }
    let keys = revoked(STREAM);
    verifier
        .verify_source(&world.expect(0), &events[0].value, &events[0].seal, &keys)
        .unwrap();
    let fault = verifier
        .verify_source(&world.expect(0), &later[0].value, &later[0].seal, &keys)
        .unwrap_err();
    assert_eq!(fault.code(), "KEY_REVOKED");
    let other = revoked("insurance-archive");
    let fault = verifier
        .verify_source(&world.expect(0), &events[0].value, &events[0].seal, &other)
        .unwrap_err();
    assert_eq!(fault.code(), "KEY_REVOKED");
}

/// A department that signs two trees for one batch number hands over the proof itself.
#[test]
fn equivocation_shows_in_the_roots() {
    let world = World::new();
    let one = world.seal(9, &[record_of("1")], 1);
    let two = world.seal(9, &[record_of("2")], 1);
    let mut verifier = Verifier::new();
    let keys = &world.golden.keys;
    let first = verifier
        .verify_source(&world.expect(0), &one[0].value, &one[0].seal, keys)
        .unwrap();
    let second = verifier
        .verify_source(&world.expect(0), &two[0].value, &two[0].seal, keys)
        .unwrap();
    assert_eq!(first.batch.number, second.batch.number);
    assert_ne!(first.batch_root, second.batch_root);
}

/// A key of small order would accept one signature for every message.
#[test]
fn small_order_and_non_canonical_keys_are_refused() {
    let world = World::new();
    let events = world.seal(1, &[record_of("1")], 1);
    let mut one = [0u8; 32];
    one[0] = 1;
    let mut above_p = [0xff; 32];
    above_p[0] = 0xee;
    above_p[31] = 0x7f;
    for public in [[0u8; 32], one, above_p] {
        assert!(mz_seal::check_public_key(&public).is_err());
        let mut info = world.golden.signer.info(KeyStatus::Active);
        info.public = public;
        let keys = TestKeys::default().with("hrss", "hrss-seal-2", info);
        let fault = Verifier::new()
            .verify_source(&world.expect(0), &events[0].value, &events[0].seal, &keys)
            .unwrap_err();
        assert_eq!(fault.code(), "SMALL_ORDER_KEY");
    }
}

/// S and S + L are the same scalar; only the smaller is a signature (RFC 8032, 5.1.7).
#[test]
fn a_signature_with_a_large_s_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let signer = TestSigner::new("k", [7; 32]);
    let mut signature = mz_seal::Signer::sign(&signer, b"message").unwrap();
    mz_seal::verify_signature(&signer.public(), b"message", &signature).unwrap();
    let mut carry = 0u16;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert!(mz_seal::verify_signature(&signer.public(), b"message", &signature).is_err());
}

/// Batches larger than the node cache keeps whole verify too, in any order.
#[test]
fn large_batches_verify() {
    let world = World::new();
    let records: Vec<Vec<Datum>> = (0..1000).map(|n| record_of(&n.to_string())).collect();
    let events = world.seal(1, &records, 3);
    let mut verifier = Verifier::new();
    for index in (0..1000).rev().step_by(7).chain(0..1000) {
        let event = &events[index];
        verifier
            .verify_source(
                &world.expect(event.meta.lane),
                &event.value,
                &event.seal,
                &world.golden.keys,
            )
            .unwrap();
    }
}

fn record_of(id: &str) -> Vec<Datum> {
    vec![
        Datum::Str(id.into()),
        Datum::Str("n".into()),
        Datum::Enum("PENSION".into()),
        Datum::Enum("ACTIVE".into()),
        Datum::Null,
        Datum::Null,
        Datum::Int(1),
        Datum::Int(1),
        Datum::Decimal {
            unscaled: 8950,
            scale: 2,
        },
        Datum::Null,
        Datum::Null,
        Datum::Bool(true),
        Datum::Array(vec![]),
        Datum::Str("441900".into()),
        Datum::TimestampMillis(0),
    ]
}
