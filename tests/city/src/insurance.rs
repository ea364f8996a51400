//! hrss/insurance.csv: what the insurance system unloads every month, in the encoding it was built with.

use std::io::{self, Write};

use chrono::NaiveDate;

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, changes, day, months_before};
use crate::number::employer;
use crate::options::Options;
use crate::place::CITY;
use crate::write::{Marks, employers};

const TYPES: [&str; 5] = ["110", "210", "310", "410", "510"];
const HEADER: &str = "证件号码,姓名,险种,参保状态,首次参保日期,本次参保日期,累计缴费月数,近12月缴费月数,单位统一社会信用代码,单位名称,欠费月数,缴费基数,参保地区划,数据截至日期\r\n";

pub struct Insurance<W: Write> {
    out: W,
    line: String,
    pub tally: Tally,
    pub about_cases: u64,
}

impl<W: Write> Insurance<W> {
    pub fn create(out: W) -> io::Result<Self> {
        let mut made = Self {
            out,
            line: HEADER.to_owned(),
            tally: Tally::default(),
            about_cases: 0,
        };
        made.flush_line(1)?;
        Ok(made)
    }

    /// Texts that police must not have.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> io::Result<Vec<String>> {
        let mut withheld = Vec::new();
        for person in family.members.iter().filter(|member| member.adult) {
            // One career for all five kinds: who pays one pays all.
            let mut chance = Chance::of(options.seed, Draw::Insurance, person.key);
            let firm = employer(options.seed, chance.below(employers(options)));
            let months = 8 + chance.below(88) as u32;
            let spell = months - chance.below(u64::from(months / 2) + 1) as u32;
            let lapsed = family.shape.lapsed;
            let arrears = if lapsed { 2 + chance.below(9) } else { 0 };
            let wage = 3_958 + chance.below(21_000);
            let firm_name = marks.text(options, "单位名称", &firm.name, person.key);
            for (nth, kind) in TYPES.iter().enumerate() {
                let key = person.key << 3 | nth as u64;
                let (changed, last) = changes(options, Place::Insurance, key);
                let ended = lapsed
                    && Chance::of(options.seed, Draw::Insurance, key ^ 1 << 60).per_mille(300);
                let status = if ended {
                    "3"
                } else if lapsed {
                    "2"
                } else {
                    "1"
                };
                let (code, name) = if ended {
                    ("", "")
                } else {
                    (firm.uscc.as_str(), firm_name.as_str())
                };
                let dirt = family.dirt(options, Place::Insurance, key, person);
                let since = months_before(options.as_of, spell);
                let since = if dirt == Some(Dirt::Date) {
                    "20190230".to_owned()
                } else {
                    compact(since)
                };
                self.line.clear();
                let fields: [&dyn std::fmt::Display; 14] = [
                    &Dirt::number(dirt, &person.identity.number),
                    &person.name,
                    kind,
                    &status,
                    &compact(months_before(options.as_of, months)),
                    &since,
                    &(months + if lapsed { 0 } else { changed }),
                    &if lapsed {
                        12_u64.saturating_sub(arrears)
                    } else {
                        u64::from(months.min(12))
                    },
                    &code,
                    &name,
                    &arrears,
                    &format!("{wage}.00"),
                    &CITY,
                    &compact(day(options, last)),
                ];
                for (column, field) in fields.iter().enumerate() {
                    let separator = if column == 0 { "" } else { "," };
                    self.line.push_str(&format!("{separator}{field}"));
                }
                self.line.push_str("\r\n");
                if !dirt.is_some_and(Dirt::rejected) && family.case(options, person) {
                    self.about_cases += 1;
                }
                let copies = self.tally.count(dirt);
                self.flush_line(copies)?;
            }
            withheld.push(firm_name);
            withheld.push(firm.uscc);
        }
        Ok(withheld)
    }

    fn flush_line(&mut self, copies: u32) -> io::Result<()> {
        let (bytes, _, _) = encoding_rs::GB18030.encode(&self.line);
        for _ in 0..copies {
            self.out.write_all(&bytes)?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<(Tally, u64)> {
        self.out.flush()?;
        Ok((self.tally, self.about_cases))
    }
}

fn compact(date: NaiveDate) -> String {
    date.format("%Y%m%d").to_string()
}
