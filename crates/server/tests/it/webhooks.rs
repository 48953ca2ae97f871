//! The team's server is asked where a call goes: what it is told, what counts as an answer, and what happens without one.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use database::secrets::Place;
use domain::endpoint::{Dial, Plain, SecretRef, Webhook, WebhookUrl};
use domain::id::SecretId;
use domain::route::row::Row;
use tokio::net::TcpListener;

use crate::line::{CALLER, Laid, Line, fallback, phone, sip};

/// A team's server that answers with one text, and keeps what it was asked.
struct Team {
    port: u16,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answer: Arc<Mutex<(u16, String)>>,
    _server: tokio::task::JoinSet<()>,
}

impl Team {
    async fn start() -> Team {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(HeaderMap, String)>>> = Arc::default();
        let answer = Arc::new(Mutex::new((200, String::new())));
        let (seen, told) = (asked.clone(), answer.clone());
        let router = Router::new().fallback(move |headers: HeaderMap, body: String| async move {
            seen.lock().unwrap().push((headers, body));
            let (status, body) = told.lock().unwrap().clone();
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (status, [("location", "http://127.0.0.1:1/")], body).into_response()
        });
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Team { port, asked, answer, _server: server }
    }

    fn answers(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn webhook(&self, default: Option<Dial>) -> Webhook {
        let url = format!("http://127.0.0.1:{}/route?a=b", self.port);
        let webhook_url = WebhookUrl::parse(&url, Plain::ToLoopback).unwrap();
        Webhook { webhook_url, secret: None, default }
    }
}

#[tokio::test]
async fn the_teams_server_decides_and_its_default_stands_in() {
    let team = Team::start().await;
    let more = format!(
        "[egress]\nallowed_addresses = [\"127.0.0.1:{}\"]\ndanger_plain_to_loopback = true",
        team.port
    );
    let line = Line::open_with(Laid::default(), &more).await;
    let secret = SecretId::from_bits(5);
    let row = secret.to_string();
    let place = Place { workspace: line.workspace, table: "secrets", column: "webhook_secret", row: &row };
    let ciphertext = line.app.keyring.seal(place, b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let lay = |default: Option<Dial>| {
        let mut webhook = team.webhook(default);
        webhook.secret = Some(SecretRef { id: secret, last4: "LaSw".to_owned() });
        line.lay(Laid {
            endpoint: Some(webhook.into()),
            parameters: vec![("site", "all")],
            secrets: vec![Row::Secret(secret, Some(ciphertext.clone().into()))],
            fallback: Some(fallback(vec![phone(1)], None)),
            ..Laid::default()
        });
    };
    lay(Some(sip("default")));
    let mut calls = 0;
    let long = format!(r#"{{"say":"{}"}}"#, "x".repeat(70_000));
    for (status, body, expected) in [
        (
            200,
            r#"{"connect":{"type":"stream","url":"wss://agent.example/m"}}"#,
            "<Stream url=\"wss://agent.example/m\">",
        ),
        (
            200,
            r#"{"connect":{"type":"sip","uri":"sip:a@agents.example","username":"u","password":"p"}}"#,
            "<Sip username=\"u\" password=\"p\">sip:a@agents.example?X-",
        ),
        (
            200,
            r#"{"connect":{"type":"phone","phone_number":"+14385950345","ring_timeout_s":7}}"#,
            "timeout=\"7\"",
        ),
        (201, r#"{"say":"Bonjour & <hi>"}"#, "<Say>Bonjour &amp; &lt;hi&gt;</Say>"),
        (200, r#"{"reject":true}"#, "<Response><Reject/></Response>"),
        (200, r#"{"connect":{"type":"sip","uri":"sip:a@10.0.0.1"}}"#, "sip:default@"),
        (200, r#"{"connect":{"type":"phone","phone_number":"911"}}"#, "sip:default@"),
        (200, r#"{"connect":{"type":"phone","phone_number":"+14385550100"}}"#, "sip:default@"),
        (200, r#"{"connect":{"type":"phone","phone_number":"+5351234567"}}"#, "sip:default@"),
        (200, r#"{"connect":{"type":"phone","phone_number":"+19005550123"}}"#, "sip:default@"),
        (200, "<Response><Dial>+19005550100</Dial></Response>", "sip:default@"),
        (200, "", "sip:default@"),
        (200, &long, "sip:default@"),
        (302, r#"{"say":"elsewhere"}"#, "sip:default@"),
        (500, r#"{"say":"x"}"#, "sip:default@"),
        (0, "", "sip:default@"),
    ] {
        team.answers(status, body);
        calls += 1;
        let twiml = line.voice(&format!("CA{calls}")).await;
        assert!(twiml.contains(expected), "{status} {body:.80}: {twiml}");
    }
    // Without a default the chain follows; and a target that the server named is followed by the chain too.
    team.answers(500, "");
    lay(None);
    assert!(line.voice("CA-chain").await.contains("<Number>+14385550101</Number>"));
    team.answers(200, r#"{"connect":{"type":"sip","uri":"sip:a@agents.example"}}"#);
    let first = line.voice("CA-named").await;
    let next = line.after(&first, "CA-named", &[("DialCallStatus", "busy")]).await;
    assert!(next.contains("<Number>+14385550101</Number>"), "{next}");
    let last = line.after(&next, "CA-named", &[("DialCallStatus", "busy")]).await;
    assert!(last.contains("<Say>"), "{last}");

    let asked = team.asked.lock().unwrap().clone();
    let (headers, body) = &asked[0];
    let question: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(question["from"], CALLER);
    assert_eq!(question["parameters"]["site"], "all");
    let text = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(text("webhook-id"), question["call_id"].as_str().unwrap());
    let [_, _, (_, signature)] = server::webhooks::sign::headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        text("webhook-id"),
        jiff::Timestamp::from_second(text("webhook-timestamp").parse().unwrap()).unwrap(),
        body,
    );
    assert_eq!(text("webhook-signature"), signature);
    // Each call that asked has an entry of its own about that, and the metric counts them.
    let kept = line.kept(2 * (calls + 2) + 2).await;
    let of = |sid: &str| {
        kept.iter().find(|(call, _)| call.carrier_call_id == sid).unwrap().0.decision.clone().unwrap()
    };
    assert_eq!(of("CA15")["asked"]["fault"], "the team's server answered with the HTTP status 500");
    assert_eq!(of("CA16")["asked"]["fault"], "the team's server did not answer within 3 s");
    assert_eq!(of("CA1")["asked"]["answer"]["type"], "stream");
    assert_eq!(of("CA1")["asked"]["webhook_url"], format!("http://127.0.0.1:{}/route?a=b", team.port));
    let (_, timeline) = kept.iter().find(|(call, _)| call.carrier_call_id == "CA15").unwrap();
    let asked = timeline.iter().find(|event| event.kind == "asked").unwrap();
    assert_eq!(asked.detail["fault"], "the team's server answered with the HTTP status 500");
    let text = line.app.metrics.text();
    assert!(text.contains(r#"webhook_asks_total{outcome="http_status"} 3"#), "{text}");
}

#[tokio::test]
async fn a_webhook_that_leads_inside_is_not_asked() {
    let team = Team::start().await;
    let line =
        Line::open(Laid { endpoint: Some(team.webhook(Some(sip("default"))).into()), ..Laid::default() })
            .await;
    assert!(line.voice("CA1").await.contains("sip:default@"));
    assert!(team.asked.lock().unwrap().is_empty());
    let kept = line.kept(1).await;
    let asked = &kept[0].0.decision.as_ref().unwrap()["asked"]["fault"];
    assert_eq!(asked, "the webhook's address is refused: address_not_allowed");
}
