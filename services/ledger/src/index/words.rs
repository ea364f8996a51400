//! The dictionary: agreements, consumers, purposes, datasets and rules by number. Words are never
//! changed or removed, so that what was once read stays true.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::PgPool;

use super::{IndexError, Leaf, clean};

/// What this process has read of the dictionary.
#[derive(Default)]
pub(super) struct Words {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashMap<Arc<str>, i32>,
    texts: HashMap<i32, Arc<str>>,
}

impl Words {
    /// Numbers for the words of these entries, new ones included.
    pub async fn numbered(&self, pool: &PgPool, entries: &[impl Leaf]) -> Result<(), IndexError> {
        let missing: BTreeSet<String> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            of(entries)
                .filter(|text| !known.ids.contains_key(*text))
                .map(|text| clean::word(text).into_owned())
                .filter(|text| !known.ids.contains_key(text.as_str()))
                .collect()
        };
        let missing: Vec<String> = missing.into_iter().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.add(pool, &missing).await
    }

    /// The number of one word, new or not.
    pub async fn numbered_one(&self, pool: &PgPool, text: &str) -> Result<i32, IndexError> {
        if self.id(pool, text).await?.is_none() {
            self.add(pool, &[clean::word(text).into_owned()]).await?;
        }
        self.known_id(text).ok_or(IndexError::Damaged("word"))
    }

    /// `texts` ascending: two writers that add the same don't wait for each other crosswise.
    async fn add(&self, pool: &PgPool, texts: &[String]) -> Result<(), IndexError> {
        sqlx::query(
            "INSERT INTO word (text) SELECT text FROM unnest($1::text[]) AS fresh (text)
             WHERE NOT EXISTS (SELECT FROM word WHERE word.text = fresh.text) ORDER BY text
             ON CONFLICT DO NOTHING",
        )
        .bind(texts)
        .execute(pool)
        .await?;
        self.keep(stored(pool, texts).await?);
        Ok(())
    }

    /// The number of a word, if it has one.
    pub async fn id(&self, pool: &PgPool, text: &str) -> Result<Option<i32>, IndexError> {
        let text = clean::word(text);
        if let Some(id) = self.known_id(&text) {
            return Ok(Some(id));
        }
        self.keep(stored(pool, &[text.clone().into_owned()]).await?);
        Ok(self.known_id(&text))
    }

    /// After [`Self::numbered`]. The empty text has no number.
    pub fn known_id(&self, text: &str) -> Option<i32> {
        if text.is_empty() {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .ids
            .get(text)
            .or_else(|| known.ids.get(&*clean::word(text)))
            .copied()
    }

    /// Texts of numbers, for [`Self::text`].
    pub async fn load(
        &self,
        pool: &PgPool,
        ids: impl Iterator<Item = i32>,
    ) -> Result<(), IndexError> {
        let missing: BTreeSet<i32> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            ids.filter(|id| !known.texts.contains_key(id)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<i32> = missing.into_iter().collect();
        let rows = sqlx::query_as("SELECT id, text FROM word WHERE id = ANY($1)")
            .bind(missing)
            .fetch_all(pool)
            .await?;
        self.keep(rows);
        Ok(())
    }

    /// Empty for null, and for a number that no program wrote.
    pub fn text(&self, id: Option<i32>) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        id.and_then(|id| known.texts.get(&id))
            .map(|text| text.to_string())
            .unwrap_or_default()
    }

    fn keep(&self, rows: Vec<(i32, String)>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (id, text) in rows {
            let text: Arc<str> = text.into();
            known.ids.insert(Arc::clone(&text), id);
            known.texts.insert(id, text);
        }
    }
}

/// The dictionary as it is stored now: what this process remembers proves nothing.
pub(super) struct Numbers(HashMap<String, i32>);

/// A word that the dictionary doesn't have: no row holds its number.
const NO_WORD: i32 = i32::MIN;

impl Numbers {
    /// For the words of these entries.
    pub async fn read(pool: &PgPool, entries: &[impl Leaf]) -> Result<Self, IndexError> {
        let texts: BTreeSet<String> = of(entries)
            .map(|text| clean::word(text).into_owned())
            .collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let rows = stored(pool, &texts).await?;
        Ok(Self(
            rows.into_iter().map(|(id, text)| (text, id)).collect(),
        ))
    }

    /// The empty text has no number.
    pub fn id(&self, text: &str) -> Option<i32> {
        let known = || {
            self.0
                .get(text)
                .or_else(|| self.0.get(&*clean::word(text)))
                .copied()
        };
        (!text.is_empty()).then(|| known().unwrap_or(NO_WORD))
    }
}

/// The dictionary's own rows for these texts.
async fn stored(pool: &PgPool, texts: &[String]) -> Result<Vec<(i32, String)>, IndexError> {
    let rows = sqlx::query_as("SELECT id, text FROM word WHERE text = ANY($1)")
        .bind(texts)
        .fetch_all(pool)
        .await?;
    Ok(rows)
}

/// All words of these entries, with repeats, as they came.
fn of(entries: &[impl Leaf]) -> impl Iterator<Item = &str> {
    entries
        .iter()
        .filter_map(Leaf::audit)
        .flat_map(|audit| {
            [
                &*audit.agreement,
                &*audit.consumer,
                &*audit.purpose,
                &*audit.dataset,
                &*audit.rule,
            ]
        })
        .filter(|text| !text.is_empty())
}
