//! Every record comes back from its bytes, stock Avro reads and writes the same bytes against the
//! committed schema, and no bytes at all make a decoder panic.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use mz_journal::{
    Audit, AuditCause, AuditCounts, AuditKind, AuditWriter, Chain, ContractFile, ContractVersion,
    DeliveryHeader, DeliveryPosition, FactBody, FactReply, Fence, Fetch, Grant, GrantId, GrantKind,
    GrantStatus, InForce, LedgerPosition, LedgerState, Malformed, Mark, OpenBackfill, Order,
    OrderAction, OrderCondition, OrderId, Position, Quarantine, Receipt, ReceiptAction, Record,
    RecordTag, SourceStatus, State, StoredFact, StreamSequence, SubjectTag, Superseded, Withdrawal,
    bitmap_fields, field_bitmap, put_frame, unframe,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::borrow::Cow;
use std::fmt::Debug;

/// Ours → bytes → ours; stock Avro → value → the same bytes; every prefix and one more byte: error.
fn agrees<T: Record + PartialEq + Debug>(record: &T) {
    let bytes = record.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(record));
    assert_eq!(
        stock(T::SCHEMA, &bytes).1,
        bytes,
        "stock Avro writes it differently"
    );
    for end in 0..bytes.len() {
        assert!(
            T::decode(&bytes[..end]).is_err(),
            "a prefix of {end} bytes was accepted"
        );
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(T::decode(&longer), Err(Malformed::Trailing { count: 1 }));
}

/// What stock Avro reads, and what it writes for that.
fn stock(schema: &str, bytes: &[u8]) -> (Value, Vec<u8>) {
    let schema = Schema::parse_str(schema).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let mut rest = bytes;
    let value = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "stock Avro leaves {} bytes", rest.len());
    let mut again = Vec::new();
    GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value(&mut again, value.clone())
        .unwrap();
    (value, again)
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9./|人才-]{0,20}"
}

fn digest() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

prop_compose! {
    fn audit()(
        head in (0usize..2, any::<u16>(), any::<u64>(), digest(), any::<i64>()),
        kind in prop::sample::select(vec![AuditKind::Delivered, AuditKind::Denied, AuditKind::Summary,
            AuditKind::Lookup, AuditKind::Quarantined, AuditKind::Exposed, AuditKind::CaseOpened, AuditKind::CaseClosed,
            AuditKind::Withdrawn, AuditKind::OrderDeclined, AuditKind::Superseded, AuditKind::ConsentGiven,
            AuditKind::GrantChanged, AuditKind::ConsentRevoked, AuditKind::ContractInForce, AuditKind::SlotFenced,
            AuditKind::Erased, AuditKind::Hiding, AuditKind::SubjectKey, AuditKind::SubjectBound, AuditKind::BatchAccepted]),
        cause in prop::sample::select(vec![AuditCause::Stream, AuditCause::Backfill, AuditCause::Request,
            AuditCause::Auditor, AuditCause::Subject, AuditCause::Operator, AuditCause::Rule]),
        texts in prop::array::uniform7(text()),
        digests in prop::array::uniform2(digest()),
        tags in prop::array::uniform3(any::<[u8; 16]>()),
        grant in prop::option::of(any::<[u8; 16]>()),
        order in prop::option::of(any::<[u8; 16]>()),
        fields in vec(any::<u8>(), 0..8),
        numbers in (any::<u32>(), any::<u64>(), any::<i64>(), any::<u64>()),
        counts in (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<i64>(), any::<i64>()),
    ) -> Audit<'static> {
        let [agreement, consumer, purpose, dataset, rule, operator, reason] = texts.map(Cow::Owned);
        let writer = [AuditWriter::Gateway, AuditWriter::Vault][head.0];
        let empty = Audit::empty(writer, head.1, head.4, kind, cause);
        Audit {
            number: head.2, prev: head.3, agreement, consumer, purpose, dataset, rule, operator, reason,
            contract: digests[0], event: digests[1], subject: SubjectTag(tags[0]), record: RecordTag(tags[1]),
            nonce: tags[2], grant: grant.map(GrantId), order: order.map(OrderId), fields: Cow::Owned(fields),
            version_epoch: numbers.0, version_counter: numbers.1, source_offset: numbers.2, output_sequence: numbers.3,
            counts: AuditCounts { matched: counts.0, delivered: counts.1, denied: counts.2,
                out_of_scope: counts.3, from_offset: counts.4, to_offset: counts.5 },
            ..empty
        }
    }
}

