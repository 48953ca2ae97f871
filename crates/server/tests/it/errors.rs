//! The error zoo: bad input of every kind, and the one answer that each gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request};
use expect_test::expect;
use serde_json::json;
use server::background::driver::Task as _;
use server::background::prune_rows::PruneRows;

use crate::harness::{Answer, Node, START, on_sqlite};

on_sqlite!(
    bodies_that_cannot_be_read,
    values_that_cannot_be_meant,
    what_is_missing_is_told_with_what_is_expected,
    every_refusal_of_a_field_names_it,
    fields_that_lean_on_bad_ones_are_told_too,
    numbers_are_suggested_by_the_workspaces_country,
    addresses_that_do_not_exist,
    keys_that_open_nothing,
    too_much_too_fast,
    an_address_that_guesses_keys_waits,
    idempotency_keys_that_cannot_be_used,
);

/// Sends bytes as they are.
async fn raw(node: &Node, content_type: &str, body: Vec<u8>) -> Answer {
    let mut request = Request::builder()
        .method(Method::PATCH)
        .uri("/v1/workspace")
        .header(AUTHORIZATION, format!("Bearer {}", node.owner_key));
    if !content_type.is_empty() {
        request = request.header(CONTENT_TYPE, content_type);
    }
    node.answer(request.body(Body::from(body)).unwrap()).await
}

