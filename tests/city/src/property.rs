//! realestate/property.sql: two tables of the land registry, for psql.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use chrono::{Datelike, Days};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, Right, address, changes, day};
use crate::options::Options;
use crate::place::CITY;
use crate::write::Marks;

const HEAD: &str = "\
-- Land registry of a synthetic city. Loads as one transaction; run it again to replace the content.
\\set ON_ERROR_STOP on
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA IF NOT EXISTS bdc;
CREATE TABLE IF NOT EXISTS bdc.fdcq (
  bdcqzh text PRIMARY KEY,            -- 不动产权证号
  bdcdyh char(28) NOT NULL,           -- 不动产单元号
  zl     text NOT NULL,               -- 坐落
  ghyt   text NOT NULL,               -- 规划用途 (GB/T 17986)
  jzmj   numeric(12,2) NOT NULL,      -- 建筑面积, m2
  djsj   date NOT NULL,               -- 登记时间
  sfdy   boolean NOT NULL,            -- 是否抵押
  sfcf   boolean NOT NULL,            -- 是否查封
  qszt   text NOT NULL,               -- 权属状态: 1 现势, 2 历史
  gxsj   timestamptz NOT NULL         -- 更新时间
);
CREATE TABLE IF NOT EXISTS bdc.qlr (
  bdcqzh text NOT NULL REFERENCES bdc.fdcq,
  sxh    int  NOT NULL,               -- 顺序号
  qlrmc  text NOT NULL,               -- 权利人名称
  zjh    text NOT NULL,               -- 证件号
  gyfs   text NOT NULL,               -- 共有方式: 0 单独所有, 1 共同共有, 2 按份共有
  qlbl   text,                        -- 权利比例
  PRIMARY KEY (bdcqzh, sxh)
);
CREATE INDEX IF NOT EXISTS fdcq_gxsj ON bdc.fdcq (gxsj);
TRUNCATE bdc.qlr, bdc.fdcq;
COPY bdc.fdcq (bdcqzh, bdcdyh, zl, ghyt, jzmj, djsj, sfdy, sfcf, qszt, gxsj) FROM stdin;
";
const OWNERS: &str = "\\.\n\nCOPY bdc.qlr (bdcqzh, sxh, qlrmc, zjh, gyfs, qlbl) FROM stdin;\n";
const TAIL: &str = "\\.\n\nCOMMIT;\nANALYZE bdc.fdcq;\nANALYZE bdc.qlr;\n";

/// Owners follow all rights in the file, so they wait in a scratch file, not in memory.
pub struct Property<W: Write> {
    out: W,
    owners: BufWriter<File>,
    line: String,
    pub tally: Tally,
    pub about_cases: u64,
}

impl<W: Write> Property<W> {
    pub fn create(mut out: W, scratch: File) -> io::Result<Self> {
        out.write_all(HEAD.as_bytes())?;
        Ok(Self {
            out,
            owners: BufWriter::new(scratch),
            line: String::new(),
            tally: Tally::default(),
            about_cases: 0,
        })
    }

    /// Certificates of the family's homes, and texts that police must not have.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> io::Result<(Vec<String>, Vec<String>)> {
        let (mut certificates, mut withheld) = (Vec::new(), Vec::new());
        for right in family
            .rights
            .iter()
            .filter(|right| !right.owners.is_empty())
        {
            let (certificate, unit) =
                self.right(options, right, family.shape.role.is_some(), marks)?;
            for (position, owner) in right.owners.iter().enumerate() {
                let key = right.key << 1 | position as u64;
                let dirt = family.dirt(options, Place::Owner, key, &owner.person);
                self.line.clear();
                let number = Dirt::number(dirt, &owner.person.identity.number);
                let share = if owner.share.is_empty() {
                    "\\N"
                } else {
                    owner.share
                };
                let _ = writeln!(
                    self.line,
                    "{certificate}\t{}\t{}\t{number}\t{}\t{share}",
                    position + 1,
                    owner.person.name,
                    owner.mode
                );
                self.tally.count(dirt);
                if owner.case_now && !dirt.is_some_and(Dirt::rejected) {
                    self.about_cases += 1;
                }
                self.owners.write_all(self.line.as_bytes())?;
            }
            certificates.push(certificate);
            withheld.push(unit);
        }
        Ok((certificates, withheld))
    }

    fn right(
        &mut self,
        options: &Options,
        right: &Right,
        story: bool,
        marks: &mut Marks,
    ) -> io::Result<(String, String)> {
        let mut chance = Chance::of(options.seed, Draw::Right, right.key ^ 1 << 50);
        let (changed, last) = changes(options, Place::Owner, right.key);
        let registered = options.as_of - Days::new(200 + chance.below(4_500));
        let use_code = if story {
            "11"
        } else {
            chance.pick(&["11", "11", "11", "11", "11", "11", "12", "27", "31"])
        };
        let area = 4_500 + chance.below(13_000);
        let mortgaged = chance.per_mille(420);
        let seized = !story && (chance.per_mille(15) ^ (changed % 2 == 1));
        let history = !story && chance.per_mille(20);
        let certificate = format!(
            "粤（{}）东莞不动产权第{:07}号",
            registered.year(),
            right.certificate_no + 1
        );
        let place = address(options, right.owners[0].person.key ^ right.key << 32);
        let hidden = right.owners.iter().all(|owner| !owner.case_ever);
        let (certificate, place) = if hidden {
            (
                marks.text(options, "bdcqzh", &certificate, right.key),
                marks.text(options, "zl", &place, right.key),
            )
        } else {
            (certificate, place)
        };
        let unit = format!(
            "{CITY}{:03}{:03}GB{:05}F{:08}",
            1 + chance.below(120),
            1 + chance.below(60),
            1 + chance.below(99_999),
            right.key + 1
        );
        let unit = marks.fixed(options, "bdcdyh", &unit);
        self.line.clear();
        let flag = |value: bool| if value { 't' } else { 'f' };
        let _ = writeln!(
            self.line,
            "{certificate}\t{unit}\t{place}\t{use_code}\t{}.{:02}\t{registered}\t{}\t{}\t{}\t{} 08:{:02}:{:02}+08",
            area / 100,
            area % 100,
            flag(mortgaged),
            flag(seized),
            if history { 2 } else { 1 },
            day(options, last),
            right.key / 60 % 60,
            right.key % 60,
        );
        self.out.write_all(self.line.as_bytes())?;
        Ok((certificate, unit))
    }

    pub fn finish(mut self) -> io::Result<(Tally, u64)> {
        self.out.write_all(OWNERS.as_bytes())?;
        let mut owners = self
            .owners
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        owners.seek(SeekFrom::Start(0))?;
        let mut owners = BufReader::new(owners);
        let mut block = vec![0_u8; 64 * 1024];
        loop {
            let read = owners.read(&mut block)?;
            if read == 0 {
                break;
            }
            self.out.write_all(&block[..read])?;
        }
        self.out.write_all(TAIL.as_bytes())?;
        self.out.flush()?;
        Ok((self.tally, self.about_cases))
    }
}
