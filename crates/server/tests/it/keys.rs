//! API keys and roles.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::json;

use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(a_key_is_made_used_and_revoked);
on_sqlite!(
    nobody_hands_out_more_than_they_have,
    the_last_owner_stays,
    roles_are_sets_of_permissions,
    keys_expire
);

async fn a_key_is_made_used_and_revoked(node: Arc<Node>) {
    let made = node
        .post(
            "/v1/api-keys",
            json!({"name": "deploy", "role": "builder", "expires_at": "2027-01-01T00:00:00Z"}),
        )
        .await;
    let key = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["last4"], key[key.len() - 4..]);
    let mut shown = made.json();
    shown["last4"] = json!("….");
    crate::harness::Answer { text: shown.to_string(), ..made }.check(expect![[r#"
        201
        {
          "created_at": "2026-11-21T22:00:00.000Z",
          "created_by": "key:key_…",
          "expires_at": "2027-01-01T00:00:00.000Z",
          "id": "key_…",
          "key": "sbk_…",
          "last4": "….",
          "last_used_at": null,
          "name": "deploy",
          "revoked_at": null,
          "role": "builder"
        }
    "#]]);
    assert_eq!(node.send_as(&key, Method::GET, "/v1/numbers", None, &[]).await.status, 200);
    let id = shown["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/api-keys/{id}");
    assert!(!node.get(&path).await.text.contains("sbk_"));
    let revoked = node.delete(&path).await;
    assert_eq!(revoked.json()["revoked_at"], "2026-11-21T22:00:00.000Z");
    let refused = node.send_as(&key, Method::GET, "/v1/numbers", None, &[]).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "key_revoked"));
    assert_eq!(node.delete(&path).await.status, 200, "revoking again changes nothing");
    let list = node.get("/v1/api-keys?limit=1").await.json();
    assert!(list["next_cursor"].is_string());
}

async fn nobody_hands_out_more_than_they_have(node: Arc<Node>) {
    let role = node
        .post(
            "/v1/roles",
            json!({"name": "keeper", "permissions": ["keys:read", "keys:write", "numbers:read"]}),
        )
        .await
        .json();
    let keeper = node.post("/v1/api-keys", json!({"name": "keeper", "role": role["id"]})).await.json();
    let keeper = keeper["key"].as_str().unwrap();
    for (path, body) in [
        ("/v1/api-keys", json!({"name": "n", "role": "owner"})),
        ("/v1/roles", json!({"name": "more", "permissions": ["numbers:read", "numbers:buy"]})),
    ] {
        let refused = node.send_as(keeper, Method::POST, path, Some(body), &[]).await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
        assert!(refused.text.contains("numbers:buy"), "{}", refused.text);
    }
    let widened = Some(json!({"permissions": ["keys:write", "numbers:release"]}));
    let path = format!("/v1/roles/{}", role["id"].as_str().unwrap());
    assert_eq!(node.send_as(keeper, Method::PATCH, &path, widened, &[]).await.status, 403);
    let fine = Some(json!({"name": "n", "role": role["id"]}));
    assert_eq!(node.send_as(keeper, Method::POST, "/v1/api-keys", fine, &[]).await.status, 201);
}

async fn the_last_owner_stays(node: Arc<Node>) {
    let own = node.get("/v1/api-keys").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/api-keys/{own}");
    node.delete(&path).await.check(expect![[r#"
        409
        {
          "code": "last_owner",
          "detail": "it is the last key with the role owner, and without one nobody could make keys; create another first",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The last owner key cannot be revoked",
          "type": "/docs/errors/last_owner"
        }
    "#]]);
    let second = node.key(BuiltInRole::Owner).await;
    assert_eq!(node.delete(&path).await.status, 200);
    assert_eq!(node.send_as(&second, Method::GET, "/v1/api-keys", None, &[]).await.status, 200);
}

async fn roles_are_sets_of_permissions(node: Arc<Node>) {
    let made = node
        .post("/v1/roles", json!({"name": "support", "permissions": ["calls:read", "numbers:read"]}))
        .await;
    made.check(expect![[r#"
        201
        {
          "built_in": false,
          "created_at": "2026-11-21T22:00:00.000Z",
          "id": "rol_…",
          "name": "support",
          "permissions": [
            "numbers:read",
            "calls:read"
          ],
          "updated_at": "2026-11-21T22:00:00.000Z"
        }
    "#]]);
    let path = format!("/v1/roles/{}", made.json()["id"].as_str().unwrap());
    let key = node.post("/v1/api-keys", json!({"name": "k", "role": made.json()["id"]})).await.json();
    let key_text = key["key"].as_str().unwrap();
    assert_eq!(node.send_as(key_text, Method::GET, "/v1/workspace", None, &[]).await.status, 403);
    let wider = node.patch(&path, json!({"permissions": ["settings:read"]})).await;
    assert_eq!(wider.status, 200, "{}", wider.text);
    assert_eq!(node.send_as(key_text, Method::GET, "/v1/workspace", None, &[]).await.status, 200, "at once");
    for name in ["support", "owner"] {
        let taken = node.post("/v1/roles", json!({"name": name, "permissions": []})).await;
        assert_eq!((taken.status, taken.code().as_str()), (409, "name_taken"), "{}", taken.text);
    }
    let used = node.delete(&path).await;
    assert_eq!((used.status, used.code().as_str()), (409, "role_in_use"));
    node.delete(&format!("/v1/api-keys/{}", key["id"].as_str().unwrap())).await;
    assert_eq!(node.delete(&path).await.status, 204);
    assert_eq!(node.get(&path).await.status, 404);
    let roles = node.get("/v1/roles").await.json();
    let names: Vec<&str> =
        roles["data"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["owner", "admin", "builder", "viewer"]);
}

async fn keys_expire(node: Arc<Node>) {
    let past = node
        .post("/v1/api-keys", json!({"name": "k", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}))
        .await;
    assert_eq!((past.status, past.code().as_str()), (422, "invalid_value"), "{}", past.text);
    let odd =
        node.post("/v1/api-keys", json!({"name": "k", "role": "viewer", "expires_at": "tomorrow"})).await;
    assert!(odd.text.contains("RFC 3339"), "{}", odd.text);
    let made = node
        .post("/v1/api-keys", json!({"name": "k", "role": "viewer", "expires_at": "2026-11-21T23:00:00Z"}))
        .await
        .json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(node.send_as(key, Method::GET, "/v1/workspace", None, &[]).await.status, 200);
    node.clock.advance(Duration::from_secs(3600));
    let refused = node.send_as(key, Method::GET, "/v1/workspace", None, &[]).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "key_expired"));
}
