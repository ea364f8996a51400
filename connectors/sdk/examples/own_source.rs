//! A source of one's own: whatever can say what stands in the register now. Here a list in memory;
//! yours calls an API, reads a message queue or walks a mainframe's extract.
//!
//! `cargo run -p mz-sdk --example own_source` reads it without a bus and prints what it yields.

use mz_sdk::{Chunk, Event, Item, Pass, PassEnd, Reject, Source, SourceError};
use mz_seal::Datum;

/// Rows that one `read` yields.
const CHUNK: usize = 500;

/// A booking as our system keeps it.
struct Booking {
    number: u64,
    id: &'static str,
    name: &'static str,
    slot_ms: i64,
    /// When the system last changed it; rises.
    changed_ms: i64,
}

struct Bookings {
    rows: Vec<Booking>,
    /// Next row of this pass.
    at: usize,
    /// The pass covers what changed at or after this moment.
    since_ms: i64,
}

impl Source for Bookings {
    fn begin(&mut self, after: Option<&[u8]>) -> Result<Pass, SourceError> {
        self.at = 0;
        // The position is ours; what can't be read counts as none, and a pass over everything is
        // never wrong: what is unchanged publishes nothing.
        let since = after.and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
        self.since_ms = since.unwrap_or(0);
        Ok(if since.is_some() {
            Pass::Changes
        } else {
            Pass::Snapshot
        })
    }

    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, SourceError> {
        let rest = self.rows.get(self.at..).unwrap_or_default();
        for (place, row) in rest.iter().enumerate().take(CHUNK) {
            if row.changed_ms < self.since_ms {
                chunk.skipped();
                continue;
            }
            match event(row) {
                Ok(event) => chunk.event(event),
                Err(code) => chunk.reject(Reject {
                    row: (self.at + place + 1) as u64,
                    column: "id".into(),
                    field: "idNo".into(),
                    code,
                    values: vec![("id".into(), row.id.into())],
                    record: Some(("police.appointment.v1".into(), row.number.to_string())),
                }),
            }
            // Committed together with the events before it.
            chunk.reached(row.changed_ms.to_string().into_bytes());
        }
        self.at += CHUNK.min(rest.len());
        Ok(self.at < self.rows.len())
    }

    fn end(&mut self) -> Result<PassEnd, SourceError> {
        let newest = self
            .rows
            .iter()
            .map(|row| row.changed_ms)
            .max()
            .unwrap_or(0);
        Ok(PassEnd {
            complete_to_ms: newest,
            complete: true,
        })
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some((self.at as u64, self.rows.len() as u64))
    }
}

/// The fields of `police.appointment.v1`, in schema order. The connector checks them again.
fn event(row: &Booking) -> Result<Event, &'static str> {
    let id = mz_contract::IdNumber::parse(row.id).map_err(mz_contract::IdFault::code)?;
    Ok(Event {
        dataset: "police.appointment.v1".into(),
        fields: vec![
            Datum::Str(row.number.to_string()),
            Datum::Str("talent-settlement".into()),
            Datum::Str(id.as_str().into()),
            Datum::Str(row.name.into()),
            Datum::Null,
            Datum::Array(Vec::new()),
            Datum::Str("市民中心".into()),
            Datum::TimestampMillis(row.slot_ms),
            Datum::Enum("BOOKED".into()),
        ],
        occurred_ms: Some(row.changed_ms),
        withdrawn: false,
        row: row.number,
    })
}

fn main() -> Result<(), SourceError> {
    let booking = |number, id| Booking {
        number,
        id,
        name: "王小明",
        slot_ms: 1,
        changed_ms: 1_000 + number as i64,
    };
    // Made up; the second one has a wrong check character.
    let rows = vec![
        booking(1, "11010519491231002x"),
        booking(2, "110105194912310021"),
    ];
    let mut source = Bookings {
        rows,
        at: 0,
        since_ms: 0,
    };
    println!("{:?}", source.begin(None)?);
    let mut chunk = Chunk::default();
    while source.read(&mut chunk)? {}
    for item in chunk.drain() {
        match item {
            Item::Event(event) => println!("event of row {}", event.row),
            Item::Reject(reject) => println!("{reject:?}"),
            Item::Reached(_) | Item::Skipped => {}
        }
    }
    println!("{:?}", source.end()?);
    Ok(())
}
