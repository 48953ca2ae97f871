//! Lists: a page at a time, by keyset, so that rows that come and go shift nothing. A cursor is opaque, and bound to its
//! workspace, route and filters by a seal: with any other it is refused, so it tells and reaches nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::error::{Code, Refusal, shown};
use domain::id::WorkspaceId;
use ring::hmac;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::fields::Fields;

/// The most entries of one page.
pub const LIMIT_MAX: u32 = 200;
/// The entries of one page, unless asked otherwise.
pub const LIMIT_DEFAULT: u32 = 50;
/// How much of the seal a cursor carries, in bytes.
const SEAL_BYTES: usize = 12;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Send it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Seals cursors.
#[derive(Clone, Debug)]
pub struct Cursors(hmac::Key);

impl Cursors {
    /// With this key, which all nodes share.
    pub fn new(key: &[u8]) -> Cursors {
        Cursors(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn seal(&self, list: &ListKey<'_>, after: &str) -> [u8; SEAL_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [&list.workspace.to_string(), list.route, &list.filters, after] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref()[..SEAL_BYTES].try_into().expect("an HMAC has 32 bytes")
    }

    /// The cursor of the page that begins behind `after`.
    pub fn write(&self, list: &ListKey<'_>, after: &str) -> String {
        let mut bytes = self.seal(list, after).to_vec();
        bytes.extend_from_slice(after.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a cursor says, if it is ours and belongs here.
    pub fn read(&self, list: &ListKey<'_>, cursor: &str) -> Result<String, Problem> {
        let refuse = || {
            Problem::new(
                Code::BadCursor,
                format!(
                    "{} does not continue this list; send `next_cursor` of its last page unchanged, with the same filters, or no cursor to begin anew",
                    shown(cursor)
                ),
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
        let (seal, after) = bytes.split_at_checked(SEAL_BYTES).ok_or_else(refuse)?;
        let after = std::str::from_utf8(after).map_err(|_| refuse())?;
        let right = self.seal(list, after);
        let matches: bool = subtle::ConstantTimeEq::ct_eq(seal, right.as_slice()).into();
        matches.then(|| after.to_owned()).ok_or_else(refuse)
    }
}

/// Which list a cursor belongs to.
pub struct ListKey<'a> {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which route.
    pub route: &'a str,
    /// With which filters ([`super::body::Query::without`]).
    pub filters: String,
}

/// What a list request asks for, filters apart.
pub struct PageRequest {
    /// How many.
    pub limit: u32,
    /// From where.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// Reads `limit` and `cursor`.
    pub fn read(fields: &mut Fields<'_>) -> PageRequest {
        let limit = fields.optional("limit", |json| json.text(parse_limit)).unwrap_or(LIMIT_DEFAULT);
        let cursor = fields.optional("cursor", |json| json.text(|text| Ok(text.to_owned())));
        PageRequest { limit, cursor }
    }

    /// What stands in the cursor, read as the key of the list.
    pub fn after<K: std::str::FromStr>(
        &self,
        cursors: &Cursors,
        list: &ListKey<'_>,
    ) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let after = cursors.read(list, cursor)?;
        after.parse().map(Some).map_err(|_| {
            Problem::new(Code::BadCursor, format!("{} is a cursor of another list", shown(cursor)))
        })
    }
}

impl<T> Page<T> {
    /// Makes a page of `rows`, of which one more than `limit` was asked for: whether it is there tells whether another page
    /// follows. `key` is what the list is ordered by.
    pub fn cut<R>(
        mut rows: Vec<R>,
        request: &PageRequest,
        cursors: &Cursors,
        list: &ListKey<'_>,
        key: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let limit = request.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| cursors.write(list, &key(last)));
        Page { data: rows.into_iter().map(show).collect(), next_cursor }
    }
}

/// Reads a page's `limit`.
pub fn parse_limit(text: &str) -> Result<u32, Refusal> {
    text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
        Refusal::new(
            Code::LimitRange,
            format!("{} is not a limit; send a whole number from 1 to {LIMIT_MAX}", shown(text)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_works_only_where_it_was_made() {
        let cursors = Cursors::new(b"key");
        let list = |workspace: u128, filters: &str| ListKey {
            workspace: WorkspaceId::from_bits(workspace),
            route: "/v1/numbers",
            filters: filters.to_owned(),
        };
        let cursor = cursors.write(&list(1, "{}"), "num_x");
        assert_eq!(cursors.read(&list(1, "{}"), &cursor).unwrap(), "num_x");
        for (list, cursor) in [
            (list(2, "{}"), cursor.clone()),
            (list(1, "{\"country\":\"US\"}"), cursor.clone()),
            (list(1, "{}"), cursor[1..].to_owned()),
            (list(1, "{}"), format!("{cursor}AA")),
            (list(1, "{}"), "!".to_owned()),
            (list(1, "{}"), String::new()),
        ] {
            assert_eq!(cursors.read(&list, &cursor).unwrap_err().code, Code::BadCursor, "{cursor}");
        }
        assert_eq!(Cursors::new(b"other").read(&list(1, "{}"), &cursor).unwrap_err().code, Code::BadCursor);
    }

    #[test]
    fn limits_are_1_to_200() {
        assert_eq!(parse_limit("200").unwrap(), 200);
        for text in ["0", "201", "-1", "1.5", "x", "100000"] {
            assert_eq!(parse_limit(text).unwrap_err().code, Code::LimitRange, "{text}");
        }
    }
}
