//! What every route does with a request whatever it is about: who may not ask is told so first, what nobody reads is refused, long values
//! are cut, and the first answer reads like all later ones.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request};
use domain::permission::BuiltInRole;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use server::actions::needs::needs;
use server::app::{App, Random};
use server::clock::TestClock;
use tower::ServiceExt as _;

use crate::harness::{Node, START, on_sqlite};
use crate::line::settings;
use crate::openapi::{fill, operations};

on_sqlite!(
    permission_comes_before_everything_else,
    parameters_that_nobody_reads_are_refused,
    long_values_are_cut,
    the_first_answer_reads_like_the_next,
);

fn document() -> Value {
    serde_json::from_str(server::api::docs::openapi_text()).unwrap()
}

/// Operations that need a key, with their method; the feed, which never ends, apart.
fn keyed() -> Vec<(Method, String, Value)> {
    let all = operations(&document()).into_iter();
    all.filter(|(_, path, _)| path.starts_with("/v1/") && path != "/v1/events")
        .map(|(method, path, operation)| (Method::from_bytes(method.as_bytes()).unwrap(), path, operation))
        .collect()
}

async fn permission_comes_before_everything_else(node: Arc<Node>) {
    let viewer = node.key(BuiltInRole::Viewer).await;
    let mut refused = 0;
    for (method, path, operation) in keyed() {
        let id = operation["operationId"].as_str().unwrap();
        let needed = needs(id).unwrap();
        for permission in needed {
            let about = operation["description"].as_str().unwrap();
            assert!(about.contains(&format!("`{permission}`")), "{id} does not say what it needs: {about}");
        }
        let may = needed.iter().all(|&permission| BuiltInRole::Viewer.permissions().allow(permission));
        if may {
            continue;
        }
        refused += 1;
        for body in ["{\"nonsense\": 1}", "{\"nonsense\"", ""] {
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}?nonsense=1", fill(&path)))
                .header(AUTHORIZATION, format!("Bearer {viewer}"))
                .header(CONTENT_TYPE, "application/json")
                .body(Body::from(body))
                .unwrap();
            let answer = node.answer(request).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path} {body}");
        }
    }
    assert!(refused > 20, "{refused}");
}

async fn parameters_that_nobody_reads_are_refused(node: Arc<Node>) {
    for (method, path, operation) in keyed() {
        let address = fill(&path);
        let separator = if address.contains('?') { '&' } else { '?' };
        let body = operation["requestBody"]["content"]["application/json"]["example"].clone();
        let body = (!body.is_null()).then_some(body);
        let headers = [("idempotency-key", "probe")];
        let address = format!("{address}{separator}zzzzzzzzzz=1");
        let answer = node.send_as(&node.owner_key, method.clone(), &address, body, &headers).await;
        assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.text);
        let errors = answer.json()["errors"].clone();
        let told = errors
            .as_array()
            .unwrap()
            .iter()
            .any(|error| error["field"] == "zzzzzzzzzz" && error["code"] == "unknown_field");
        assert!(told, "{method} {path}: {}", answer.text);
    }
}

