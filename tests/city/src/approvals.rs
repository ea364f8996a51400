//! hrss/approvals.xlsx: the list that the talent office keeps in a workbook, made for people to read.

use std::path::Path;

use chrono::{Datelike, Days, NaiveDate};
use rust_xlsxwriter::{
    DocProperties, ExcelDateTime, Format, FormatAlign, Workbook, Worksheet, XlsxError,
};

use crate::chance::{Chance, Draw};
use crate::dirt::{Dirt, Place, Tally};
use crate::family::{Family, day};
use crate::number::employer;
use crate::options::Options;
use crate::shape::USED_AFTER;
use crate::write::{Marks, employers};

const CATEGORIES: &[&str] = &[
    "学历",
    "学历",
    "学历",
    "学历",
    "职称",
    "职称",
    "技能",
    "企业自评",
    "留学",
    "技术能手",
    "首席技师",
    "莞邑工匠",
    "竞赛获奖",
];
const SCHOOLS: &[&str] = &[
    "东莞理工学院",
    "华南理工大学",
    "中山大学",
    "广东工业大学",
    "湖南大学",
    "武汉理工大学",
    "西南交通大学",
    "南昌大学",
];
const REMARKS: &[&str] = &[
    "材料已电话核实",
    "学历经学信网核验",
    "补交劳动合同后通过",
    "本人到窗口确认",
];
const HEADERS: [&str; 13] = [
    "审批编号",
    "身份证号码",
    "姓名",
    "人才类别",
    "审核方式",
    "毕业院校",
    "学历证书编号",
    "工作单位",
    "联系电话",
    "审核日期",
    "有效期至",
    "状态",
    "备注",
];
const DEPENDENT_HEADERS: [&str; 5] = [
    "审批编号",
    "序号",
    "随迁人姓名",
    "随迁人身份证号码",
    "与申请人关系",
];
const PEOPLE: usize = 0;
const DEPENDENTS: usize = 1;

pub struct Approvals {
    workbook: Workbook,
    date: Format,
    next_row: u32,
    next_dependent: u32,
    pub tally: Tally,
}

/// What an approval row says, without the person.
pub struct Approval {
    pub status: &'static str,
    pub decided: NaiveDate,
    pub until: Option<NaiveDate>,
}

impl Approval {
    pub fn of(options: &Options, family: &Family) -> Self {
        let mut chance = Chance::of(options.seed, Draw::Approval, family.index);
        let story = family.shape.role.is_some();
        let decided = options.as_of - Days::new(if story { 12 } else { 3 + chance.below(170) });
        let endless = !story && chance.per_mille(300);
        let status = if family
            .shape
            .revoked_at
            .is_some_and(|at| at <= options.snapshot)
        {
            "撤销"
        } else if family
            .shape
            .permitted_at
            .is_some_and(|at| at + USED_AFTER <= options.snapshot)
        {
            "已使用"
        } else {
            "通过"
        };
        Self {
            status,
            decided,
            until: (!endless).then(|| decided + Days::new(364)),
        }
    }
}

impl Approvals {
    pub fn create(options: &Options, scratch: &Path) -> Result<Self, XlsxError> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(scratch)?;
        let created = ExcelDateTime::from_ymd(2026, 1, 1)?;
        workbook.set_properties(
            &DocProperties::new()
                .set_author("市人力资源和社会保障局")
                .set_creation_datetime(&created),
        );
        let title = Format::new().set_bold().set_align(FormatAlign::Center);
        let bold = Format::new().set_bold();

