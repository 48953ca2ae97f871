//! Every way in which the simulated carrier misbehaves, seen from its customer.

use axum::http::Method;
use serde_json::{Value, json};
use server::simulator::SimulatorConfig;

use super::{Carrier, Product, events, no_content, settings, twiml, until};

const FORM: [(&str, &str); 1] = [("PhoneNumber", "+14155550123")];

async fn bought(carrier: &Carrier) -> usize {
    carrier.ledger("number_purchased").await.len()
}

/// Tries to buy under one fault, and answers what was seen: the status and body, or that the connection broke.
async fn buy_under(fault: Value) -> (Carrier, Result<(u16, Value), reqwest::Error>) {
    let carrier = Carrier::start().await;
    let mut rule = json!({"operation": "numbers.create", "times": 1});
    rule.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
    carrier.faults(json!([rule])).await;
    let request = carrier.http.post(carrier.url("/IncomingPhoneNumbers.json")).form(&FORM);
    let seen = carrier.send(request).await;
    let (_, rules) = carrier.control(Method::GET, "faults", Value::Null).await;
    assert_eq!(rules[0]["struck"], 1, "{rules}");
    (carrier, seen)
}

#[tokio::test]
async fn errors_come_before_or_after_the_effect() {
    for (fault, status, code, effects) in [
        (json!({"kind": "error_before"}), 503, 20503, 0),
        (json!({"kind": "error_before", "status": 500}), 500, 20500, 0),
        (json!({"kind": "error_after"}), 503, 20503, 1),
        (json!({"kind": "too_many_requests"}), 429, 20429, 0),
    ] {
        let (carrier, seen) = buy_under(fault.clone()).await;
        let (got, body) = seen.unwrap();
        assert_eq!((got, body["code"].as_u64().unwrap()), (status, code), "{fault}");
        assert_eq!(bought(&carrier).await, effects, "{fault}");
        let expected = if effects == 1 { 400 } else { 201 };
        assert_eq!(
            carrier.post("/IncomingPhoneNumbers.json", &FORM).await.0,
            expected,
            "{fault}: the second try"
        );
    }
}

#[tokio::test]
async fn a_429_may_say_when_to_come_back() {
    let carrier = Carrier::start().await;
    carrier.faults(json!([{"kind": "too_many_requests", "retry_after": 7}])).await;
    let request = carrier.http.get(carrier.url("/Balance.json"));
    let response = request
        .basic_auth(carrier.running.account_sid(), Some(carrier.running.auth_token()))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
}

#[tokio::test]
async fn connections_are_dropped_before_or_after_the_effect() {
    for (fault, effects) in [(json!({"kind": "drop_before"}), 0), (json!({"kind": "drop_after"}), 1)] {
        let (carrier, seen) = buy_under(fault.clone()).await;
        let error = seen.expect_err("the connection broke");
        assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{error:?}");
        assert_eq!(bought(&carrier).await, effects, "{fault}");
    }
}

#[tokio::test]
async fn answers_are_cut_in_half_or_are_pages() {
    let (carrier, seen) = buy_under(json!({"kind": "truncated_json"})).await;
    let (status, body) = seen.unwrap();
    assert_eq!(status, 201);
    assert!(body.as_str().is_some_and(|half| half.starts_with('{') && !half.ends_with('}')), "{body}");
    assert_eq!(bought(&carrier).await, 1);

    let (carrier, seen) = buy_under(json!({"kind": "truncated_json", "connection": true})).await;
    seen.expect_err("the connection broke in the middle of the answer");
    assert_eq!(bought(&carrier).await, 1);

    for (fault, effects) in
        [(json!({"kind": "html_502"}), 0), (json!({"kind": "html_502", "after": true}), 1)]
    {
        let (carrier, seen) = buy_under(fault).await;
        let (status, body) = seen.unwrap();
        assert_eq!(status, 502);
        assert!(body.as_str().unwrap().contains("<h1>502 Bad Gateway</h1>"));
        assert_eq!(bought(&carrier).await, effects);
    }
}

#[tokio::test]
async fn an_effect_comes_late() {
    let (carrier, seen) = buy_under(json!({"kind": "late_effect", "seconds": 30})).await;
    assert_eq!(seen.unwrap().0, 504);
    let scheduled = carrier.ledger("scheduled").await;
    assert_eq!(bought(&carrier).await, 0, "0.3 s at a hundredfold pace");
    until("the late effect", async || !carrier.ledger("scheduled_done").await.is_empty()).await;
    let purchase = &carrier.ledger("number_purchased").await[0];
    assert_eq!(purchase["scheduled"], scheduled[0]["sid"]);
    assert_eq!(purchase["number"]["phone_number"], FORM[0].1);
    assert_eq!(carrier.ledger("scheduled_done").await[0]["status"], 201);
}

#[tokio::test]
async fn a_late_effect_comes_even_when_the_carrier_was_stopped_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let with_ledger = |time_scale| SimulatorConfig {
        ledger_path: Some(folder.path().join("ledger.jsonl")),
        time_scale,
        ..settings()
    };
    let carrier = Carrier::with(with_ledger(1)).await;
    carrier.faults(json!([{"kind": "late_effect", "seconds": 2, "operation": "numbers.create"}])).await;
    assert_eq!(carrier.post("/IncomingPhoneNumbers.json", &FORM).await.0, 504);
    carrier.running.shutdown().await;

    let carrier = Carrier::with(with_ledger(1)).await;
    until("the late effect", async || !carrier.ledger("scheduled_done").await.is_empty()).await;
    assert_eq!(bought(&carrier).await, 1);
    carrier.running.shutdown().await;

    let carrier = Carrier::with(with_ledger(1)).await;
    assert_eq!(carrier.ledger("scheduled_done").await.len(), 1, "what is done is not done again");
    assert_eq!(bought(&carrier).await, 1);
}

