//! The event feed, listened to through the true router.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Request};
use domain::permission::BuiltInRole;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::agents::made;
use crate::harness::{Node, PATIENCE, on_both_engines, on_sqlite};

on_both_engines!(what_happens_is_heard_in_order, who_was_cut_off_goes_on_behind_what_was_seen);
on_sqlite!(everybody_hears_what_they_may, a_revoked_key_hears_nothing_more, listening_is_asked_for_properly);

/// Someone who listens.
struct Listener {
    body: BodyDataStream,
    text: String,
}

impl Listener {
    async fn new(node: &Node, key: &str, query: &str, last: Option<&str>) -> Listener {
        let router: Router = server::serve::router(&node.app);
        let mut request = Request::builder()
            .uri(format!("/v1/events{query}"))
            .header(AUTHORIZATION, format!("Bearer {key}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut listener = Listener { body: response.into_body().into_data_stream(), text: String::new() };
        let first = listener.block().await.unwrap();
        assert!(first.contains("retry: 2000") && first.contains(": listening"), "{first}");
        listener
    }

    /// The next block; none at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.body.next()).await.expect("something is sent in time")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The next event: its type and its whole.
    async fn event(&mut self) -> (String, Value) {
        loop {
            let block = self.block().await.expect("the feed goes on");
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let data: Value = serde_json::from_str(data).unwrap();
            let kind = field("event: ").unwrap().to_owned();
            if kind != "stream.gap" {
                assert_eq!(
                    (field("id: "), Some(kind.as_str())),
                    (data["id"].as_str(), data["type"].as_str())
                );
            }
            return (kind, data);
        }
    }
}

async fn what_happens_is_heard_in_order(node: Arc<Node>) {
    let mut all = Listener::new(&node, &node.owner_key, "", None).await;
    let mut some = Listener::new(&node, &node.owner_key, "?type=agent.published,agent.deleted", None).await;
    let agent = made(&node, "Support").await;
    assert_eq!(node.send(Method::POST, &format!("/v1/agents/{agent}/publish"), None).await.status, 201);
    let (kind, created) = all.event().await;
    assert_eq!((kind.as_str(), &created["subject"]), ("agent.created", &json!(agent)));
    assert_eq!(created["data"]["name"], json!("Support"));
    let (kind, published) = all.event().await;
    assert_eq!((kind.as_str(), &published["data"]["version"]), ("agent.published", &json!(1)));
    assert_eq!(some.event().await.0, "agent.published");
}

async fn who_was_cut_off_goes_on_behind_what_was_seen(node: Arc<Node>) {
    let mut first = Listener::new(&node, &node.owner_key, "", None).await;
    made(&node, "One").await;
    let (_, seen) = first.event().await;
    drop(first);
    made(&node, "Two").await;
    made(&node, "Three").await;
    let mut again = Listener::new(&node, &node.owner_key, "", seen["id"].as_str()).await;
    assert_eq!(again.event().await.1["data"]["name"], json!("Two"));
    assert_eq!(again.event().await.1["data"]["name"], json!("Three"));
    let lost = domain::id::EventId::from_bits(1).to_string();
    let mut late = Listener::new(&node, &node.owner_key, "?type=agent.created", Some(&lost)).await;
    assert_eq!(late.event().await.0, "stream.gap");
    assert_eq!(late.event().await.1["data"]["name"], json!("One"), "the oldest that is kept");
}

async fn everybody_hears_what_they_may(node: Arc<Node>) {
    let viewer = node.key(BuiltInRole::Viewer).await;
    let (_, stranger) = node.stranger("others").await;
    let mut hears = Listener::new(&node, &viewer, "", None).await;
    let mut elsewhere = Listener::new(&node, &stranger, "", None).await;
    assert_eq!(node.post("/v1/api-keys", json!({"name": "x", "role": "viewer"})).await.status, 201);
    made(&node, "Support").await;
    assert_eq!(hears.event().await.0, "agent.created", "of keys a viewer hears nothing");
    let theirs =
        node.send_as(&stranger, Method::POST, "/v1/agents", Some(json!({"name": "Theirs"})), &[]).await;
    assert_eq!(theirs.status, 201);
    assert_eq!(elsewhere.event().await.1["data"]["name"], json!("Theirs"), "of other workspaces, too");
}

async fn a_revoked_key_hears_nothing_more(node: Arc<Node>) {
    let made = node.post("/v1/api-keys", json!({"name": "short-lived", "role": "viewer"})).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let mut listener = Listener::new(&node, key, "", None).await;
    let revoked = node.delete(&format!("/v1/api-keys/{id}")).await;
    assert!((200..300).contains(&revoked.status), "{}", revoked.text);
    while let Some(block) = listener.block().await {
        assert!(block.starts_with(':'), "nothing but comments: {block}");
    }
}

async fn listening_is_asked_for_properly(node: Arc<Node>) {
    for (query, last, status, code) in [
        ("?type=number.exploded", None, 422, "invalid_value"),
        ("?types=number.active", None, 422, "unknown_field"),
        ("", Some("num_00000000000000000000000001"), 422, "invalid_id"),
    ] {
        let headers: Vec<(&str, &str)> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let refused =
            node.send_as(&node.owner_key, Method::GET, &format!("/v1/events{query}"), None, &headers).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{query}: {}", refused.text);
    }
}
