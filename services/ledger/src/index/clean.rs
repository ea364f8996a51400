//! Texts as the index keeps them. The log keeps them as they came.

use std::borrow::Cow;

/// Longest word of the dictionary, bytes: an index of PostgreSQL takes 2,704.
const MAX_WORD_BYTES: usize = 1_024;
/// Shortest run of digits that may be an identity number (GB 11643-1989 has 15, GB 11643-1999 has
/// 17 and a check character).
const MIN_ID_DIGITS: usize = 15;

/// Without what a text column can't hold (NUL) and what it must not (runs of digits as long as an
/// identity number, which an operator may have typed into a reason).
pub(super) fn text(raw: &str) -> Cow<'_, str> {
    let (mut run, mut fits) = (0, true);
    for c in raw.chars() {
        run = if is_digit(c) { run + 1 } else { 0 };
        fits &= run < MIN_ID_DIGITS && c != '\0';
    }
    if fits {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut run = String::new();
    for c in raw.chars() {
        if is_digit(c) {
            run.push(c);
            continue;
        }
        let masked = flush(&mut run, &mut out);
        match c {
            '\0' => out.push(char::REPLACEMENT_CHARACTER),
            'x' | 'X' | 'ｘ' | 'Ｘ' if masked => out.push('*'),
            c => out.push(c),
        }
    }
    flush(&mut run, &mut out);
    Cow::Owned(out)
}

/// A dictionary word: also cut to what can be indexed.
pub(super) fn word(raw: &str) -> Cow<'_, str> {
    match text(raw) {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..cut(text)]),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text));
            Cow::Owned(text)
        }
    }
}

fn cut(text: &str) -> usize {
    let mut at = text.len().min(MAX_WORD_BYTES);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn flush(run: &mut String, out: &mut String) -> bool {
    let digits = run.chars().count();
    let masked = digits >= MIN_ID_DIGITS;
    if masked {
        out.extend(std::iter::repeat_n('*', digits));
    } else {
        out.push_str(run);
    }
    run.clear();
    masked
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || ('０'..='９').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_numbers_do_not_get_through() {
        assert_eq!(text("case 2026-17, desk 4"), "case 2026-17, desk 4");
        assert_eq!(
            text("about 11010519491231002X."),
            "about ******************."
        );
        assert_eq!(text("about 110105491231002,"), "about ***************,");
        assert_eq!(text("１１０１０５１９４９１２３１００２９"), "*".repeat(18));
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(
            text(&text("to 110105194912310020")),
            "to ******************"
        );
        assert_eq!(word(&"界".repeat(999)).len(), 1_023);
    }
}
