//! Who may do what: every operation of the document, by every role, without a key, and with another workspace's things.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::Method;
use domain::permission::{BuiltInRole, Permission};
use serde_json::{Value, json};

use crate::harness::{Node, on_sqlite};
use crate::openapi::fill;

on_sqlite!(roles_may_what_the_table_says, strangers_find_nothing);

/// What each operation needs. A new route fails the test until it stands here.
fn needed(operation: &str) -> Option<Vec<Permission>> {
    use Permission::{
        AgentsPublish, AgentsRead, AgentsWrite, AuditRead, CallsRead, KeysRead, KeysWrite, NumbersBuy,
        NumbersRead, NumbersRelease, NumbersWrite, SettingsRead, SettingsWrite,
    };
    let path = operation.split_once(' ').unwrap().1;
    Some(match operation {
        "GET /live" | "GET /ready" | "GET /metrics" => return None,
        // Everybody may listen; each hears what they may see.
        "GET /v1/events" => vec![],
        "GET /v1/workspace" => vec![SettingsRead],
        "PATCH /v1/workspace" => vec![SettingsWrite],
        "POST /v1/numbers/buy" => vec![NumbersBuy],
        "DELETE /v1/numbers/{id}"
        | "POST /v1/numbers/{id}/release"
        | "POST /v1/numbers/{id}/release/cancel" => {
            vec![NumbersRelease]
        }
        "GET /v1/agents/{id}/publish-preview" | "GET /v1/callouts" => vec![AgentsRead, NumbersRead],
        "POST /v1/agents/{id}/publish" | "POST /v1/agents/{id}/promote" | "POST /v1/agents/{id}/rollback" => {
            vec![AgentsPublish]
        }
        "POST /v1/routes/explain" => vec![CallsRead],
        "GET /v1/audit" => vec![AuditRead],
        _ if path.starts_with("/v1/calls") => vec![CallsRead],
        _ => {
            let reads = operation.starts_with("GET ");
            let of = |read, write| vec![if reads { read } else { write }];
            match path.split('/').nth(2) {
                Some("numbers" | "store") => of(NumbersRead, NumbersWrite),
                Some("agents") => of(AgentsRead, AgentsWrite),
                Some("api-keys" | "roles") => of(KeysRead, KeysWrite),
                _ => panic!("say here what {operation} needs"),
            }
        }
    })
}

fn operations() -> Vec<(Method, String, Value)> {
    let document: Value = serde_json::from_str(server::api::docs::openapi_text()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "put", "post", "patch", "delete"] {
            if let Some(operation) = item.get(method) {
                let body = operation["requestBody"]["content"]["application/json"]["example"].clone();
                all.push((Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), path.clone(), body));
            }
        }
    }
    all
}

async fn roles_may_what_the_table_says(node: Arc<Node>) {
    let mut keys = BTreeMap::new();
    for &role in BuiltInRole::ALL {
        keys.insert(role, node.key(role).await);
    }
    let headers = [("idempotency-key", "matrix")];
    for (method, path, body) in operations() {
        let operation = format!("{method} {path}");
        let Some(needed) = needed(&operation) else { continue };
        // The feed never ends; its own tests listen to it.
        if path == "/v1/events" {
            continue;
        }
        let address = fill(&path);
        let body = (!body.is_null()).then_some(body);
        for bad in ["", "nonsense", "sbk_00000000_0000000000000000000000000000000000000000000000000"] {
            let answer = node.send_as(bad, method.clone(), &address, body.clone(), &headers).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "unauthenticated"),
                "{operation} with {bad:?}"
            );
        }
        for (role, key) in &keys {
            let answer = node.send_as(key, method.clone(), &address, body.clone(), &headers).await;
            let may = needed.iter().all(|&permission| role.permissions().allow(permission));
            assert_eq!(
                answer.status == 403,
                !may,
                "{operation} as {role}: {} {}",
                answer.status,
                answer.text
            );
            assert!(answer.status < 500, "{operation} as {role}: {}", answer.text);
        }
    }
    node.settle().await;
}

/// Every operation that names a thing, with a thing of another workspace: the answer is that of a thing that does not exist.
async fn strangers_find_nothing(node: Arc<Node>) {
    let number = node.buy("US").await;
    let role = node.post("/v1/roles", json!({"name": "mine", "permissions": ["numbers:read"]})).await.json();
    let key = node.post("/v1/api-keys", json!({"name": "mine", "role": "viewer"})).await.json();
    let agent = node.post("/v1/agents", json!({"name": "mine"})).await;
    let agent =
        if agent.status == 201 { agent.json()["id"].as_str().unwrap().to_owned() } else { String::new() };
    let before = node.get(&format!("/v1/numbers/{}", number["id"].as_str().unwrap())).await.text;
    let (_, stranger) = node.stranger("strangers").await;
    let headers = [("idempotency-key", "matrix")];
    for (method, path, body) in operations() {
        let own = match path.split('/').nth(2) {
            Some("numbers") => number["id"].as_str().unwrap(),
            Some("roles") => role["id"].as_str().unwrap(),
            Some("api-keys") => key["id"].as_str().unwrap(),
            Some("agents") => agent.as_str(),
            _ => continue,
        };
        if !path.contains("{id}") || own.is_empty() {
            continue;
        }
        let (foreign, missing) = (fill(&path.replace("{id}", own)), fill(&path));
        let body = (!body.is_null()).then_some(body);
        let foreign = node.send_as(&stranger, method.clone(), &foreign, body.clone(), &headers).await;
        let missing_id = missing.split('/').nth(3).unwrap().to_owned();
        let missing = node.send_as(&stranger, method.clone(), &missing, body, &headers).await;
        assert_eq!(foreign.status, 404, "{method} {path}: {}", foreign.text);
        let same = |text: &str| {
            let mut json: Value = serde_json::from_str(text).unwrap();
            json["request_id"] = Value::Null;
            json.to_string().replace(own, &missing_id)
        };
        assert_eq!(same(&foreign.text), same(&missing.text), "{method} {path}");
    }
    let after = node.get(&format!("/v1/numbers/{}", number["id"].as_str().unwrap())).await.text;
    assert_eq!(before, after, "a stranger changed nothing");
    let list = node.send_as(&stranger, Method::GET, "/v1/numbers", None, &[]).await.json();
    assert_eq!(list["data"], json!([]));
}
