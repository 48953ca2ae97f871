//! The reference as HTML, written from the OpenAPI document. It knows of OpenAPI what our document uses, and escapes everything.

use std::fmt::Write as _;

use domain::error::Code;
use serde_json::Value;

use crate::api::error::ERROR_PAGES;

/// How deep the fields of a body are unfolded; deeper ones are reached by their own heading.
const DEPTH_MAX: usize = 5;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The whole reference.
pub(super) fn reference(document: &Value) -> String {
    let mut body = String::new();
    write(&mut body, format_args!("<h1>{} API</h1>\n", text(&document["info"]["title"])));
    for paragraph in string(&document["info"]["description"]).split("\n\n") {
        write(&mut body, format_args!("<p>{}</p>\n", inline(paragraph)));
    }
    write(
        &mut body,
        format_args!(
            "<p>The same for programs: <a href=\"/openapi.json\">openapi.json</a> (OpenAPI 3.1). All error codes: <a href=\"{ERROR_PAGES}\">errors</a>.</p>\n"
        ),
    );
    let tags: Vec<&Value> = document["tags"].as_array().into_iter().flatten().collect();
    let operations = operations(document);
    body.push_str("<nav><ul>\n");
    for operation in &operations {
        write(
            &mut body,
            format_args!(
                "<li><a href=\"#{}\">{}</a></li>\n",
                text(&operation.value["operationId"]),
                text(&operation.value["summary"])
            ),
        );
    }
    body.push_str("</ul></nav>\n");
    for tag in tags {
        let name = string(&tag["name"]);
        let here: Vec<&Operation<'_>> =
            operations.iter().filter(|operation| operation.tag() == name).collect();
        if here.is_empty() {
            continue;
        }
        write(&mut body, format_args!("<h2>{}</h2>\n<p>{}</p>\n", escape(name), text(&tag["description"])));
        for operation in here {
            operation.write(document, &mut body);
        }
    }
    frame("Switchboard API", &body)
}

/// All error codes.
pub(super) fn error_list() -> String {
    let mut body = String::from(
        "<h1>Errors</h1>\n<p>Every refusal is <code>application/problem+json</code> with one of these codes. Codes are stable; sentences may change.</p>\n<table>\n",
    );
    for code in Code::ALL {
        write(
            &mut body,
            format_args!(
                "<tr><td><a href=\"{ERROR_PAGES}/{code}\"><code>{code}</code></a></td><td>{}</td><td>{}</td></tr>\n",
                code.http_status(),
                escape(code.title())
            ),
        );
    }
    body.push_str("</table>\n<p><a href=\"/docs\">The reference</a></p>\n");
    frame("Errors – Switchboard API", &body)
}

/// The page of one code.
pub(super) fn error_page(code: Code) -> String {
    let mut body =
        format!("<h1>{}</h1>\n<p><code>{code}</code> – HTTP {}", escape(code.title()), code.http_status());
    if let Some(sip) = code.sip_status() {
        write(&mut body, format_args!(", SIP {sip}"));
    }
    write(
        &mut body,
        format_args!(
            "</p>\n<h2>What to do</h2>\n<p>{}</p>\n<p>The answer's <code>detail</code> says what was received and what is expected; <code>errors</code> has one entry for each bad field.</p>\n<p><a href=\"{ERROR_PAGES}\">All errors</a> · <a href=\"/docs\">The reference</a></p>\n",
            inline(code.advice())
        ),
    );
    frame(&format!("{code} – Switchboard API"), &body)
}

struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    value: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            METHODS
                .iter()
                .filter_map(move |&method| item.get(method).map(|value| Operation { method, path, value }))
        })
        .collect()
}

impl<'a> Operation<'a> {
    fn tag(&self) -> &'a str {
        self.value["tags"].as_array().and_then(|tags| tags.first()).map_or("", string)
    }

    fn write(&self, document: &Value, body: &mut String) {
        write(
            body,
            format_args!(
                "<section id=\"{}\">\n<h3>{}</h3>\n<code class=\"route\"><span class=\"method\">{}</span>{}</code>\n",
                text(&self.value["operationId"]),
                text(&self.value["summary"]),
                self.method.to_uppercase(),
                escape(self.path)
            ),
        );
        for paragraph in string(&self.value["description"]).split("\n\n").filter(|text| !text.is_empty()) {
            write(body, format_args!("<p>{}</p>\n", inline(paragraph)));
        }
        self.write_parameters(document, body);
        let request = &self.value["requestBody"]["content"]["application/json"];
        if request.is_object() {
            body.push_str("<h4>Body</h4>\n");
            write_schema(document, &request["schema"], body);
            write_example(request, body);
        }
        self.write_responses(document, body);
        body.push_str("</section>\n");
    }

    fn write_parameters(&self, document: &Value, body: &mut String) {
        let parameters: Vec<&Value> = self.value["parameters"].as_array().into_iter().flatten().collect();
        if parameters.is_empty() {
            return;
        }
        body.push_str("<h4>Parameters</h4>\n<table>\n");
        for parameter in parameters {
            write_row(
                body,
                string(&parameter["name"]),
                &format!("{} ({})", type_of(document, &parameter["schema"]), string(&parameter["in"])),
                parameter["required"] == true,
                string(&parameter["description"]),
            );
        }
        body.push_str("</table>\n");
    }

    fn write_responses(&self, document: &Value, body: &mut String) {
        let mut errors = Vec::new();
        for (status, response) in self.value["responses"].as_object().into_iter().flatten() {
            if !status.starts_with('2') {
                errors.push((status, string(&response["description"])));
                continue;
            }
            write(body, format_args!("<h4>{status} – {}</h4>\n", inline(string(&response["description"]))));
            let content = &response["content"]["application/json"];
            if content.is_object() {
                write_schema(document, &content["schema"], body);
                write_example(content, body);
            }
        }
        body.push_str("<details><summary>Errors</summary>\n<table>\n");
        for (status, list) in errors {
            let list: Vec<String> = list.split("; ").map(inline).collect();
            write(body, format_args!("<tr><td>{status}</td><td>{}</td></tr>\n", list.join("<br>")));
        }
        body.push_str("</table></details>\n");
    }
}

