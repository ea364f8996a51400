//! The keys of the people in a slot's lanes: looked up for many at once, kept for as many as were
//! lately asked for, made when a person's first fact comes, gone when the person is erased.

use std::sync::Arc;

use mz_journal::SubjectTag;
use mz_keys::{DataKey, KeyWrapper};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::{PgConnection, Row};

use super::StoreError;
use super::facts::tag;
use super::fence::lane_of;
use crate::cipher::{CipherError, key_binding};
use crate::limits::MAX_CACHED_KEYS;

pub type Person = (u16, SubjectTag);

/// What the store knows of one person beside their facts.
#[derive(Clone)]
pub struct Known {
    pub key: DataKey,
    /// Dataset → offset below which nothing is stored any more. `None`: never erased.
    pub erased: Option<Arc<FxHashMap<u32, i64>>>,
}

impl Known {
    /// Whether an event of this place was erased with the person.
    pub fn is_erased(&self, dataset: u32, offset: i64) -> bool {
        is_erased(self.erased.as_deref(), dataset, offset)
    }
}

fn is_erased(erased: Option<&FxHashMap<u32, i64>>, dataset: u32, offset: i64) -> bool {
    erased.is_some_and(|below| below.get(&dataset).is_some_and(|below| offset < *below))
}

/// Keys are wiped as they leave the cache.
pub(super) struct Keyring {
    wrapper: Arc<dyn KeyWrapper>,
    recent: FxHashMap<Person, Known>,
    /// What was recent before: looked up here, it becomes recent again; then it goes as a whole.
    older: FxHashMap<Person, Known>,
}

/// Keys for one write, and those of them that are new and must be stored with it.
#[derive(Default)]
pub(super) struct Keys {
    pub known: FxHashMap<Person, Known>,
    fresh: Vec<Person>,
}

impl Keyring {
    pub fn new(wrapper: Arc<dyn KeyWrapper>) -> Self {
        Self {
            wrapper,
            recent: FxHashMap::default(),
            older: FxHashMap::default(),
        }
    }

    pub fn forget(&mut self, person: Person) {
        self.recent.remove(&person);
        self.older.remove(&person);
    }

    fn cached(&mut self, person: Person) -> Option<Known> {
        if let Some(known) = self.recent.get(&person) {
            return Some(known.clone());
        }
        let known = self.older.remove(&person)?;
        self.keep(person, known.clone());
        Some(known)
    }

