//! Calls: the callbacks that are made, and the TwiML that is followed.

use axum::http::{Method, StatusCode};
use axum::response::IntoResponse as _;
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use server::simulator::SimulatorConfig;

use super::{Carrier, Product, Seen, events, no_content, twiml, until};

/// A number whose voice is at `/voice`, its fallback at `/fallback`, its status at `/status` of a product that answers.
async fn set_up(
    answers: impl Fn(&Seen) -> axum::response::Response + Send + Sync + 'static,
) -> (Carrier, Product, Value) {
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), answers).await;
    let at = |path: &str| format!("{}{path}", product.url);
    let number = carrier
        .buy(&[
            ("VoiceUrl", &at("/voice")),
            ("VoiceFallbackUrl", &at("/fallback")),
            ("StatusCallback", &at("/status")),
        ])
        .await;
    (carrier, product, number)
}

/// Calls a number whose voice URL answers this TwiML; `/after` ends calls.
async fn follow(inside: &'static str, more: Value) -> (Carrier, Product, Value) {
    let (carrier, product, number) = set_up(move |seen| match seen.path.as_str() {
        "/voice" => twiml(inside),
        "/after" => twiml("<Say>After</Say>"),
        "/fallback" => twiml("<Say>Fallback</Say>"),
        _ => no_content(),
    })
    .await;
    let story = carrier.call(&number, more).await;
    (carrier, product, story)
}

fn check(story: &Value, status: &str, expected: &Expect) {
    expected.assert_eq(&events(story).join("\n"));
    assert_eq!(story["status"], status);
}