fn write_example(content: &Value, body: &mut String) {
    if let Some(example) = content.get("example") {
        let shown = serde_json::to_string_pretty(example).unwrap_or_default();
        write(body, format_args!("<pre>{}</pre>\n", escape(&shown)));
    }
}

fn write_schema(document: &Value, schema: &Value, body: &mut String) {
    body.push_str("<table>\n");
    write_fields(document, schema, "", 0, body);
    body.push_str("</table>\n");
}

fn write_fields(document: &Value, schema: &Value, prefix: &str, depth: usize, body: &mut String) {
    let schema = meant(document, schema);
    if depth > DEPTH_MAX {
        return;
    }
    let parts = ["oneOf", "anyOf", "allOf"].iter().filter_map(|key| schema[*key].as_array()).flatten();
    for part in parts.filter(|part| part["type"] != "null") {
        write_fields(document, part, prefix, depth, body);
    }
    if schema["items"].is_object() {
        let prefix = prefix.strip_suffix('.').map_or_else(String::new, |prefix| format!("{prefix}[]."));
        write_fields(document, &schema["items"], &prefix, depth + 1, body);
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(string).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let about = about_field(document, field);
        let full = format!("{prefix}{name}");
        write_row(body, &full, &type_of(document, field), required.contains(&name.as_str()), about);
        write_fields(document, field, &format!("{full}."), depth + 1, body);
    }
}

/// What is said of a field: beside it, beside what it may be where that is one thing or null, or at what it leads to.
fn about_field<'a>(document: &'a Value, field: &'a Value) -> &'a str {
    let parts = ["oneOf", "anyOf", "allOf"].iter().filter_map(|key| field[*key].as_array()).flatten();
    let parts: Vec<&Value> = parts.filter(|part| part["type"] != "null").collect();
    let one = if let [one] = parts.as_slice() { *one } else { &Value::Null };
    [field, one, meant(document, field), meant(document, one)]
        .into_iter()
        .map(|place| string(&place["description"]))
        .find(|about| !about.is_empty())
        .unwrap_or_default()
}

fn write_row(body: &mut String, name: &str, kind: &str, required: bool, about: &str) {
    let required = if required { " <span class=\"required\">always</span>" } else { "" };
    write(
        body,
        format_args!(
            "<tr><td><code>{}</code>{required}</td><td class=\"type\">{}</td><td>{}</td></tr>\n",
            escape(name),
            escape(kind),
            inline(about)
        ),
    );
}

/// The schema that a reference leads to.
fn meant<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or(&Value::Null),
        None => schema,
    }
}

/// In a word or two, what kind of value it is.
fn type_of(document: &Value, schema: &Value) -> String {
    let schema = meant(document, schema);
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(string).collect::<Vec<_>>().join(" | ");
    }
    let alternatives: Vec<String> = ["oneOf", "anyOf", "allOf"]
        .iter()
        .filter_map(|key| schema[*key].as_array())
        .flatten()
        .map(|part| type_of(document, part))
        .collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(string).collect(),
        kind => vec![string(kind)],
    };
    let kind = kinds.join(" or ");
    if schema["items"].is_object() {
        format!("{kind} of {}", type_of(document, &schema["items"]))
    } else {
        kind
    }
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<link rel=\"stylesheet\" href=\"/docs/style.css\">\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(value: &Value) -> String {
    escape(string(value))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with `code` and [links](…) in it.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 1 {
            write(&mut out, format_args!("<code>{}</code>", escape(part)));
        } else {
            out.push_str(&escape(part));
        }
    }
    // The one kind of link that we write: [<code>name</code>](/docs/errors/name).
    while let Some((before, rest)) = out.split_once("[<code>") {
        let Some((name, rest)) = rest.split_once("</code>](") else { break };
        let Some((target, after)) = rest.split_once(')') else { break };
        out = format!("{before}<a href=\"{target}\"><code>{name}</code></a>{after}");
    }
    out
}

fn write(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_document_stays_text() {
        assert_eq!(inline("a <b> `x<y` & c"), "a &lt;b&gt; <code>x&lt;y</code> &amp; c");
        assert_eq!(
            inline("[`not_e164`](/docs/errors/not_e164): Not"),
            "<a href=\"/docs/errors/not_e164\"><code>not_e164</code></a>: Not"
        );
    }

    #[test]
    fn every_field_that_says_what_it_is_is_told() {
        let page = reference(&serde_json::from_str(crate::api::docs::openapi_text()).unwrap());
        let rows = page.matches("<tr><td><code>").count();
        let blank = page.matches("</td><td></td></tr>").count();
        assert!(rows > 1_000 && blank == 0, "{blank} of {rows} rows say nothing");
    }

    #[test]
    fn each_code_has_a_page() {
        for &code in Code::ALL {
            let page = error_page(code);
            assert!(page.contains(&escape(code.title())) && page.contains("What to do"), "{code}");
            assert!(error_list().contains(&format!("{ERROR_PAGES}/{code}\"")), "{code}");
        }
    }
}
