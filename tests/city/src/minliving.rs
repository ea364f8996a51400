//! civil/minliving.csv: the list that civil affairs pays the minimum living allowance by, in GB18030; one
//! row a person, all members of a household on one certificate.

use std::io::{self, Write};

use chrono::{Days, NaiveDate};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, Relation, address, changes, day, months_before};
use crate::hardship;
use crate::options::Options;
use crate::write::Marks;

/// Resident households with the allowance, in a thousand; of those with a hardship file.
const HOUSEHOLDS_PER_MILLE: u32 = 50;
const IN_HARDSHIP_PER_MILLE: u32 = 300;
/// Changes after which the allowance is suspended.
const SUSPENDED_AFTER: u32 = 3;
const HEADER: &str = "低保证号,家庭编号,身份证号,姓名,与申请人关系,低保类别,保障状态,保障人数,月保障金额,享受起始日期,下次复核日期,家庭住址,联系电话,数据截至日期\r\n";

pub struct MinLiving<W: Write> {
    out: W,
    pub tally: Tally,
}

impl<W: Write> MinLiving<W> {
    pub fn create(out: W) -> io::Result<Self> {
        let mut made = Self {
            out,
            tally: Tally::default(),
        };
        made.line(HEADER, 1)?;
        Ok(made)
    }

    /// Texts that police must not have, or nothing when the household has no allowance.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> io::Result<Vec<String>> {
        let (Some(head), true) = (family.members.first(), receives(options, family)) else {
            return Ok(Vec::new());
        };
        let mut chance = Chance::of(options.seed, Draw::MinLiving, family.index ^ 1 << 40);
        // The household changes as one.
        let (changed, last) = changes(options, Place::MinLiving, family.index);
        let certificate = format!("DB{}{:07}", options.as_of.format("%Y"), family.index + 1);
        let since = months_before(options.as_of, 2 + chance.below(30) as u32);
        let urban = chance.per_mille(700);
        let suspended = changed >= SUSPENDED_AFTER && family.shape.role.is_none();
        let size = family.members.len() as u64;
        let amount = size * (300 + 10 * chance.below(60)) + 10 * u64::from(changed);
        let review = options.as_of + Days::new(30 + chance.below(300));
        let home = address(options, head.key);
        for person in &family.members {
            let dirt = family.dirt(options, Place::MinLiving, person.key, person);
            let relation = match person.relation {
                Relation::Head => "本人",
                other => other.text(),
            };
            let started = if dirt == Some(Dirt::Date) {
                "2026/02/30".to_owned()
            } else {
                slashed(since)
            };
            let fields: [&dyn std::fmt::Display; 14] = [
                &certificate,
                &format!("M{:09}", 300_000_000 + family.index),
                &Dirt::number(dirt, &person.identity.number),
                &person.name,
                &relation,
                &if urban {
                    "城市低保"
                } else {
                    "农村低保"
                },
                &if suspended { "停发" } else { "享受" },
                &size,
                &format!("{amount}.00"),
                &started,
                &slashed(review),
                &marks.text(options, "家庭住址", &home, person.key),
                &format!("100{:08}", head.key % 100_000_000),
                &slashed(day(options, last)),
            ];
            let mut line = String::new();
            for (column, field) in fields.iter().enumerate() {
                let separator = if column == 0 { "" } else { "," };
                line.push_str(&format!("{separator}{field}"));
            }
            line.push_str("\r\n");
            let copies = self.tally.count(dirt);
            self.line(&line, copies)?;
        }
        Ok(vec![certificate])
    }

    fn line(&mut self, line: &str, copies: u32) -> io::Result<()> {
        let (bytes, _, _) = encoding_rs::GB18030.encode(line);
        for _ in 0..copies {
            self.out.write_all(&bytes)?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Tally> {
        self.out.flush()?;
        Ok(self.tally)
    }
}

fn receives(options: &Options, family: &Family) -> bool {
    match family.shape.role {
        Some(role) => role == "outsider",
        None => {
            let share = if hardship::has_file(options, family) {
                IN_HARDSHIP_PER_MILLE
            } else {
                HOUSEHOLDS_PER_MILLE
            };
            let drawn = Chance::of(options.seed, Draw::MinLiving, family.index).per_mille(share);
            family.shape.resident && drawn
        }
    }
}

fn slashed(date: NaiveDate) -> String {
    date.format("%Y/%m/%d").to_string()
}
