//! Publishing, promoting, rolling back and previewing, through the true router: requirement 14.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use expect_test::expect;
use serde_json::{Value, json};

use crate::agents::{made, variant, without};
use crate::harness::{Answer, Node, on_both_engines, on_sqlite};

on_both_engines!(a_version_goes_from_sandbox_to_live_and_back, a_preview_lists_each_number_that_changes);
on_sqlite!(
    sandbox_follows_saves_where_it_is_set_to,
    versions_tell_what_they_changed,
    publishing_twice_at_once_makes_one_version,
);

async fn act(node: &Node, agent: &str, verb: &str, body: Value) -> Answer {
    // What happens within one millisecond is in no order.
    node.clock.advance(Duration::from_secs(1));
    node.post(&format!("/v1/agents/{agent}/{verb}"), body).await
}

async fn say(node: &Node, agent: &str, message: &str) {
    let body = json!({"fallback": {"message": message}});
    assert_eq!(node.patch(&format!("/v1/agents/{agent}/draft"), body).await.status, 200);
}

async fn a_version_goes_from_sandbox_to_live_and_back(node: Arc<Node>) {
    let empty = node.post("/v1/agents", json!({"name": "Empty"})).await;
    act(&node, &crate::agents::id_of(&empty), "publish", json!({})).await.check(expect![[r#"
        409
        {
          "code": "nothing_to_publish",
          "detail": "the draft has no endpoint, so no call could reach the agent; set one with PATCH /v1/agents/{id}/draft",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "There is nothing to publish",
          "type": "/docs/errors/nothing_to_publish"
        }
    "#]]);

    let agent = made(&node, "Support").await;
    let early = act(&node, &agent, "promote", json!({"from": "sandbox", "to": "pre_release"})).await;
    assert_eq!((early.status, early.code()), (409, "not_in_environment".to_owned()), "{}", early.text);
    act(&node, &agent, "publish", json!({"note": "first"})).await.check(expect![[r#"
        201
        {
          "action": "publish",
          "agent_id": "agt_…",
          "changed": true,
          "deployed_at": "2026-11-21T22:00:03.000Z",
          "deployed_by": "key:key_…",
          "environment": "sandbox",
          "id": "dep_…",
          "running": {
            "live": null,
            "pre_release": null,
            "sandbox": 1
          },
          "version": 1,
          "version_id": "ver_…"
        }
    "#]]);
    let same = act(&node, &agent, "publish", json!({})).await;
    assert_eq!((same.status, same.code()), (409, "nothing_to_publish".to_owned()), "{}", same.text);

    act(&node, &agent, "promote", json!({"from": "sandbox", "to": "live"})).await.check(expect![[r#"
        409
        {
          "code": "pre_release_not_ready",
          "detail": "live takes only what pre_release runs; pre_release runs nothing, sandbox version 1; promote from sandbox to pre_release first, try it there, then promote from pre_release to live",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "Live takes only what pre-release runs",
          "type": "/docs/errors/pre_release_not_ready"
        }
    "#]]);
    let step = act(&node, &agent, "promote", json!({"from": "sandbox", "to": "pre_release"})).await;
    assert_eq!(
        (step.status, &step.json()["running"]),
        (200, &json!({"sandbox": 1, "pre_release": 1, "live": null}))
    );
    let live = act(&node, &agent, "promote", json!({"from": "pre_release", "to": "live"})).await;
    assert_eq!((live.status, live.json()["changed"].as_bool()), (200, Some(true)));
    let again = act(&node, &agent, "promote", json!({"from": "pre_release", "to": "live"})).await;
    assert_eq!((again.status, again.json()["changed"].as_bool()), (200, Some(false)), "harmless");
    assert_eq!(again.json()["id"], live.json()["id"]);
    for body in [json!({"from": "live", "to": "sandbox"}), json!({"from": "live", "to": "live"})] {
        let refused = act(&node, &agent, "promote", body).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid_value".to_owned()), "{}", refused.text);
    }

    say(&node, &agent, "Please call again.").await;
    assert_eq!(node.get(&format!("/v1/agents/{agent}")).await.json()["unpublished_changes"], json!(true));
    assert_eq!(act(&node, &agent, "publish", json!({})).await.json()["version"], json!(2));
    let never = act(&node, &agent, "rollback", json!({"environment": "live", "version": 2})).await;
    assert_eq!((never.status, never.code()), (409, "not_in_environment".to_owned()), "{}", never.text);
    let none = act(&node, &agent, "rollback", json!({"environment": "live", "version": 9})).await;
    assert_eq!((none.status, none.code()), (404, "version_not_found".to_owned()));
    let back = act(&node, &agent, "rollback", json!({"environment": "sandbox", "version": 1})).await;
    assert_eq!((back.status, &back.json()["running"]["sandbox"]), (200, &json!(1)), "{}", back.text);
    assert_eq!(act(&node, &agent, "publish", json!({})).await.json()["version"], json!(3), "the draft, anew");

    let list = node.get(&format!("/v1/agents/{agent}/versions?limit=2")).await.json();
    let shown: Vec<(i64, String)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["version"].as_i64().unwrap(), it["environments"].to_string()))
        .collect();
    assert_eq!(shown, [(3, "[\"sandbox\"]".to_owned()), (2, "[]".to_owned())]);
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = node.get(&format!("/v1/agents/{agent}/versions?limit=2&cursor={cursor}")).await.json();
    assert_eq!((&rest["data"][0]["note"], &rest["next_cursor"]), (&json!("first"), &Value::Null));

    let deployments = node.get(&format!("/v1/agents/{agent}/deployments")).await.json();
    let history: Vec<String> = deployments["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!(
                "{} {} {}",
                it["action"].as_str().unwrap(),
                it["version"],
                it["environment"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        history,
        [
            "publish 3 sandbox",
            "rollback 1 sandbox",
            "publish 2 sandbox",
            "promote 1 live",
            "promote 1 pre_release",
            "publish 1 sandbox"
        ]
    );
    assert_eq!(deployments["current"]["live"]["version"], json!(1));
    let of_live = node.get(&format!("/v1/agents/{agent}/deployments?environment=live")).await.json();
    assert_eq!(of_live["data"].as_array().unwrap().len(), 1);
    let log = node.get(&format!("/v1/audit?target={agent}&action=agent.promote")).await.json();
    assert_eq!(log["data"].as_array().unwrap().len(), 2, "{log}");
}

async fn a_preview_lists_each_number_that_changes(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let (paris, lyon) = (variant(&node, &agent, "Paris").await, variant(&node, &agent, "Lyon").await);
    assert_eq!(act(&node, &agent, "publish", json!({})).await.status, 201);
    let mut digits = String::new();
    for variant in [&paris, &lyon] {
        let number = node.buy("US").await;
        number["phone_number"].as_str().unwrap().clone_into(&mut digits);
        let path = format!("/v1/numbers/{}/assignment", number["id"].as_str().unwrap());
        let body = json!({"agent_id": agent, "environment": "sandbox", "variant_id": variant});
        assert_eq!(node.put(&path, body).await.status, 200);
    }
    let path = format!("/v1/agents/{agent}/publish-preview");
    // A host that nobody knows is saved, and told before it is published.
    let lost = json!({"endpoint": {"type": "stream", "url": "wss://nowhere.invalid/media"}});
    let lyons = format!("/v1/agents/{agent}/variants/{lyon}");
    assert_eq!(node.patch(&lyons, lost).await.status, 200);
    let warned = node.get(&format!("{path}?to=sandbox")).await.json()["warnings"].clone();
    assert_eq!(warned[0]["field"], json!("variants[Lyon].endpoint.url"), "{warned}");
    assert!(warned[0]["detail"].as_str().unwrap().contains("`nowhere.invalid` cannot be found"), "{warned}");
    assert_eq!(warned.as_array().unwrap().len(), 1, "{warned}");
    assert_eq!(node.patch(&lyons, json!({"endpoint": null})).await.status, 200);
    let same = node.get(&format!("{path}?to=sandbox")).await.json();
    assert_eq!((&same["numbers"], &same["numbers_checked"]), (&json!([]), &json!(2)), "{same}");

    let body = json!({"endpoint": {"type": "stream", "url": "ws://127.0.0.1:9001/lyon"}});
    assert_eq!(node.patch(&format!("/v1/agents/{agent}/variants/{lyon}"), body).await.status, 200);
    without(node.get(&format!("{path}?to=sandbox")).await, &digits).check(expect![[r#"
        200
        {
          "changes": {
            "differences": [
              {
                "after": "stream",
                "before": null,
                "field": "variants[Lyon].endpoint.type"
              },
              {
                "after": "ws://127.0.0.1:9001/lyon",
                "before": null,
                "field": "variants[Lyon].endpoint.url"
              }
            ],
            "more": 0
          },
          "from_version": 1,
          "is_partial": false,
          "more": 0,
          "numbers": [
            {
              "after": {
                "action": "connect",
                "language": null,
                "message": "We are sorry, we cannot take your call at the moment. Please try again later.",
                "parameters": {},
                "summary": "the call is connected to the agent `Support`, stream ws://127.0.0.1:9001/lyon; if that fails, a message is spoken",
                "targets": [
                  {
                    "address": "ws://127.0.0.1:9001/lyon",
                    "origin": "endpoint",
                    "ring_timeout_s": null,
                    "type": "stream"
                  }
                ],
                "variant": "Lyon",
                "variant_id": "var_…",
                "webhook_url": null
              },
              "before": {
                "action": "connect",
                "language": null,
                "message": "We are sorry, we cannot take your call at the moment. Please try again later.",
                "parameters": {},
                "summary": "the call is connected to the agent `Support`, stream ws://127.0.0.1:9000/media; if that fails, a message is spoken",
                "targets": [
                  {
                    "address": "ws://127.0.0.1:9000/media",
                    "origin": "endpoint",
                    "ring_timeout_s": null,
                    "type": "stream"
                  }
                ],
                "variant": "Lyon",
                "variant_id": "var_…",
                "webhook_url": null
              },
              "number_id": "num_…",
              "phone_number": "+1…"
            }
          ],
          "numbers_checked": 2,
          "to": "sandbox",
          "to_version": null,
          "warnings": []
        }
    "#]]);
    let none = node.get(&format!("{path}?to=live")).await;
    assert_eq!((none.status, none.code()), (409, "pre_release_not_ready".to_owned()), "{}", none.text);
    let unsaid = node.get(&path).await;
    assert_eq!((unsaid.status, unsaid.code()), (422, "required".to_owned()));
}

async fn sandbox_follows_saves_where_it_is_set_to(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let draft = format!("/v1/agents/{agent}/draft");
    assert_eq!(node.patch("/v1/workspace", json!({"sandbox_follows": "saved"})).await.status, 200);
    let saved = node.patch(&draft, json!({"language": "fr"})).await.json();
    assert_eq!((&saved["published_version"], &saved["unpublished_changes"]), (&json!(1), &json!(false)));
    let same = node.patch(&draft, json!({"language": "fr"})).await.json();
    assert_eq!(same["published_version"], Value::Null, "nothing was changed");
    variant(&node, &agent, "Paris").await;
    let unfinished = node.patch(&draft, json!({"endpoint": null})).await.json();
    assert_eq!(
        (&unfinished["published_version"], &unfinished["unpublished_changes"]),
        (&Value::Null, &json!(true))
    );
    let agent = node.get(&format!("/v1/agents/{agent}")).await.json();
    assert_eq!(
        agent["running"],
        json!({"sandbox": 2, "pre_release": null, "live": null}),
        "the variant was published"
    );
}

async fn versions_tell_what_they_changed(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    assert_eq!(act(&node, &agent, "publish", json!({})).await.status, 201);
    say(&node, &agent, "Please call again.").await;
    variant(&node, &agent, "Paris").await;
    assert_eq!(act(&node, &agent, "publish", json!({"note": "a site"})).await.status, 201);
    node.get(&format!("/v1/agents/{agent}/versions/2")).await.check(expect![[r#"
        200
        {
          "changes": {
            "differences": [
              {
                "after": "Please call again.",
                "before": null,
                "field": "fallback.message"
              },
              {
                "after": "Paris",
                "before": null,
                "field": "default_variant"
              },
              {
                "after": "Paris",
                "before": null,
                "field": "variants[Paris].name"
              }
            ],
            "more": 0
          },
          "created_at": "2026-11-21T22:00:02.000Z",
          "created_by": "key:key_…",
          "draft": {
            "call_parameters": {},
            "endpoint": {
              "type": "stream",
              "url": "ws://127.0.0.1:9000/media"
            },
            "fallback": {
              "message": "Please call again.",
              "targets": []
            },
            "language": null
          },
          "environments": [
            "sandbox"
          ],
          "id": "ver_…",
          "note": "a site",
          "variant_count": 1,
          "variants": [
            {
              "attributes": {},
              "endpoint": null,
              "id": "var_…",
              "is_default": true,
              "name": "Paris",
              "position": 1
            }
          ],
          "version": 2
        }
    "#]]);
    let none = node.get(&format!("/v1/agents/{agent}/versions/3")).await;
    assert_eq!((none.status, none.code()), (404, "version_not_found".to_owned()));
    let odd = node.get(&format!("/v1/agents/{agent}/versions/last")).await;
    assert_eq!((odd.status, odd.code()), (404, "not_found".to_owned()));
}

async fn publishing_twice_at_once_makes_one_version(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let path = format!("/v1/agents/{agent}/publish");
    let answers = futures_util::future::join_all((0..8).map(|_| node.send(Method::POST, &path, None))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}
