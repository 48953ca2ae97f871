//! The reference: committed, complete, without loose ends, and true to what the handlers read. That it is true to what they answer is
//! checked at every answer of every test (`contract`).

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::Method;
use expect_test::expect_file;
use serde_json::{Value, json};

use crate::harness::{Node, on_sqlite};

on_sqlite!(every_body_is_read_as_documented, pages_are_served);

fn document() -> Value {
    serde_json::from_str(server::api::docs::openapi_text()).unwrap()
}

/// (method, path, operation)
pub(crate) fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let methods = ["get", "put", "post", "patch", "delete"];
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            methods
                .iter()
                .filter_map(|method| Some((method.to_uppercase(), path.clone(), item.get(method)?.clone())))
        })
        .collect()
}

#[test]
fn the_committed_document_is_the_true_one() {
    expect_file!["../../../../openapi.json"].assert_eq(server::api::docs::openapi_text());
}

#[test]
fn nothing_refers_to_what_is_not_there() {
    fn walk(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    assert!(
                        document.pointer(reference.trim_start_matches('#')).is_some(),
                        "{reference} leads nowhere"
                    );
                }
                map.values().for_each(|value| walk(document, value));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

#[test]
fn every_operation_is_explained() {
    let document = document();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{place}: its operationId stands twice"
        );
        assert!(
            operation["summary"].as_str().is_some_and(|summary| summary.len() > 5),
            "{place} has no summary"
        );
        assert!(
            tags.contains(operation["tags"][0].as_str().unwrap()),
            "{place} has a tag that is not explained"
        );
        let responses = operation["responses"].as_object().unwrap();
        let success =
            responses.iter().find(|(status, _)| status.starts_with('2')).expect("an operation can succeed").1;
        let json = &success["content"]["application/json"];
        assert!(json.is_null() || json["example"].is_object(), "{place}: its answer has no example");
        let body = &operation["requestBody"]["content"]["application/json"];
        assert!(body.is_null() || body["example"].is_object(), "{place}: its body has no example");
        if path.starts_with("/v1/") {
            assert!(
                responses.contains_key("401") && responses.contains_key("403"),
                "{place} does not tell of keys"
            );
        }
    }
}

/// Whoever has read a thing can make sure that it is still that which they change.
#[test]
fn what_can_be_read_is_changed_only_as_it_was_read() {
    let document = document();
    let all = operations(&document);
    for (method, path, operation) in &all {
        let is_read = all.iter().any(|(method, other, _)| method == "GET" && other == path);
        // Keys change only by ending, which is right whatever was seen of them.
        if !is_read || !["PUT", "PATCH", "DELETE"].contains(&method.as_str()) || path == "/v1/api-keys/{id}" {
            continue;
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        assert!(parameters.iter().any(|it| it["name"] == "If-Match"), "{method} {path} takes no If-Match");
    }
}

/// Sends a field that cannot exist to every operation with a body: the refusal names the fields that do.
async fn every_body_is_read_as_documented(node: Arc<Node>) {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(reference) = schema["$ref"].as_str() else { continue };
        let known = document.pointer(&format!("{}/properties", reference.trim_start_matches('#'))).unwrap();
        let known: BTreeSet<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
        let address = fill(&path);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let body = Some(json!({"zzzzzzzzzzzzzzzz": 1}));
        let headers = [("idempotency-key", "probe")];
        let answer = node.send_as(&node.owner_key, method.clone(), &address, body, &headers).await;
        assert_eq!(answer.status, 422, "{method} {path}: {}", answer.text);
        let errors = answer.json()["errors"].clone();
        let told = errors
            .as_array()
            .unwrap()
            .iter()
            .find(|error| error["field"] == "zzzzzzzzzzzzzzzz")
            .unwrap_or_else(|| panic!("{method} {path} does not refuse unknown fields: {}", answer.text));
        let (_, list) = told["detail"].as_str().unwrap().split_once("the fields here are ").unwrap();
        let read: BTreeSet<&str> = list.split(", ").collect();
        assert_eq!(read, known, "{method} {path}: what is read, and what is documented");
    }
}

async fn pages_are_served(node: Arc<Node>) {
    for (path, content_type, part) in [
        ("/docs", "text/html; charset=utf-8", "POST</span>/v1/numbers/buy"),
        ("/docs/errors", "text/html; charset=utf-8", "not_e164"),
        ("/docs/errors/", "text/html; charset=utf-8", "not_e164"),
        ("/docs/errors/not_e164", "text/html; charset=utf-8", "HTTP 422"),
        ("/docs/style.css", "text/css; charset=utf-8", "body {"),
        ("/openapi.json", "application/json", "\"openapi\": \"3.1"),
        ("/live", "application/json", "ok"),
        ("/ready", "application/json", "ok"),
        (
            "/metrics",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "switchboard_http_requests_total",
        ),
    ] {
        let page = node.send_as("", Method::GET, path, None, &[]).await;
        assert_eq!((page.status, page.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(page.text.contains(part), "{path}: {}", page.text);
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(!page.text.contains("<script"), "{path}");
    }
    assert_eq!(node.get("/docs/errors/no_such_code").await.status, 404);
    // How things stand is asked again a little later, not at each scrape.
    node.buy("US").await;
    let metrics = async || node.send_as("", Method::GET, "/metrics", None, &[]).await.text;
    assert!(metrics().await.contains("switchboard_numbers{status=\"active\"} 0"));
    node.clock.advance(std::time::Duration::from_secs(20));
    let text = metrics().await;
    for figure in [
        "switchboard_numbers{status=\"active\"} 1",
        "switchboard_numbers{status=\"needs_review\"} 0",
        "switchboard_purchases{state=\"active\"} 1",
        "switchboard_findings{kind=\"drifted\"} 0",
        "switchboard_purchases_locked 0",
        "switchboard_database_up 1",
        "switchboard_routes_stale 1",
    ] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
}

/// A path with ids of the right kind that nobody has.
pub(crate) fn fill(path: &str) -> String {
    let prefix = match path {
        path if path.starts_with("/v1/numbers") => "num",
        path if path.starts_with("/v1/api-keys") => "key",
        path if path.starts_with("/v1/roles") => "rol",
        path if path.starts_with("/v1/agents") => "agt",
        path if path.starts_with("/v1/calls") => "cal",
        _ => "xxx",
    };
    // What a route cannot do without.
    let needed = if path.ends_with("/publish-preview") { "?to=sandbox" } else { "" };
    let path = path
        .replace("{id}", &format!("{prefix}_01kb5x3a7m0000000000000000"))
        .replace("{variant_id}", "var_01kb5x3a7m0000000000000000")
        .replace("{version}", "1");
    path + needed
}
