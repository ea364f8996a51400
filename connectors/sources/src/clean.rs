//! What may be done to a text without changing what it says. Codes are narrowed, names are only
//! trimmed, identity numbers have their own type ([`mz_contract::IdNumber`]).

use std::borrow::Cow;

/// Space that files leave around a value: Unicode white space (U+3000 and U+00A0 included), the byte
/// order mark and the zero-width space.
fn is_edge(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}')
}

/// Without the space around it.
#[must_use]
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_edge)
}

/// Full-width ASCII (U+FF01 to U+FF5E) and the ideographic space in their narrow forms. Only for
/// codes, dates and numbers: in a name the full-width form may be how the name is written.
#[must_use]
pub fn narrow(text: &str) -> Cow<'_, str> {
    let wide = |c: char| matches!(c, '\u{ff01}'..='\u{ff5e}' | '\u{3000}');
    if !text.contains(wide) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| match c {
                '\u{3000}' => ' ',
                '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
                _ => c,
            })
            .collect(),
    )
}

/// Why a text can't stand in any field: it was damaged on its way, and whatever is made of it would
/// be a guess.
#[must_use]
pub fn damage(text: &str) -> Option<&'static str> {
    for c in text.chars() {
        match c {
            '\0' => return Some("CELL_NUL"),
            '\u{fffd}' => return Some("CELL_MOJIBAKE"),
            '\t' | '\n' | '\r' => {}
            c if c.is_control() => return Some("CELL_CONTROL"),
            _ => {}
        }
    }
    None
}

/// A person's name: letters of any script, the middle dots of minority names, hyphen, apostrophe,
/// full stop and inner spaces. A question mark or a digit is what a broken conversion leaves behind.
pub fn name(text: &str) -> Result<&str, &'static str> {
    let text = trim(text);
    let good = |c: char| {
        c.is_alphabetic()
            || matches!(
                c,
                '·' | '•' | '・' | '‧' | '．' | '.' | '-' | '\'' | '’' | ' ' | '\u{3007}'
            )
    };
    match text.chars().find(|c| !good(*c)) {
        None => Ok(text),
        // Private-use characters carry names that a font, not Unicode, knows: legal, and kept.
        Some('\u{e000}'..='\u{f8ff}') => Ok(text),
        Some(_) => Err("NAME_CHARACTER"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_narrowed_and_names_are_not() {
        assert_eq!(narrow("４４１９００　Ａ－１"), "441900 A-1");
        assert_eq!(trim("\u{feff}\u{3000} 王小明 \u{a0}"), "王小明");
        assert_eq!(name(" 阿卜杜拉·买买提 "), Ok("阿卜杜拉·买买提"));
        assert_eq!(name("電子社??"), Err("NAME_CHARACTER"));
        assert_eq!(name("张3"), Err("NAME_CHARACTER"));
    }

    #[test]
    fn damage_is_seen() {
        assert_eq!(damage("a\0b"), Some("CELL_NUL"));
        assert_eq!(damage("王\u{fffd}明"), Some("CELL_MOJIBAKE"));
        assert_eq!(damage("a\u{1b}b"), Some("CELL_CONTROL"));
        assert_eq!(damage("two\nlines"), None);
    }

    proptest! {
        /// Cleaning twice is cleaning once, and never makes a text longer in characters.
        #[test]
        fn cleaning_is_idempotent(text in ".{0,40}") {
            let once = narrow(trim(&text)).into_owned();
            let narrowed = narrow(&once).into_owned();
            prop_assert_eq!(&narrowed, &once);
            prop_assert!(once.chars().count() <= text.chars().count());
            prop_assert_eq!(trim(trim(&text)), trim(&text));
        }
    }
}
