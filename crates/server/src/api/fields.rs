//! Reading the fields of a request: each is asked for by name, everything wrong is collected, and what nobody asked for is
//! refused with the nearest name that exists. Nothing is guessed: a text is not a number, an array is not an object.
//!
//! ```ignore
//! let patch = body.read(|fields| {
//!     let label = fields.patch("label", |json| json.text(parse_label));
//!     let lock = fields.patch("release_lock", |json| json.boolean());
//!     Some(NumberPatch { label, lock })   // reached whether or not something was wrong; all errors are answered at once
//! })?;
//! ```
//!
//! Read all fields first and put them together last (`Some(Thing { a: a?, b })`): a field that was not asked for counts as
//! unknown.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use domain::error::{Code, Refusal, shown};
use serde_json::{Map, Value};

use super::error::{FieldError, Problem};
use crate::patch::Patch;

type Errors = RefCell<Vec<FieldError>>;

/// What a reader is tried with that shall say what it expects.
static NOTHING: Value = Value::String(String::new());

/// The fields of one object.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    known: Vec<&'static str>,
    /// Not asked for, and no unknown fields either.
    passed_over: &'static [&'static str],
    errors: &'a Errors,
}

/// One value and its place.
pub struct Json<'a> {
    value: &'a Value,
    path: String,
    errors: &'a Errors,
}

/// Reads a whole body, which must be an object. `read` is called once; `None` means that it met an error.
pub fn read_object<T>(value: &Value, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problem> {
    let errors = Errors::default();
    let json = Json { value, path: String::new(), errors: &errors };
    let outcome = json.object(read);
    let errors = errors.into_inner();
    match outcome {
        Some(outcome) if errors.is_empty() => Ok(outcome),
        _ if errors.is_empty() => {
            Err(Problem::new(Code::Internal, "a field was refused without saying which; please report this"))
        }
        _ => Err(Problem::invalid(errors)),
    }
}

impl<'a> Fields<'a> {
    /// The value of a field, which is absent or present.
    fn find(&mut self, name: &'static str) -> Option<Json<'a>> {
        self.known.push(name);
        self.map.get(name).map(|value| Json { value, path: self.place(name), errors: self.errors })
    }

    fn place(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field that must be there. `None` where it is not, or is wrong: the error is noted.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Json<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.find(name) {
            Some(json) if json.value.is_null() => {
                json.refuse(Code::Required, "is null; it must have a value");
                None
            }
            Some(json) => read(&json),
            None => {
                let expected = self.expected(name, read);
                let detail = match expected {
                    Some(expected) => format!("is missing; {expected}"),
                    None => "is missing; send it".to_owned(),
                };
                self.refuse(name, Refusal::new(Code::Required, detail));
                None
            }
        }
    }

    /// What a reader says that it expects: it is given nothing, and what it complains of is not noted.
    fn expected<T>(&self, name: &str, read: impl FnOnce(&Json<'a>) -> Option<T>) -> Option<String> {
        let known = self.errors.borrow().len();
        read(&Json { value: &NOTHING, path: self.place(name), errors: self.errors });
        let told = self.errors.borrow_mut().split_off(known);
        told.first()?.detail.split_once("; ").map(|(_, expected)| expected.to_owned())
    }

    /// A field that may be left out or null. An error is noted.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Json<'a>) -> Option<T>,
    ) -> Option<T> {
        self.find(name).filter(|json| !json.value.is_null()).and_then(|json| read(&json))
    }

    /// A field of a PATCH. An error is noted, and then reads as [`Patch::Keep`].
    pub fn patch<T>(&mut self, name: &'static str, read: impl FnOnce(&Json<'a>) -> Option<T>) -> Patch<T> {
        match self.find(name) {
            None => Patch::Keep,
            Some(json) if json.value.is_null() => Patch::Clear,
            Some(json) => {
                let known = self.errors.borrow().len();
                let outcome = read(&json);
                for error in self.errors.borrow_mut().iter_mut().skip(known) {
                    if error.code == Code::Blank && error.field == json.path {
                        error.detail.push_str(", or null to clear the field");
                    }
                }
                outcome.map_or(Patch::Keep, Patch::Set)
            }
        }
    }

    /// A field of a PATCH that always has a value: null is refused.
    pub fn patch_value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Json<'a>) -> Option<T>,
    ) -> Option<T> {
        let json = self.find(name)?;
        if json.value.is_null() {
            json.refuse(Code::Required, "cannot be cleared; send a value, or leave it out to keep it");
            return None;
        }
        read(&json)
    }

    /// The value of a field, without asking for it: what else is asked for may depend on it.
    pub fn peek(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// Fields that answers show and requests cannot set.
    pub fn refuse_shown(&mut self, names: &'static [&'static str], advice: &str) {
        for name in names.iter().copied().filter(|name| self.map.contains_key(*name)) {
            self.refuse(name, Refusal::new(Code::UnknownField, format!("cannot be set here; {advice}")));
        }
        self.passed_over = names;
    }

    /// Fields of which it cannot be said whether they belong here, since what says so is wrong itself.
    pub const fn leave_open(&mut self, names: &'static [&'static str]) {
        self.passed_over = names;
    }

    /// Whether a field was sent, null included.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Notes what is wrong with a field of this object.
    pub fn refuse(&self, name: &str, refusal: Refusal) {
        self.errors.borrow_mut().push(FieldError::new(self.place(name), refusal));
    }

    /// Notes the refusal, if it is one.
    pub fn check<T>(&self, name: &str, outcome: Result<T, Refusal>) -> Option<T> {
        outcome.map_err(|refusal| self.refuse(name, refusal)).ok()
    }

    fn refuse_unknown(&self) {
        let is_known = |name: &str| self.known.contains(&name) || self.passed_over.contains(&name);
        for name in self.map.keys().filter(|name| !is_known(name)) {
            let candidates: Vec<&str> = self.known.iter().chain(self.passed_over).copied().collect();
            let nearest = nearest(name, &candidates).or_else(|| with_the_word(name, &candidates));
            let advice = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None if self.known.is_empty() => "nothing can be sent here".to_owned(),
                None => format!("the fields here are {}", self.known.join(", ")),
            };
            let name: String = name.chars().take(64).collect();
            self.refuse(
                &name,
                Refusal::new(Code::UnknownField, format!("there is no field {}; {advice}", shown(&name))),
            );
        }
    }
}

