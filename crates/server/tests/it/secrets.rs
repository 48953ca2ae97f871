//! Secrets that nothing refers to any more are forgotten, and none that something still needs.

use std::sync::Arc;

use axum::http::Method;
use database::secrets::secret_list;
use serde_json::{Value, json};

use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(a_draft_forgets_what_no_version_has);
on_sqlite!(a_number_forgets_what_it_had, an_agent_that_is_removed_takes_its_secrets_along);

/// What may be seen of the workspace's secrets.
async fn kept(node: &Node) -> Vec<String> {
    let workspace = node.workspace;
    let listed = node.app.database.read(move |read| secret_list(read, workspace, None, 100)).await.unwrap();
    let mut last4: Vec<String> = listed.into_iter().map(|secret| secret.last4).collect();
    last4.sort();
    last4
}

fn webhook(secret: &str) -> Value {
    let default = json!({"type": "sip", "uri": "sip:bot@one.example", "username": "us", "password": format!("password-with-{secret}")});
    json!({"endpoint": {"type": "webhook", "webhook_url": "https://team.example/", "secret": format!("signing-with-{secret}"), "default": default}})
}

async fn done(node: &Node, method: Method, path: &str, body: Option<Value>) -> Value {
    let answer = node.send(method, path, body).await;
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text);
    if answer.text.is_empty() { Value::Null } else { answer.json() }
}

async fn a_draft_forgets_what_no_version_has(node: Arc<Node>) {
    let made =
        done(&node, Method::POST, "/v1/agents", Some(json!({"name": "Support", "draft": webhook("aaaa")})))
            .await;
    let agent = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    let draft = format!("{agent}/draft");
    assert_eq!(kept(&node).await, ["aaaa", "aaaa"]);
    // Never published: gone at once, the default's password with the signing secret.
    done(&node, Method::PATCH, &draft, Some(webhook("bbbb"))).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb"]);
    // A version needs it, running or not.
    done(&node, Method::POST, &format!("{agent}/publish"), None).await;
    done(&node, Method::PATCH, &draft, Some(webhook("cccc"))).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb", "cccc", "cccc"]);
    done(&node, Method::PATCH, &draft, Some(json!({"endpoint": null}))).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb"]);
    // A variant's goes with the variant.
    let endpoint = webhook("dddd")["endpoint"].clone();
    let variant = done(
        &node,
        Method::POST,
        &format!("{agent}/variants"),
        Some(json!({"name": "Lyon", "endpoint": endpoint})),
    )
    .await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb", "dddd", "dddd"]);
    let variant = format!("{agent}/variants/{}", variant["id"].as_str().unwrap());
    done(&node, Method::DELETE, &variant, None).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb"]);
    // Where saving publishes, what was saved is a version's, too.
    done(&node, Method::PATCH, "/v1/workspace", Some(json!({"sandbox_follows": "saved"}))).await;
    done(&node, Method::PATCH, &draft, Some(webhook("eeee"))).await;
    done(&node, Method::PATCH, &draft, Some(webhook("ffff"))).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb", "eeee", "eeee", "ffff", "ffff"]);
}

async fn a_number_forgets_what_it_had(node: Arc<Node>) {
    let path = format!("/v1/numbers/{}", node.buy("US").await["id"].as_str().unwrap());
    let fallback = |password: &str| json!({"fallback": {"targets": [{"type": "sip", "uri": "sip:desk@127.0.0.1", "username": "desk", "password": password}]}});
    done(&node, Method::PATCH, &path, Some(fallback("correct horse aaaa"))).await;
    done(&node, Method::PATCH, &path, Some(fallback("correct horse bbbb"))).await;
    assert_eq!(kept(&node).await, ["bbbb"]);
    done(&node, Method::PATCH, &path, Some(json!({"fallback": null}))).await;
    assert!(kept(&node).await.is_empty());
    // The workspace's own as well.
    done(&node, Method::PATCH, "/v1/workspace", Some(fallback("correct horse cccc"))).await;
    done(&node, Method::PATCH, "/v1/workspace", Some(fallback("correct horse dddd"))).await;
    assert_eq!(kept(&node).await, ["dddd"]);
}

async fn an_agent_that_is_removed_takes_its_secrets_along(node: Arc<Node>) {
    let mut agents = Vec::new();
    for (name, secret) in [("Support", "aaaa"), ("Sales", "bbbb")] {
        let made =
            done(&node, Method::POST, "/v1/agents", Some(json!({"name": name, "draft": webhook(secret)})))
                .await;
        agents.push(format!("/v1/agents/{}", made["id"].as_str().unwrap()));
    }
    done(&node, Method::POST, &format!("{}/publish", agents[0]), None).await;
    done(&node, Method::PATCH, &format!("{}/draft", agents[0]), Some(webhook("cccc"))).await;
    assert_eq!(kept(&node).await, ["aaaa", "aaaa", "bbbb", "bbbb", "cccc", "cccc"]);
    done(&node, Method::DELETE, &agents[0], None).await;
    assert_eq!(kept(&node).await, ["bbbb", "bbbb"]);
}
