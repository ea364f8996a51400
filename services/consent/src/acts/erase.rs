//! A person is erased: their grants end, what was delivered is called back, the key under which their
//! facts rest is destroyed; and it is said what remains where until when. The register itself is its
//! department's: what it publishes afterwards is new.

use mz_contract::{Contract, IdNumber};
use mz_journal::{
    Audit, AuditCause, AuditKind, AuditWriter, Grant, GrantKind, GrantStatus, Order, OrderAction,
    OrderCondition, OrderId, RecordTag, SubjectTag,
};
use mz_seal::timestamp_text;
use serde::{Deserialize, Serialize};

use super::{DAY_MS, Deed, operator_of, reason_of};
use crate::barrier::Awaited;
use crate::handle::{Caller, Handle, check_request_id, digest_of, parse_id, wait_of};
use crate::life::SUBJECT_ERASED;
use crate::model::{Erase, Erased, Remains};
use crate::refusal::Refusal;
use crate::shared::now_ms;
use crate::store::{Erasure, Outgoing, Repeat, Scope, Step};

/// A tombstone has pushed a value out of a consumer's topic after this long, and is gone itself after
/// 30 days more (docs/architecture.md, "Topics").
const COMPACTED_MS: i64 = DAY_MS;
/// What a sealed audit log keeps of a person: tags, for as long as the log.
const LOG: &str = "bus.audit";

/// What is remembered of the request.
#[derive(Serialize, Deserialize)]
struct Begun {
    order: String,
    closed: u64,
    at_ms: i64,
}

impl Handle {
    /// Erases a person, or tells how far an erasure has come: the same request again.
    pub async fn erase(&self, caller: &Caller, erase: Erase) -> Result<Erased, Refusal> {
        if !caller.is_security() {
            return Err(Refusal::RoleForbidden);
        }
        check_request_id(&erase.request_id)?;
        operator_of(&erase.operator)?;
        reason_of(&erase.reason)?;
        let id: IdNumber = parse_id(&erase.id)?;
        let (lane, subject) = self.place(&id);
        let digest = digest_of("erase", &erase)?;
        let principal = caller.name();
        let now = now_ms();

        let mut step = self.shared.store.step().await?;
        let begun: Begun = match step
            .repeated(&principal, &erase.request_id, &digest)
            .await?
        {
            Repeat::Done(begun) => begun,
            Repeat::Other => return Err(Refusal::RequestIdReused),
            Repeat::New => {
                let closed = close_all(&mut step, &erase, &principal, (lane, subject), now).await?;
                let order = erase_order(subject, &erase.request_id, now);
                let occasion = order.id.0;
                let scope = Scope::Subject { lane, subject };
                step.put_due(
                    now,
                    &scope,
                    SUBJECT_ERASED,
                    OrderCondition::Always,
                    &occasion,
                )
                .await?;
                step.put_erasure(&Erasure {
                    order: order.id,
                    lane,
                    subject,
                    at_ms: now,
                    destroyed: None,
                })
                .await?;
                let (kind, cause) = (AuditKind::Erased, AuditCause::Operator);
                let mut audit = Audit::empty(AuditWriter::Consent, lane, now, kind, cause);
                audit.subject = subject;
                audit.rule = SUBJECT_ERASED.into();
                audit.operator = erase.operator.clone().into();
                audit.reason = erase.reason.clone().into();
                audit.order = Some(order.id);
                step.send(lane, Outgoing::Order(&order), Some(&audit))
                    .await?;
                let begun = Begun {
                    order: order.id.hex(),
                    closed,
                    at_ms: now,
                };
                step.remember(&principal, &erase.request_id, &digest, &begun, now)
                    .await?;
                begun
            }
        };
        step.commit().await?;
        self.shared.wake.ring();
        self.progress(&erase, &begun, lane, subject).await
    }

