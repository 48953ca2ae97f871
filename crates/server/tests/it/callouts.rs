//! Variants, assignments and callouts, through the true router: requirements 15 and 16.

use std::sync::Arc;

use axum::http::Method;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::{Value, json};

use crate::agents::{made, variant, without};
use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(callouts_come_and_go_with_what_is_there);
on_sqlite!(callouts_are_asked_properly);

async fn publish(node: &Node, agent: &str) {
    let done = node.send(Method::POST, &format!("/v1/agents/{agent}/publish"), None).await;
    assert_eq!(done.status, 201, "{}", done.text);
}

async fn kinds(node: &Node) -> Vec<String> {
    let list = node.get("/v1/callouts").await.json();
    let data = list["data"].as_array().unwrap();
    data.iter()
        .map(|it| format!("{} in {}", it["kind"].as_str().unwrap(), it["environment"].as_str().unwrap()))
        .collect()
}

async fn callouts_come_and_go_with_what_is_there(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    assert!(kinds(&node).await.is_empty(), "nothing runs yet");
    publish(&node, &agent).await;
    let number = node.buy("US").await;
    let place = format!("/v1/numbers/{}/assignment", number["id"].as_str().unwrap());
    let assign = |variant: Value| {
        let (node, place, agent) = (node.clone(), place.clone(), agent.clone());
        async move {
            let body = json!({"agent_id": agent, "environment": "sandbox", "variant_id": variant});
            node.put(&place, body).await
        }
    };

    let paris = variant(&node, &agent, "Paris").await;
    assert_eq!(kinds(&node).await, ["draft_variants in sandbox"]);
    assign(json!(paris)).await.check(expect![[r#"
        409
        {
          "code": "variant_not_published",
          "detail": "variant_id: the variant `Paris` is not published to sandbox: only the draft has it; publish the draft with POST /v1/agents/agt_…/publish, then assign the number",
          "errors": [
            {
              "code": "variant_not_published",
              "detail": "the variant `Paris` is not published to sandbox: only the draft has it; publish the draft with POST /v1/agents/agt_…/publish, then assign the number",
              "field": "variant_id"
            }
          ],
          "request_id": "req_…",
          "status": 409,
          "title": "The variant is not published to that environment",
          "type": "/docs/errors/variant_not_published"
        }
    "#]]);
    publish(&node, &agent).await;
    assert!(kinds(&node).await.is_empty());

    let lyon = variant(&node, &agent, "Lyon").await;
    assert_eq!(kinds(&node).await, ["new_variant in sandbox"]);
    publish(&node, &agent).await;
    assert_eq!(assign(json!(lyon)).await.status, 200);
    assert_eq!(node.delete(&format!("/v1/agents/{agent}/variants/{lyon}")).await.status, 204);
    let told = node.get(&format!("/v1/callouts?agent_id={agent}")).await;
    without(told, number["phone_number"].as_str().unwrap()).check(expect![[r#"
        200
        {
          "data": [
            {
              "agent_id": "agt_…",
              "agent_name": "Support",
              "environment": "sandbox",
              "kind": "variant_deleted",
              "message": "the variants of some numbers of Support in Sandbox were removed; publish to see the change, or reassign the numbers",
              "number_count": 1,
              "numbers": [
                {
                  "id": "num_…",
                  "phone_number": "+1…"
                }
              ],
              "variants": [
                {
                  "id": "var_…",
                  "name": "Lyon"
                }
              ]
            }
          ],
          "next_cursor": null
        }
    "#]]);
    publish(&node, &agent).await;
    assert_eq!(kinds(&node).await, ["variant_deleted in sandbox"], "until the number is reassigned");
    let told = node.get("/v1/callouts").await.json()["data"][0].clone();
    assert_eq!(told["variants"][0]["name"], "Lyon", "the last version that had it knows its name");
    assert!(told["message"].as_str().unwrap().ends_with("; reassign the numbers"), "{told}");
    assert_eq!(assign(Value::Null).await.status, 200);
    assert!(kinds(&node).await.is_empty());
}

async fn callouts_are_asked_properly(node: Arc<Node>) {
    let missing = node.get("/v1/callouts?agent_id=agt_00000000000000000000000001").await;
    assert_eq!((missing.status, missing.code()), (404, "agent_not_found".to_owned()));
    let odd = node.get("/v1/callouts?agent_id=num_00000000000000000000000001").await;
    assert_eq!((odd.status, odd.code()), (422, "invalid_id".to_owned()));
    let unknown = node.get("/v1/callouts?agent=x").await;
    assert_eq!((unknown.status, unknown.code()), (422, "unknown_field".to_owned()));
    let agent = made(&node, "Support").await;
    let (_, stranger) = node.stranger("others").await;
    let theirs =
        node.send_as(&stranger, Method::GET, &format!("/v1/callouts?agent_id={agent}"), None, &[]).await;
    assert_eq!((theirs.status, theirs.code()), (404, "agent_not_found".to_owned()));
    let viewer = node.key(BuiltInRole::Viewer).await;
    assert_eq!(node.send_as(&viewer, Method::GET, "/v1/callouts", None, &[]).await.status, 200);
}
