//! Agents, their drafts and variants, through the true router.

use std::sync::Arc;

use axum::http::Method;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::{Answer, Node, on_both_engines, on_sqlite};

on_both_engines!(an_agent_is_made_edited_and_deleted, variants_have_an_order_and_a_default);
on_sqlite!(
    names_are_unique_in_a_workspace,
    secrets_go_in_and_never_come_out,
    what_cannot_be_meant_is_refused,
    addresses_inside_are_not_reached,
    circles_and_long_chains_are_refused,
    revisions_are_honoured,
    agents_are_made_once,
    one_key_is_for_one_agent,
    roles_may_what_they_may,
);

/// Makes an agent with a stream for its endpoint, and gives its id.
pub(crate) async fn made(node: &Node, name: &str) -> String {
    let draft = json!({"endpoint": {"type": "stream", "url": "ws://127.0.0.1:9000/media"}});
    let made = node.post("/v1/agents", json!({"name": name, "draft": draft})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    id_of(&made)
}

/// Makes a variant, and gives its id.
pub(crate) async fn variant(node: &Node, agent: &str, name: &str) -> String {
    let made = node.post(&format!("/v1/agents/{agent}/variants"), json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    id_of(&made)
}

/// The answer without these digits, which the carrier chose.
pub(crate) fn without(answer: Answer, digits: &str) -> Answer {
    Answer { text: answer.text.replace(digits, "+1…"), ..answer }
}

pub(crate) fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn an_agent_is_made_edited_and_deleted(node: Arc<Node>) {
    let draft = json!({
        "endpoint": {"type": "stream", "url": "ws://127.0.0.1:9000/media"},
        "language": "fr-ca",
        "call_parameters": {"tier": "gold"},
    });
    let made = node.post("/v1/agents", json!({"name": "Support", "draft": draft})).await;
    made.check(expect![[r#"
        201
        {
          "created_at": "2026-11-21T22:00:00.000Z",
          "draft": {
            "call_parameters": {
              "tier": "gold"
            },
            "endpoint": {
              "type": "stream",
              "url": "ws://127.0.0.1:9000/media"
            },
            "fallback": null,
            "language": "fr-CA"
          },
          "id": "agt_…",
          "name": "Support",
          "running": {
            "live": null,
            "pre_release": null,
            "sandbox": null
          },
          "unpublished_changes": true,
          "updated_at": "2026-11-21T22:00:00.000Z",
          "variants": []
        }
    "#]]);
    let id = id_of(&made);
    assert_eq!(made.header("location"), Some(format!("/v1/agents/{id}").as_str()));
    assert_eq!(made.header("etag"), Some("\"r1\""));

    let patch = json!({
        "endpoint": {"type": "webhook", "webhook_url": "https://team.example/calls",
                     "default": {"type": "phone", "phone_number": "+14385950345", "ring_timeout_s": 30}},
        "language": null,
        "fallback": {"targets": [{"type": "sip", "uri": "sips:desk@pbx.example"}], "message": "Please call again."},
    });
    let changed = node.patch(&format!("/v1/agents/{id}/draft"), patch).await;
    changed.check(expect![[r#"
        200
        {
          "call_parameters": {
            "tier": "gold"
          },
          "endpoint": {
            "default": {
              "phone_number": "+14385950345",
              "ring_timeout_s": 30,
              "type": "phone"
            },
            "secret": null,
            "type": "webhook",
            "webhook_url": "https://team.example/calls"
          },
          "fallback": {
            "message": "Please call again.",
            "targets": [
              {
                "password": null,
                "ring_timeout_s": 20,
                "type": "sip",
                "uri": "sips:desk@pbx.example",
                "username": null
              }
            ]
          },
          "language": null,
          "published_version": null,
          "unpublished_changes": true
        }
    "#]]);
    assert_eq!(changed.header("etag"), Some("\"r2\""));
    let read = node.get(&format!("/v1/agents/{id}/draft")).await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"r2\"")));
    assert_eq!(read.json(), changed.json());

    let same = node.patch(&format!("/v1/agents/{id}/draft"), json!({"language": null})).await;
    assert_eq!(same.header("etag"), Some("\"r2\""), "nothing has changed");
    let renamed = node.patch(&format!("/v1/agents/{id}"), json!({"name": "Front desk"})).await;
    assert_eq!((renamed.status, renamed.json()["name"].as_str()), (200, Some("Front desk")));
    let list = node.get("/v1/agents?search=front").await;
    assert_eq!(list.json()["data"][0]["id"], json!(id), "{}", list.text);
    assert_eq!(node.get("/v1/agents?search=support").await.json()["data"], json!([]));

    let gone = node.delete(&format!("/v1/agents/{id}")).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    node.get(&format!("/v1/agents/{id}")).await.check(expect![[r#"
        404
        {
          "code": "agent_not_found",
          "detail": "there is no agent agt_… in this workspace",
          "errors": [],
          "request_id": "req_…",
          "status": 404,
          "title": "There is no such agent",
          "type": "/docs/errors/agent_not_found"
        }
    "#]]);
}

async fn variants_have_an_order_and_a_default(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let path = format!("/v1/agents/{agent}/variants");
    let paris = node.post(&path, json!({"name": "Paris", "attributes": {"site": "75"}})).await;
    paris.check(expect![[r#"
        201
        {
          "attributes": {
            "site": "75"
          },
          "endpoint": null,
          "id": "var_…",
          "is_default": true,
          "name": "Paris",
          "position": 1
        }
    "#]]);
    let lyon = variant(&node, &agent, "Lyon").await;
    let body =
        json!({"name": "Nice", "position": 1, "endpoint": {"type": "stream", "url": "ws://127.0.0.1:9001/"}});
    let nice = id_of(&node.post(&path, body).await);
    assert_eq!(names(&node.get(&path).await), ["Nice", "Paris", "Lyon"]);
    let paged = node.get(&format!("{path}?limit=2")).await.json();
    let next = format!("{path}?limit=2&cursor={}", paged["next_cursor"].as_str().unwrap());
    assert_eq!(names(&node.get(&next).await), ["Lyon"]);

    node.post(&path, json!({"name": "PARIS"})).await.check(expect![[r#"
        409
        {
          "code": "name_taken",
          "detail": "name: the variant var_… is called `Paris` already; names are unique within an agent",
          "errors": [
            {
              "code": "name_taken",
              "detail": "the variant var_… is called `Paris` already; names are unique within an agent",
              "field": "name"
            }
          ],
          "request_id": "req_…",
          "status": 409,
          "title": "The name is taken",
          "type": "/docs/errors/name_taken"
        }
    "#]]);
    node.delete(&format!("{path}/{nice}")).await.check(expect![[r#"
        409
        {
          "code": "default_variant",
          "detail": "`Nice` is the default and answers numbers without a variant; make another the default first, with PATCH {\"position\": 1} on it, or delete the 2 others",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The default variant cannot be removed while others exist",
          "type": "/docs/errors/default_variant"
        }
    "#]]);
    let moved =
        node.patch(&format!("{path}/{lyon}"), json!({"position": 1, "attributes": {"site": "69"}})).await;
    assert_eq!((moved.status, moved.json()["is_default"].as_bool()), (200, Some(true)), "{}", moved.text);
    let cleared = node.patch(&format!("{path}/{lyon}"), json!({"attributes": null})).await;
    assert_eq!(cleared.json()["attributes"], json!({}));
    assert_eq!(node.delete(&format!("{path}/{nice}")).await.status, 204);
    assert_eq!(names(&node.get(&path).await), ["Lyon", "Paris"]);
    let gone = node.get(&format!("{path}/{nice}")).await;
    assert_eq!((gone.status, gone.code()), (404, "variant_not_found".to_owned()));
    let beyond = node.patch(&format!("{path}/{lyon}"), json!({"position": 3})).await;
    assert_eq!((beyond.status, beyond.code()), (422, "invalid_value".to_owned()), "{}", beyond.text);
}

fn names(list: &Answer) -> Vec<String> {
    let json = list.json();
    json["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

async fn names_are_unique_in_a_workspace(node: Arc<Node>) {
    let first = made(&node, "Réception").await;
    let other = made(&node, "Sales").await;
    for answer in [
        node.post("/v1/agents", json!({"name": "RÉCEPTION"})).await,
        node.patch(&format!("/v1/agents/{other}"), json!({"name": "réception"})).await,
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (409, "name_taken"), "{}", answer.text);
        let json = answer.json();
        assert_eq!(json["errors"][0]["field"], json!("name"));
        assert!(json["detail"].as_str().unwrap().contains(&first), "it names the other agent: {json}");
    }
    // Its own name in another letter case is free, and so is that of an agent that is gone.
    assert_eq!(node.patch(&format!("/v1/agents/{first}"), json!({"name": "RÉCEPTION"})).await.status, 200);
    assert_eq!(node.delete(&format!("/v1/agents/{first}")).await.status, 204);
    made(&node, "Réception").await;
    let (_, stranger) = node.stranger("others").await;
    let theirs = json!({"name": "Sales"});
    assert_eq!(node.send_as(&stranger, Method::POST, "/v1/agents", Some(theirs), &[]).await.status, 201);
}

async fn secrets_go_in_and_never_come_out(node: Arc<Node>) {
    let sip = |uri: &str, password: Value| {
        let mut endpoint = json!({"type": "sip", "uri": uri, "username": "us"});
        if !password.is_null() {
            endpoint["password"] = password;
        }
        json!({"endpoint": endpoint})
    };
    let secret = "correct-horse-battery-staple";
    let made = node
        .post("/v1/agents", json!({"name": "Support", "draft": sip("sip:bot@one.example", json!(secret))}))
        .await;
    assert_eq!(
        made.json()["draft"]["endpoint"]["password"],
        json!({"set": true, "last4": "aple"}),
        "{}",
        made.text
    );
    let path = format!("/v1/agents/{}/draft", id_of(&made));
    let kept = node.patch(&path, sip("sip:bot@one.example", Value::Null)).await;
    assert_eq!(kept.json()["endpoint"]["password"]["last4"], "aple", "{}", kept.text);
    node.patch(&path, sip("sip:bot@two.example", Value::Null)).await.check(expect![[r#"
        422
        {
          "code": "required",
          "detail": "endpoint.password: is missing, and none is stored for this uri and username; send it (a stored password never follows an address to another place)",
          "errors": [
            {
              "code": "required",
              "detail": "is missing, and none is stored for this uri and username; send it (a stored password never follows an address to another place)",
              "field": "endpoint.password"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The field is required",
          "type": "/docs/errors/required"
        }
    "#]]);
    for (password, code) in [
        (json!("••••aple"), "secret_masked"),
        (json!({"set": true, "last4": "aple"}), "secret_masked"),
        (json!("token\n"), "secret_whitespace"),
        (json!(7), "wrong_type"),
    ] {
        let refused = node.patch(&path, sip("sip:bot@one.example", password.clone())).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, code), "{password}");
    }
    let key = node.owner_key.clone();
    let headers = [("idempotency-key", "secret")];
    let again = json!({"name": "Other", "draft": sip("sip:bot@one.example", json!(secret))});
    for _ in 0..2 {
        let answer = node.send_as(&key, Method::POST, "/v1/agents", Some(again.clone()), &headers).await;
        assert!(answer.status == 201 && !answer.text.contains(secret), "{}", answer.text);
    }
    let log = node.get("/v1/audit?limit=200").await;
    assert!(log.text.contains("agent.create") && !log.text.contains(secret), "{}", log.text);
}

async fn what_cannot_be_meant_is_refused(node: Arc<Node>) {
    node.post(
        "/v1/agents",
        json!({"name": " ", "draft": {"endpoint": {"type": "stream"}, "language": "english", "voice": "x"}}),
    )
    .await
    .check(expect![[r#"
        422
        {
          "code": "validation_failed",
          "detail": "4 errors, in name, draft.endpoint.url, draft.language, draft.voice; nothing was changed",
          "errors": [
            {
              "code": "blank",
              "detail": "` ` is no name; send 1 to 100 visible characters",
              "field": "name"
            },
            {
              "code": "required",
              "detail": "is missing; expected wss://host/path",
              "field": "draft.endpoint.url"
            },
            {
              "code": "bad_language",
              "detail": "`english` is not a language tag; send one such as en-US, fr or zh-Hant-TW",
              "field": "draft.language"
            },
            {
              "code": "unknown_field",
              "detail": "there is no field `voice`; the fields here are endpoint, language, fallback, call_parameters",
              "field": "draft.voice"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The request has errors",
          "type": "/docs/errors/validation_failed"
        }
    "#]]);
    let agent = made(&node, "Support").await;
    let draft = format!("/v1/agents/{agent}/draft");
    let long: String = "x".repeat(501);
    for (body, code) in [
        (json!({"endpoint": {"type": "stream", "url": "wss://a.example/?x=1"}}), "url_query"),
        (json!({"endpoint": {"type": "stream", "url": "https://a.example/"}}), "url_scheme"),
        (json!({"endpoint": {"type": "stream", "url": "wss://u:p@a.example/"}}), "url_credentials"),
        (json!({"endpoint": {"type": "stream", "url": "wss://a.example:25/"}}), "url_port"),
        (json!({"endpoint": {"type": "webhook", "webhook_url": "ftp://a.example/"}}), "url_scheme"),
        (json!({"endpoint": {"type": "phone", "phone_number": "4385950345"}}), "not_e164"),
        (json!({"endpoint": {"type": "phone", "phone_number": "+1911"}}), "emergency_or_short_code"),
        (json!({"endpoint": {"type": "phone", "phone_number": "+5351234567"}}), "destination_blocked"),
        (json!({"endpoint": {"type": "phone", "phone_number": "+19005550123"}}), "destination_blocked"),
        (
            json!({"fallback": {"targets": [{"type": "phone", "phone_number": "+88213123456"}]}}),
            "destination_blocked",
        ),
        (json!({"endpoint": []}), "wrong_type"),
        (json!({"message_url": "https://a.example/"}), "unknown_field"),
        (json!({"handoff": {}}), "unknown_field"),
        (json!({"language": "english"}), "bad_language"),
        (json!({"fallback": {"message": long}}), "too_long"),
        (json!({"fallback": {"message": " "}}), "blank"),
        (json!({"call_parameters": {"switchboard_x": "1"}}), "invalid_value"),
        (json!({"call_parameters": {"a": "x\r\ny"}}), "control_character"),
        (json!({"call_parameters": ["a"]}), "wrong_type"),
    ] {
        let refused = node.patch(&draft, body.clone()).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, code), "{body}: {}", refused.text);
    }
    assert_eq!(node.get(&draft).await.header("etag"), Some("\"r1\""), "nothing was changed");
}

async fn addresses_inside_are_not_reached(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let inside = json!({
        "endpoint": {"type": "webhook", "webhook_url": "https://10.0.0.1/", "default": {"type": "stream", "url": "wss://169.254.169.254/"}},
        "fallback": {"targets": [{"type": "sip", "uri": "sip:desk@192.168.1.1"}]},
    });
    node.patch(&format!("/v1/agents/{agent}/draft"), inside).await.check(expect![[r#"
        422
        {
          "code": "validation_failed",
          "detail": "3 errors, in endpoint.webhook_url, endpoint.default.url, fallback.targets[0].uri; nothing was changed",
          "errors": [
            {
              "code": "address_not_allowed",
              "detail": "`10.0.0.1` is, or leads to, an address that is not public; use a public one, or ask the operator to add it to egress.allowed_addresses",
              "field": "endpoint.webhook_url"
            },
            {
              "code": "address_not_allowed",
              "detail": "`169.254.169.254` is, or leads to, an address that is not public; use a public one, or ask the operator to add it to egress.allowed_addresses",
              "field": "endpoint.default.url"
            },
            {
              "code": "address_not_allowed",
              "detail": "`192.168.1.1` is, or leads to, an address that is not public; use a public one, or ask the operator to add it to egress.allowed_addresses",
              "field": "fallback.targets[0].uri"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The request has errors",
          "type": "/docs/errors/validation_failed"
        }
    "#]]);
    let body = json!({"name": "Inside", "endpoint": {"type": "stream", "url": "wss://10.0.0.1/"}});
    let refused = node.post(&format!("/v1/agents/{agent}/variants"), body).await;
    assert_eq!((refused.status, refused.code()), (422, "address_not_allowed".to_owned()));
    let fallback = json!({"fallback": {"targets": [{"type": "stream", "url": "wss://10.0.0.1/"}]}});
    let refused = node.patch("/v1/workspace", fallback).await;
    assert_eq!((refused.status, refused.code()), (422, "address_not_allowed".to_owned()));
}

async fn circles_and_long_chains_are_refused(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let path = format!("/v1/agents/{agent}");
    assert_eq!(node.send(Method::POST, &format!("{path}/publish"), None).await.status, 201);
    let number = node.buy("US").await;
    let digits = number["phone_number"].as_str().unwrap();
    let place = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let assigned =
        node.put(&format!("{place}/assignment"), json!({"agent_id": agent, "environment": "sandbox"})).await;
    assert_eq!(assigned.status, 200, "{}", assigned.text);

    let phone = |digits: &str| json!({"type": "phone", "phone_number": digits});
    let itself = json!({"fallback": {"targets": [phone(digits)]}});
    let refused = node.patch(&format!("{path}/draft"), itself.clone()).await;
    assert_eq!((refused.status, refused.code()), (422, "fallback_loop".to_owned()), "{}", refused.text);
    assert!(refused.json()["detail"].as_str().unwrap().contains(digits), "{}", refused.text);
    let refused = node.patch(&place, itself).await;
    assert_eq!((refused.status, refused.code()), (422, "fallback_loop".to_owned()), "{}", refused.text);
    let refused = node.patch("/v1/workspace", json!({"fallback": {"targets": [phone(digits)]}})).await;
    assert_eq!((refused.status, refused.code()), (422, "fallback_loop".to_owned()), "{}", refused.text);

    let three = json!({"fallback": {"targets": [phone("+14385550111"), phone("+14385550112"), phone("+14385550113")]}});
    assert_eq!(node.patch(&format!("{path}/draft"), three).await.status, 200);
    let two = json!({"fallback": {"targets": [phone("+14385550121"), phone("+14385550122")]}});
    assert_eq!(node.patch(&place, two.clone()).await.status, 200, "what runs there has no fallback yet");
    let refused = node.send(Method::POST, &format!("{path}/publish"), None).await;
    assert_eq!((refused.status, refused.code()), (422, "fallback_too_long".to_owned()), "{}", refused.text);

    without(node.delete(&path).await, digits).check(expect![[r#"
        409
        {
          "code": "agent_in_use",
          "detail": "the agent answers +1… (num_…); assign another agent to them, or none, first",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The agent still answers numbers",
          "type": "/docs/errors/agent_in_use"
        }
    "#]]);
}

async fn revisions_are_honoured(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let draft = format!("/v1/agents/{agent}/draft");
    let put = |tag: &'static str, language: &'static str| {
        let (node, draft) = (node.clone(), draft.clone());
        async move {
            let body = json!({"language": language});
            node.send_as(&node.owner_key, Method::PATCH, &draft, Some(body), &[("if-match", tag)]).await
        }
    };
    assert_eq!(put("\"r1\"", "fr").await.status, 200);
    put("\"r1\"", "en").await.check(expect![[r#"
        412
        {
          "code": "stale_version",
          "detail": "you sent If-Match `\"r1\"`, and the resource is at \"r2\"; read it again and repeat the change with its new ETag",
          "errors": [],
          "request_id": "req_…",
          "status": 412,
          "title": "The resource has changed since you read it",
          "type": "/docs/errors/stale_version"
        }
    "#]]);
    assert_eq!(put("\"r2\"", "en").await.header("etag"), Some("\"r3\""));
    // A variant's change is a change of the agent.
    let variant = variant(&node, &agent, "Paris").await;
    let stale = [("if-match", "\"r3\"")];
    let path = format!("/v1/agents/{agent}/variants/{variant}");
    let refused = node.send_as(&node.owner_key, Method::DELETE, &path, None, &stale).await;
    assert_eq!((refused.status, refused.code()), (412, "stale_version".to_owned()));
    let publish = format!("/v1/agents/{agent}/publish");
    let refused = node.send_as(&node.owner_key, Method::POST, &publish, None, &stale).await;
    assert_eq!((refused.status, refused.code()), (412, "stale_version".to_owned()));
}

async fn agents_are_made_once(node: Arc<Node>) {
    let headers = [("idempotency-key", "once")];
    let send = |name: &'static str| {
        let node = node.clone();
        async move {
            node.send_as(&node.owner_key, Method::POST, "/v1/agents", Some(json!({"name": name})), &headers)
                .await
        }
    };
    let first = send("Support").await;
    let second = send("Support").await;
    assert_eq!((second.status, &second.text), (201, &first.text));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    let other = send("Sales").await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict".to_owned()));
    assert_eq!(node.get("/v1/agents").await.json()["data"].as_array().unwrap().len(), 1);
}

/// One key for a whole release: each agent is another request, and so is the same one under another condition.
async fn one_key_is_for_one_agent(node: Arc<Node>) {
    let (first, second) = (made(&node, "First").await, made(&node, "Second").await);
    let publish = async |agent: &str, headers: &[(&str, &str)]| {
        let path = format!("/v1/agents/{agent}/publish");
        node.send_as(&node.owner_key, Method::POST, &path, None, headers).await
    };
    let key = ("idempotency-key", "release-42");
    assert_eq!(publish(&first, &[key]).await.status, 201);
    let again = publish(&first, &[key]).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    for (agent, headers) in [
        (second.as_str(), &[key][..]),
        ("agt_01kb5x3a7m0000000000000000", &[key]),
        (first.as_str(), &[key, ("if-match", "\"r1\"")]),
    ] {
        let other = publish(agent, headers).await;
        assert_eq!(
            (other.status, other.code()),
            (409, "idempotency_conflict".to_owned()),
            "{agent} {headers:?}"
        );
    }
    let running = node.get(&format!("/v1/agents/{second}/deployments")).await.json();
    assert_eq!(running["current"]["sandbox"], Value::Null, "{running}");
}

async fn roles_may_what_they_may(node: Arc<Node>) {
    let agent = made(&node, "Support").await;
    let (viewer, builder) = (node.key(BuiltInRole::Viewer).await, node.key(BuiltInRole::Builder).await);
    let path = format!("/v1/agents/{agent}");
    assert_eq!(node.send_as(&viewer, Method::GET, &path, None, &[]).await.status, 200);
    node.send_as(&viewer, Method::PATCH, &path, Some(json!({"name": "x"})), &[]).await.check(expect![[r#"
        403
        {
          "code": "forbidden",
          "detail": "this needs the permission agents:write, which the role of your key does not have",
          "errors": [],
          "request_id": "req_…",
          "status": 403,
          "title": "This key may not do that",
          "type": "/docs/errors/forbidden"
        }
    "#]]);
    let publish = format!("{path}/publish");
    assert_eq!(node.send_as(&viewer, Method::POST, &publish, None, &[]).await.status, 403);
    assert_eq!(node.send_as(&builder, Method::POST, &publish, None, &[]).await.status, 201);
}
