//! Callbacks: only genuine ones count, whatever else they hold, and nobody who sends others holds them up.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request};

use crate::line::{
    CALLER, Laid, Line, PUBLIC, TOKEN, TOKEN_BEFORE, body_of, path_of, ringing, signed, sip, stream,
};

#[tokio::test]
async fn what_is_not_genuine_is_refused_and_leaves_no_trace() {
    let line = Line::open(Laid::dial(stream())).await;
    let parameters = ringing("CA1");
    let path = path_of("voice");
    let body = || body_of(&parameters);
    let good = || signed(&path, &parameters, TOKEN);
    let check = async |what: &str, request: Request<Body>, status: u16, code: &str| {
        let answered = line.send(request).await;
        assert_eq!(answered.status, status, "{what}: {}", answered.body);
        assert!(answered.body.contains(code), "{what}: {}", answered.body);
    };
    let form = "application/x-www-form-urlencoded";
    check(
        "no signature",
        Request::post(&path).header("content-type", form).body(body()).unwrap(),
        403,
        "signature_missing",
    )
    .await;
    check(
        "another token",
        signed(&path, &parameters, "guess").body(body()).unwrap(),
        403,
        "signature_invalid",
    )
    .await;
    // Whatever is changed after signing is noticed.
    for place in 0..parameters.len() {
        let mut changed = parameters.clone();
        changed[place].1 = "changed";
        check("a changed value", good().body(body_of(&changed)).unwrap(), 403, "signature_invalid").await;
        changed.remove(place);
        check("a missing parameter", good().body(body_of(&changed)).unwrap(), 403, "signature_invalid").await;
    }
    let mut more = parameters.clone();
    more.push(("Digits", "1"));
    check("one more", good().body(body_of(&more)).unwrap(), 403, "signature_invalid").await;
    let other_path = |path: &str| {
        let mut request = good().body(body()).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    check("another query", other_path(&format!("{path}?x=1")), 403, "signature_invalid").await;
    check("another callback", other_path(&path_of("voice-status")), 403, "signature_invalid").await;
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-host", "pbx.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "host=pbx.example;proto=https"),
        ("x-original-url", "/callbacks/twilio/x/voice"),
    ] {
        // Headers neither help a wrong signature nor hurt a good one.
        let elsewhere = carriers::twilio::signature::sign(
            carriers::twilio::signature::Algorithm::HmacSha1,
            TOKEN,
            &format!("https://evil.example{path}"),
            &parameters,
        );
        let forged = Request::post(&path)
            .header("content-type", form)
            .header("x-twilio-signature", elsewhere)
            .header(name, value)
            .body(body())
            .unwrap();
        check(name, forged, 403, "signature_invalid").await;
        check(name, good().header(name, value).body(body()).unwrap(), 200, "<Stream").await;
    }
    let mut other_account = parameters.clone();
    other_account[0].1 = "AC00000000000000000000000000000002";
    check(
        "another account",
        signed(&path, &other_account, TOKEN).body(body_of(&other_account)).unwrap(),
        403,
        "AccountSid",
    )
    .await;
    let other_number = format!("/callbacks/twilio/{}/voice", "cd".repeat(16));
    check(
        "another number's token",
        signed(&other_number, &parameters, TOKEN).body(body()).unwrap(),
        403,
        "signature_invalid",
    )
    .await;
    check("the token before", signed(&path, &parameters, TOKEN_BEFORE).body(body()).unwrap(), 200, "<Stream")
        .await;
    check(
        "another algorithm",
        good().header("x-twilio-webhooks-signature-settings", "key=a,algorithm=NONE").body(body()).unwrap(),
        403,
        "signature_invalid",
    )
    .await;

    let mut no_call = parameters.clone();
    no_call.retain(|(name, _)| *name != "CallSid");
    check("no CallSid", signed(&path, &no_call, TOKEN).body(body_of(&no_call)).unwrap(), 400, "invalid_form")
        .await;
    let get = Request::builder().method(Method::GET).uri(&path).body(Body::empty()).unwrap();
    check("GET", get, 405, "method_not_allowed").await;
    for kind in ["multipart/form-data; boundary=x", "application/json", "text/plain", ""] {
        let request = Request::post(&path).header("content-type", kind).body(body()).unwrap();
        check(kind, request, 415, "unsupported_media_type").await;
    }
    check("10 MB", good().body(Body::from(vec![b'a'; 10_000_000])).unwrap(), 413, "body_too_large").await;
    check(
        "50,000 parameters",
        good().body(Body::from("a=1&".repeat(50_000))).unwrap(),
        413,
        "body_too_large",
    )
    .await;
    check("501 parameters", good().body(Body::from("a=1&".repeat(501))).unwrap(), 413, "body_too_large")
        .await;
    // Only the good ones were kept: one call, once.
    let kept = line.kept(1).await;
    assert_eq!((kept.len(), kept[0].0.timeline_count), (1, 1));
    assert_eq!(
        PUBLIC.split('/').next_back(),
        Some("base"),
        "signatures were verified over a path that is not ours alone"
    );
}