    async fn progress(
        &self,
        erase: &Erase,
        begun: &Begun,
        lane: u16,
        subject: SubjectTag,
    ) -> Result<Erased, Refusal> {
        let store = &self.shared.store;
        let order = OrderId::from_hex(&begun.order).ok_or(Refusal::Unavailable)?;
        let wait = wait_of(erase.wait_ms);
        let started = std::time::Instant::now();
        let mut enforcement = Vec::new();
        for row in store.grants_of(subject).await? {
            let (id, counter) = (row.grant.id, row.grant.counter);
            // Watched first, then looked up: while another was waited for it may have been read back.
            self.shared.barrier.watch(lane, id, counter);
            let read_back = store.grant(id).await.ok().flatten();
            let offset = read_back.and_then(|row| row.offset_seen);
            let awaited = offset.map_or(Awaited::Grant { id, counter }, Awaited::Offset);
            let rest = wait.saturating_sub(started.elapsed());
            enforcement.push(self.await_change(lane, awaited, rest).await);
            self.shared.barrier.unwatch(lane, id);
        }
        // The vault answers within a turn or two; whoever can't wait asks again.
        let mut erasure = store.erasure(order).await?;
        while started.elapsed() < wait
            && erasure
                .as_ref()
                .is_some_and(|erasure| erasure.destroyed.is_none())
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            erasure = store.erasure(order).await?;
        }
        let destroyed = erasure.and_then(|erasure| erasure.destroyed);
        let (withdrawals, withdrawals_open) = store.orders_of(subject).await?;
        let (key_destroyed, key_destroyed_at) = destroyed.unzip();
        Ok(Erased {
            request_id: erase.request_id.clone(),
            grants_closed: begun.closed,
            enforcement,
            withdrawals,
            withdrawals_open,
            key_destroyed,
            key_destroyed_at: key_destroyed_at.map(timestamp_text),
            remains: remains(&self.contract(), begun.at_ms),
        })
    }
}

async fn close_all(
    step: &mut Step,
    erase: &Erase,
    principal: &str,
    (lane, subject): (u16, SubjectTag),
    now_ms: i64,
) -> Result<u64, Refusal> {
    let mut closed = 0;
    for row in step.grants_of(subject).await? {
        step.settle(row.grant.id).await?;
        if row.grant.status == GrantStatus::Closed {
            continue;
        }
        let next = Grant {
            status: GrantStatus::Closed,
            counter: row.grant.counter + 1,
            closed_ms: Some(now_ms),
            reason: SUBJECT_ERASED.to_owned(),
            ..row.grant
        };
        let deed = Deed {
            action: "closed",
            kind: match next.kind {
                GrantKind::Consent => AuditKind::ConsentRevoked,
                GrantKind::Case => AuditKind::CaseClosed,
            },
            cause: AuditCause::Operator,
            rule: SUBJECT_ERASED,
            principal,
            operator: &erase.operator,
            reason: &erase.reason,
            evidence: None,
            at_ms: now_ms,
        };
        deed.record(step, lane, &next, None).await?;
        step.settle(next.id).await?;
        closed += 1;
    }
    Ok(closed)
}

fn erase_order(subject: SubjectTag, request_id: &str, now_ms: i64) -> Order {
    let record = RecordTag(subject.0);
    Order {
        id: Order::derive_id(
            "",
            "",
            record,
            (0, 0),
            SUBJECT_ERASED,
            request_id.as_bytes(),
        ),
        action: OrderAction::Erase,
        condition: OrderCondition::Always,
        reason: SUBJECT_ERASED.to_owned(),
        agreement: String::new(),
        dataset: String::new(),
        subject,
        record: RecordTag::default(),
        epoch: 0,
        counter: 0,
        at_ms: now_ms,
    }
}

/// Where something of the person is left, and for how long: computed from the contract, for every
/// place that this system writes to.
fn remains(contract: &Contract, at_ms: i64) -> Vec<Remains> {
    let after = |ms: i64| Some(timestamp_text(at_ms.saturating_add(ms)));
    let mut all = Vec::new();
    for dataset in &contract.datasets {
        all.push(Remains {
            place: dataset.src_topic(),
            what_zh: "部门已发布的登封事件，按保留期删除".to_owned(),
            what_en: "sealed events that the department published, deleted after their retention"
                .to_owned(),
            until: after(i64::from(dataset.retention_days + 1) * DAY_MS),
        });
    }
    for section in contract.sections() {
        all.push(Remains {
            place: section.out_topic.clone(),
            what_zh: "已投递的值：撤回后随压实删除，仅留假名下的撤回标记".to_owned(),
            what_en:
                "delivered values until compaction after the withdrawal; then a tombstone under a \
                      pseudonym"
                    .to_owned(),
            until: after(COMPACTED_MS),
        });
    }
    all.push(Remains {
        place: "vault.subject_key".to_owned(),
        what_zh: "已销毁密钥的记录（标签和时间），不含密钥".to_owned(),
        what_en: "that there was a key and when it was destroyed, by tag; not the key".to_owned(),
        until: None,
    });
    all.push(Remains {
        place: LOG.to_owned(),
        what_zh: "审计记录：只含带密钥的标签，不含姓名、号码和内容".to_owned(),
        what_en: "audit records: keyed tags only, no name, number or content".to_owned(),
        until: None,
    });
    all.push(Remains {
        place: "consent.grants".to_owned(),
        what_zh: "同意记录与历史：证明处理合法所需，至少三年（个人信息保护法第五十六条）"
            .to_owned(),
        what_en:
            "consent records and their history, which show that the processing was lawful: three \
                  years at least (PIPL Art. 56)"
                .to_owned(),
        until: after(3 * 366 * DAY_MS),
    });
    all
}
