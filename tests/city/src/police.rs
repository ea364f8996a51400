//! police/household.ndjson and police/appointments.ndjson: what the one-window system pushes out.

use std::io::{self, Write};

use chrono::{Datelike, Days, NaiveDate, Weekday};
use serde_json::{Value, json};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, Person, address, changes, day};
use crate::options::Options;
use crate::place::CITY;
use crate::shape::MOVES_AFTER;
use crate::write::Marks;

pub struct Police<W: Write> {
    household: W,
    bookings: W,
    pub households: Tally,
    pub appointments: Tally,
    pub case_subjects: u64,
    pub about_cases: u64,
}

impl<W: Write> Police<W> {
    pub fn create(household: W, bookings: W) -> Self {
        Self {
            household,
            bookings,
            households: Tally::default(),
            appointments: Tally::default(),
            case_subjects: 0,
            about_cases: 0,
        }
    }

    /// The booking's number, when there is one.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> io::Result<Option<String>> {
        for person in &family.members {
            let Some((key, mut row)) = household(options, family, person) else {
                continue;
            };
            for column in ["zz", "hh"] {
                let text = row[column].as_str().unwrap_or_default();
                row[column] = Value::String(marks.text(options, column, text, person.key));
            }
            let dirt = family.dirt(options, Place::Household, key, person);
            let row = spoil(row, dirt, &person.identity.number, "qyrq");
            if family.case(options, person) && !dirt.is_some_and(Dirt::rejected) {
                self.about_cases += 1;
            }
            for _ in 0..self.households.count(dirt) {
                line(&mut self.household, &row)?;
            }
        }
        let Some(head) = family
            .members
            .first()
            .filter(|_| family.shape.booked(options.snapshot))
        else {
            return Ok(None);
        };
        let number = format!("YY{}{:07}", options.as_of.format("%Y"), family.index + 1);
        let dirt = family.dirt(options, Place::Booking, family.index, head);
        let row = spoil(
            booking(options, family, head, &number),
            dirt,
            &head.identity.number,
            "yysj",
        );
        for _ in 0..self.appointments.count(dirt) {
            line(&mut self.bookings, &row)?;
        }
        self.case_subjects += family
            .members
            .iter()
            .filter(|person| family.case(options, person))
            .count() as u64;
        Ok(Some(number))
    }

    /// Writes what is still held back.
    pub fn finish(&mut self) -> io::Result<()> {
        self.household.flush()?;
        self.bookings.flush()
    }
}

fn household(options: &Options, family: &Family, person: &Person) -> Option<(u64, Value)> {
    let head = family.members.first()?;
    let mut chance = Chance::of(options.seed, Draw::Household, person.key);
    let comes_along = person.key == head.key || family.shape.dependents;
    let (change, date, from, approval) = if family.shape.resident {
        let (changed, last) = changes(options, Place::Household, person.key);
        let born_here = person.identity.region == CITY;
        match (changed, born_here) {
            (0, true) => ("出生", person.identity.born, None, None),
            (0, false) => (
                "迁入",
                earlier(options, &mut chance),
                Some(person.identity.region),
                None,
            ),
            _ => ("市内迁移", day(options, last), Some(CITY), None),
        }
    } else {
        let permitted = family
            .shape
            .permitted_at
            .filter(|_| comes_along && family.shape.permitted(options.snapshot))?;
        let approval = Some(family.approval_no(options));
        let from = Some(person.identity.region);
        if family.shape.moved(options.snapshot) {
            let at = permitted + MOVES_AFTER;
            ("迁入", day(options, at), from, approval)
        } else {
            ("准迁签发", day(options, permitted), from, approval)
        }
    };
    let moves = match change {
        "市内迁移" => u64::from(changes(options, Place::Household, person.key).1) << 40,
        _ => 0,
    };
    // A register remembers when it learned something, not when it was exported; on paper till 2002.
    let learned = date.max(NaiveDate::from_ymd_opt(2002, 1, 1).unwrap_or(date));
    let row = json!({
        "ywlsh": format!("HJ{}{:09}", options.as_of.format("%Y"), person.key + 1),
        "hh": format!("{:09}", 100_000_000 + family.index),
        "gmsfhm": person.identity.number,
        "xm": person.name,
        "csrq": person.identity.born.to_string(),
        "yhzgx": person.relation.text(),
        "zz": address(options, head.key ^ moves),
        "xzqh": CITY,
        "hdqr": from,
        "bdlx": change,
        "qyrq": date.to_string(),
        "sprbh": approval,
        "gxsj": format!("{learned}T09:30:00+08:00"),
    });
    Some((person.key, row))
}

fn earlier(options: &Options, chance: &mut Chance) -> NaiveDate {
    options.as_of - Days::new(30 + chance.below(3_000))
}

fn booking(options: &Options, family: &Family, head: &Person, number: &str) -> Value {
    let mut chance = Chance::of(options.seed, Draw::Booking, family.index);
    let first = family.shape.books_at.unwrap_or_default();
    let done = family
        .shape
        .permitted_at
        .filter(|_| family.shape.permitted(options.snapshot));
    let state = match (family.shape.cancelled, done) {
        (true, _) => "已取消",
        (false, Some(_)) => "已办结",
        (false, None) => "已预约",
    };
    let dependents: Vec<Value> = family
        .dependents()
        .iter()
        .map(|person| json!({"gmsfhm": person.identity.number, "xm": person.name, "gx": person.relation.text()}))
        .collect();
    let slot = day(options, first) + Days::new(1 + chance.below(3));
    // Halls are closed at the weekend.
    let slot = match slot.weekday() {
        Weekday::Sat => slot + Days::new(2),
        Weekday::Sun => slot + Days::new(1),
        _ => slot,
    };
    json!({
        "yybh": number,
        "sxbm": "talent-settlement",
        "gmsfhm": head.identity.number,
        "xm": head.name,
        "sprbh": family.approval_no(options),
        "sxry": dependents,
        "bldd": format!("{}户政窗口", crate::place::town(&mut chance)),
        "yysj": format!("{slot}T{:02}:{}0:00+08:00", 9 + chance.below(8), if chance.per_mille(500) { 0 } else { 3 }),
        "zt": state,
        "lxdh": format!("100{:08}", head.key % 100_000_000),
        "gxsj": format!("{}T08:00:00+08:00", day(options, done.unwrap_or(first))),
    })
}

fn spoil(mut row: Value, dirt: Option<Dirt>, number: &str, date: &str) -> Value {
    row["gmsfhm"] = Value::String(Dirt::number(dirt, number));
    if dirt == Some(Dirt::Date) {
        let tail = row[date]
            .as_str()
            .and_then(|text| text.get(10..))
            .unwrap_or_default();
        row[date] = Value::String(format!("2026-02-30{tail}"));
    }
    row
}

fn line(out: &mut impl Write, row: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}
