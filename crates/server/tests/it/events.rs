//! The event feed, listened to through the true router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Request};
use database::events::event_prune;
use domain::id::EventId;
use domain::permission::BuiltInRole;
use futures_util::StreamExt as _;
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::clock::Clock as _;
use tower::ServiceExt as _;

use crate::agents::made;
use crate::harness::{Node, PATIENCE, on_both_engines, on_sqlite};

on_both_engines!(what_happens_is_heard_in_order, who_was_cut_off_goes_on_behind_what_was_seen);
on_sqlite!(
    an_event_that_is_not_there_is_told,
    one_key_listens_so_often,
    everybody_hears_what_they_may,
    a_revoked_key_hears_nothing_more,
    listening_is_asked_for_properly,
);

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
}

/// Whoever names an event that is not there hears so first, and never everything over again without need.
async fn an_event_that_is_not_there_is_told(node: Arc<Node>) {
    let mut first = Listener::new(&node, &node.owner_key, "", None).await;
    made(&node, "One").await;
    let (_, forgotten) = first.event().await;
    node.clock.advance(Duration::from_secs(60));
    made(&node, "Two").await;
    let now = node.clock.now();
    let newer = EventId::new(now + SignedDuration::from_hours(1), 7).to_string();
    let between = EventId::new(now - SignedDuration::from_secs(1), 7).to_string();
    let (_, stranger) = node.stranger("others").await;
    let mut theirs = Listener::new(&node, &stranger, "", None).await;
    let there =
        node.send_as(&stranger, Method::POST, "/v1/agents", Some(json!({"name": "Theirs"})), &[]).await;
    assert_eq!(there.status, 201);
    let (_, foreign) = theirs.event().await;
    for unknown in [newer.as_str(), &between, foreign["id"].as_str().unwrap()] {
        let mut lost = Listener::new(&node, &node.owner_key, "?type=agent.created", Some(unknown)).await;
        let (kind, data) = lost.event().await;
        assert_eq!(kind, "stream.gap");
        assert!(data["detail"].as_str().unwrap().contains("no such event"), "{data}");
        made(&node, unknown).await;
        assert_eq!(lost.event().await.1["data"]["name"], json!(unknown), "only what comes next");
    }
    // What was forgotten was there once: what is kept of that time follows.
    node.app.database.write(move |tx| event_prune(tx, now, 100)).await.unwrap();
    let mut late =
        Listener::new(&node, &node.owner_key, "?type=agent.created", forgotten["id"].as_str()).await;
    let (kind, data) = late.event().await;
    assert_eq!(kind, "stream.gap");
    assert!(data["detail"].as_str().unwrap().contains("no longer kept"), "{data}");
    assert_eq!(late.event().await.1["data"]["name"], json!("Two"), "the oldest that is kept");
}

async fn one_key_listens_so_often(node: Arc<Node>) {
    let mut listening = Vec::new();
    for _ in 0..10 {
        listening.push(Listener::new(&node, &node.owner_key, "", None).await);
    }
    let refused = node.get("/v1/events").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"), "{}", refused.text);
    assert!(refused.json()["detail"].as_str().unwrap().contains("10 listeners"), "{}", refused.text);
    assert_eq!(refused.header("retry-after"), Some("10"));
    // Others are not held back, and a place that was left is free.
    let viewer = node.key(BuiltInRole::Viewer).await;
    Listener::new(&node, &viewer, "", None).await;
    listening.pop();
    Listener::new(&node, &node.owner_key, "", None).await;
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
        ("", Some("num_00000000000000000000000001"), 400, "bad_event_id"),
        ("", Some("evt_1"), 400, "bad_event_id"),
        ("", Some("17"), 400, "bad_event_id"),
    ] {
        let headers: Vec<(&str, &str)> = last.map(|last| ("last-event-id", last)).into_iter().collect();
        let refused =
            node.send_as(&node.owner_key, Method::GET, &format!("/v1/events{query}"), None, &headers).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{query}: {}", refused.text);
        if last.is_some() {
            assert_eq!(refused.json()["errors"][0]["field"], json!("Last-Event-ID"), "{}", refused.text);
        }
    }
}