prop_compose! {
    fn state()(
        lane in any::<u16>(),
        positions in vec((text(), any::<i64>()), 0..4),
        sequences in vec((text(), any::<u32>(), any::<u64>(), vec(any::<(u64, u64)>(), 0..4)), 0..4),
        deliveries in vec((text(), any::<u64>(), any::<i64>()), 0..4),
        numbers in (any::<u64>(), digest(), any::<i64>(), digest(), any::<i64>()),
        open in vec((any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u32>(), text()), 0..4),
        old in vec((text(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u32>(), any::<u64>()), 0..4),
    ) -> State {
        State {
            lane,
            positions: positions.into_iter().map(|(topic, next_offset)| Position { topic, next_offset }).collect(),
            sequences: sequences.into_iter()
                .map(|(stream, epoch, last, missing)| StreamSequence { stream, epoch, last, missing }).collect(),
            deliveries: deliveries.into_iter()
                .map(|(out_topic, last_seq, output_offset_floor)| DeliveryPosition { out_topic, last_seq, output_offset_floor }).collect(),
            audit_number: numbers.0, audit_chain: numbers.1, grants_position: numbers.2, contract: numbers.3, at_ms: numbers.4,
            open_backfills: open.into_iter()
                .map(|(grant, subject, attempt, agreement)| OpenBackfill {
                    grant: GrantId(grant), subject: SubjectTag(subject), attempt, agreement }).collect(),
            superseded: old.into_iter()
                .map(|(out_topic, subject, record, epoch, counter)| Superseded {
                    out_topic, subject: SubjectTag(subject), record: RecordTag(record), epoch, counter }).collect(),
        }
    }
}

prop_compose! {
    /// Few distinct values, so that joins meet ties.
    fn grant()(
        case in any::<bool>(), counter in 0u64..3, expires_ms in 0i64..3, opened_ms in 0i64..2,
        status in prop::sample::select(vec![GrantStatus::Open, GrantStatus::Paused, GrantStatus::Closed]),
        closed_ms in prop::option::of(0i64..3), cause in "[ab]?", reason in "[ab]?",
        subject_sealed in prop::option::of(vec(0u8..2, 0..2)), datasets in vec("[ab]", 0..2),
    ) -> Grant {
        let kind = if case { GrantKind::Case } else { GrantKind::Consent };
        Grant { id: GrantId([1; 16]), kind, subject: SubjectTag([2; 16]), agreement: "police/talent".to_owned(),
            datasets, status, counter, opened_ms, expires_ms, closed_ms, cause, reason, subject_sealed }
    }
}

proptest! {
    #[test]
    fn audit_agrees(record in audit()) { agrees(&record); }

    #[test]
    fn state_agrees(record in state()) { agrees(&record); }

    #[test]
    fn grant_agrees(record in grant()) { agrees(&record); }

    #[test]
    fn fetch_agrees(ids in any::<([u8; 16], u32, [u8; 16])>(), agreement in text(),
            fences in vec((text(), any::<i64>()), 0..4), datasets in vec(text(), 0..4)) {
        let fences = fences.into_iter().map(|(topic, offset)| Fence { topic, offset }).collect();
        agrees(&Fetch { grant: GrantId(ids.0), attempt: ids.1, subject: SubjectTag(ids.2), agreement, fences, datasets });
    }

    #[test]
    fn fact_reply_agrees(ids in any::<([u8; 16], u32, [u8; 16])>(), done in prop::option::of(any::<u64>()),
            dataset in text(), source_offset in any::<i64>(), value in vec(any::<u8>(), 0..40),
            seal in vec(any::<u8>(), 0..40), ce_id in any::<[u8; 16]>()) {
        let body = match done {
            Some(count) => FactBody::Done { count },
            None => FactBody::Fact(StoredFact { dataset, source_offset, value, seal, ce_id }),
        };
        agrees(&FactReply { grant: GrantId(ids.0), attempt: ids.1, subject: SubjectTag(ids.2), body });
    }

    #[test]
    fn quarantine_agrees(texts in prop::array::uniform3(text()), partition in any::<i32>(), offset in any::<i64>(), at_ms in any::<i64>()) {
        let [topic, code, place] = texts;
        agrees(&Quarantine { topic, partition, offset, code, place, at_ms });
    }

    #[test]
    fn source_status_agrees(stream in text(), epoch in any::<u32>(), last_batch in any::<u64>(), complete_to_ms in any::<i64>(), rejected in any::<u64>(), at_ms in any::<i64>()) {
        agrees(&SourceStatus { stream, epoch, last_batch, complete_to_ms, rejected, at_ms });
    }

    #[test]
    fn delivery_agrees(agreement in text(), contract in digest(), audit_lane in any::<u16>(), audit_number in any::<u64>(),
            sequence in any::<u64>(), mark in prop::option::of((any::<i64>(), any::<[u8; 32]>(), text()))) {
        let mark = mark.map(|(at_ms, half, key_id)| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&half);
            Mark { at_ms, signature, key_id }
        });
        agrees(&DeliveryHeader { agreement, contract, audit_lane, audit_number, sequence, mark });
    }

    #[test]
    fn orders_and_what_came_of_them_agree(tags in any::<([u8; 16], [u8; 16], [u8; 16])>(), texts in prop::array::uniform4(text()),
            kinds in (0usize..3, 0usize..3, 0usize..4), numbers in any::<(u32, u64, i64, u16, u64)>(),
            halves in any::<([u8; 32], [u8; 32])>(), paths in vec(text(), 0..4), bytes in vec(any::<u8>(), 0..40)) {
        let [reason, agreement, topic, key_id] = texts;
        let action = [OrderAction::Withdraw, OrderAction::Dismiss, OrderAction::Erase][kinds.0];
        let condition = [OrderCondition::NotInForce, OrderCondition::Superseded, OrderCondition::Always][kinds.1];
        let (epoch, counter, at_ms, lane, sequence) = numbers;
        let order = OrderId(tags.0);
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&halves.0);
        agrees(&Order { id: order, action, condition, reason: reason.clone(), agreement: agreement.clone(), dataset: topic.clone(),
            subject: SubjectTag(tags.1), record: RecordTag(tags.2), epoch, counter, at_ms });
        agrees(&Withdrawal { order, reason, epoch, counter, at_ms, key_id: key_id.clone(), signature });
        let action = [ReceiptAction::Deleted, ReceiptAction::Frozen, ReceiptAction::Marked, ReceiptAction::Absent][kinds.2];
        prop_assert_eq!(ReceiptAction::from_name(action.name()), Some(action));
        agrees(&Receipt { order, agreement, topic: topic.clone(), lane, sequence, key: halves.1, action, at_ms, key_id, signature });
        agrees(&InForce { version: counter, digest: halves.0, at_ms });
        agrees(&ContractVersion { version: counter, digest: halves.0, paths, at_ms });
        agrees(&ContractFile { digest: halves.0, path: topic, bytes });
    }

    #[test]
    fn ledger_state_agrees(
        numbers in any::<(u16, u64, [u8; 32], i64)>(), origin in text(),
        positions in vec(any::<(u16, i64)>(), 0..5),
        chains in vec((0..mz_journal::AUDIT_WRITERS.len(), any::<(u16, u64, [u8; 32])>()), 0..5),
    ) {
        let positions = positions.into_iter().map(|(lane, next_offset)| LedgerPosition { lane, next_offset });
        let chains = chains.into_iter().map(|(writer, (lane, number, digest))| {
            Chain::resume(mz_journal::AUDIT_WRITERS[writer], lane, number, digest)
        });
        let (shard, size, root, at_ms) = numbers;
        agrees(&LedgerState { shard, origin, size, root, positions: positions.collect(), chains: chains.collect(), at_ms });
    }

    #[test]
    fn grants_join_in_any_order(a in grant(), b in grant(), c in grant()) {
        let join = |x: &Grant, y: &Grant| x.clone().join(y.clone());
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        let closed = [&a, &b].iter().any(|grant| grant.status == GrantStatus::Closed);
        prop_assert_eq!(join(&a, &b).status == GrantStatus::Closed, closed, "closed dominates, and only closed");
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Audit::read(&bytes);
        let _ = State::decode(&bytes);
        let _ = Grant::decode(&bytes);
        let _ = Fetch::decode(&bytes);
        let _ = FactReply::decode(&bytes);
        let _ = Quarantine::decode(&bytes);
        let _ = SourceStatus::decode(&bytes);
        let _ = DeliveryHeader::decode(&bytes);
        let _ = Order::decode(&bytes);
        let _ = Withdrawal::decode(&bytes);
        let _ = Receipt::decode(&bytes);
        let _ = InForce::decode(&bytes);
        let _ = ContractVersion::decode(&bytes);
        let _ = ContractFile::decode(&bytes);
        let _ = unframe(&bytes);
    }

    #[test]
    fn bitmaps_name_their_fields(fields in prop::collection::btree_set(0u16..200, 0..20)) {
        let fields: Vec<u16> = fields.into_iter().collect();
        prop_assert_eq!(bitmap_fields(&field_bitmap(&fields)), fields);
    }
}

