//! Calls come in: what the carrier is told, what follows, and what is kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use axum::response::IntoResponse as _;
use database::secrets::Place;
use domain::call::{CallStatus, Outcome};
use domain::caller::CallerRules;
use domain::endpoint::{Dial, Endpoint, Plain, SecretRef, SipAuth, SipUri, Target, Webhook, WebhookUrl};
use domain::environment::Environment;
use domain::fallback::Fallback;
use domain::hours::Hours;
use domain::id::{SecretId, VariantId};
use domain::route::row::{NumberSettings, Row};
use domain::workspace::{OutageMode, WorkspaceSettings};
use expect_test::expect;
use tokio::net::TcpListener;

use crate::line::{
    CALLER, Laid, Line, PUBLIC, TOKEN, TOKEN_BEFORE, body_of, parameters, path_of, phone, plain, ringing,
    signed, sip, stream,
};

fn fallback(targets: Vec<Dial>, message: Option<&str>) -> Fallback {
    Fallback { targets, message: message.map(str::to_owned) }
}

#[tokio::test]
async fn a_stream_gets_the_parameters_of_agent_and_variant() {
    let line = Line::open(Laid {
        parameters: vec![("language", "fr"), ("site", "all")],
        variants: vec![domain::agent::Variant {
            id: VariantId::from_bits(7),
            name: "Downtown".to_owned(),
            attributes: parameters(&[("site", "downtown <1>")]),
            endpoint: None,
        }],
        ..Laid::dial(stream())
    })
    .await;
    expect![[r#"<Response><Connect action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=stream&amp;since={now}" method="POST"><Stream url="wss://agent.example/media"><Parameter name="switchboard_call" value="cal_…"/><Parameter name="switchboard_number" value="+14385550100"/><Parameter name="switchboard_agent" value="agt_00000000000000000000000002"/><Parameter name="switchboard_environment" value="live"/><Parameter name="switchboard_variant" value="var_00000000000000000000000007"/><Parameter name="language" value="fr"/><Parameter name="site" value="downtown &lt;1&gt;"/></Stream></Connect></Response>"#]]
    .assert_eq(&plain(&line.voice("CA1").await));
}

#[tokio::test]
async fn sip_targets_are_dialled_with_their_password_and_headers() {
    let line = Line::open(Laid::default()).await;
    let secret = SecretId::from_bits(5);
    let row = secret.to_string();
    let place = Place { workspace: line.workspace, table: "secrets", column: "sip_password", row: &row };
    let ciphertext = line.app.keyring.seal(place, b"hunter2").unwrap();
    let auth =
        SipAuth { username: "user".to_owned(), password: SecretRef { id: secret, last4: "er2".to_owned() } };
    let uri = SipUri::parse("sip:support@agents.example;transport=tls").unwrap();
    let dial = Dial { target: Target::Sip { uri, auth: Some(auth) }, ring_timeout_s: 15 };
    line.lay(Laid {
        secrets: vec![Row::Secret(secret, Some(ciphertext.into()))],
        ..Laid::dial(dial.clone())
    });
    expect![[r#"<Response><Dial answerOnBridge="true" timeout="15" action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=dial&amp;since={now}" method="POST"><Sip username="user" password="hunter2">sip:support@agents.example;transport=tls?X-Switchboard-Call=cal_…&amp;X-Switchboard-Number=%2B14385550100&amp;X-Switchboard-Agent=agt_00000000000000000000000002&amp;X-Switchboard-Environment=live</Sip></Dial></Response>"#]]
    .assert_eq(&plain(&line.voice("CA1").await));
    line.lay(Laid::dial(dial));
    let without = line.voice("CA2").await;
    assert!(without.contains("<Sip>sip:support@"), "a secret that is gone does not lose the call: {without}");
    line.lay(Laid::dial(phone(7)));
    expect![[r#"<Response><Dial answerOnBridge="true" timeout="20" action="https://pbx.example/base/callbacks/twilio/{token}/voice-after?call=cal_…&amp;at={now}&amp;step=0&amp;origin=endpoint&amp;kind=dial&amp;since={now}" method="POST"><Number>+14385550107</Number></Dial></Response>"#]]
    .assert_eq(&plain(&line.voice("CA3").await));
    let kept = line.kept(3).await;
    let text =
        serde_json::to_string(&kept.iter().map(|(call, _)| &call.decision).collect::<Vec<_>>()).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn the_chain_is_followed_step_by_step_to_the_message() {
    let line = Line::open(Laid {
        fallback: Some(fallback(vec![phone(1)], None)),
        settings: WorkspaceSettings {
            fallback: Some(fallback(vec![sip("night"), phone(1)], Some("Nobody is here."))),
            ..WorkspaceSettings::default()
        },
        ..Laid::dial(sip("support"))
    })
    .await;
    let mut twiml = line.voice("CA1").await;
    assert!(twiml.contains("sip:support@"), "{twiml}");
    for (result, expected) in [
        (vec![("DialCallStatus", "no-answer"), ("DialCallSid", "CA9")], "<Number>+14385550101</Number>"),
        (vec![("DialCallStatus", "completed"), ("DialBridged", "false")], "sip:night@"),
        (vec![("DialCallStatus", "busy")], "<Say>Nobody is here.</Say></Response>"),
    ] {
        twiml = line.after(&twiml, "CA1", &result).await;
        assert!(twiml.contains(expected), "{result:?}: {twiml}");
    }
    let kept = line.kept(4).await;
    let (call, timeline) = &kept[0];
    assert_eq!((kept.len(), call.outcome, call.status), (1, Some(Outcome::Announced), CallStatus::Ringing));
    assert_eq!(call.route.unwrap().environment, Environment::Live);
    let told: Vec<String> = timeline
        .iter()
        .map(|event| format!("{} {}", event.kind, event.detail["result"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        told,
        ["decided -", "target_ended not_answered", "target_ended not_answered", "target_ended not_answered"]
    );
    let decision = call.decision.as_ref().unwrap();
    assert_eq!(decision["decision"]["action"], "connect");
    assert_eq!(decision["decision"]["targets"].as_array().unwrap().len(), 3);
    assert_eq!(decision["steps"][0]["rule"], "number");
}

#[tokio::test]
async fn who_took_the_call_is_its_outcome() {
    let laid = || Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(sip("support")) };
    let line = Line::open(laid()).await;
    let agent = line.voice("CA1").await;
    let done = line
        .after(
            &agent,
            "CA1",
            &[("DialCallStatus", "completed"), ("DialBridged", "true"), ("DialCallDuration", "61")],
        )
        .await;
    assert_eq!(done, "<Response/>");
    let second = line.voice("CA2").await;
    let fell_back = line.after(&second, "CA2", &[("DialCallStatus", "failed")]).await;
    assert_eq!(line.after(&fell_back, "CA2", &[("DialCallStatus", "answered")]).await, "<Response/>");
    let third = line.voice("CA3").await;
    let left =
        line.after(&third, "CA3", &[("DialCallStatus", "no-answer"), ("CallStatus", "completed")]).await;
    assert_eq!(left, "<Response/>", "the caller has hung up");
    let outcomes: Vec<_> =
        line.kept(7).await.into_iter().map(|(call, _)| (call.carrier_call_id, call.outcome)).collect();
    let mut outcomes = outcomes;
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        outcomes,
        [
            ("CA1".to_owned(), Some(Outcome::Answered)),
            ("CA2".to_owned(), Some(Outcome::FellBack)),
            ("CA3".to_owned(), Some(Outcome::Abandoned)),
        ]
    );
}

#[tokio::test]
async fn a_stream_that_failed_at_once_falls_to_the_next_target() {
    let line =
        Line::open(Laid { fallback: Some(fallback(vec![phone(1)], None)), ..Laid::dial(stream()) }).await;
    let twiml = line.voice("CA1").await;
    line.clock.advance(Duration::from_millis(400));
    let next = line.after(&twiml, "CA1", &[("StreamSid", "MZ1")]).await;
    assert!(next.contains("<Number>+14385550101</Number>"), "{next}");
    let twiml = line.voice("CA2").await;
    line.clock.advance(Duration::from_secs(40));
    assert_eq!(line.after(&twiml, "CA2", &[("StreamSid", "MZ2")]).await, "<Response/>");
    let twiml = line.voice("CA3").await;
    line.clock.advance(Duration::from_secs(9));
    let next = line.after(&twiml, "CA3", &[("StreamSid", "MZ3"), ("StreamError", "handshake")]).await;
    assert!(next.contains("<Number>"), "{next}");
}

#[tokio::test]
async fn rules_of_callers_hours_and_outage_mode_are_kept() {
    let line = Line::open(Laid::default()).await;
    let say = |text: &str| format!("<Response><Say>{text}</Say></Response>");
    line.lay(Laid {
        own: Some(NumberSettings {
            inbound: Some(CallerRules {
                block_numbers: vec![CALLER.parse().unwrap()],
                ..CallerRules::default()
            }),
            ..NumberSettings::default()
        }),
        ..Laid::dial(stream())
    });
    assert_eq!(line.voice("CA1").await, "<Response><Reject/></Response>");
    line.lay(Laid {
        own: Some(NumberSettings {
            hours: Some(Hours { closed: Some(fallback(vec![], Some("We are closed."))), ..Hours::default() }),
            ..NumberSettings::default()
        }),
        ..Laid::dial(stream())
    });
    assert_eq!(line.voice("CA2").await, say("We are closed."));
    let now = "2026-11-23T15:00:00Z".parse().unwrap();
    line.lay(Laid {
        settings: WorkspaceSettings {
            outage: OutageMode::default().switched(Environment::Live, true, now),
            fallback: Some(fallback(vec![phone(1)], None)),
            ..WorkspaceSettings::default()
        },
        ..Laid::dial(stream())
    });
    assert!(line.voice("CA3").await.contains("<Number>+14385550101</Number>"));
    line.lay(Laid { unassigned: true, ..Laid::default() });
    let said = line.voice("CA4").await;
    assert_eq!(said, say(domain::fallback::MESSAGE_DEFAULT));
    let kept = line.kept(4).await;
    let mut outcomes: Vec<_> =
        kept.iter().map(|(call, _)| (call.carrier_call_id.as_str(), call.outcome)).collect();
    outcomes.sort_unstable_by_key(|(sid, _)| *sid);
    assert_eq!(
        outcomes,
        [
            ("CA1", Some(Outcome::Rejected)),
            ("CA2", Some(Outcome::Announced)),
            ("CA3", None),
            ("CA4", Some(Outcome::Announced)),
        ]
    );
}

#[tokio::test]
async fn a_callback_that_comes_twice_gives_the_same_answer_and_one_call() {
    let line = Line::open(Laid::dial(sip("support"))).await;
    let first = line.voice("CA1").await;
    line.clock.advance(Duration::from_secs(2));
    let plain_of = |twiml: &str| twiml.split("&amp;since=").next().unwrap().to_owned();
    assert_eq!(plain_of(&line.voice("CA1").await), plain_of(&first));
    let failed = [("DialCallStatus", "failed")];
    assert_eq!(line.after(&first, "CA1", &failed).await, line.after(&first, "CA1", &failed).await);
    line.voice("CA2").await;
    let kept = line.kept(3).await;
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].0.timeline_count, 2, "{:#?}", kept[0].1);
}

#[tokio::test]
async fn statuses_are_kept_in_whatever_order_they_come() {
    let line = Line::open(Laid::dial(sip("support"))).await;
    line.voice("CA1").await;
    let status = |word: &'static str, sequence: &'static str| {
        let mut parameters = ringing("CA1");
        parameters.iter_mut().find(|(name, _)| *name == "CallStatus").unwrap().1 = word;
        parameters.extend([
            ("SequenceNumber", sequence),
            ("Timestamp", "Mon, 23 Nov 2026 15:31:00 +0000"),
            ("CallbackSource", "call-progress-events"),
        ]);
        if word == "completed" {
            parameters.push(("CallDuration", "49"));
        }
        parameters
    };
    for (word, sequence) in [
        ("completed", "3"),
        ("ringing", "1"),
        ("completed", "3"),
        ("in-progress", "2"),
        ("teleported", "9"),
        ("busy", "4"),
    ] {
        let answered = line.post("voice-status", &status(word, sequence)).await;
        assert_eq!((answered.status, answered.body.as_str()), (204, ""), "{word}");
    }
    let mut orphan = status("completed", "0");
    orphan.iter_mut().find(|(name, _)| *name == "CallSid").unwrap().1 = "CA-never-heard-of";
    assert_eq!(line.post("voice-status", &orphan).await.status, 204);
    let kept = line.kept(7).await;
    assert_eq!(kept.len(), 2);
    let call = &kept.iter().find(|(call, _)| call.carrier_call_id == "CA1").unwrap().0;
    assert_eq!((call.status, call.duration_s, call.timeline_count), (CallStatus::Completed, Some(49), 6));
    assert_eq!(call.ended_at.unwrap().to_string(), "2026-11-23T15:31:00Z");
    let orphan = &kept.iter().find(|(call, _)| call.carrier_call_id == "CA-never-heard-of").unwrap().0;
    assert_eq!((orphan.status, orphan.decision.is_none()), (CallStatus::Completed, true));
    let workspace = line.workspace;
    let events = line
        .app
        .database
        .read(move |read| database::events::event_list(read, workspace, 0, 100))
        .await
        .unwrap()
        .into_iter()
        .filter(|entry| entry.event.kind.as_str().starts_with("call."))
        .map(|entry| entry.event.kind.as_str())
        .collect::<Vec<_>>();
    assert_eq!(events, ["call.started", "call.ended", "call.started", "call.ended"]);
}

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
    check("GET", Request::builder().method(Method::GET).uri(&path).body(Body::empty()).unwrap(), 405, "")
        .await;
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
            endpoint: Some(Endpoint::Webhook(webhook)),
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
    let kept = line.kept(calls + 4).await;
    let of = |sid: &str| {
        kept.iter().find(|(call, _)| call.carrier_call_id == sid).unwrap().0.decision.clone().unwrap()
    };
    assert_eq!(of("CA12")["asked"]["fault"], "the team's server answered with the HTTP status 500");
    assert_eq!(of("CA13")["asked"]["fault"], "the team's server did not answer within 3 s");
    assert_eq!(of("CA1")["asked"]["answer"]["type"], "stream");
}

#[tokio::test]
async fn a_webhook_that_leads_inside_is_not_asked() {
    let team = Team::start().await;
    let line = Line::open(Laid {
        endpoint: Some(Endpoint::Webhook(team.webhook(Some(sip("default"))))),
        ..Laid::default()
    })
    .await;
    assert!(line.voice("CA1").await.contains("sip:default@"));
    assert!(team.asked.lock().unwrap().is_empty());
    let kept = line.kept(1).await;
    let asked = &kept[0].0.decision.as_ref().unwrap()["asked"]["fault"];
    assert_eq!(asked, "the webhook's address is refused: address_not_allowed");
}
