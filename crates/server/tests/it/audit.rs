//! The audit log, through the true router: who did what, before and after.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::Method;
use domain::id::WorkspaceId;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::{Value, json};
use server::actions::audit::ACTIONS;
use server::anchor;
use server::background::anchor_audit::AnchorAudit;
use server::background::driver::Task as _;

use crate::agents::{id_of, made};
use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(each_change_is_told_and_found, an_anchor_is_kept_while_all_is_whole);
on_sqlite!(an_action_that_nobody_takes_is_refused);

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

/// Every action that the sources write is one that a filter knows, and the other way round.
#[test]
fn the_known_actions_are_those_that_are_written() {
    let nouns = ["agent", "draft", "variant", "number", "key", "role", "workspace"];
    let mut written = BTreeSet::new();
    let mut folders = vec![
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/actions")),
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/background")),
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli")),
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../database/src")),
    ];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.ends_with("actions/audit.rs") || path.ends_with("background/tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let words = text.split('"').filter(|word| {
                let parts = word.split_once('.');
                parts.is_some_and(|(noun, verb)| {
                    nouns.contains(&noun)
                        && !verb.is_empty()
                        && verb.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                })
            });
            written.extend(words.map(str::to_owned));
        }
    }
    let known: BTreeSet<String> = ACTIONS.iter().map(|&action| action.to_owned()).collect();
    assert_eq!(written, known);
}

async fn an_action_that_nobody_takes_is_refused(node: Arc<Node>) {
    let refused = node.get("/v1/audit?action=agent.publsh").await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "invalid_value"), "{}", refused.text);
    let json = refused.json();
    assert_eq!(json["errors"][0]["field"], json!("action"));
    let detail = json["detail"].as_str().unwrap();
    assert!(detail.contains("did you mean agent.publish?") && detail.contains("number.release"), "{detail}");
    assert_eq!(node.get("/v1/audit?action=agent.publish").await.status, 200);
}