#[tokio::test]
async fn calls_to_numbers_that_are_not_ours_are_refused_unless_we_may_not_know_all() {
    let line = Line::open(Laid::dial(stream())).await;
    let call = async |to: &'static str| {
        let mut parameters = ringing("CA1");
        parameters.iter_mut().find(|(name, _)| *name == "To").unwrap().1 = to;
        line.post("voice", &parameters).await
    };
    for to in ["+14385550199", "whatsapp:+14385550100", "4385550100", "", "sip:a@b"] {
        let answered = call(to).await;
        assert_eq!(
            (answered.status, answered.body.as_str()),
            (200, "<Response><Reject/></Response>"),
            "{to}"
        );
    }
    line.clock.advance(Duration::from_secs(60));
    let answered = call("+14385550199").await;
    assert_eq!(answered.status, 503, "the carrier tries its fallback: {}", answered.body);
    assert!(line.voice("CA2").await.contains("<Stream"), "known numbers are routed all the same");
    let text = line.app.metrics.text();
    assert!(text.contains(r#"callbacks_total{callback="voice",outcome="unknown_number"} 5"#), "{text}");
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_kept_with_a_flag() {
    let line = Line::open(Laid::dial(sip("support"))).await;
    let path = path_of("voice-status");
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> =
        ringing("CA1").into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    pairs.push((b"CallerName".to_vec(), vec![b'J', 0xff, b'o', 0]));
    let signature = carriers::twilio::signature::sign(
        carriers::twilio::signature::Algorithm::HmacSha1,
        TOKEN,
        &format!("{PUBLIC}{path}"),
        &pairs,
    );
    let escaped = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
    let body: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    let body = body.join("&");
    let request = Request::post(&path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature)
        .body(Body::from(body))
        .unwrap();
    assert_eq!(line.send(request).await.status, 204);
    let kept = line.kept(1).await;
    assert_eq!(kept[0].1[0].detail["invalid_utf8"], true);
    assert_eq!(kept[0].0.from, CALLER);
}

/// A stranger's wrong signatures make the stranger wait. A carrier's right ones are never held back, not even from the same
/// address: behind a proxy that is not named in the settings, everybody has one.
#[tokio::test]
async fn wrong_signatures_hold_up_only_those_who_send_them() {
    let line = Line::open_with(Laid::dial(sip("support")), "trusted_proxies = ['10.0.0.0/8']").await;
    let parameters = ringing("CA1");
    let path = path_of("voice");
    let ask = async |token: &str, forwarded: &str| {
        let request = signed(&path, &parameters, token)
            .extension(ConnectInfo("10.0.0.1:4711".parse::<SocketAddr>().unwrap()))
            .header("x-forwarded-for", forwarded);
        line.send(request.body(body_of(&parameters)).unwrap()).await
    };
    let (stranger, neighbour) = ("198.51.100.1", "198.51.100.2");
    for n in 0..60 {
        assert_eq!(ask("guess", stranger).await.status, 403, "{n}");
    }
    let waits = ask("guess", stranger).await;
    assert_eq!(waits.status, 429, "{waits:?}");
    assert!(waits.body.contains("rate_limited"), "{waits:?}");
    // What stands in front of the proxy's own entry, anybody can write.
    assert_eq!(ask("guess", &format!("{neighbour}, {stranger}")).await.status, 429);
    assert_eq!(ask("guess", neighbour).await.status, 403);
    assert_eq!(ask(TOKEN, stranger).await.status, 200);
    line.clock.advance(Duration::from_secs(1));
    assert_eq!(ask("guess", stranger).await.status, 403);
    let text = line.app.metrics.text();
    assert!(text.contains(r#"callbacks_total{callback="voice",outcome="rate_limited"} 2"#), "{text}");
    assert_eq!(line.kept(1).await.len(), 1, "only the genuine one was kept");
}
