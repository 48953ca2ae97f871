//! How the command line writes: aligned tables, values without control characters, and notes that stay out of pipes.

use std::io::Write as _;

use serde_json::Value;

/// What stands where there is nothing.
const NOTHING: &str = "–";

/// Writes to standard output. A reader who has gone (`| head`) is no fault.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes beside the output: for people, never for pipes.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes JSON, one field a line.
pub(super) fn say_json(value: &Value) {
    say(&serde_json::to_string_pretty(value).expect("a JSON value can be written"));
}

/// A text from outside as a terminal may show it: control and invisible characters are written out, so that it can move no
/// cursor and forge no line.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || domain::error::is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A field of an answer as text: `assignment.environment` goes inside; lists are joined; an amount of money stands with its currency.
pub(super) fn field(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, name| value.get(name));
    shown(found.unwrap_or(&Value::Null))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING.to_owned(),
        Value::String(text) => visible(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) if list.is_empty() => NOTHING.to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            if let (Some(amount), Some(currency)) = (object.get("amount"), object.get("currency")) {
                return format!("{} {}", shown(amount), shown(currency));
            }
            let set: Vec<String> = object
                .iter()
                .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)))
                .map(|(name, value)| match value {
                    Value::Bool(_) => visible(name),
                    value => format!("{}={}", visible(name), shown(value)),
                })
                .collect();
            if set.is_empty() { NOTHING.to_owned() } else { set.join(", ") }
        }
    }
}

/// Rows under headings, each column as wide as its widest cell.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (cell, width) in cells.zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        out.truncate(out.trim_end().len());
        out
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// A list of answers as a table: a heading and the path of a field for each column.
pub(super) fn table_of(data: &[Value], columns: &[(&str, &str)]) -> String {
    if data.is_empty() {
        return "None.".to_owned();
    }
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let rows: Vec<Vec<String>> =
        data.iter().map(|value| columns.iter().map(|(_, path)| field(value, path)).collect()).collect();
    table(&headings, &rows)
}

/// The same, with what matters most in front, in this order.
pub(super) fn sheet_from(value: &Value, first: &[&str]) -> String {
    let Value::Object(object) = value else { return sheet(value) };
    let mut rest = object.clone();
    let mut parts = Vec::new();
    let width = first.iter().map(|name| name.len()).max().unwrap_or(0);
    for name in first {
        match rest.remove(*name) {
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                parts.push(sheet(&serde_json::json!({ *name: value })));
            }
            Some(value) => parts.push(format!("{name:width$}  {}", shown(&value))),
            None => {}
        }
    }
    parts.push(sheet(&Value::Object(rest)));
    parts.join("\n")
}

/// One answer as lines of name and value; what stands for itself in nested objects is indented.
pub(super) fn sheet(value: &Value) -> String {
    let mut lines = Vec::new();
    sheet_lines(value, 0, &mut lines);
    lines.join("\n")
}

fn sheet_lines(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let Value::Object(object) = value else {
        lines.push(shown(value));
        return;
    };
    let indent = "  ".repeat(depth);
    let width = object.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in object {
        let is_plain =
            |value: &Value| !value.is_object() && !value.is_array() || value.get("amount").is_some();
        match value {
            Value::Object(inner) if !inner.is_empty() && !is_plain(value) => {
                lines.push(format!("{indent}{}", visible(name)));
                sheet_lines(value, depth + 1, lines);
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                lines.push(format!("{indent}{}", visible(name)));
                for (count, entry) in list.iter().enumerate() {
                    if count > 0 {
                        lines.push(String::new());
                    }
                    sheet_lines(entry, depth + 1, lines);
                }
            }
            _ => lines.push(format!("{indent}{:width$}  {}", visible(name), shown(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn tables_are_aligned_and_nothing_from_outside_moves_the_cursor() {
        let data = [
            json!({"phone_number": "+14155550101", "label": "Réception", "assignment": {"environment": "live"}, "price": {"amount": "1.15", "currency": "USD"}}),
            json!({"phone_number": "+442079460001", "label": "a\u{1b}[2J\nb", "assignment": null, "capabilities": {"voice": true, "sms": false}}),
        ];
        expect![[r"
            Number         Label             Environment  Price     Can
            +14155550101   Réception         live         1.15 USD  –
            +442079460001  a\u{1b}[2J\u{a}b  –            –         voice"]]
        .assert_eq(&table_of(
            &data,
            &[
                ("Number", "phone_number"),
                ("Label", "label"),
                ("Environment", "assignment.environment"),
                ("Price", "price"),
                ("Can", "capabilities"),
            ],
        ));
        assert_eq!(table_of(&[], &[("Number", "phone_number")]), "None.");
    }

    #[test]
    fn a_sheet_begins_with_what_matters() {
        let value =
            json!({"a": 1, "id": "num_1", "phone_number": "+1", "assignment": {"environment": "live"}});
        expect![[r"
            phone_number  +1
            assignment
              environment  live
            id            num_1
            a  1"]]
        .assert_eq(&sheet_from(&value, &["phone_number", "assignment", "id", "missing"]));
    }

    #[test]
    fn a_sheet_shows_everything() {
        let value = json!({"id": "num_1", "tags": ["a", "b"], "assignment": {"agent_id": "agt_1", "environment": "live"}, "steps": [{"rule": "x"}, {"rule": "y"}], "locked": true});
        expect![[r#"
            assignment
              agent_id     agt_1
              environment  live
            id          num_1
            locked      yes
            steps
              rule  x

              rule  y
            tags        a, b"#]]
        .assert_eq(&sheet(&value));
    }
}