#[test]
fn stock_avro_sees_the_same_values_under_the_same_names() {
    let mut audit = Audit::empty(
        AuditWriter::Vault,
        7,
        1_700_000_000_000,
        AuditKind::Denied,
        AuditCause::Backfill,
    );
    audit.agreement = "police/talent-settlement".into();
    audit.counts.denied = 3;
    audit.grant = Some(GrantId([9; 16]));
    let Value::Record(fields) = stock(Audit::SCHEMA, &audit.encode()).0 else {
        panic!("not a record");
    };
    let field = |name: &str| {
        fields
            .iter()
            .find(|(found, _)| found == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(field("lane"), Value::Int(7));
    assert_eq!(field("at_ms"), Value::TimestampMillis(1_700_000_000_000));
    assert_eq!(field("writer"), Value::Enum(1, "VAULT".to_owned()));
    assert_eq!(field("kind"), Value::Enum(1, "DENIED".to_owned()));
    assert_eq!(field("cause"), Value::Enum(1, "BACKFILL".to_owned()));
    assert_eq!(
        field("agreement"),
        Value::String("police/talent-settlement".to_owned())
    );
    assert_eq!(
        field("grant"),
        Value::Union(1, Box::new(Value::Fixed(16, vec![9; 16])))
    );
    assert_eq!(field("source_offset"), Value::Long(-1));
}

/// A list that announces 2^40 elements in ten bytes must not make anyone allocate for them.
#[test]
fn hostile_counts_end_with_the_input() {
    let mut bytes = vec![0];
    mz_seal::avro::Writer(&mut bytes).long(1 << 40);
    bytes.extend_from_slice(&[0; 40]);
    assert!(State::decode(&bytes).is_err());
}

#[test]
fn frames_come_back() {
    let mut value = Vec::new();
    put_frame(&mut value, 1001);
    value.extend_from_slice(b"datum");
    assert_eq!(unframe(&value), Ok((1001, &b"datum"[..])));
    value[0] = 1;
    assert_eq!(unframe(&value), Err(Malformed::Frame));
    assert_eq!(unframe(&value[..4]), Err(Malformed::Frame));
}