impl<'a> Json<'a> {
    /// Notes what is wrong with this value.
    pub fn refuse(&self, code: Code, detail: impl Into<String>) {
        self.errors.borrow_mut().push(FieldError::new(self.place(), Refusal::new(code, detail)));
    }

    fn place(&self) -> &str {
        if self.path.is_empty() { "(body)" } else { &self.path }
    }

    /// Notes the refusal, if it is one.
    pub fn check<T>(&self, outcome: Result<T, Refusal>) -> Option<T> {
        outcome.map_err(|refusal| self.refuse(refusal.code, refusal.detail)).ok()
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let received = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Number(number) => format!("the number {}", shown(&number.to_string())),
            Value::String(text) => format!("the string {}", shown(text)),
            Value::Array(_) => "an array".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        self.refuse(Code::WrongType, format!("is {received}; expected {expected}"));
        None
    }

    /// The value itself, for what reads it otherwise.
    pub const fn value(&self) -> &'a Value {
        self.value
    }

    /// Text, made into something.
    pub fn text<T>(&self, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        match self.value {
            Value::String(text) => match parse(text) {
                Ok(read) => Some(read),
                Err(refusal) => {
                    let received_number = (refusal.code == Code::NotE164).then(|| text.clone());
                    let error = FieldError { received_number, ..FieldError::new(self.place(), refusal) };
                    self.errors.borrow_mut().push(error);
                    None
                }
            },
            _ => self.wrong_type("a string"),
        }
    }

    /// Text that reads as a `T`: an id, a word of a closed set, a phone number.
    pub fn parse<T: FromStr<Err = Refusal>>(&self) -> Option<T> {
        self.text(str::parse)
    }

    /// A secret: its text is never repeated in an error.
    pub fn secret<T>(&self, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<T> {
        let Value::String(text) = self.value else {
            self.refuse(Code::WrongType, "is not a string; expected a string");
            return None;
        };
        self.check(parse(text))
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within a range.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + Into<i64> + Copy + Display,
    {
        let (least, most): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
        let expected = format!("a whole number from {least} to {most}");
        let Value::Number(number) = self.value else { return self.wrong_type(&expected) };
        let Some(number) = number.as_i64().filter(|number| (least..=most).contains(number)) else {
            let code = if number.is_f64() { Code::WrongType } else { Code::InvalidValue };
            self.refuse(code, format!("is {}; expected {expected}", shown(&number.to_string())));
            return None;
        };
        T::try_from(number).ok()
    }

    /// An object.
    pub fn object<T>(&self, read: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
        let Value::Object(map) = self.value else { return self.wrong_type("an object") };
        let mut fields =
            Fields { map, path: self.path.clone(), known: Vec::new(), passed_over: &[], errors: self.errors };
        let outcome = read(&mut fields);
        fields.refuse_unknown();
        outcome
    }

    /// An object whose keys are values too, such as parameters by name.
    pub fn entries<T>(&self, mut read: impl FnMut(&str, &Json<'a>) -> Option<T>) -> Option<Vec<(String, T)>> {
        let Value::Object(map) = self.value else { return self.wrong_type("an object") };
        let entries: Vec<Option<(String, T)>> = map
            .iter()
            .map(|(key, value)| {
                let short: String = key.chars().take(64).collect();
                let is_plain = short.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                let place = if is_plain { format!(".{short}") } else { format!("[{short:?}]") };
                let json = Json { value, path: format!("{}{place}", self.path), errors: self.errors };
                read(key, &json).map(|value| (key.clone(), value))
            })
            .collect();
        entries.into_iter().collect()
    }

    /// An array of at most so many.
    pub fn array<T>(&self, max: usize, mut read: impl FnMut(&Json<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.value else { return self.wrong_type("an array") };
        if items.len() > max {
            self.refuse(Code::TooMany, format!("has {} entries; at most {max} are allowed", items.len()));
            return None;
        }
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(place, value)| {
                read(&Json { value, path: format!("{}[{place}]", self.path), errors: self.errors })
            })
            .collect();
        read.into_iter().collect()
    }
}

/// The known name that is nearest to the one sent, if it is near enough to have been meant.
pub fn nearest<'a>(sent: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (sent.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|name| (edits(&sent.to_lowercase(), name), *name))
        .filter(|(edits, _)| *edits <= limit)
        .min()
        .map(|(_, name)| name)
}

/// The one known name that has the sent name as a word of it, such as `number` for `phone_number`.
fn with_the_word<'a>(sent: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut found = known.iter().filter(|name| name.split('_').any(|word| word == sent));
    let first = found.next()?;
    found.next().is_none().then_some(*first)
}

