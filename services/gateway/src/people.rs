//! Keyed tags of people, remembered: events of one person come in runs (five insurances, two homes),
//! and each tag is an HMAC. Bounded, direct-mapped, in memory only.

use mz_contract::IdNumber;
use mz_journal::{Pseudonym, SubjectTag};
use mz_keys::AgreementKey;

use crate::options::Keys;

/// People remembered per slot; a power of two. About 4 MB.
const PEOPLE: usize = 1 << 16;
/// Pseudonyms remembered per slot; a power of two. About 5 MB.
const PSEUDONYMS: usize = 1 << 17;

/// A person as the bus knows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub id: IdNumber,
    pub lane: u16,
    pub tag: SubjectTag,
}

/// Tags of the people of one slot's lanes.
pub(crate) struct People {
    lanes: u16,
    people: Vec<Option<Person>>,
    pseudonyms: Vec<Option<(SubjectTag, u32, Pseudonym)>>,
}

impl People {
    pub(crate) fn new(lanes: u16) -> Self {
        Self {
            lanes,
            people: vec![None; PEOPLE],
            pseudonyms: vec![None; PSEUDONYMS],
        }
    }

    /// The person that an event names. `None` when the text is not an identity number in its
    /// normal form: one person must never have two spellings.
    pub(crate) fn person(&mut self, subject: &str, keys: &Keys) -> Option<Person> {
        let at = spread(subject.as_bytes()) & (PEOPLE - 1);
        if let Some(known) = &self.people[at]
            && known.id.as_str() == subject
        {
            return Some(*known);
        }
        let id = IdNumber::parse(subject).ok()?;
        if id.as_str() != subject {
            return None;
        }
        let person = Person {
            id,
            lane: keys.placement.lane(&id, self.lanes),
            tag: keys.subject.tag(&id),
        };
        self.people[at] = Some(person);
        Some(person)
    }

    /// Who the person is under one agreement.
    pub(crate) fn pseudonym(
        &mut self,
        person: &Person,
        agreement: u32,
        key: &AgreementKey,
    ) -> Pseudonym {
        let at = (spread(&person.tag.0) ^ agreement as usize) & (PSEUDONYMS - 1);
        match &self.pseudonyms[at] {
            Some((tag, of, pseudonym)) if *tag == person.tag && *of == agreement => *pseudonym,
            _ => {
                let pseudonym = key.pseudonym(person.tag);
                self.pseudonyms[at] = Some((person.tag, agreement, pseudonym));
                pseudonym
            }
        }
    }
}

fn spread(bytes: &[u8]) -> usize {
    use std::hash::Hasher as _;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(bytes);
    hasher.finish() as usize
}