    fn keep(&mut self, person: Person, known: Known) {
        if self.recent.len() >= MAX_CACHED_KEYS / 2 {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(person, known);
    }

    /// The keys of those who have one that opens.
    pub async fn find(
        &mut self,
        connection: &mut PgConnection,
        people: impl IntoIterator<Item = Person>,
    ) -> Result<FxHashMap<Person, Known>, StoreError> {
        let mut found = FxHashMap::default();
        let mut asked = FxHashSet::default();
        for person in people {
            if found.contains_key(&person) || asked.contains(&person) {
                continue;
            }
            match self.cached(person) {
                Some(known) => {
                    found.insert(person, known);
                }
                None => {
                    asked.insert(person);
                }
            }
        }
        let (rows, mut erased) = rows(connection, &asked).await?;
        for (person, wrapped) in rows {
            if wrapped.is_empty() {
                continue;
            }
            let binding = key_binding(person.0, person.1);
            let Ok(key) = self.wrapper.unwrap(&wrapped, &binding) else {
                tracing::error!(lane = person.0, "a person's key does not open");
                continue;
            };
            let known = Known {
                key,
                erased: erased.remove(&person).map(Arc::new),
            };
            self.keep(person, known.clone());
            found.insert(person, known);
        }
        Ok(found)
    }

    /// The keys of all who have facts in `places` (dataset, offset), new ones made for those who have
    /// none. A person all of whose facts were erased before gets none. Nothing is remembered before
    /// [`Self::stored`].
    pub async fn for_writing(
        &mut self,
        connection: &mut PgConnection,
        places: &[(Person, u32, i64)],
    ) -> Result<Keys, StoreError> {
        let people = places.iter().map(|(person, ..)| *person);
        let mut keys = Keys {
            known: self.find(connection, people).await?,
            fresh: Vec::new(),
        };
        let missing: FxHashSet<Person> = places
            .iter()
            .map(|(person, ..)| *person)
            .filter(|person| !keys.known.contains_key(person))
            .collect();
        if missing.is_empty() {
            return Ok(keys);
        }
        let mut erased = erased_of(connection, &missing).await?;
        for (person, dataset, offset) in places {
            let gone = is_erased(erased.get(person), *dataset, *offset);
            if gone || keys.known.contains_key(person) {
                continue;
            }
            let known = Known {
                key: DataKey::generate().map_err(CipherError::Random)?,
                erased: erased.remove(person).map(Arc::new),
            };
            keys.known.insert(*person, known);
            keys.fresh.push(*person);
        }
        self.write(connection, &mut keys).await?;
        Ok(keys)
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        keys: &mut Keys,
    ) -> Result<(), StoreError> {
        // Row locks are taken in one order, whoever writes.
        keys.fresh.sort_unstable();
        let (mut lanes, mut subjects, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
        for person in &keys.fresh {
            let Some(known) = keys.known.get(person) else {
                continue;
            };
            let binding = key_binding(person.0, person.1);
            lanes.push(i32::from(person.0));
            subjects.push(person.1.0.to_vec());
            let bytes = self.wrapper.wrap(&known.key, &binding);
            wrapped.push(bytes.map_err(CipherError::Key)?);
        }
        if lanes.is_empty() {
            return Ok(());
        }
        let made = lanes.len() as u64;
        let written = sqlx::query(
            "INSERT INTO subject_key AS held (lane, subject, wrapped)
             SELECT * FROM unnest($1::integer[], $2::bytea[], $3::bytea[])
             ON CONFLICT (lane, subject) DO UPDATE
                SET wrapped = excluded.wrapped, made_at = now()
              WHERE octet_length(held.wrapped) = 0",
        )
        .bind(lanes)
        .bind(subjects)
        .bind(wrapped)
        .execute(connection)
        .await?;
        // There is one already, and it didn't open: a fact under another would be lost.
        if written.rows_affected() != made {
            return Err(StoreError::Damaged("wrapped key"));
        }
        Ok(())
    }

    /// The transaction in which `keys` were made is committed.
    pub fn stored(&mut self, mut keys: Keys) {
        for person in std::mem::take(&mut keys.fresh) {
            if let Some(known) = keys.known.remove(&person) {
                self.keep(person, known);
            }
        }
    }
}

type Rows = (
    Vec<(Person, Vec<u8>)>,
    FxHashMap<Person, FxHashMap<u32, i64>>,
);

/// Wrapped keys, and what was erased of those that were.
async fn rows(
    connection: &mut PgConnection,
    people: &FxHashSet<Person>,
) -> Result<Rows, StoreError> {
    if people.is_empty() {
        return Ok(Rows::default());
    }
    let (lanes, subjects) = columns(people);
    let found = sqlx::query(
        "SELECT key.lane, key.subject, key.wrapped, key.destroyed_at IS NOT NULL AS erased
           FROM unnest($1::integer[], $2::bytea[]) AS asked (lane, subject)
           JOIN subject_key AS key USING (lane, subject)",
    )
    .bind(lanes)
    .bind(subjects)
    .fetch_all(&mut *connection)
    .await?;
    let mut rows = Vec::with_capacity(found.len());
    let mut erased = FxHashSet::default();
    for row in &found {
        let person = person(row)?;
        if row.try_get("erased")? {
            erased.insert(person);
        }
        rows.push((person, row.try_get("wrapped")?));
    }
    Ok((rows, erased_of(connection, &erased).await?))
}

async fn erased_of(
    connection: &mut PgConnection,
    people: &FxHashSet<Person>,
) -> Result<FxHashMap<Person, FxHashMap<u32, i64>>, StoreError> {
    let mut erased: FxHashMap<Person, FxHashMap<u32, i64>> = FxHashMap::default();
    if people.is_empty() {
        return Ok(erased);
    }
    let (lanes, subjects) = columns(people);
    let rows = sqlx::query(
        "SELECT below.lane, below.subject, below.dataset, below.next_offset
           FROM unnest($1::integer[], $2::bytea[]) AS asked (lane, subject)
           JOIN erased_below AS below USING (lane, subject)",
    )
    .bind(lanes)
    .bind(subjects)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let dataset = u32::try_from(row.try_get::<i32, _>("dataset")?)
            .map_err(|_| StoreError::Damaged("dataset"))?;
        let below = erased.entry(person(row)?).or_default();
        below.insert(dataset, row.try_get("next_offset")?);
    }
    Ok(erased)
}

fn person(row: &sqlx::postgres::PgRow) -> Result<Person, StoreError> {
    let lane = lane_of(row.try_get("lane")?)?;
    Ok((lane, SubjectTag(tag(row, "subject")?)))
}

fn columns(people: &FxHashSet<Person>) -> (Vec<i32>, Vec<Vec<u8>>) {
    let columns = people.iter();
    columns
        .map(|(lane, subject)| (i32::from(*lane), subject.0.to_vec()))
        .unzip()
}
