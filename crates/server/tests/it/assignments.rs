//! Who answers a number: assigned, refused, unassigned; and fallbacks that would go in a circle.

use std::sync::Arc;

use axum::http::Method;
use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(a_number_reaches_its_agent_only_where_it_is_published);
on_sqlite!(
    a_number_in_use_is_not_given_back,
    a_number_is_bought_for_an_agent,
    the_advice_leads_to_the_assignment,
    fallbacks_do_not_go_in_circles,
    a_fallback_that_names_a_number_before_it_is_ours
);

/// An agent with an endpoint, published to sandbox.
async fn agent(node: &Node, name: &str) -> String {
    let draft = json!({"endpoint": {"type": "stream", "url": "wss://127.0.0.1:9999/media"}});
    let made = node.post("/v1/agents", json!({"name": name, "draft": draft})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["id"].as_str().unwrap().to_owned()
}

async fn publish(node: &Node, agent: &str) {
    let published = node.send(Method::POST, &format!("/v1/agents/{agent}/publish"), None).await;
    assert!(published.status < 300, "{}", published.text);
}

async fn a_number_reaches_its_agent_only_where_it_is_published(node: Arc<Node>) {
    let (number, agent) = (node.buy("US").await, agent(&node, "Support").await);
    let path = format!("/v1/numbers/{}/assignment", number["id"].as_str().unwrap());
    let to = |environment: &str| json!({"agent_id": agent, "environment": environment});
    node.put(&path, to("sandbox")).await.check(expect![[r#"
        409
        {
          "code": "not_published",
          "detail": "environment: the agent runs nothing in sandbox: only the draft has it; publish the draft with POST /v1/agents/agt_…/publish, then assign the number",
          "errors": [
            {
              "code": "not_published",
              "detail": "the agent runs nothing in sandbox: only the draft has it; publish the draft with POST /v1/agents/agt_…/publish, then assign the number",
              "field": "environment"
            }
          ],
          "request_id": "req_…",
          "status": 409,
          "title": "The agent runs nothing in that environment",
          "type": "/docs/errors/not_published"
        }
    "#]]);
    publish(&node, &agent).await;
    let assigned = node.put(&path, to("sandbox")).await;
    assert_eq!(assigned.status, 200, "{}", assigned.text);
    assert_eq!(
        assigned.json()["assignment"],
        json!({"agent_id": agent, "environment": "sandbox", "variant_id": null})
    );
    let live = node.put(&path, to("live")).await;
    assert_eq!((live.status, live.code().as_str()), (409, "not_published"), "{}", live.text);

    let variant = node.post(&format!("/v1/agents/{agent}/variants"), json!({"name": "Paris"})).await.json();
    let as_variant = json!({"agent_id": agent, "environment": "sandbox", "variant_id": variant["id"]});
    let early = node.put(&path, as_variant.clone()).await;
    assert_eq!((early.status, early.code().as_str()), (409, "variant_not_published"), "{}", early.text);
    assert!(early.text.contains("Paris"), "{}", early.text);
    publish(&node, &agent).await;
    assert_eq!(node.put(&path, as_variant).await.status, 200);
    let readiness =
        node.get(&format!("/v1/numbers/{}/readiness", number["id"].as_str().unwrap())).await.json();
    assert_eq!(readiness["inbound"], json!({"ready": true, "reasons": []}));

    let nobody = json!({"agent_id": "agt_01kb5x3a7m0000000000000000", "environment": "live"});
    let missing = node.put(&path, nobody).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "agent_not_found"), "{}", missing.text);
    let (_, stranger) = node.stranger("other").await;
    let theirs =
        node.send_as(&stranger, Method::POST, "/v1/agents", Some(json!({"name": "x"})), &[]).await.json();
    let foreign = node.put(&path, json!({"agent_id": theirs["id"], "environment": "live"})).await;
    assert_eq!((foreign.status, foreign.code().as_str()), (404, "agent_not_found"), "{}", foreign.text);
    let odd = node.put(&path, json!({"agent_id": "num_1", "environment": "production"})).await;
    assert_eq!((odd.status, odd.code().as_str()), (422, "validation_failed"), "{}", odd.text);

    let list = node.get(&format!("/v1/numbers?environment=sandbox&agent_id={agent}")).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let freed = node.delete(&path).await;
    assert_eq!((freed.status, &freed.json()["assignment"]), (200, &Value::Null));
    assert_eq!(node.delete(&path).await.status, 200, "doing it again changes nothing");
}

/// Each step that the refusal names is taken, and then the number is assigned: for an agent that runs nowhere, and for a variant
/// that only the draft has.
async fn the_advice_leads_to_the_assignment(node: Arc<Node>) {
    let (number, agent) = (node.buy("US").await, agent(&node, "Support").await);
    let path = format!("/v1/numbers/{}/assignment", number["id"].as_str().unwrap());
    for variant in [None, Some("Lyon")] {
        let variant_id = match variant {
            None => Value::Null,
            Some(name) => {
                let made = node.post(&format!("/v1/agents/{agent}/variants"), json!({"name": name})).await;
                made.json()["id"].clone()
            }
        };
        let wanted = json!({"agent_id": agent, "environment": "live", "variant_id": variant_id});
        let refused = node.put(&path, wanted.clone()).await;
        let field = if variant.is_some() { "variant_id" } else { "environment" };
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (409, &json!(field)));
        let advice = refused.json()["detail"].as_str().unwrap().to_owned();
        let steps: Vec<&str> = advice.split(" with POST ").skip(1).collect();
        assert_eq!(steps.len(), 3, "{advice}");
        for step in steps {
            let step = step.split(", then").next().unwrap();
            let (address, body) = step.split_once(' ').unwrap_or((step, ""));
            let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
            let done = node.send(Method::POST, address, body).await;
            assert!(done.status < 300, "{step}: {}", done.text);
            assert!(!done.text.contains("\"changed\":false"), "{step} changes nothing: {}", done.text);
        }
        let assigned = node.put(&path, wanted).await;
        assert_eq!(assigned.status, 200, "{}", assigned.text);
    }
}

async fn a_number_in_use_is_not_given_back(node: Arc<Node>) {
    let (number, agent) = (node.buy("CA").await, agent(&node, "Support").await);
    publish(&node, &agent).await;
    let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let assigned =
        node.put(&format!("{path}/assignment"), json!({"agent_id": agent, "environment": "sandbox"})).await;
    assert_eq!(assigned.status, 200, "{}", assigned.text);
    let confirm = json!({"confirm": number["phone_number"]});
    node.post(&format!("{path}/release"), confirm.clone()).await.check(expect![[r#"
        409
        {
          "code": "number_in_use",
          "detail": "+15145550150 is answered by the agent agt_… in sandbox; remove the assignment first, or repeat with ?force=true",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The number is assigned to an agent",
          "type": "/docs/errors/number_in_use"
        }
    "#]]);
    let forced = node.post(&format!("{path}/release?force=true"), confirm).await;
    assert_eq!((forced.status, forced.json()["status"].as_str()), (200, Some("release_scheduled")));
    assert_eq!(
        forced.json()["assignment"]["agent_id"],
        agent.as_str(),
        "it answers as before until it is gone"
    );
}

async fn a_number_is_bought_for_an_agent(node: Arc<Node>) {
    let agent = agent(&node, "Support").await;
    let body = json!({
        "country": "GB",
        "max_monthly_price": {"amount": "5.00", "currency": "USD"},
        "assignment": {"agent_id": agent, "environment": "sandbox"},
    });
    let buy = |key: &'static str| {
        let (node, body) = (node.clone(), body.clone());
        async move {
            let headers = [("idempotency-key", key)];
            node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", Some(body), &headers).await
        }
    };
    let early = buy("a").await;
    assert_eq!((early.status, early.code().as_str()), (409, "not_published"), "{}", early.text);
    assert_eq!(node.get("/v1/numbers").await.json()["data"], json!([]), "nothing was bought");
    publish(&node, &agent).await;
    let bought = buy("a").await;
    assert_eq!(
        (bought.status, &bought.json()["assignment"]["agent_id"]),
        (202, &json!(agent)),
        "{}",
        bought.text
    );
    node.settle().await;
    let number = node.get(&format!("/v1/numbers/{}", bought.json()["id"].as_str().unwrap())).await.json();
    assert_eq!(
        (&number["status"], &number["assignment"]["environment"]),
        (&json!("active"), &json!("sandbox"))
    );
}

async fn fallbacks_do_not_go_in_circles(node: Arc<Node>) {
    let (one, two) = (node.buy("US").await, node.buy("CA").await);
    let to = |number: &Value| json!({"fallback": {"targets": [{"type": "phone", "phone_number": number["phone_number"]}]}});
    let path = |number: &Value| format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let itself = node.patch(&path(&one), to(&one)).await;
    assert_eq!((itself.status, itself.code().as_str()), (422, "fallback_loop"), "{}", itself.text);
    assert_eq!(node.patch(&path(&one), to(&two)).await.status, 200);
    let circle = node.patch(&path(&two), to(&one)).await;
    assert_eq!((circle.status, circle.code().as_str()), (422, "fallback_loop"), "{}", circle.text);
    let phone = |digits: &str| json!({"type": "phone", "phone_number": digits});
    let four = json!({"fallback": {"targets": [phone("+15145550101"), phone("+15145550102"), phone("+15145550103"), phone("+15145550104")]}});
    assert_eq!(node.patch(&path(&two), four).await.status, 200, "the agent's own target is the fifth");
    let workspace =
        node.patch("/v1/workspace", json!({"fallback": {"targets": [phone("+15145550105")]}})).await;
    assert!(matches!(workspace.status, 200 | 422), "{}", workspace.text);
}

/// What the workspace falls back to is bought: calls to it would be sent on to it.
async fn a_fallback_that_names_a_number_before_it_is_ours(node: Arc<Node>) {
    let offers = node.get("/v1/store/numbers?country=US&limit=1").await.json();
    let offer = &offers["data"][0];
    let agent = agent(&node, "Support").await;
    let fallback =
        json!({"fallback": {"targets": [{"type": "phone", "phone_number": offer["phone_number"]}]}});
    assert_eq!(node.patch(&format!("/v1/agents/{agent}/draft"), fallback).await.status, 200);
    publish(&node, &agent).await;
    let buy = async |idempotency_key: &str, body: Value| {
        let headers = [("idempotency-key", idempotency_key)];
        node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", Some(body), &headers).await
    };
    let assignment = json!({"agent_id": agent, "environment": "sandbox"});
    let circle = buy("one", json!({"quote_id": offer["quote_id"], "assignment": assignment})).await;
    assert_eq!((circle.status, circle.code().as_str()), (422, "fallback_loop"), "{}", circle.text);
    assert_eq!(node.get("/v1/numbers").await.json()["data"], json!([]), "nothing was ordered");
    let without = buy("two", json!({"quote_id": offer["quote_id"]})).await;
    assert_eq!(without.status, 202, "{}", without.text);
    node.settle().await;
}
