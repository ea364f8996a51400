//! What others may ask of a running vault. Cheap to clone; async, since HTTP asks.

use std::sync::Arc;
use std::time::Instant;

use mz_contract::words::{self, WordsFault};
use mz_contract::{Contract, IdNumber};
use mz_journal::{GrantId, SubjectTag};
use mz_keys::vrf::{PROOF_LEN, SubjectLabel, label_of};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::bundle::{Bundle, BundleRequest, SubjectQuery};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::command::{Act, AuditorAsk, BundleAsk, Command, Hiding, Recorded};

#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What is up. Ready means that bundles about some people can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub slots_open: usize,
    pub slots: u32,
    pub sources_read: bool,
}

impl Readiness {
    pub fn is_ready(self) -> bool {
        self.slots_open > 0 && self.sources_read
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The contract in force, as of now: a request holds on to the one it was read under.
    pub fn contract(&self) -> Arc<Contract> {
        self.shared.contract()
    }

    pub fn readiness(&self) -> Readiness {
        Readiness {
            slots_open: self.shared.open_slots(),
            slots: self.shared.slots,
            sources_read: self.shared.freshness.is_loaded(),
        }
    }

    /// A person's lane and tag on the bus.
    pub fn place(&self, id: &IdNumber) -> (u16, SubjectTag) {
        self.shared.keys.place(id, self.shared.lanes)
    }

    /// A person's label in the ledger, and its proof (RFC 9381). Record who asks before giving it away.
    pub fn label(&self, id: &IdNumber) -> (SubjectLabel, [u8; PROOF_LEN]) {
        let proof = self.shared.keys.vrf.prove(id);
        (label_of(&proof), proof)
    }

    /// The evidence bundle of a service item about one person, for the department `caller`.
    /// Its audit records are committed when this returns.
    pub async fn bundle(&self, caller: &str, request: BundleRequest) -> Result<Bundle, Refusal> {
        let received = Instant::now();
        check_operator(&request.operator)?;
        check_reason(&request.reason)?;
        if self.contract().item(&request.item).is_none() {
            return Err(Refusal::ItemUnknown);
        }
        let Found {
            lane,
            subject,
            person,
            case,
        } = self.find(&request.subject)?;
        // Before every source's status was read once, all of them would seem to be down.
        if !self.shared.freshness.is_loaded() {
            return Err(Refusal::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let ask = BundleAsk {
            bundle_id: Uuid::now_v7().to_string(),
            item: request.item,
            lane,
            subject,
            person,
            case,
            caller: caller.to_owned(),
            operator: request.operator,
            reason: request.reason,
            received,
            reply,
        };
        self.shared.route(lane, Command::Bundle(Box::new(ask)))?;
        // A slot that stops drops its requests unanswered.
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Records that an auditor of department `caller` reads a person's log. Read it after this.
    pub async fn record_auditor(
        &self,
        caller: &str,
        id: &IdNumber,
        operator: &str,
        reason: &str,
    ) -> Result<(Recorded, SubjectTag), Refusal> {
        check_operator(operator)?;
        check_reason(reason)?;
        let (lane, subject) = self.place(id);
        let place = (lane, subject, Some(*id));
        let answer = self.put(Act::Question, place, caller, operator, reason)?;
        let recorded = answer.await.unwrap_or(Err(Refusal::Unavailable))?;
        Ok((recorded, subject))
    }

    /// Records an auditor's question that is about nobody in particular, in some lane that this process
    /// writes.
    pub async fn record_question(
        &self,
        caller: &str,
        operator: &str,
        reason: &str,
    ) -> Result<Recorded, Refusal> {
        check_operator(operator)?;
        check_reason(reason)?;
        let mut refusal = Refusal::LaneElsewhere;
        for lane in 0..self.shared.lanes {
            let place = (lane, SubjectTag::default(), None);
            match self.put(Act::Question, place, caller, operator, reason) {
                Ok(answer) => return answer.await.unwrap_or(Err(Refusal::Unavailable)),
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    /// Records that hiding a use from a person was requested or approved. The person is the tag alone.
    pub async fn record_hiding(
        &self,
        hiding: Hiding,
        (lane, subject): (u16, SubjectTag),
        caller: &str,
        operator: &str,
        reason: &str,
    ) -> Result<Recorded, Refusal> {
        check_operator(operator)?;
        check_reason(reason)?;
        let place = (lane, subject, None);
        let answer = self.put(Act::Hiding(hiding), place, caller, operator, reason)?;
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Hands an act to the owner of the lane, who records it.
    fn put(
        &self,
        act: Act,
        (lane, subject, person): (u16, SubjectTag, Option<IdNumber>),
        caller: &str,
        operator: &str,
        reason: &str,
    ) -> Result<oneshot::Receiver<Result<Recorded, Refusal>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let ask = AuditorAsk {
            act,
            lane,
            subject,
            person,
            caller: caller.to_owned(),
            operator: operator.to_owned(),
            reason: reason.to_owned(),
            reply,
        };
        self.shared.route(lane, Command::Auditor(Box::new(ask)))?;
        Ok(answer)
    }

    fn find(&self, query: &SubjectQuery) -> Result<Found, Refusal> {
        match query {
            SubjectQuery::Id(text) => {
                let id =
                    IdNumber::parse(text).map_err(|fault| Refusal::SubjectInvalid(fault.code()))?;
                let (lane, subject) = self.place(&id);
                Ok(Found {
                    lane,
                    subject,
                    person: Some(id),
                    case: None,
                })
            }
            SubjectQuery::Case(text) => {
                let case = GrantId::from_hex(text).ok_or(Refusal::CaseInvalid)?;
                match self.shared.case(case) {
                    Some((lane, subject)) => Ok(Found {
                        lane,
                        subject,
                        person: None,
                        case: Some(case),
                    }),
                    // With lanes elsewhere, nobody here can say that there is no such case.
                    None if self.shared.open_slots() < self.shared.slots as usize => {
                        Err(Refusal::LaneElsewhere)
                    }
                    None => Err(Refusal::CaseUnknown),
                }
            }
        }
    }
}

/// Whom a request is about.
struct Found {
    lane: u16,
    subject: SubjectTag,
    person: Option<IdNumber>,
    case: Option<GrantId>,
}

/// An operator id names an employee in the department's own directory. It is never a citizen's
/// number: the audit log must not hold one.
pub fn check_operator(operator: &str) -> Result<(), Refusal> {
    words::check_operator(operator).map_err(|_| Refusal::OperatorInvalid)
}

/// What the operator writes stays in the audit log for good: no control characters, and no
/// identity number.
pub fn check_reason(reason: &str) -> Result<(), Refusal> {
    words::check_text(reason, words::MAX_REASON_BYTES).map_err(|fault| match fault {
        WordsFault::Form => Refusal::ReasonInvalid,
        WordsFault::HoldsNumber => Refusal::ReasonHoldsNumber,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_an_identity_number_into_the_log() {
        for bad in [
            "查询11010519491231002X的材料",
            "110105 1949 1231 002x",
            "１１０１０５１９４９１２３１００２Ｘ",
            "no.110105-19491231-002X",
        ] {
            assert_eq!(check_reason(bad), Err(Refusal::ReasonHoldsNumber), "{bad}");
        }
        assert_eq!(
            check_operator("11010519491231002X"),
            Err(Refusal::OperatorInvalid)
        );
        assert_eq!(check_reason("人才入户窗口受理 2026-000117"), Ok(()));
        assert_eq!(check_operator("hz.window-07"), Ok(()));
        for bad in ["", " ", "a\nb", &"长".repeat(100)] {
            assert_eq!(check_reason(bad), Err(Refusal::ReasonInvalid));
        }
        for bad in ["", "张三", "a b", &"x".repeat(65)] {
            assert_eq!(check_operator(bad), Err(Refusal::OperatorInvalid));
        }
    }
}
