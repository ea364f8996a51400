//! The consent service from the caller's side: one method a route.

use mz_consent::model::{
    About, Activate, AgreementAct, AgreementActKind, AskEnforcement, AskWithdrawals, Because,
    Change, ChangeKind, Changed, Enforcement, Erase, Erased, Give, Given, InForceView, Listed,
    OpenCase, Opened, VersionEntry, Why, Withdrawals,
};

use crate::api::consent::Nothing;
use crate::client::{Client, ClientError};
use crate::roles::{self, Route};

/// Pages that one listing follows.
const MAX_PAGES: usize = 1_000;

impl Client {
    pub fn give(&self, give: &Give) -> Result<Given, ClientError> {
        self.call(&roles::GIVE, give)
    }

    pub fn change(&self, kind: ChangeKind, change: &Change) -> Result<Changed, ClientError> {
        self.call(change_route(kind), change)
    }

    pub fn open_case(&self, case: &OpenCase) -> Result<Opened, ClientError> {
        self.call(&roles::OPEN_CASE, case)
    }

    pub fn grants(&self, about: &About) -> Result<Listed, ClientError> {
        self.call(&roles::LIST, about)
    }

    pub fn enforcement(&self, ask: &AskEnforcement) -> Result<Enforcement, ClientError> {
        self.call(&roles::ENFORCEMENT, ask)
    }

    pub fn why(&self, ask: &Why) -> Result<Because, ClientError> {
        self.call(&roles::WHY, ask)
    }

    pub fn agreement(
        &self,
        kind: AgreementActKind,
        act: &AgreementAct,
    ) -> Result<InForceView, ClientError> {
        let route = match kind {
            AgreementActKind::Suspend => &roles::SUSPEND,
            AgreementActKind::Resume => &roles::RESUME_AGREEMENT,
            AgreementActKind::Terminate => &roles::TERMINATE,
        };
        self.call(route, act)
    }

    pub fn activate(&self, contract: &Activate) -> Result<InForceView, ClientError> {
        self.call(&roles::ACTIVATE, contract)
    }

    pub fn versions(&self) -> Result<Vec<VersionEntry>, ClientError> {
        self.call(&roles::VERSIONS, &Nothing {})
    }

    /// One page.
    pub fn withdrawals(&self, ask: &AskWithdrawals) -> Result<Withdrawals, ClientError> {
        self.call(&roles::WITHDRAWALS, ask)
    }

    /// All pages, joined; the counts are those of the last.
    pub fn all_withdrawals(&self, ask: &AskWithdrawals) -> Result<Withdrawals, ClientError> {
        let mut ask = ask.clone();
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = self.withdrawals(&ask)?;
            found.extend(page.withdrawals);
            ask.cursor.clone_from(&page.cursor);
            if ask.cursor.is_none() {
                return Ok(Withdrawals {
                    withdrawals: found,
                    ..page
                });
            }
        }
        Err(ClientError::Endless)
    }

    pub fn erase(&self, erase: &Erase) -> Result<Erased, ClientError> {
        self.call(&roles::ERASE, erase)
    }
}

const fn change_route(kind: ChangeKind) -> &'static Route {
    match kind {
        ChangeKind::Revoke => &roles::REVOKE,
        ChangeKind::Pause => &roles::PAUSE,
        ChangeKind::Resume => &roles::RESUME,
        ChangeKind::Extend => &roles::EXTEND,
        ChangeKind::Close => &roles::CLOSE,
    }
}