        let sheet = workbook.add_worksheet_with_constant_memory();
        sheet.set_name("审批名单")?;
        sheet.merge_range(
            0,
            0,
            0,
            (HEADERS.len() - 1) as u16,
            "东莞市人才入户审核通过人员名单",
            &title,
        )?;
        sheet.write(
            1,
            0,
            format!(
                "制表单位：市人社局人才服务科　　制表日期：{}",
                chinese(day(options, options.snapshot))
            ),
        )?;
        for (column, header) in HEADERS.iter().enumerate() {
            sheet.write_with_format(2, column as u16, *header, &bold)?;
        }
        let sheet = workbook.add_worksheet_with_constant_memory();
        sheet.set_name("随迁人员")?;
        sheet.merge_range(
            0,
            0,
            0,
            (DEPENDENT_HEADERS.len() - 1) as u16,
            "人才入户随迁人员名单",
            &title,
        )?;
        for (column, header) in DEPENDENT_HEADERS.iter().enumerate() {
            sheet.write_with_format(1, column as u16, *header, &bold)?;
        }
        Ok(Self {
            workbook,
            date: Format::new().set_num_format("yyyy-mm-dd"),
            next_row: 3,
            next_dependent: 2,
            tally: Tally::default(),
        })
    }

    /// Texts of the row that police must not have, or nothing when the family has no approval.
    pub fn add(
        &mut self,
        options: &Options,
        family: &Family,
        marks: &mut Marks,
    ) -> Result<Vec<String>, XlsxError> {
        let (Some(head), true) = (family.members.first(), family.shape.approval) else {
            return Ok(Vec::new());
        };
        let mut chance = Chance::of(options.seed, Draw::Approval, family.index ^ 1 << 40);
        let category = if family.shape.role.is_some() {
            "学历"
        } else {
            chance.pick(CATEGORIES)
        };
        let manual = matches!(category, "留学" | "竞赛获奖" | "技能") || chance.per_mille(50);
        let studied = matches!(category, "学历" | "留学" | "职称");
        let firm = employer(options.seed, chance.below(employers(options)));
        let remark = if family.shape.role.is_some() || chance.per_mille(120) {
            chance.pick(REMARKS)
        } else {
            ""
        };
        let diploma = format!(
            "1{:04}1{:012}",
            5000 + chance.below(5000),
            family.index * 7919 % 1_000_000_000_000
        );
        let school = if studied {
            marks.text(options, "毕业院校", chance.pick(SCHOOLS), head.key)
        } else {
            String::new()
        };
        let diploma = if studied {
            marks.text(options, "学历证书编号", &diploma, head.key)
        } else {
            String::new()
        };
        let workplace = marks.text(options, "工作单位", &firm.name, head.key);
        let remark = if remark.is_empty() {
            String::new()
        } else {
            marks.text(options, "备注", remark, head.key)
        };
        let approval = Approval::of(options, family);
        let dirt = family.dirt(options, Place::Approval, family.index, head);
        let until = match (dirt, approval.until) {
            (Some(Dirt::Date), _) => "2026年02月30日".to_owned(),
            (_, Some(date)) => chinese(date),
            (_, None) => "长期".to_owned(),
        };
        let number = family.approval_no(options);
        for _ in 0..self.tally.count(dirt) {
            let row = self.next_row;
            let sheet = self.workbook.worksheet_from_index(PEOPLE)?;
            write_texts(
                sheet,
                row,
                0,
                &[
                    &number,
                    &Dirt::number(dirt, &head.identity.number),
                    &head.name,
                    category,
                    if manual { "人工" } else { "秒批" },
                    &school,
                    &diploma,
                    &workplace,
                    &format!("100{:08}", head.key % 100_000_000),
                ],
            )?;
            let decided = approval.decided;
            let decided = ExcelDateTime::from_ymd(
                decided.year() as u16,
                decided.month() as u8,
                decided.day() as u8,
            )?;
            sheet.write_with_format(row, 9, &decided, &self.date)?;
            write_texts(sheet, row, 10, &[&until, approval.status, &remark])?;
            self.next_row += 1;
        }
        for (position, person) in family.dependents().iter().enumerate() {
            let row = self.next_dependent;
            let sheet = self.workbook.worksheet_from_index(DEPENDENTS)?;
            sheet.write(row, 0, &number)?;
            sheet.write(row, 1, position as u32 + 1)?;
            write_texts(
                sheet,
                row,
                2,
                &[
                    &person.name,
                    &person.identity.number,
                    person.relation.text(),
                ],
            )?;
            self.next_dependent += 1;
        }
        Ok([school, diploma, workplace, remark]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect())
    }

    pub fn finish(mut self, path: &Path) -> Result<Tally, XlsxError> {
        self.workbook.save(path)?;
        Ok(self.tally)
    }
}

fn write_texts(
    sheet: &mut Worksheet,
    row: u32,
    first: u16,
    texts: &[&str],
) -> Result<(), XlsxError> {
    for (column, text) in (first..).zip(texts) {
        if !text.is_empty() {
            sheet.write(row, column, *text)?;
        }
    }
    Ok(())
}

fn chinese(date: NaiveDate) -> String {
    date.format("%Y年%m月%d日").to_string()
}
