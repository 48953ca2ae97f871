//! `$1` → `?1`: one SQL text for both engines.
//!
//! SQLite takes `$1` for a *named* parameter and numbers it by its first appearance, so `… $2 … $1`
//! would bind the wrong way round. `?1` means what PostgreSQL means by `$1`.

use std::borrow::Cow;

/// Rewrites `$n` to `?n` outside string literals, quoted names and comments. Borrows where there is
/// nothing to rewrite.
pub(crate) fn numbered(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let bytes = sql.as_bytes();
    let mut out = String::with_capacity(sql.len());
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = after_quoted(bytes, at + 1, quote),
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = after(bytes, at + 2, b"\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = after(bytes, at + 2, b"*/"),
            b'$' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
                && !(at > 0 && is_name(bytes[at - 1])) =>
            {
                out.push_str(&sql[copied..at]);
                out.push('?');
                copied = at + 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
    out.push_str(&sql[copied..]);
    Cow::Owned(out)
}

/// Whether a byte can stand inside a name, where `$` is just a letter (`tax$2020`).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// Just after the closing quote; a doubled quote stands for itself.
fn after_quoted(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    at
}

/// Just after the next `end`, or at the end of the text.
fn after(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let from = from.min(bytes.len());
    bytes[from..]
        .windows(end.len())
        .position(|window| window == end)
        .map_or(bytes.len(), |i| from + i + end.len())
}

#[cfg(test)]
mod tests {
    use super::numbered;
    use proptest::prelude::*;

    #[test]
    fn outside_quotes_only() {
        for (from, to) in [
            ("SELECT 1", "SELECT 1"),
            ("a = $1 AND b = $12", "a = ?1 AND b = ?12"),
            ("a = '$1' AND b = $1", "a = '$1' AND b = ?1"),
            ("a = 'it''s $1' OR \"co$1l\" = $2", "a = 'it''s $1' OR \"co$1l\" = ?2"),
            ("$1 -- not $2\n+ $3 /* nor $4 */ $5", "?1 -- not $2\n+ ?3 /* nor $4 */ ?5"),
            ("tax$2020 = $1", "tax$2020 = ?1"),
            ("'open $1", "'open $1"),
            ("cost $ 1 $", "cost $ 1 $"),
            ("'é' || $1 || 'ü$2'", "'é' || ?1 || 'ü$2'"),
            ("$1--", "?1--"),
            ("/*", "/*"),
        ] {
            assert_eq!(numbered(from), to, "{from}");
        }
    }

    /// A piece of SQL and what it must become.
    fn piece() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            (1..2000u32).prop_map(|n| (format!(" ${n} "), format!(" ?{n} "))),
            "[ a-z0-9$'é]{0,12}".prop_map(|s| {
                let quoted = format!("'{}'", s.replace('\'', "''"));
                (quoted.clone(), quoted)
            }),
            "[ a-z0-9$\"]{0,12}".prop_map(|s| {
                let quoted = format!(" \"{}\" ", s.replace('"', "\"\""));
                (quoted.clone(), quoted)
            }),
            "[ a-z0-9$']{0,12}".prop_map(|s| (format!(" --{s}\n"), format!(" --{s}\n"))),
            "[ a-z0-9$']{0,12}".prop_map(|s| (format!(" /*{s}*/ "), format!(" /*{s}*/ "))),
            "[ a-z_=<>(),.+]{0,12}".prop_map(|s| (s.clone(), s)),
        ]
    }

    proptest! {
        #[test]
        fn every_mixture(pieces in prop::collection::vec(piece(), 0..12)) {
            let (from, to): (String, String) = pieces.into_iter().unzip();
            // A bare `-` cannot arise from two pieces, nor can a quote be doubled across them,
            // except where two string literals touch: PostgreSQL reads those as one, and so do we.
            prop_assert_eq!(numbered(&from), to);
        }

        #[test]
        fn never_panics_and_keeps_its_length(any in "\\PC{0,64}") {
            prop_assert_eq!(numbered(&any).len(), any.len());
        }
    }
}
