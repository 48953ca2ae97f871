//! Revisions as strong validators (RFC 9110 §8.8.3), and what a caller expects of them: nobody overwrites what they have not seen.

use domain::error::{Code, Refusal, shown};

/// The ETag of a revision.
pub fn etag_text(revision: i64) -> String {
    format!("\"r{revision}\"")
}

/// What `If-Match` asks for, if it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(pub Option<String>);

impl IfMatch {
    /// Nothing is expected.
    pub const ANY: IfMatch = IfMatch(None);

    /// Refuses where another revision was asked for. Call it in the transaction of the change.
    pub fn check(&self, revision: i64) -> Result<(), Refusal> {
        let Some(asked) = &self.0 else { return Ok(()) };
        // A weak validator never matches strongly.
        let matches = asked.split(',').map(str::trim).any(|one| one == "*" || one == etag_text(revision));
        if matches {
            return Ok(());
        }
        Err(Refusal::new(
            Code::StaleVersion,
            format!(
                "you sent If-Match {}, and the resource is at {}; read it again and repeat the change with its new ETag",
                shown(asked),
                etag_text(revision)
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_compares_strongly() {
        for (asked, matches) in [
            (None, true),
            (Some("*"), true),
            (Some("\"r3\""), true),
            (Some("\"r2\", \"r3\""), true),
            (Some("W/\"r3\""), false),
            (Some("\"r2\""), false),
            (Some("r3"), false),
            (Some(""), false),
        ] {
            let outcome = IfMatch(asked.map(str::to_owned)).check(3);
            assert_eq!(outcome.is_ok(), matches, "{asked:?}");
        }
    }
}
