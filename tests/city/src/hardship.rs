//! union/hardship.ndjson: what the union's platform of hardship files pushes out, one household a line.

use std::io::{self, Write};

use chrono::Days;
use serde_json::{Value, json};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, Person, address, changes, day};
use crate::options::Options;
use crate::write::Marks;

/// Households with a file, in a thousand; of those whose insurance lapsed.
const FILES_PER_MILLE: u32 = 60;
const LAPSED_PER_MILLE: u32 = 400;
/// Changes after which a file is closed.
const CLOSED_AFTER: u32 = 3;

pub struct Hardship<W: Write> {
    out: W,
    pub tally: Tally,
}

impl<W: Write> Hardship<W> {
    pub fn create(out: W) -> Self {
        Self {
            out,
            tally: Tally::default(),
        }
    }

    /// Texts that police must not have, or nothing when the family has no file.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> io::Result<Vec<String>> {
        let (Some(head), true) = (family.members.first(), has_file(options, family)) else {
            return Ok(Vec::new());
        };
        let number = format!("KN{}{:07}", options.as_of.format("%Y"), family.index + 1);
        let mut row = file(options, family, head, &number);
        let home = address(options, head.key);
        row["jtzz"] = Value::String(marks.text(options, "jtzz", &home, head.key));
        let dirt = family.dirt(options, Place::Hardship, family.index, head);
        row["sfzh"] = Value::String(Dirt::number(dirt, &head.identity.number));
        if dirt == Some(Dirt::Date) {
            row["fhrq"] = Value::String("2026-02-30".to_owned());
        }
        for _ in 0..self.tally.count(dirt) {
            serde_json::to_writer(&mut self.out, &row)?;
            self.out.write_all(b"\n")?;
        }
        Ok(vec![number])
    }

    pub fn finish(mut self) -> io::Result<Tally> {
        self.out.flush()?;
        Ok(self.tally)
    }
}

/// Whether the union keeps a file about the family.
pub fn has_file(options: &Options, family: &Family) -> bool {
    match family.shape.role {
        Some(role) => matches!(role, "outsider" | "lapsed"),
        None => {
            let share = if family.shape.lapsed {
                LAPSED_PER_MILLE
            } else {
                FILES_PER_MILLE
            };
            Chance::of(options.seed, Draw::Hardship, family.index).per_mille(share)
        }
    }
}

fn file(options: &Options, family: &Family, head: &Person, number: &str) -> Value {
    let mut chance = Chance::of(options.seed, Draw::Hardship, family.index ^ 1 << 40);
    let (changed, last) = changes(options, Place::Hardship, family.index);
    let opened = options.as_of - Days::new(20 + chance.below(300));
    let until = options.as_of + Days::new(60 + chance.below(240));
    let mut tier = chance.pick(&["深度困难", "相对困难", "相对困难", "意外致困"]);
    let cause = chance.pick(&["因病", "因残", "子女上学", "收入过低", "失业", "意外灾害"]);
    let mut living = chance.per_mille(500);
    let other = chance.pick(&["医疗救助", "助学救助"]);
    // The stories: civil affairs supports the outsider, the union the one whose insurance lapsed.
    match family.shape.role {
        Some("outsider") => (tier, living) = ("深度困难", false),
        Some("lapsed") => (tier, living) = ("相对困难", true),
        _ => {}
    }
    let closed = changed >= CLOSED_AFTER && family.shape.role.is_none();
    let members: Vec<Value> = family
        .members
        .iter()
        .skip(1)
        .map(|person| json!({"sfzh": person.identity.number, "xm": person.name, "gx": person.relation.text()}))
        .collect();
    let mut aid = vec![json!({
        "lx": other, "zt": "已申请", "je": null, "ffrq": null,
    })];
    if living {
        aid.push(json!({
            "lx": "生活救助",
            "zt": if closed { "已停止" } else { "已发放" },
            "je": format!("{}.00", 1_000 + 100 * chance.below(40)),
            "ffrq": (opened + Days::new(10)).to_string(),
        }));
    }
    let income = 30_000 + chance.below(150_000) + 1_000 * u64::from(changed);
    json!({
        "dabh": number,
        "jtbh": format!("JT{:09}", 200_000_000 + family.index),
        "sfzh": head.identity.number,
        "xm": head.name,
        "kndj": tier,
        "zkyy": cause,
        "jtcy": members,
        "rjsr": format!("{}.{:02}", income / 100, income % 100),
        "bfjl": aid,
        "shjzz": (living && !closed).then(|| until.to_string()),
        "fhrq": (opened + Days::new(365)).to_string(),
        "zt": if closed { "已销档" } else { "在档" },
        "jtzz": "",
        "lxdh": format!("100{:08}", head.key % 100_000_000),
        "gxsj": format!("{}T17:00:00+08:00", day(options, last)),
    })
}
