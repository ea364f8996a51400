//! Numbers with their check characters: citizens (GB 11643) and organisations (GB 32100, GB 11714).

use chrono::{Days, NaiveDate};

use crate::chance::{Chance, Draw, permute};
use crate::place::{CITY, REGIONS};

/// Serials of one sex, one day and one region: 000 to 999, odd for men.
const SERIALS: u64 = 500;
const USCC_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    Female,
    Male,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Adult,
    Minor,
}

impl Age {
    /// First birthday of the class and how many days it spans. The two never meet, so neither do numbers,
    /// and no parent is younger than 18.
    fn births(self) -> (NaiveDate, u64) {
        let (year, days) = match self {
            Self::Adult => (1982, 6_570),
            Self::Minor => (2018, 3_150),
        };
        (
            NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default(),
            days,
        )
    }
}

#[derive(Debug, Clone)]
pub struct Identity {
    pub number: String,
    pub born: NaiveDate,
    /// Where the number was first issued.
    pub region: &'static str,
}

/// The `key`-th person of a class; two keys never share a number.
pub fn identity(seed: u64, sex: Sex, age: Age, key: u64) -> Identity {
    let (first, days) = age.births();
    let class = 2 * (age as u64) + sex as u64;
    let slot = permute(seed, class, key, REGIONS.len() as u64 * days * SERIALS);
    let serial = 2 * (slot % SERIALS) + sex as u64;
    let born = first + Days::new(slot / SERIALS % days);
    let (region, _) = REGIONS[(slot / SERIALS / days) as usize];
    let mut number = format!("{region}{}{serial:03}", born.format("%Y%m%d"));
    number.push(id_check_character(&number));
    Identity {
        number,
        born,
        region,
    }
}

/// Check character of the first 17 digits (ISO 7064 MOD 11-2).
pub fn id_check_character(first17: &str) -> char {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECK: &[u8; 11] = b"10X98765432";
    let sum: u32 = first17
        .bytes()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    char::from(CHECK[(sum % 11) as usize])
}

/// Check character of the first 17 characters of a unified social credit code.
pub fn uscc_check_character(first17: &str) -> char {
    let mut weight = 1;
    let mut sum = 0;
    for character in first17.bytes() {
        let value = USCC_ALPHABET.iter().position(|&known| known == character);
        sum += value.unwrap_or_default() * weight;
        weight = weight * 3 % 31;
    }
    char::from(USCC_ALPHABET[(31 - sum % 31) % 31])
}

/// An organisation of the city: its code and its name.
pub struct Employer {
    pub uscc: String,
    pub name: String,
}

pub fn employer(seed: u64, index: u64) -> Employer {
    const BRANDS: &[&str] = &[
        "宏达", "华誉", "东江", "莞盛", "鑫源", "立德", "新科", "恒丰", "粤海", "启明",
    ];
    const TRADES: &[&str] = &[
        "电子科技",
        "精密模具",
        "家具",
        "智能装备",
        "物流",
        "纺织",
        "食品",
        "教育咨询",
        "新材料",
    ];
    let serial = permute(seed, 9, index, 100_000_000);
    let eight = format!("{serial:08}");
    let weighted: u64 = eight
        .bytes()
        .zip([3, 7, 9, 10, 5, 8, 4, 2])
        .map(|(digit, weight)| u64::from(digit - b'0') * weight)
        .sum();
    let ninth = match 11 - weighted % 11 {
        10 => 'X',
        11 => '0',
        digit => char::from(b'0' + digit as u8),
    };
    let mut uscc = format!("91{CITY}{eight}{ninth}");
    uscc.push(uscc_check_character(&uscc));
    let mut chance = Chance::of(seed, Draw::Employer, index);
    let name = format!(
        "东莞市{}{}{}有限公司",
        chance.pick(BRANDS),
        serial % 1000,
        chance.pick(TRADES)
    );
    Employer { uscc, name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn check_characters_of_published_numbers() {
        for number in [
            "11010519491231002X",
            "440524188001010014",
            "34052419800101001X",
            "513101198201130014",
        ] {
            assert!(
                number.ends_with(id_check_character(&number[..17])),
                "{number}"
            );
        }
        assert_eq!(uscc_check_character("91350100M000100Y4"), '3');
    }

    #[test]
    fn numbers_pass_the_contract_and_never_repeat() {
        let mut seen = HashSet::new();
        for key in 0..20_000 {
            for (sex, age) in [
                (Sex::Female, Age::Adult),
                (Sex::Male, Age::Adult),
                (Sex::Female, Age::Minor),
                (Sex::Male, Age::Minor),
            ] {
                let number = identity(3, sex, age, key).number;
                assert_eq!(number.as_bytes()[16] % 2 == 1, sex == Sex::Male);
                assert!(number.ends_with(id_check_character(&number[..17])));
                assert!(seen.insert(number));
            }
        }
    }
}
