//! A route explains itself: "a call from X to Y now: what happens, and why?", through the true router.

use std::sync::Arc;

use axum::http::Method;
use expect_test::expect;
use serde_json::{Value, json};
use server::background::build_routes;

use crate::agents::{made, variant, without};
use crate::harness::{Answer, Node, on_both_engines, on_sqlite};

on_both_engines!(a_route_explains_itself_before_and_after_publishing);
on_sqlite!(questions_are_asked_properly, numbers_of_others_are_unknown);

/// Asks, once this node's table has heard of everything.
async fn explain(node: &Node, body: Value) -> Answer {
    build_routes::refresh(&node.app).await.unwrap();
    node.post("/v1/routes/explain", body).await
}

fn steps(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let steps = json["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|it| format!("{}: {}", it["rule"].as_str().unwrap(), it["outcome"].as_str().unwrap()))
        .collect()
}

async fn a_route_explains_itself_before_and_after_publishing(node: Arc<Node>) {
    let number = node.buy("US").await;
    let digits = number["phone_number"].as_str().unwrap();
    let place = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let nobody = explain(&node, json!({"to": digits, "from": "+15145550100"})).await;
    assert_eq!(
        steps(&nobody),
        [
            "number: found",
            "caller: no_rules",
            "hours: no_hours",
            "assignment: unassigned",
            "message: default"
        ]
    );

    let agent = made(&node, "Support").await;
    assert_eq!(node.send(Method::POST, &format!("/v1/agents/{agent}/publish"), None).await.status, 201);
    let assignment = json!({"agent_id": agent, "environment": "sandbox"});
    assert_eq!(node.put(&format!("{place}/assignment"), assignment).await.status, 200);
    let answered =
        explain(&node, json!({"to": digits, "from": "+15145550100", "at": "2026-12-24T12:00:00Z"})).await;
    without(answered, digits).check(expect![[r#"
        200
        {
          "decision": {
            "action": "connect",
            "agent_id": "agt_…",
            "at": "2026-12-24T12:00:00.000Z",
            "code": null,
            "environment": "sandbox",
            "language": null,
            "message": "We are sorry, we cannot take your call at the moment. Please try again later.",
            "number_id": "num_…",
            "summary": "the call is connected to the agent `Support`, stream ws://127.0.0.1:9000/media; if that fails, a message is spoken",
            "targets": [
              {
                "address": "ws://127.0.0.1:9000/media",
                "origin": "endpoint",
                "ring_timeout_s": null,
                "type": "stream"
              }
            ],
            "variant_id": null,
            "version": 1,
            "version_id": "ver_…",
            "webhook_url": null
          },
          "steps": [
            {
              "because": "+1… is the number num_…",
              "outcome": "found",
              "rule": "number"
            },
            {
              "because": "the number has no rules about callers, so it answers everybody",
              "outcome": "no_rules",
              "rule": "caller"
            },
            {
              "because": "the number has no hours, so it is always open",
              "outcome": "no_hours",
              "rule": "hours"
            },
            {
              "because": "outage mode of Sandbox is off",
              "outcome": "off",
              "rule": "outage"
            },
            {
              "because": "the number is assigned to the agent `Support`, which runs version 1 in Sandbox",
              "outcome": "runs",
              "rule": "assignment"
            },
            {
              "because": "the agent has no variants",
              "outcome": "no_variants",
              "rule": "variant"
            },
            {
              "because": "the agent is reached by a media stream",
              "outcome": "stream",
              "rule": "endpoint"
            },
            {
              "because": "no fallback has a message, so Switchboard's own is spoken if nobody takes the call",
              "outcome": "default",
              "rule": "message"
            }
          ]
        }
    "#]]);

    variant(&node, &agent, "Paris").await;
    let body = json!({"endpoint": {"type": "stream", "url": "ws://127.0.0.1:9001/new"}});
    assert_eq!(node.patch(&format!("/v1/agents/{agent}/draft"), body).await.status, 200);
    let now = explain(&node, json!({"to": digits})).await.json();
    assert_eq!(now["decision"]["targets"][0]["address"], json!("ws://127.0.0.1:9000/media"), "{now}");
    let draft = explain(&node, json!({"to": digits, "draft": true})).await;
    let json = draft.json();
    assert_eq!(json["decision"]["targets"][0]["address"], json!("ws://127.0.0.1:9001/new"), "{json}");
    assert_eq!((&json["decision"]["version"], &json["decision"]["version_id"]), (&Value::Null, &Value::Null));
    assert!(steps(&draft).contains(&"variant: default".to_owned()), "{json}");

    assert_eq!(node.patch("/v1/workspace", json!({"outage": {"sandbox": true}})).await.status, 200);
    let outage = explain(&node, json!({"to": digits})).await;
    assert!(steps(&outage).contains(&"outage: on".to_owned()), "{}", outage.text);
}

async fn questions_are_asked_properly(node: Arc<Node>) {
    explain(
        &node,
        json!({"to": "+1 (415) 555-0101", "from": "me", "at": "noon", "draft": "yes", "trunk": 1}),
    )
    .await
    .check(expect![[r#"
        422
        {
          "code": "validation_failed",
          "detail": "5 errors, in to, from, at, draft, trunk; nothing was changed",
          "errors": [
            {
              "code": "not_e164",
              "detail": "`+1 (415) 555-0101` holds a space, which E.164 does not allow; did you mean +14155550101?",
              "field": "to"
            },
            {
              "code": "not_e164",
              "detail": "`me` holds the character `m` (U+006D), which E.164 does not allow; start with + and the country code, digits only, e.g. +14385950345",
              "field": "from"
            },
            {
              "code": "invalid_value",
              "detail": "`noon` is not a time; send RFC 3339 with a zone, such as 2026-11-21T22:00:00Z",
              "field": "at"
            },
            {
              "code": "wrong_type",
              "detail": "is the string `yes`; expected true or false",
              "field": "draft"
            },
            {
              "code": "unknown_field",
              "detail": "there is no field `trunk`; the fields here are to, from, at, draft",
              "field": "trunk"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The request has errors",
          "type": "/docs/errors/validation_failed"
        }
    "#]]);
    let unknown = explain(&node, json!({"to": "+14155550199", "from": "anonymous"})).await;
    unknown.check(expect![[r#"
        200
        {
          "decision": {
            "action": "reject",
            "agent_id": null,
            "at": "2026-11-21T22:00:00.000Z",
            "code": "unknown_number",
            "environment": null,
            "language": null,
            "message": null,
            "number_id": null,
            "summary": "the call is refused: +14155550199 is not one of our numbers",
            "targets": [],
            "variant_id": null,
            "version": null,
            "version_id": null,
            "webhook_url": null
          },
          "steps": [
            {
              "because": "+14155550199 is not one of our numbers; check at the carrier which numbers send their calls here",
              "outcome": "unknown",
              "rule": "number"
            }
          ]
        }
    "#]]);
}

async fn numbers_of_others_are_unknown(node: Arc<Node>) {
    let number = node.buy("US").await;
    let digits = number["phone_number"].as_str().unwrap();
    let (_, stranger) = node.stranger("others").await;
    build_routes::refresh(&node.app).await.unwrap();
    for draft in [false, true] {
        let ask = |to: &str| {
            let (node, stranger, body) = (node.clone(), stranger.clone(), json!({"to": to, "draft": draft}));
            async move { node.send_as(&stranger, Method::POST, "/v1/routes/explain", Some(body), &[]).await }
        };
        let (theirs, none) = (ask(digits).await, ask("+14155550199").await);
        assert_eq!(theirs.status, 200);
        assert_eq!(theirs.text.replace(digits, "+14155550199"), none.text, "told apart in nothing");
    }
}