async fn bodies_that_cannot_be_read(node: Arc<Node>) {
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40)).into_bytes();
    for (content_type, body, status, code, part) in [
        (json, b"{".to_vec(), 400, "json_syntax", "line 1"),
        (json, b"".to_vec(), 400, "json_syntax", "line 1"),
        (json, b"{\"name\":\"a\",\n\"name\":\"b\"}".to_vec(), 400, "json_duplicate_key", "line 2"),
        (json, b"{\"x\":1e999}".to_vec(), 400, "json_number", "line 1"),
        (json, b"{\"x\":NaN}".to_vec(), 400, "json_number", "line 1"),
        (json, b"{\"name\":\"\xff\"}".to_vec(), 400, "invalid_utf8", "position 9"),
        (json, b"{\"name\":\"\\ud800\"}".to_vec(), 400, "invalid_utf8", "half a character"),
        (json, deep, 400, "json_depth", "32"),
        (json, vec![b' '; 300 * 1024], 413, "body_too_large", "262144"),
        (json, b"[]".to_vec(), 422, "wrong_type", "an array"),
        (json, b"null".to_vec(), 422, "wrong_type", "null"),
        ("text/plain", b"{}".to_vec(), 415, "unsupported_media_type", "text/plain"),
        ("", b"{}".to_vec(), 415, "unsupported_media_type", "no Content-Type"),
        ("application/json; charset=latin1", b"{}".to_vec(), 415, "unsupported_media_type", "latin1"),
    ] {
        let answer = raw(&node, content_type, body.clone()).await;
        let shown: String = String::from_utf8_lossy(&body).chars().take(40).collect();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{shown}: {}", answer.text);
        assert!(answer.text.contains(part), "{shown}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("x-request-id"), answer.json()["request_id"].as_str());
    }
    assert_eq!(raw(&node, "application/json; charset=UTF-8", b"{}".to_vec()).await.status, 200);
    raw(&node, json, b"{\"name\":\"a\",\n\"name\":\"b\"}".to_vec()).await.check(expect![[r#"
        400
        {
          "code": "json_duplicate_key",
          "detail": "the key `name` stands twice in one object, at line 2, column 6",
          "errors": [],
          "request_id": "req_…",
          "status": 400,
          "title": "A key stands twice in one JSON object",
          "type": "/docs/errors/json_duplicate_key"
        }
    "#]]);
}

async fn what_is_missing_is_told_with_what_is_expected(node: Arc<Node>) {
    let number = node.buy("US").await;
    let place = format!("/v1/numbers/{}/assignment", number["id"].as_str().unwrap());
    for (method, path, field, part) in [
        (Method::GET, "/v1/store/numbers", "country", "two capital letters"),
        (Method::PUT, place.as_str(), "agent_id", "agt_"),
        (Method::PUT, place.as_str(), "environment", "sandbox, pre_release, live"),
        (Method::POST, "/v1/api-keys", "name", "send some text"),
        (Method::POST, "/v1/api-keys", "role", "owner, admin"),
        (Method::POST, "/v1/routes/explain", "to", "+14385950345"),
        (Method::POST, "/v1/roles", "permissions", "an array"),
    ] {
        let body = (method != Method::GET).then(|| json!({}));
        let answer = node.send(method, path, body).await.json();
        let told = answer["errors"].as_array().unwrap().iter().find(|error| error["field"] == field).unwrap();
        let detail = told["detail"].as_str().unwrap();
        assert!(told["code"] == "required" && detail.starts_with("is missing; "), "{path}: {detail}");
        assert!(detail.contains(part), "{path}: {detail}");
    }
    let read = node.get("/v1/store/numbers?limit=x&type=y").await.json();
    let told = read["detail"].as_str().unwrap();
    assert!(
        told.contains("3 errors") && !told.contains("changed"),
        "a reader changes nothing anyway: {told}"
    );
    // Nothing of what was tried to find that out stays behind.
    let answer = node.send(Method::PUT, &place, Some(json!({}))).await.json();
    assert_eq!(answer["errors"].as_array().unwrap().len(), 2, "{answer}");
}

async fn every_refusal_of_a_field_names_it(node: Arc<Node>) {
    let number = node.buy("US").await;
    let (id, digits) = (number["id"].as_str().unwrap(), number["phone_number"].as_str().unwrap());
    let own = json!({"fallback": {"targets": [{"type": "phone", "phone_number": digits}]}});
    let price =
        |amount: &str| json!({"country": "US", "max_monthly_price": {"amount": amount, "currency": "USD"}});
    for (method, path, body, field, code) in [
        (Method::GET, "/v1/store/numbers?country=DE".to_owned(), None, "country", "country_not_sold"),
        (
            Method::POST,
            "/v1/numbers/buy".to_owned(),
            Some(json!({"quote_id": "quo_x"})),
            "quote_id",
            "bad_quote",
        ),
        (
            Method::POST,
            "/v1/numbers/buy".to_owned(),
            Some(price("0.01")),
            "max_monthly_price",
            "price_above_maximum",
        ),
        (Method::PATCH, format!("/v1/numbers/{id}"), Some(own), "fallback.targets", "fallback_loop"),
        (
            Method::PATCH,
            format!("/v1/numbers/{id}"),
            Some(json!({"status": "active"})),
            "status",
            "unknown_field",
        ),
    ] {
        let refused = node.send_as(&node.owner_key, method, &path, body, &[("idempotency-key", code)]).await;
        assert_eq!(refused.code(), code, "{path}: {}", refused.text);
        assert_eq!(refused.json()["errors"][0]["field"], field, "{path}: {}", refused.text);
    }
    let event = [("last-event-id", "evt_x")];
    let refused = node.send_as(&node.owner_key, Method::GET, "/v1/events", None, &event).await;
    assert_eq!(refused.json()["errors"][0]["field"], "Last-Event-ID", "{}", refused.text);
}

/// What one field means may hang on another that is wrong; that hides no error that can be told without it.
async fn fields_that_lean_on_bad_ones_are_told_too(node: Arc<Node>) {
    let number = node.buy("US").await;
    let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let week = json!({"week": {
        "monday": [{"from": "17:00", "to": "09:00"}],
        "tuesday": [{"from": "09:00", "to": "12:00"}, {"from": "11:00", "to": "13:00"}],
        "friday": [{"from": "9", "to": "12:00"}],
    }});
    let fields = async |method, path: &str, body| {
        let refused = node.send(method, path, body).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        let errors = refused.json()["errors"].as_array().unwrap().clone();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        fields(Method::GET, "/v1/store/numbers?country=USA&area_code=4x5", None).await,
        ["country", "area_code"]
    );
    let price = json!({"amount": "x", "currency": "EUR"});
    let headers = [("idempotency-key", "price")];
    let body = Some(json!({"country": "US", "max_monthly_price": price}));
    let refused = node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", body, &headers).await;
    let errors = refused.json()["errors"].clone();
    let told: Vec<&str> =
        errors.as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(told, ["max_monthly_price.currency", "max_monthly_price.amount"], "{}", refused.text);
    assert_eq!(
        fields(Method::PATCH, &path, Some(json!({"hours": week}))).await,
        ["hours.week.monday", "hours.week.tuesday", "hours.week.friday[0].from"]
    );
}

async fn numbers_are_suggested_by_the_workspaces_country(node: Arc<Node>) {
    let explain = async || node.post("/v1/routes/explain", json!({"to": "020 7946 0123"})).await;
    assert!(!explain().await.text.contains("+442079460123"));
    let british = node.send(Method::PATCH, "/v1/workspace", Some(json!({"default_country": "GB"}))).await;
    assert_eq!(british.status, 200, "{}", british.text);
    let told = explain().await;
    assert_eq!(told.code(), "not_e164");
    assert!(
        told.json()["detail"].as_str().unwrap().ends_with("did you mean +442079460123?"),
        "{}",
        told.text
    );
    assert!(told.json()["errors"][0]["detail"].as_str().unwrap().contains("+442079460123"), "{}", told.text);
    for path in ["/v1/numbers/02079460123", "/v1/numbers/020%207946%200123"] {
        let missing = node.get(path).await;
        assert_eq!((missing.status, missing.code().as_str()), (404, "not_found"));
        assert!(missing.text.contains("did you mean +442079460123?"), "{}", missing.text);
    }
    let id = node.get("/v1/numbers/abc").await;
    assert!(id.text.contains("num_") && id.text.contains("+14385950345"), "{}", id.text);
}

async fn values_that_cannot_be_meant(node: Arc<Node>) {
    let number = |text: &str| json!({"fallback": {"targets": [{"type": "phone", "phone_number": text}]}});
    for (body, code, part) in [
        (number("4385950345"), "not_e164", "did you mean +14385950345?"),
        (number("+1 (438) 595-0345"), "not_e164", "did you mean +14385950345?"),
        (number("+14385950345 "), "not_e164", "space"),
        (number("+1438595\u{200B}0345"), "not_e164", "U+200B"),
        (number("+1438\u{A0}5950345"), "not_e164", "U+00A0"),
        (number("+1438"), "e164_length", "possible length"),
        (number("+14385950345123456"), "e164_length", "at most 15"),
        (number("+04385950345"), "bad_country_code", "begins with 0"),
        (number("911"), "emergency_or_short_code", "emergency"),
        (number("+1911"), "emergency_or_short_code", "emergency"),
        (json!({"role": "owner", "workspace_id": "wsp_1"}), "validation_failed", "unknown_field"),
        (json!({"name": "  "}), "blank", "only spaces"),
        (json!({"name": "x".repeat(10_000)}), "too_long", "10000 characters"),
        (json!({"name": "a\u{202E}b"}), "control_character", "U+202E"),
        (json!({"time_zone": "EST5"}), "bad_time_zone", "America/Toronto"),
        (json!({"default_country": "us"}), "bad_country", "two capital letters"),
        (json!({"outage": true}), "wrong_type", "an object"),
        (json!({"outage": {"live": "yes"}}), "wrong_type", "true or false"),
        (json!({"outage": {"prod": true}}), "unknown_field", "sandbox, pre_release, live"),
        (json!({"sandbox_follows": "draft"}), "invalid_value", "saved, published"),
        (
            json!({"fallback": {"targets": [{"type": "stream", "url": "ftp://a.example"}]}}),
            "url_scheme",
            "wss",
        ),
        (
            json!({"fallback": {"targets": [{"type": "stream", "url": "wss://u:p@a.example/"}]}}),
            "url_credentials",
            "remove it",
        ),
        (
            json!({"fallback": {"targets": [{"type": "stream", "url": "wss://a.example/?t=1"}]}}),
            "url_query",
            "call_parameters",
        ),
        (
            json!({"fallback": {"targets": [{"type": "sip", "uri": "sip:a@x.example", "username": "u"}]}}),
            "required",
            "password",
        ),
        (
            json!({"fallback": {"targets": [{"type": "sip", "uri": "sip:a@x.example", "username": "u", "password": "••••cret"}]}}),
            "secret_masked",
            "mask",
        ),
        (
            json!({"fallback": {"targets": [{"type": "sip", "uri": "sip:a@x.example", "username": "u", "password": "s3cret\n"}]}}),
            "secret_whitespace",
            "white space",
        ),
    ] {
        let answer = node.patch("/v1/workspace", body.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, code), "{body}: {}", answer.text);
        assert!(answer.text.contains(part), "{body}: {}", answer.text);
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    }
    // A label is shown inert, wherever it is shown; it is kept as it is.
    let odd = "<script>alert(1)</script> \"><img src=x onerror=alert(1)> 🛎 ${7*7}";
    let named = node.patch("/v1/workspace", json!({"name": odd})).await;
    assert_eq!(named.json()["name"], odd);
    node.patch("/v1/workspace", number("+1 (438) 595-0345")).await.check(expect![[r#"
        422
        {
          "code": "not_e164",
          "detail": "fallback.targets[0].phone_number: `+1 (438) 595-0345` holds a space, which E.164 does not allow; did you mean +14385950345?",
          "errors": [
            {
              "code": "not_e164",
              "detail": "`+1 (438) 595-0345` holds a space, which E.164 does not allow; did you mean +14385950345?",
              "field": "fallback.targets[0].phone_number"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The phone number is not in E.164 form",
          "type": "/docs/errors/not_e164"
        }
    "#]]);
}

async fn addresses_that_do_not_exist(node: Arc<Node>) {
    for (method, path, status, code, part) in [
        (Method::GET, "/v1/nubmers", 404, "not_found", "did you mean /v1/numbers?"),
        (Method::GET, "/v2/things", 404, "not_found", "/docs"),
        (Method::GET, "/v1/numbers/num_x", 404, "not_found", "num_"),
        (Method::GET, "/v1/numbers/agt_01kb5x3a7m0000000000000000", 404, "not_found", "num_"),
        (Method::GET, "/v1/numbers/+999", 404, "not_found", "E.164"),
        (Method::GET, "/v1/numbers/%ff", 400, "invalid_utf8", "percent-encode"),
        (Method::POST, "/v1/workspace", 405, "method_not_allowed", "POST"),
        (Method::GET, "/v1/numbers?limit=100000", 422, "limit_range", "1 to 200"),
        (Method::GET, "/v1/numbers?limit=-1", 422, "limit_range", "1 to 200"),
        (Method::GET, "/v1/numbers?limt=5", 422, "unknown_field", "did you mean `limit`?"),
        (Method::GET, "/v1/numbers?limit=5&limit=6", 422, "field_conflict", "twice"),
        (
            Method::GET,
            "/v1/numbers?environment=production",
            422,
            "invalid_value",
            "sandbox, pre_release, live",
        ),
        (Method::GET, "/v1/numbers?status=active,sold", 422, "invalid_value", "release_scheduled"),
        (Method::GET, "/v1/numbers?agent_id=num_1", 422, "invalid_id", "agt_"),
        (Method::GET, "/v1/numbers?search=%ff", 400, "invalid_utf8", "UTF-8"),
        (Method::GET, "/v1/store/numbers", 422, "required", "country"),
        (Method::GET, "/v1/store/numbers?country=US&area_code=9999", 422, "bad_area_code", "three digits"),
        (Method::GET, "/v1/store/numbers?country=DE", 422, "country_not_sold", "US local"),
        (Method::GET, "/v1/store/numbers?country=US&digits=7", 422, "invalid_value", "2 to 12"),
        (Method::GET, "/v1/store/numbers?country=US&limit=51", 422, "limit_range", "1 to 50"),
    ] {
        let answer = node.send(method.clone(), path, None).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {path}: {}",
            answer.text
        );
        assert!(answer.text.contains(part), "{method} {path}: {}", answer.text);
    }
    let refused = node.send(Method::POST, "/v1/workspace", None).await;
    assert_eq!(refused.header("allow"), Some("GET,HEAD,PATCH"));
}

async fn keys_that_open_nothing(node: Arc<Node>) {
    let key = node.owner_key.clone();
    let wrong_secret = format!("{}{}", &key[..20], "A".repeat(key.len() - 20));
    for (sent, part) in [
        (String::new(), "no Authorization header"),
        (wrong_secret, "not a whole API key"),
        ("x".to_owned(), "not a whole API key"),
        (format!("{key}x"), "not a whole API key"),
    ] {
        let answer = node.send_as(&sent, Method::GET, "/v1/workspace", None, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{sent}");
        assert!(answer.text.contains(part), "{sent}: {}", answer.text);
        assert!(answer.header("www-authenticate").is_some());
        assert!(sent.len() < 10 || !answer.text.contains(&sent));
    }
    let basic = [("authorization", "Basic dTpw")];
    let answer = node.send_as("", Method::GET, "/v1/workspace", None, &basic).await;
    assert!(answer.text.contains("Bearer sbk_"), "{}", answer.text);
    for path in [format!("/v1/workspace?api_key={key}"), format!("/v1/numbers/{key}")] {
        let answer = node.send(Method::GET, &path, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "key_in_url"), "{}", answer.text);
        assert!(!answer.text.contains(&key[13..]));
    }
}

async fn too_much_too_fast(node: Arc<Node>) {
    let key = node.key(domain::permission::BuiltInRole::Viewer).await;
    let ask = || node.send_as(&key, Method::GET, "/v1/workspace", None, &[]);
    let first = ask().await;
    assert_eq!(
        (first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (Some("200"), Some("199"))
    );
    for _ in 0..199 {
        assert_eq!(ask().await.status, 200);
    }
    let refused = ask().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"), "{}", refused.text);
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit-remaining")),
        (Some("1"), Some("0"))
    );
    assert_eq!(node.get("/v1/workspace").await.status, 200, "another key is not held back");
    node.clock.advance(Duration::from_secs(1));
    assert_eq!(ask().await.status, 200);
}

async fn an_address_that_guesses_keys_waits(node: Arc<Node>) {
    let ask = async |address: &str, key: &str| {
        let request = Request::get("/v1/workspace")
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .extension(ConnectInfo(address.parse::<SocketAddr>().unwrap()));
        node.answer(request.body(Body::empty()).unwrap()).await
    };
    let (stranger, neighbour) = ("203.0.113.7:4711", "203.0.113.8:4711");
    let (used, unused) = (node.owner_key.clone(), node.key(domain::permission::BuiltInRole::Viewer).await);
    let (_, unknown) = node.stranger("theirs").await;
    node.app
        .database
        .write(|tx| {
            let theirs = database::workspaces::workspace_find_by_name(tx, "theirs")?.unwrap().id;
            let keys = database::keys::key_list(tx, theirs, None, 9)?;
            database::keys::key_revoke(tx, theirs, keys[0].id, START.parse().unwrap()).map(drop)
        })
        .await
        .unwrap();
    assert_eq!(ask(stranger, &used).await.status, 200);
    // Every way to prove nothing counts.
    for n in 0..60 {
        let (key, code) =
            if n % 2 == 0 { ("x", "unauthenticated") } else { (unknown.as_str(), "key_revoked") };
        let refused = ask(stranger, key).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, code), "{n}: {}", refused.text);
    }
    let refused = ask(stranger, "x").await;
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit-limit")), (Some("1"), Some("60")));
    refused.check(expect![[r#"
        429
        {
          "code": "rate_limited",
          "detail": "one address may make 1 requests a second without a good key or signature, and 60 at once; wait 1 s, and look why what was sent is refused",
          "errors": [],
          "request_id": "req_…",
          "status": 429,
          "title": "Too many requests",
          "type": "/docs/errors/rate_limited"
        }
    "#]]);
    // Whoever has shown a good key goes on beside a stranger who guesses; one that nobody has shown yet waits with them.
    assert_eq!(ask(stranger, &used).await.status, 200);
    assert_eq!(ask(stranger, &unused).await.status, 429);
    assert_eq!(ask(neighbour, &unused).await.status, 200);
    assert_eq!(ask(stranger, &unused).await.status, 200, "it is known now");
    node.clock.advance(Duration::from_secs(2));
    assert_eq!(ask(stranger, "x").await.status, 401);
}

async fn idempotency_keys_that_cannot_be_used(node: Arc<Node>) {
    let body = || Some(json!({"name": "n", "role": "viewer"}));
    for key in ["", &"k".repeat(256) as &str, "ключ"] {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/api-keys")
            .header(AUTHORIZATION, format!("Bearer {}", node.owner_key))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key.as_bytes());
        let answer = node.answer(request.body(Body::from(body().unwrap().to_string())).unwrap()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "idempotency_key_invalid"),
            "{}",
            answer.text
        );
    }
    let headers = [("idempotency-key", "once")];
    let first = node.send_as(&node.owner_key, Method::POST, "/v1/api-keys", body(), &headers).await;
    let again = node.send_as(&node.owner_key, Method::POST, "/v1/api-keys", body(), &headers).await;
    assert!(first.json()["key"].as_str().unwrap().starts_with("sbk_"));
    assert_eq!(again.json()["key"]["set"], true, "a replay never shows a secret: {}", again.text);
    assert_eq!(again.json()["id"], first.json()["id"]);
    let (_, stranger) = node.stranger("keys").await;
    let theirs = node.send_as(&stranger, Method::POST, "/v1/api-keys", body(), &headers).await;
    assert_eq!(
        (theirs.status, theirs.header("idempotent-replayed")),
        (201, None),
        "keys are each workspace's own"
    );
    node.clock.advance(Duration::from_secs(31 * 24 * 3600));
    PruneRows.run_once(&node.app).await.unwrap();
    let late = node.send_as(&node.owner_key, Method::POST, "/v1/api-keys", body(), &headers).await;
    assert_eq!((late.status, late.header("idempotent-replayed")), (201, None), "after 30 days it is new");
}
