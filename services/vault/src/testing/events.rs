//! Test people and what registers say of them. What no agreement of the police covers carries the
//! mark `MARK-…`, so that a leak can be found in any bytes.

use mz_contract::{IdNumber, check_character};
use mz_seal::Datum;

/// The `n`-th test person: a valid number with a serial nobody has.
pub fn person(n: u32) -> IdNumber {
    let (day, serial) = (1 + n / 999 % 28, 1 + n % 999);
    let digits = format!("4419001990{:02}{day:02}{serial:03}", 1 + n / 27_972 % 12);
    let seventeen: [u8; 17] = digits.as_bytes().try_into().unwrap();
    let check = check_character(&seventeen).unwrap();
    IdNumber::parse(&format!("{digits}{}", char::from(check))).unwrap()
}

/// One event to publish. Version and sequence are the connector's, unless said otherwise.
pub struct Event {
    pub(super) dataset: &'static str,
    pub(super) fields: Vec<(&'static str, Datum)>,
    pub(super) withdrawn: bool,
    pub(super) counter: Option<u64>,
}

impl Event {
    pub fn new(dataset: &'static str, fields: Vec<(&'static str, Datum)>) -> Self {
        Self {
            dataset,
            fields,
            withdrawn: false,
            counter: None,
        }
    }

    /// The register no longer has the record.
    #[must_use]
    pub fn withdrawn(mut self) -> Self {
        self.withdrawn = true;
        self
    }

    /// An explicit version: an older one that arrives late.
    #[must_use]
    pub fn version(mut self, counter: u64) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Another value of one field.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: Datum) -> Self {
        let field = self.fields.iter_mut().find(|(n, _)| *n == name);
        field.expect("a field of the event").1 = value;
        self
    }
}

pub fn text(value: &str) -> Datum {
    Datum::Str(value.to_owned())
}

fn symbol(value: &str) -> Datum {
    Datum::Enum(value.to_owned())
}

/// 人才入户审批. Fields outside the police's agreement carry the mark `MARK-…`.
pub fn approval(id: &IdNumber, number: &str) -> Event {
    Event::new(
        "hrss.talent.approval.v1",
        vec![
            ("idNo", text(id.as_str())),
            ("name", text("张三")),
            ("approvalId", text(number)),
            ("category", symbol("EDUCATION")),
            ("reviewMode", symbol("INSTANT")),
            ("institution", text("MARK-institution")),
            ("diplomaNo", text("MARK-diploma")),
            ("employerName", text("MARK-employer")),
            ("dependents", Datum::Array(Vec::new())),
            ("approvedOn", Datum::Date(20_500)),
            ("validUntil", Datum::Null),
            ("status", symbol("APPROVED")),
        ],
    )
}

/// 参保状态.
pub fn insurance(id: &IdNumber, kind: &str, months: i64) -> Event {
    Event::new(
        "hrss.insurance.status.v1",
        vec![
            ("idNo", text(id.as_str())),
            ("name", text("MARK-name")),
            ("type", symbol(kind)),
            ("status", symbol("INSURED")),
            ("firstInsured", Datum::Date(16_000)),
            ("currentSince", Datum::Date(18_000)),
            ("monthsTotal", Datum::Int(months)),
            ("monthsLast12", Datum::Int(months.min(12))),
            ("employerUscc", text("MARK-uscc")),
            ("employerName", text("MARK-employer")),
            ("arrearsMonths", Datum::Int(0)),
            ("region", text("441900")),
            ("asOf", Datum::Date(20_600)),
        ],
    )
}

/// 不动产权利.
pub fn right(id: &IdNumber, certificate: &str) -> Event {
    Event::new(
        "realestate.right.v1",
        vec![
            ("idNo", text(id.as_str())),
            ("name", text("MARK-name")),
            ("certificateNo", text(certificate)),
            ("ownerNo", Datum::Int(1)),
            ("unitNo", text("MARK-unit")),
            ("ownership", symbol("SOLE")),
            ("share", Datum::Null),
            ("ownerCount", Datum::Int(1)),
            ("location", text("东莞市莞城街道<b>1</b>号")),
            ("plannedUse", symbol("DWELLING_UNIT")),
            (
                "area",
                Datum::Decimal {
                    unscaled: 8950,
                    scale: 2,
                },
            ),
            ("registeredOn", Datum::Date(19_000)),
            ("mortgaged", Datum::Bool(true)),
            ("seized", Datum::Bool(false)),
            ("status", symbol("CURRENT")),
        ],
    )
}

/// 户籍变动.
pub fn household(id: &IdNumber, change_id: &str) -> Event {
    Event::new(
        "police.household.v1",
        vec![
            ("changeId", text(change_id)),
            ("idNo", text(id.as_str())),
            ("name", text("MARK-name")),
            ("birthDate", Datum::Date(7_000)),
            ("householdNo", text("MARK-household")),
            ("relation", symbol("HEAD")),
            ("address", text("MARK-address")),
            ("region", text("441900")),
            ("movedFrom", Datum::Null),
            ("change", symbol("MOVED_WITHIN")),
            ("movedOn", Datum::Date(19_500)),
            ("approvalId", Datum::Null),
        ],
    )
}
