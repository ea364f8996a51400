//! What is hidden, from whom, until when and on whose ground, as one digest. The audit records of both acts
//! carry it, so that a row of the tables can be held against them word for word.

use sha2::{Digest as _, Sha256};

const TERMS_V1: &[u8] = b"mianzheng/hide/v1\n";

/// The parts of a hide that its two acts agree on, as the tables keep them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub subject: &'a [u8],
    pub lane: u16,
    pub until_ms: i64,
    pub consumer: &'a str,
    pub operator: &'a str,
    pub principal: &'a str,
    pub reason: &'a str,
}

impl Terms<'_> {
    /// Byte for byte in docs/audit-format.md.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(TERMS_V1);
        hash.update(self.subject);
        hash.update(self.lane.to_be_bytes());
        hash.update(self.until_ms.to_be_bytes());
        for text in [self.consumer, self.operator, self.principal, self.reason] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }
}

#[test]
fn every_part_is_in_the_digest() {
    let terms = Terms {
        subject: &[7; 16],
        lane: 3,
        until_ms: 1_800_000_000_000,
        consumer: "police",
        operator: "hz-07",
        principal: "police.window",
        reason: "case 7",
    };
    let others = [
        Terms {
            subject: &[8; 16],
            ..terms
        },
        Terms { lane: 4, ..terms },
        Terms {
            until_ms: 1_800_000_000_001,
            ..terms
        },
        Terms {
            consumer: "polic",
            operator: "ehz-07",
            ..terms
        },
        Terms {
            operator: "hz-08",
            ..terms
        },
        Terms {
            principal: "police.auditor",
            ..terms
        },
        Terms {
            reason: "case 8",
            ..terms
        },
    ];
    for other in others {
        assert_ne!(other.digest(), terms.digest(), "{other:?}");
    }
}