/// How many letters have to be changed, added, removed or swapped with their neighbour (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::environment::Environment;
    use domain::number::parse_label;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "`json!` reads better as an argument")]
    fn check(body: Value, expected: Expect) {
        let outcome = read_object(&body, |fields| {
            let label = fields.patch("label", |json| json.text(parse_label));
            let environment = fields.required("environment", Json::parse::<Environment>);
            let lock = fields.patch_value("release_lock", Json::boolean);
            let ring = fields.optional("ring_timeout_s", |json| json.integer(5_u16..=120));
            let tags = fields.optional("tags", |json| json.array(2, |json| json.text(parse_label)));
            let inner = fields
                .optional("hours", |json| json.object(|fields| fields.required("closed", Json::boolean)));
            Some((label, environment?, lock, ring, tags, inner))
        });
        let shown = match outcome {
            Ok(read) => format!("{read:?}\n"),
            Err(problem) => problem
                .errors
                .iter()
                .fold(format!("{}: {}\n", problem.code, problem.detail), |text, error| {
                    text + &format!("  {} {}: {}\n", error.field, error.code, error.detail)
                }),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn fields_are_read_or_refused_all_at_once() {
        check(
            json!({"environment": "live", "label": null, "tags": ["a"], "hours": {"closed": true}}),
            expect![[r#"
                (Clear, Live, None, None, Some(["a"]), Some(true))
            "#]],
        );
        check(
            json!({"enviroment": "live", "label": 7, "release_lock": null, "ring_timeout_s": 121, "tags": ["a", ""], "hours": []}),
            expect![[r"
                validation_failed: 7 errors, in label, environment, release_lock, ring_timeout_s, tags[1], hours, enviroment; nothing was changed
                  label wrong_type: is the number `7`; expected a string
                  environment required: is missing; it is one of sandbox, pre_release, live
                  release_lock required: cannot be cleared; send a value, or leave it out to keep it
                  ring_timeout_s invalid_value: is `121`; expected a whole number from 5 to 120
                  tags[1] blank: is empty or only spaces; send some text
                  hours wrong_type: is an array; expected an object
                  enviroment unknown_field: there is no field `enviroment`; did you mean `environment`?
            "]],
        );
        check(
            json!({"environment": "prod", "hours": {"closed": true, "x": 1}}),
            expect![[r"
                validation_failed: 2 errors, in environment, hours.x; nothing was changed
                  environment invalid_value: `prod` is no environment; it is one of sandbox, pre_release, live
                  hours.x unknown_field: there is no field `x`; the fields here are closed
            "]],
        );
        check(
            json!([]),
            expect![[r"
                wrong_type: (body): is an array; expected an object
                  (body) wrong_type: is an array; expected an object
            "]],
        );
        check(
            json!({"environment": "live", "tags": ["a", "b", "c"]}),
            expect![[r"
                too_many: tags: has 3 entries; at most 2 are allowed
                  tags too_many: has 3 entries; at most 2 are allowed
            "]],
        );
    }

    #[test]
    fn the_nearest_name_is_one_that_may_have_been_meant() {
        let known = ["label", "release_lock", "environment"];
        assert_eq!(nearest("lable", &known), Some("label"));
        assert_eq!(nearest("releaseLock", &known), Some("release_lock"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(with_the_word("lock", &known), Some("release_lock"));
        assert_eq!(with_the_word("lock", &["a_lock", "b_lock"]), None);
    }
}
