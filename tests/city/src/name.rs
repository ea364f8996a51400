//! Names that look right and belong to nobody, some with characters that GBK lacks.

use crate::chance::{Chance, Draw};
use crate::number::Sex;

const SURNAMES: &[&str] = &[
    "王", "李", "张", "刘", "陈", "杨", "黄", "赵", "吴", "周", "徐", "孙", "马", "朱", "胡", "郭",
    "何", "林", "罗", "高", "郑", "梁", "谢", "宋", "唐", "许", "邓", "韩", "冯", "曹", "彭", "曾",
    "萧", "田", "董", "潘", "袁", "蔡", "蒋", "余", "于", "杜", "叶", "程", "魏", "苏", "吕", "丁",
    "任", "卢", "姚", "沈", "钟", "姜", "崔", "谭", "陆", "范", "汪", "廖", "石", "金", "韦", "贾",
    "夏", "付", "方", "邹", "熊", "白", "孟", "秦", "邱", "侯", "江", "尹", "薛", "闫", "段", "雷",
    "龙", "黎", "史", "陶", "贺", "欧阳", "司徒", "上官", "诸葛", "尉迟",
];
const MALE: &[&str] = &[
    "伟", "强", "磊", "军", "洋", "勇", "杰", "涛", "明", "超", "刚", "平", "辉", "鹏", "华", "飞",
    "鑫", "波", "斌", "宇", "浩", "凯", "健", "俊", "帆", "志", "文", "建", "国", "海", "子", "天",
    "家", "泽", "轩", "然", "博", "瑞", "晨", "铭",
];
const FEMALE: &[&str] = &[
    "芳", "娜", "敏", "静", "丽", "艳", "娟", "霞", "秀", "燕", "玲", "桂", "丹", "萍", "红", "玉",
    "兰", "英", "梅", "莉", "婷", "雪", "慧", "莹", "倩", "颖", "琳", "晓", "雨", "欣", "怡", "佳",
    "梦", "嘉", "思", "诗", "涵", "语", "妍", "宁",
];
/// Four bytes each in GB18030, and beyond the Basic Multilingual Plane but for the first.
const RARE: &[&str] = &["㛃", "𬀩", "𬱟", "𫖯", "𠅤", "𡐓"];
const WITH_DOT: &[&str] = &[
    "阿依古丽·买买提",
    "古丽娜尔·阿不都",
    "艾力·吐尔逊",
    "卓玛·央金",
];

pub fn person(seed: u64, key: u64, surname_key: u64, sex: Sex, rare: bool) -> String {
    let surname = Chance::of(seed, Draw::Name, surname_key << 8 | 0xff).pick(SURNAMES);
    let mut chance = Chance::of(seed, Draw::Name, key << 8);
    if !rare && chance.per_mille(8) {
        return chance.pick(WITH_DOT).to_owned();
    }
    let given = if sex == Sex::Male { MALE } else { FEMALE };
    let mut name = format!("{surname}{}", chance.pick(given));
    if rare || chance.per_mille(12) {
        name.push_str(chance.pick(RARE));
    } else if chance.per_mille(700) {
        name.push_str(chance.pick(given));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_characters_need_four_bytes() {
        for character in RARE {
            let (bytes, _, lossy) = encoding_rs::GB18030.encode(character);
            assert!(!lossy && bytes.len() == 4, "{character}: {}", bytes.len());
        }
    }
}
