//! Grants: consents and cases, the revocation barrier, withdrawals with receipts, the contract in force.