#[tokio::test]
async fn a_call_is_asked_about_with_everything_that_is_known() {
    let (carrier, product, story) = follow(
        "<Say>Hello &amp; welcome</Say>",
        json!({"forwarded_from": "+15145550155", "caller_name": "Ada"}),
    )
    .await;
    let voice = &product.at("/voice")[0];
    assert!(voice.verified);
    assert_eq!(voice.param("AccountSid"), carrier.running.account_sid());
    for (name, expected) in [
        ("ApiVersion", "2010-04-01"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", "+15145550100"),
        ("Caller", "+15145550100"),
        ("FromCity", "MONTREAL"),
        ("FromState", "QC"),
        ("FromCountry", "CA"),
        ("ToCity", "SAN FRANCISCO"),
        ("CalledZip", "94102"),
        ("ForwardedFrom", "+15145550155"),
        ("CallerName", "Ada"),
        ("StirVerstat", "TN-Validation-Passed-A"),
    ] {
        assert_eq!(voice.param(name), expected, "{name}");
    }
    assert_eq!(voice.param("CallSid"), story["sid"]);
    assert_eq!(voice.param("To"), voice.param("Called"));
    assert!(!voice.param("CallToken").is_empty() && !voice.token.is_empty());

    assert_eq!(story["spoken"], json!(["Hello & welcome"]));
    let status = product.at("/status");
    assert_eq!(status.len(), 1, "the number's status callback hears only of the end");
    for (name, expected) in [
        ("CallStatus", "completed"),
        ("SequenceNumber", "0"),
        ("CallbackSource", "call-progress-events"),
        ("CallDuration", "0"),
    ] {
        assert_eq!(status[0].param(name), expected, "{name}");
    }
    assert!(status[0].param("Timestamp").ends_with("+0000"));
    check(
        &story,
        "completed",
        &expect![[r"
        request callback.voice
        verb Say
        answered
        ended completed
        request callback.status"]],
    );
}

#[tokio::test]
async fn a_get_callback_has_everything_in_its_signed_url() {
    let (carrier, product, number) = set_up(|_| twiml("<Hangup/>")).await;
    let path = format!("/IncomingPhoneNumbers/{}.json", number["sid"].as_str().unwrap());
    let url = format!("{}/voice?tenant=a%20b", product.url);
    carrier.post(&path, &[("VoiceUrl", &url), ("VoiceMethod", "GET")]).await;
    carrier.call(&number, json!({})).await;
    let voice = &product.at("/voice")[0];
    assert!(voice.verified);
    assert_eq!((voice.param("tenant"), voice.param("From")), ("a b", "+15145550100"));
}

#[tokio::test]
async fn a_call_is_rejected_only_before_anything_else() {
    let (_, _, story) = follow("<Reject reason=\"busy\"/>", json!({})).await;
    check(
        &story,
        "busy",
        &expect![[r"
        request callback.voice
        verb Reject
        ended busy
        request callback.status"]],
    );
    let (_, _, story) = follow("<Reject/>", json!({})).await;
    assert_eq!((&story["status"], &story["answered_at"]), (&json!("no-answer"), &Value::Null));
    let (_, _, story) = follow("<Say>Hi</Say><Reject/>", json!({})).await;
    assert_eq!(story["status"], "completed");
}

#[tokio::test]
async fn documents_redirect_pause_and_end() {
    let (_, product, story) = follow(
        "<Pause length=\"1\"/><Play>/after</Play><Redirect method=\"GET\">/after</Redirect><Say>Never</Say>",
        json!({}),
    )
    .await;
    check(
        &story,
        "completed",
        &expect![[r"
        request callback.voice
        verb Pause
        verb Play
        answered
        request callback.play
        verb Redirect
        request callback.voice
        verb Say
        ended completed
        request callback.status"]],
    );
    assert_eq!(story["spoken"], json!(["After"]));
    assert_eq!(product.at("/after").len(), 2);
    assert!(product.at("/after").iter().all(|seen| seen.verified));
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let (_, product, story) = follow("<Redirect>/voice</Redirect>", json!({})).await;
    assert_eq!(story["status"], "failed");
    assert_eq!(product.at("/voice").len(), 50);
}

#[tokio::test]
async fn what_cannot_be_followed_goes_to_the_fallback() {
    for (answer, code) in [
        (StatusCode::INTERNAL_SERVER_ERROR.into_response(), 11_200),
        (StatusCode::FORBIDDEN.into_response(), 11_200),
        (twiml("<Sing>la</Sing>"), 12_100),
        (twiml("<Say>unclosed"), 12_100),
        (([("content-type", "application/json")], "{}").into_response(), 12_300),
        (([("content-type", "text/xml")], "x".repeat(70_000)).into_response(), 11_750),
    ] {
        let answer = std::sync::Mutex::new(Some(answer));
        let (carrier, product, number) = set_up(move |seen| match seen.path.as_str() {
            "/voice" => answer.lock().unwrap().take().unwrap(),
            "/fallback" => twiml("<Say>Fallback</Say>"),
            _ => no_content(),
        })
        .await;
        let story = carrier.call(&number, json!({})).await;
        assert_eq!((&story["errors"], &story["spoken"]), (&json!([code]), &json!(["Fallback"])));
        let fallback = &product.at("/fallback")[0];
        assert!(fallback.verified);
        assert_eq!(fallback.param("ErrorCode"), code.to_string());
        assert_eq!(fallback.param("ErrorUrl"), format!("{}/voice", product.url));
        assert_eq!(fallback.param("To"), number["phone_number"]);
    }
}

#[tokio::test]
async fn a_dead_server_is_tried_twice_and_then_apologised_for() {
    let (carrier, product, number) = set_up(|_| no_content()).await;
    let path = format!("/IncomingPhoneNumbers/{}.json", number["sid"].as_str().unwrap());
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}/voice", nobody.local_addr().unwrap());
    drop(nobody);
    carrier.post(&path, &[("VoiceUrl", &dead), ("VoiceFallbackUrl", "")]).await;
    let story = carrier.call(&number, json!({})).await;
    assert_eq!(story["errors"], json!([11205]));
    assert!(story["spoken"][0].as_str().unwrap().contains("application error"), "{story}");
    assert_eq!(product.at("/status").len(), 1);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_goes_to_the_fallback() {
    let impatient =
        SimulatorConfig { callback_limit: std::time::Duration::from_millis(300), ..super::settings() };
    let carrier = Carrier::with(impatient).await;
    // A server that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let voice = format!("http://{}/voice", silent.local_addr().unwrap());
    let product = Product::start(carrier.running.auth_token(), |_| twiml("<Say>Fallback</Say>")).await;
    let number = carrier.buy(&[("VoiceUrl", &voice), ("VoiceFallbackUrl", &product.url)]).await;
    let story = carrier.call(&number, json!({})).await;
    assert_eq!((&story["errors"], &story["spoken"]), (&json!([11205]), &json!(["Fallback"])));
    assert_eq!(product.seen()[0].param("ErrorUrl"), voice);
}

#[tokio::test]
async fn dialling_reports_how_it_went() {
    for (behaviour, status, bridged) in [
        ("answer", "completed", "true"),
        ("busy", "busy", "false"),
        ("no-answer", "no-answer", "false"),
        ("failed", "failed", "false"),
        ("reject", "busy", "false"),
    ] {
        let (carrier, product, number) = set_up(|seen| match seen.path.as_str() {
            "/voice" => twiml(
                "<Dial answerOnBridge=\"true\" timeout=\"5\" action=\"/after\">\
                 <Sip>sip:agent@sip.example.com;transport=tls?X-Call=1</Sip></Dial><Say>Never</Say>",
            ),
            "/after" => twiml("<Say>After</Say>"),
            _ => no_content(),
        })
        .await;
        let destination = "destinations/sip%3Aagent%40sip.example.com";
        carrier.control(Method::PUT, destination, json!({"behaviour": behaviour})).await;
        let story = carrier.call(&number, json!({})).await;
        let after = &product.at("/after")[0];
        assert!(after.verified);
        assert_eq!(after.param("DialCallStatus"), status);
        assert_eq!(after.param("DialBridged"), bridged);
        assert_eq!(after.param("CallStatus"), if behaviour == "answer" { "in-progress" } else { "ringing" });
        assert_eq!(after.param("DialCallDuration").is_empty(), behaviour != "answer");
        assert!(after.param("DialSipResponseCode").parse::<u16>().is_ok());
        let leg = carrier.get(&format!("/Calls/{}.json", after.param("DialCallSid"))).await.1;
        assert_eq!((&leg["status"], &leg["direction"]), (&json!(status), &json!("outbound-dial")));
        assert_eq!(leg["parent_call_sid"], story["sid"]);
        assert_eq!(
            story["spoken"],
            json!(["After"]),
            "with an action, the rest of the document is abandoned"
        );
    }
}

#[tokio::test]
async fn several_numbers_ring_at_once_or_in_turn() {
    let at_once = "<Dial><Number>+14155550181</Number><Number statusCallback=\"BASE/leg\" statusCallbackEvent=\"ringing answered\">+14155550182</Number></Dial><Say>Below</Say>";
    let in_turn = "<Dial sequential=\"true\" callerId=\"+14155550190\"><Number>+14155550181</Number><Number>+14155550182</Number></Dial>";
    for (document, expected) in [
        (
            at_once,
            expect![[r"
                request callback.voice
                verb Dial
                answered
                dialling +14155550181
                dialling +14155550182
                bridged +14155550182
                dialled completed
                verb Say
                ended completed
                request callback.status"]],
        ),
        (
            in_turn,
            expect![[r"
                request callback.voice
                verb Dial
                answered
                dialling +14155550181
                dialling +14155550182
                bridged +14155550182
                dialled completed
                ended completed
                request callback.status"]],
        ),
    ] {
        let (carrier, product, number) = set_up(move |seen| match seen.path.as_str() {
            "/voice" => twiml(&document.replace("BASE", &seen.base)),
            _ => no_content(),
        })
        .await;
        carrier.control(Method::PUT, "destinations/+14155550181", json!({"behaviour": "no-answer"})).await;
        let story = carrier.call(&number, json!({})).await;
        check(&story, "completed", &expected);
        let (_, legs) =
            carrier.get(&format!("/Calls.json?ParentCallSid={}", story["sid"].as_str().unwrap())).await;
        let mut legs: Vec<String> = legs["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|leg| format!("{} {}", leg["to"].as_str().unwrap(), leg["status"].as_str().unwrap()))
            .collect();
        legs.sort_unstable();
        let first = if document == at_once { "canceled" } else { "no-answer" };
        assert_eq!(legs, [format!("+14155550181 {first}"), "+14155550182 completed".to_owned()]);
        if document == at_once {
            until("the leg's events", async || product.at("/leg").len() == 2).await;
            let seen = product.at("/leg");
            let statuses: Vec<&str> = seen.iter().map(|seen| seen.param("CallStatus")).collect();
            assert_eq!(statuses, ["ringing", "in-progress"]);
            assert!(seen.iter().all(|seen| seen.verified && seen.param("ParentCallSid") == story["sid"]));
        }
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_a_dial_and_the_action_still_hears_of_it() {
    let document = "<Dial answerOnBridge=\"true\" timeout=\"600\" action=\"/after\"><Number>+14155550181</Number></Dial>";
    let (carrier, product, number) = set_up(move |seen| match seen.path.as_str() {
        "/voice" => twiml(document),
        _ => no_content(),
    })
    .await;
    carrier.control(Method::PUT, "destinations/+14155550181", json!({"behaviour": "no-answer"})).await;
    let call = json!({"to": number["phone_number"], "from": "+15145550100"});
    let (_, call) = carrier.control(Method::POST, "calls", call).await;
    let sid = call["sid"].as_str().unwrap();
    let legs = format!("/Calls.json?ParentCallSid={sid}");
    until("the other telephone rings", async || {
        carrier.get(&legs).await.1["calls"][0]["status"] == "ringing"
    })
    .await;
    carrier.control(Method::POST, &format!("calls/{sid}/hangup"), Value::Null).await;
    until("the action", async || !product.at("/after").is_empty()).await;
    let after = &product.at("/after")[0];
    assert_eq!((after.param("DialCallStatus"), after.param("CallStatus")), ("canceled", "no-answer"));
    until("its end", async || {
        carrier.control(Method::GET, &format!("calls/{sid}"), Value::Null).await.1["status"] == "no-answer"
    })
    .await;
    // A caller whose patience has an end does the same by themselves, wherever the call is by then.
    let story = carrier.call(&number, json!({"give_up_after_ms": 5_000})).await;
    assert_eq!(story["status"], "no-answer");
}

#[tokio::test]
async fn an_outbound_call_is_redirected_and_hung_up() {
    let (carrier, product, number) = set_up(|seen| match seen.path.as_str() {
        "/voice" => twiml("<Pause length=\"600\"/>"),
        "/after" => twiml("<Say>Elsewhere</Say><Pause length=\"600\"/>"),
        _ => no_content(),
    })
    .await;
    let (voice, after) = (format!("{}/voice", product.url), format!("{}/after", product.url));
    let from = number["phone_number"].as_str().unwrap();
    let (status, call) =
        carrier.post("/Calls.json", &[("To", "+14155550188"), ("From", from), ("Url", &voice)]).await;
    assert_eq!((status, &call["status"]), (201, &json!("queued")));
    let placed = &carrier.ledger("call_placed").await[0];
    assert!(
        placed["sid"] == call["sid"] && placed["request_id"].as_str().unwrap().starts_with("RQ"),
        "{placed}"
    );
    let path = format!("/Calls/{}.json", call["sid"].as_str().unwrap());
    until("the first document", async || !product.at("/voice").is_empty()).await;
    assert_eq!(product.at("/voice")[0].param("CallStatus"), "in-progress");
    assert_eq!(product.at("/voice")[0].param("Direction"), "outbound-api");
    assert_eq!(carrier.post(&path, &[("Status", "canceled")]).await.1["code"], 21220);
    assert_eq!(carrier.post(&path, &[("Url", &after)]).await.0, 200);
    until("the second document", async || !product.at("/after").is_empty()).await;
    assert_eq!(carrier.post(&path, &[("Status", "completed")]).await.0, 200);
    until("its end", async || carrier.get(&path).await.1["status"] == "completed").await;
    assert_eq!(carrier.post(&path, &[("Status", "completed")]).await.1["code"], 21220);
    assert_eq!(carrier.delete(&path).await.0, 204);
    assert_eq!(carrier.get(&path).await.0, 404);
}

#[tokio::test]
async fn calls_to_nobody_and_from_nobody_are_refused() {
    let carrier = Carrier::start().await;
    let (status, body) = carrier.control(Method::POST, "calls", json!({"to": "+14155550123"})).await;
    assert_eq!((status, &body["error"]), (404, &json!("nobody owns +14155550123")));
    let number = carrier.buy(&[]).await;
    let story = carrier.call(&number, json!({})).await;
    assert_eq!(story["status"], "no-answer", "a number without a voice URL rejects");
    let (status, body) = carrier
        .control(Method::POST, &format!("calls/{}/hangup", story["sid"].as_str().unwrap()), Value::Null)
        .await;
    assert_eq!(status, 409, "{body}");
}
