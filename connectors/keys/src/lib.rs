//! Keys and identities: signers by URI, keyed tags, the local certificate authority.
