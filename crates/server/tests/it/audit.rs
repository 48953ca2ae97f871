//! The audit log, through the true router: who did what, before and after.

use std::sync::Arc;

use axum::http::Method;
use domain::id::WorkspaceId;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::{Value, json};
use server::anchor;
use server::background::anchor_audit::AnchorAudit;
use server::background::driver::Task as _;

use crate::agents::{id_of, made};
use crate::harness::{Node, on_both_engines};

on_both_engines!(each_change_is_told_and_found, an_anchor_is_kept_while_all_is_whole);

async fn actions(node: &Node, query: &str) -> Vec<String> {
    let page = node.get(&format!("/v1/audit{query}")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let json = page.json();
    json["data"].as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap().to_owned()).collect()
}

async fn each_change_is_told_and_found(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let builder = node.key(BuiltInRole::Builder).await;
    let renamed = node
        .send_as(&builder, Method::PATCH, &format!("/v1/agents/{agent}"), Some(json!({"name": "Sales"})), &[])
        .await;
    assert_eq!(renamed.status, 200);
    assert_eq!(id_of(&renamed), agent);
    assert_eq!(node.send(Method::POST, &format!("/v1/agents/{agent}/publish"), None).await.status, 201);
    assert_eq!(
        actions(&node, &format!("?target={agent}")).await,
        ["agent.publish", "agent.update", "agent.create"]
    );

    let entry =
        node.get(&format!("/v1/audit?target={agent}&action=agent.update")).await.json()["data"][0].clone();
    assert_eq!((&entry["before"]["name"], &entry["after"]["name"]), (&json!("Support"), &json!("Sales")));
    assert_eq!(entry["request_id"].as_str(), renamed.header("x-request-id"));
    let actor = entry["actor"].as_str().unwrap();
    assert!(actor.starts_with("key:key_"), "{actor}");
    assert_eq!(actions(&node, &format!("?actor={actor}")).await, ["agent.update"]);
    assert_eq!(actions(&node, "?before=2026-11-21T22:00:00Z").await, [""; 0]);

    let mut seen = Vec::new();
    let mut next = "?limit=2".to_owned();
    loop {
        let page = node.get(&format!("/v1/audit{next}")).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|it| it["seq"].as_i64().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("?limit=2&cursor={cursor}");
    }
    let whole: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).rev().collect();
    assert_eq!(seen, whole, "each entry once, without gaps");

    node.send_as(&builder, Method::GET, "/v1/audit", None, &[]).await.check(expect![[r#"
        403
        {
          "code": "forbidden",
          "detail": "this needs the permission audit:read, which the role of your key does not have",
          "errors": [],
          "request_id": "req_…",
          "status": 403,
          "title": "This key may not do that",
          "type": "/docs/errors/forbidden"
        }
    "#]]);
    let (_, stranger) = node.stranger("others").await;
    let theirs =
        node.send_as(&stranger, Method::GET, &format!("/v1/audit?target={agent}"), None, &[]).await.json();
    assert_eq!((&theirs["data"], &theirs["next_cursor"]), (&json!([]), &Value::Null));
}

async fn an_anchor_is_kept_while_all_is_whole(node: Arc<Node>) {
    let task = AnchorAudit::new(&node.app);
    let file = node.app.config.audit_anchor_file();
    let kept = || anchor::read(&file).unwrap().unwrap();
    let broken = || async {
        let figures = node.send_as("", Method::GET, "/metrics", None, &[]).await.text;
        let line = figures.lines().find(|line| line.starts_with("switchboard_audit_chains_broken ")).unwrap();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    task.run_once(&node.app).await.unwrap();
    let first = kept();
    assert_eq!((first.len(), first[0].workspace), (1, node.workspace));
    made(&node, "Support").await;
    let (other, _) = node.stranger("others").await;
    task.run_once(&node.app).await.unwrap();
    let second = kept();
    assert_eq!(second[0].seq, first[0].seq + 1);
    assert!(second.iter().any(|head| head.workspace == other), "{second:?}");
    assert_eq!(broken().await, "0");

    // Somebody wrote the log anew, or took a workspace away: the anchor says otherwise, and stays.
    let mut rewritten = second.clone();
    rewritten[0].hash = "0".repeat(64);
    let mut taken = second.clone();
    taken[0].workspace = WorkspaceId::from_bits(7);
    for seen in [rewritten, taken] {
        anchor::write(&file, &seen).unwrap();
        made(&node, &format!("After {}", seen[0].workspace)).await;
        task.run_once(&node.app).await.unwrap();
        assert_eq!((kept(), broken().await.as_str()), (seen, "1"));
    }
    anchor::write(&file, &second).unwrap();
    task.run_once(&node.app).await.unwrap();
    assert_eq!((kept()[0].seq, broken().await.as_str()), (second[0].seq + 2, "0"));
    // What cannot be read is not replaced either.
    std::fs::write(&file, "[").unwrap();
    assert!(task.run_once(&node.app).await.is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[");
}
