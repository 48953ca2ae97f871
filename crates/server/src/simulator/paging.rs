//! The carrier's paging: pages are asked for by a token that names the last item seen, and every link is relative.

use serde_json::{Map, Value, json};

use super::errors::{ApiError, Kind};
use super::form::Form;
use super::router::ApiRequest;

/// Page sizes of the interface: by default, and at most.
const PAGE_SIZE_DEFAULT: usize = 50;
const PAGE_SIZE_MAX: usize = 1_000;

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page<'a, T> {
    pub(crate) items: Vec<&'a T>,
    number: usize,
    size: usize,
    start: usize,
    path: String,
    filters: Form,
    token: Option<String>,
    next_token: Option<String>,
    previous_token: Option<String>,
}

/// Cuts the page that `request` asks for out of `all`. `PA` and a SID means what follows that item, `PB` what
/// stands before it; without a token the page's number counts.
pub(crate) fn page<'a, T>(
    request: &ApiRequest,
    all: &[&'a T],
    sid_of: impl Fn(&'a T) -> &'a str,
) -> Result<Page<'a, T>, ApiError> {
    let number_of = |name: &str, default: usize| match request.query.filled(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| ApiError::new(Kind::ParameterInvalid, format!("{name} {text} is not a number"))),
    };
    let size = number_of("PageSize", PAGE_SIZE_DEFAULT)?.clamp(1, PAGE_SIZE_MAX);
    let number = number_of("Page", 0)?;
    let token = request.query.filled("PageToken").map(str::to_owned);
    let position = |sid: &str| all.iter().position(|item| sid_of(item) == sid);
    let start = match token.as_deref() {
        None => number * size,
        Some(token) => {
            if let Some(sid) = token.strip_prefix("PA") {
                // An item that has gone meanwhile: fall back to counting, as good as any other answer.
                position(sid).map_or(number * size, |at| at + 1)
            } else if let Some(sid) = token.strip_prefix("PB") {
                position(sid).map_or(number * size, |at| at.saturating_sub(size))
            } else {
                return Err(ApiError::new(Kind::ParameterInvalid, format!("PageToken {token} is not valid")));
            }
        }
    };
    // A listing that shifts while it is read (a fault) repeats or skips items on every page but the first.
    let start = if number == 0 { start } else { start.saturating_add_signed(request.view.shift) };
    let start = start.min(all.len());
    let end = (start + size).min(all.len());
    let items = all[start..end].to_vec();
    let next_token =
        (end < all.len()).then(|| items.last().map(|item| format!("PA{}", sid_of(item)))).flatten();
    let previous_token =
        (number > 0).then(|| items.first().map(|item| format!("PB{}", sid_of(item)))).flatten();
    let filters = Form(
        request
            .query
            .0
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "Page" | "PageSize" | "PageToken"))
            .cloned()
            .collect(),
    );
    let path = request.path.clone();
    Ok(Page { items, number, size, start: number * size, path, filters, token, next_token, previous_token })
}

impl<T> Page<'_, T> {
    /// The answer: the items under their plural name, and the links.
    pub(crate) fn body(&self, plural: &str, bodies: Vec<Value>) -> Value {
        let end = self.start + bodies.len().saturating_sub(1);
        let mut body = Map::new();
        body.insert(plural.to_owned(), Value::Array(bodies));
        body.insert("page".into(), json!(self.number));
        body.insert("page_size".into(), json!(self.size));
        body.insert("start".into(), json!(self.start));
        body.insert("end".into(), json!(end));
        body.insert("uri".into(), json!(self.link(self.number, self.token.as_deref())));
        body.insert("first_page_uri".into(), json!(self.link(0, None)));
        body.insert(
            "next_page_uri".into(),
            json!(self.next_token.as_deref().map(|token| self.link(self.number + 1, Some(token)))),
        );
        body.insert(
            "previous_page_uri".into(),
            json!(self.previous_token.as_deref().map(|token| self.link(self.number - 1, Some(token)))),
        );
        Value::Object(body)
    }

    fn link(&self, number: usize, token: Option<&str>) -> String {
        let mut query = self.filters.clone();
        query.push("PageSize", self.size.to_string());
        query.push("Page", number.to_string());
        if let Some(token) = token {
            query.push("PageToken", token);
        }
        format!("{}?{}", self.path, query.encode())
    }
}
