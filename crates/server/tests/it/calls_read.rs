//! Call records as they are read, through the true router. How they come about is told by the tests of calls.

use std::sync::Arc;

use axum::http::Method;
use database::calls::{CallEvent, CallReport, CallRoute, call_report};
use domain::call::{CallStatus, Ingress, Outcome};
use domain::caller::Caller;
use domain::environment::Environment;
use domain::id::{AgentId, CallId, NumberId, WorkspaceId};
use domain::route::{Explained, IncomingCall, RouteTable, decide};
use expect_test::expect;
use jiff::Timestamp;
use serde_json::json;

use crate::harness::{Node, START, on_both_engines, on_sqlite};

on_both_engines!(calls_are_listed_filtered_and_read);
on_sqlite!(filters_are_refused_clearly);

/// Keeps a call that began so many minutes after the start.
async fn kept(
    node: &Node,
    workspace: WorkspaceId,
    minute: i64,
    outcome: Outcome,
    number: Option<NumberId>,
) -> CallId {
    let at: Timestamp = START.parse().unwrap();
    let at = at + jiff::SignedDuration::from_mins(minute);
    let to = "+14155550101".parse().unwrap();
    let call = IncomingCall { ingress: Ingress::STORE, to, caller: Caller::Anonymous };
    let explained = Explained::new(&call, at, &decide(&RouteTable::empty(), &call, at));
    let id = CallId::new(at, u128::try_from(minute).unwrap());
    let report = CallReport {
        id,
        ingress: Ingress::STORE,
        carrier_call_id: format!("CA{minute:032}"),
        workspace: Some(workspace),
        number_id: number,
        from: "+15145550100".to_owned(),
        to: to.to_string(),
        route: Some(CallRoute {
            agent_id: AgentId::from_bits(7),
            environment: Environment::Live,
            variant_id: None,
            version_id: None,
        }),
        status: Some(CallStatus::Completed),
        outcome: Some(outcome),
        decision: Some(json!(explained)),
        answered_at: Some(at),
        ended_at: Some(at),
        duration_s: Some(12),
        event: CallEvent {
            seq: 0,
            at,
            kind: "status".to_owned(),
            dedupe_key: "completed".to_owned(),
            detail: json!({"status": "completed"}),
        },
        at,
    };
    node.app.database.write(move |tx| call_report(tx, &report)).await.unwrap();
    id
}

async fn found(node: &Node, query: &str) -> Vec<String> {
    let list = node.get(&format!("/v1/calls{query}")).await;
    assert_eq!(list.status, 200, "{}", list.text);
    let json = list.json();
    json["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

async fn calls_are_listed_filtered_and_read(node: Arc<Node>) {
    let number = node.buy("US").await;
    let number_id: NumberId = number["id"].as_str().unwrap().parse().unwrap();
    let digits = number["phone_number"].as_str().unwrap().replace('+', "%2B");
    let first = kept(&node, node.workspace, 1, Outcome::Answered, Some(number_id)).await.to_string();
    let second = kept(&node, node.workspace, 2, Outcome::FellBack, None).await.to_string();
    let third = kept(&node, node.workspace, 3, Outcome::Answered, None).await.to_string();
    let (others, stranger) = node.stranger("others").await;
    kept(&node, others, 4, Outcome::Answered, None).await;

    assert_eq!(found(&node, "").await, [third.as_str(), second.as_str(), first.as_str()]);
    for (query, expected) in [
        ("?outcome=fell_back".to_owned(), vec![second.as_str()]),
        (format!("?number={number_id}"), vec![first.as_str()]),
        (format!("?number={digits}"), vec![first.as_str()]),
        ("?number=%2B14155550199".to_owned(), vec![]),
        ("?environment=live&direction=inbound&status=completed&after=2026-11-21T22:02:00Z&before=2026-11-21T22:03:00Z".to_owned(), vec![second.as_str()]),
        ("?environment=sandbox".to_owned(), vec![]),
        // Calls outlive their agents.
        (
            format!("?agent_id={}", AgentId::from_bits(7)),
            vec![third.as_str(), second.as_str(), first.as_str()],
        ),
        (format!("?agent_id={}", AgentId::from_bits(8)), vec![]),
    ] {
        assert_eq!(found(&node, &query).await, expected, "{query}");
    }
    let page = node.get("/v1/calls?limit=2").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(found(&node, &format!("?limit=2&cursor={cursor}")).await, [first.as_str()]);

    node.get(&format!("/v1/calls/{second}")).await.check(expect![[r#"
        200
        {
          "agent_id": "agt_…",
          "answered_at": "2026-11-21T22:02:00.000Z",
          "asked": null,
          "carrier_call_id": "CA00000000000000000000000000000002",
          "decision": {
            "action": "reject",
            "agent_id": null,
            "at": "2026-11-21T22:02:00.000Z",
            "code": "unknown_number",
            "environment": null,
            "language": null,
            "message": null,
            "number_id": null,
            "summary": "the call is refused: +14155550101 is not one of our numbers",
            "targets": [],
            "variant_id": null,
            "version": null,
            "version_id": null,
            "webhook_url": null
          },
          "direction": "inbound",
          "duration_s": 12,
          "ended_at": "2026-11-21T22:02:00.000Z",
          "environment": "live",
          "from": "+15145550100",
          "id": "cal_…",
          "number_id": null,
          "outcome": "fell_back",
          "started_at": "2026-11-21T22:02:00.000Z",
          "status": "completed",
          "steps": [
            {
              "because": "+14155550101 is not one of our numbers; check at the carrier which numbers send their calls here",
              "outcome": "unknown",
              "rule": "number"
            }
          ],
          "timeline": [
            {
              "at": "2026-11-21T22:02:00.000Z",
              "detail": {
                "status": "completed"
              },
              "kind": "status"
            }
          ],
          "timeline_count": 1,
          "to": "+14155550101",
          "variant_id": null,
          "version_id": null
        }
    "#]]);
    let theirs = node.send_as(&stranger, Method::GET, &format!("/v1/calls/{second}"), None, &[]).await;
    let none = node.get(&format!("/v1/calls/{}", CallId::from_bits(1))).await;
    assert_eq!(
        (theirs.status, theirs.code(), none.code()),
        (404, "not_found".to_owned(), "not_found".to_owned())
    );
}

async fn filters_are_refused_clearly(node: Arc<Node>) {
    for (query, status, code) in [
        ("outcome=lost", 422, "invalid_value"),
        ("outcome=", 422, "invalid_value"),
        ("number=num_x", 422, "invalid_id"),
        ("number=%2B1415", 422, "e164_length"),
        ("after=yesterday", 422, "invalid_value"),
        ("limit=0", 422, "limit_range"),
        ("cursor=abc", 400, "bad_cursor"),
        ("to=x", 422, "unknown_field"),
    ] {
        let refused = node.get(&format!("/v1/calls?{query}")).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{query}: {}", refused.text);
    }
}