#[tokio::test]
async fn listings_lag_and_shift() {
    let carrier = Carrier::start().await;
    let mut sids = Vec::new();
    for _ in 0..6 {
        sids.insert(0, carrier.buy(&[]).await["sid"].clone());
    }
    let pages = async || {
        let mut found = Vec::new();
        let mut next = Some("/IncomingPhoneNumbers.json?PageSize=2".to_owned());
        let mut prefix = carrier.url("");
        while let Some(path) = next {
            let (_, page) = carrier.send(carrier.http.get(format!("{prefix}{path}"))).await.unwrap();
            found.extend(
                page["incoming_phone_numbers"].as_array().unwrap().iter().map(|number| number["sid"].clone()),
            );
            next = page["next_page_uri"].as_str().map(str::to_owned);
            prefix = carrier.running.base_url();
        }
        found
    };
    assert_eq!(pages().await, sids);
    carrier.faults(json!([{"operation": "numbers.list", "kind": "list_shift", "by": 1, "times": 2}])).await;
    assert_eq!(pages().await, [&sids[..2], &sids[3..5], &sids[5..]].concat(), "one number is skipped");
    carrier.control(Method::DELETE, "faults", Value::Null).await;
    carrier.faults(json!([{"operation": "numbers.list", "kind": "list_shift", "by": -1, "times": 2}])).await;
    assert_eq!(
        pages().await,
        [&sids[..2], &sids[1..3], &sids[3..5], &sids[5..]].concat(),
        "one number comes twice"
    );
    carrier.control(Method::DELETE, "faults", Value::Null).await;

    carrier.faults(json!([{"operation": "numbers.list", "kind": "list_lag", "seconds": 1_000_000}])).await;
    assert!(pages().await.is_empty(), "nothing is old enough to be seen");
    let path = format!("/IncomingPhoneNumbers/{}.json", sids[0].as_str().unwrap());
    assert_eq!(carrier.get(&path).await.0, 200, "but it is there");
}

#[tokio::test]
async fn slowness_is_measured() {
    let carrier = Carrier::start().await;
    carrier.faults(json!([{"operation": "balance.*", "kind": "slow", "ms": 20_000}])).await;
    let request = carrier.http.get(carrier.url("/Balance.json"));
    let response = request
        .basic_auth(carrier.running.account_sid(), Some(carrier.running.auth_token()))
        .send()
        .await
        .unwrap();
    let took: f64 = response.headers()["twilio-request-duration"].to_str().unwrap().parse().unwrap();
    assert!(took >= 0.2, "20 s at a hundredfold pace took {took} s");
}

#[tokio::test]
async fn callbacks_come_twice_with_the_same_token() {
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), |_| twiml("<Hangup/>")).await;
    let number = carrier.buy(&[("VoiceUrl", &format!("{}/voice", product.url))]).await;
    carrier.faults(json!([{"operation": "callback.voice", "kind": "callback_duplicate", "copies": 2}])).await;
    carrier.call(&number, json!({})).await;
    until("both copies", async || product.at("/voice").len() == 3).await;
    let seen = product.at("/voice");
    assert!(
        seen.iter().all(|one| one.verified && one.token == seen[0].token && one.params == seen[0].params)
    );
}

#[tokio::test]
async fn a_bad_signature_is_bad() {
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), |_| twiml("<Hangup/>")).await;
    let number = carrier.buy(&[("VoiceUrl", &format!("{}/voice", product.url))]).await;
    carrier
        .faults(json!([{"operation": "callback.voice", "kind": "callback_bad_signature", "times": 1}]))
        .await;
    carrier.call(&number, json!({})).await;
    carrier.call(&number, json!({})).await;
    assert_eq!(product.at("/voice").iter().map(|seen| seen.verified).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn status_callbacks_are_reordered() {
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), |_| no_content()).await;
    let number = carrier.buy(&[]).await;
    carrier
        .faults(json!([{"operation": "callback.status", "kind": "callback_reorder", "times": 1, "skip": 1}]))
        .await;
    let status = format!("{}/status", product.url);
    let form = [
        ("To", "+14155550188"),
        ("From", number["phone_number"].as_str().unwrap()),
        ("Twiml", "<Response/>"),
        ("StatusCallback", &status),
        ("StatusCallbackEvent", "initiated"),
        ("StatusCallbackEvent", "ringing"),
        ("StatusCallbackEvent", "answered"),
        ("StatusCallbackEvent", "completed"),
    ];
    assert_eq!(carrier.post("/Calls.json", &form).await.0, 201);
    until("four events", async || product.at("/status").len() == 4).await;
    let seen: Vec<_> = product
        .at("/status")
        .iter()
        .map(|seen| format!("{} {}", seen.param("SequenceNumber"), seen.param("CallStatus")))
        .collect();
    assert_eq!(seen, ["0 initiated", "2 in-progress", "1 ringing", "3 completed"]);
    assert!(product.seen().iter().all(|seen| seen.verified));
}

#[tokio::test]
async fn a_slow_callback_is_slow_for_the_call_only() {
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), |_| twiml("<Hangup/>")).await;
    let number = carrier.buy(&[("VoiceUrl", &format!("{}/voice", product.url))]).await;
    carrier.faults(json!([{"operation": "callback.voice", "kind": "slow", "ms": 10_000}])).await;
    let story = carrier.call(&number, json!({})).await;
    let request = &story["timeline"][0];
    assert_eq!(events(&story)[0], "request callback.voice");
    assert!(request["ms"].as_i64().unwrap() >= 100, "{request}");
}