async fn long_values_are_cut(node: Arc<Node>) {
    let long = "Z".repeat(600);
    let mut asked = Vec::new();
    for (method, path, operation) in keyed() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let reference = schema["$ref"].as_str().map(|reference| reference.trim_start_matches('#').to_owned());
        let fields = reference.and_then(|place| document().pointer(&format!("{place}/properties")).cloned());
        let names = fields.iter().flat_map(|fields| fields.as_object().unwrap().keys());
        let body: serde_json::Map<String, Value> =
            names.map(|name| (name.clone(), json!(long))).chain([(long.clone(), json!(1))]).collect();
        let whole = fields.is_some().then_some(Value::Object(body));
        for name in fields.iter().flat_map(|fields| fields.as_object().unwrap().keys()) {
            asked.push((method.clone(), fill(&path), Some(json!({ name: long })), vec![]));
        }
        asked.push((method.clone(), fill(&path), whole.clone(), vec![]));
        asked.push((
            method.clone(),
            path.replace(['{', '}'], "").replace("id", &long),
            whole.clone(),
            vec![],
        ));
        for header in ["idempotency-key", "if-match"] {
            asked.push((method.clone(), fill(&path), whole.clone(), vec![(header, long.as_str())]));
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                let address = fill(&path);
                let address = address.split('?').next().unwrap();
                let query = format!("{address}?{}={long}", parameter["name"].as_str().unwrap());
                asked.push((method.clone(), query, whole.clone(), vec![]));
            }
        }
        asked.push((method.clone(), format!("{}?{long}=1", fill(&path)), whole, vec![]));
    }
    // All faults at once, those that the contract finds too.
    let mut faults = BTreeSet::new();
    // One key may not ask so much at once.
    for (count, (method, address, body, headers)) in asked.into_iter().enumerate() {
        if count % 100 == 0 {
            node.clock.advance(std::time::Duration::from_secs(60));
        }
        let asked = node.send_as(&node.owner_key, method.clone(), &address, body, &headers);
        match AssertUnwindSafe(asked).catch_unwind().await {
            Ok(answer) if answer.status == 429 => panic!("too much at once: the test must go more slowly"),
            Ok(answer) if answer.status >= 300 && answer.text.contains(&"Z".repeat(65)) => {
                faults.insert(format!("{method} {}: {}", address.replace(&long, "Z…"), answer.text));
            }
            Ok(_) => {}
            Err(why) => {
                let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                faults.insert(why.split(": {").next().unwrap_or_default().to_owned());
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Anybody may ask, so the database is asked for all of them together, once a second.
#[tokio::test]
async fn whoever_asks_whether_it_is_ready_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::at(START.parse().unwrap()));
    let app = App::open(settings(folder.path(), ""), clock.clone(), Random::from_seed(1)).await.unwrap();
    let ready = async || {
        let asked = Request::builder().uri("/ready").body(Body::empty()).unwrap();
        server::serve::router(&app).oneshot(asked).await.unwrap().status().as_u16()
    };
    assert_eq!(ready().await, 200);
    app.database.close().await;
    for _ in 0..50 {
        assert_eq!(ready().await, 200, "the answer of this second");
    }
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(ready().await, 503, "the next second asks again");
}

/// The names of an object's fields, in the order in which they stand in the text.
fn names(text: &str) -> Vec<String> {
    let (mut depth, mut found, mut rest) = (0, Vec::new(), text);
    while let Some(place) = rest.find(['{', '}', '[', ']', '"']) {
        let (mark, behind) = (rest.as_bytes()[place], &rest[place + 1..]);
        rest = behind;
        match mark {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {
                let mut end = 0;
                while behind.as_bytes()[end] != b'"' {
                    end += if behind.as_bytes()[end] == b'\\' { 2 } else { 1 };
                }
                rest = &behind[end + 1..];
                if depth == 1 && rest.starts_with(':') {
                    found.push(behind[..end].to_owned());
                }
            }
        }
    }
    found
}

async fn the_first_answer_reads_like_the_next(node: Arc<Node>) {
    assert_eq!(names(r#"{"b":{"x":1},"a":["}"],"c":"\",\"d\":"}"#), ["b", "a", "c"]);
    let headers = [("idempotency-key", "first")];
    for (path, body) in [
        ("/v1/agents", json!({"name": "Support", "draft": {"language": "fr"}})),
        ("/v1/roles", json!({"name": "desk", "permissions": ["numbers:read"]})),
        ("/v1/api-keys", json!({"name": "deploy", "role": "viewer"})),
        (
            "/v1/numbers/buy",
            json!({"country": "US", "max_monthly_price": {"amount": "5.00", "currency": "USD"}}),
        ),
    ] {
        let made = node.send_as(&node.owner_key, Method::POST, path, Some(body.clone()), &headers).await;
        assert!(made.status < 300, "{path}: {}", made.text);
        let again = node.send_as(&node.owner_key, Method::POST, path, Some(body), &headers).await;
        assert_eq!(names(&again.text), names(&made.text), "{path}, repeated");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let read = node.get(&format!("{}/{id}", path.trim_end_matches("/buy"))).await;
        let mut expected = names(&read.text);
        if path == "/v1/api-keys" {
            expected.push("key".to_owned());
        }
        assert_eq!(names(&made.text), expected, "{path}");
        if path == "/v1/agents" {
            assert_eq!(made.text, read.text);
            let variants = format!("/v1/agents/{id}/variants");
            let made =
                node.post(&variants, json!({"name": "Lyon", "attributes": {"b": "1", "a": "2"}})).await;
            let read = node.get(&format!("{variants}/{}", made.json()["id"].as_str().unwrap())).await;
            assert_eq!((made.status, &made.text), (201, &read.text));
        }
    }
    node.settle().await;
}
