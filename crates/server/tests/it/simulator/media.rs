//! Media streams, from the carrier's side: the protocol as an agent's server meets it, and what is measured.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, Method};
use axum::routing::get;
use serde_json::{Value, json};
use server::demo::agent;
use server::simulator::signature::sign;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Carrier, Product, events, no_content, twiml, until};

/// An agent's server that writes down what it is told, says `lines` when the stream starts, and leaves after `frames`.
async fn listener(lines: Vec<Value>, frames: usize) -> (String, Arc<Mutex<Vec<Value>>>, Arc<Mutex<String>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/media", socket.local_addr().unwrap());
    let (heard, signature): (Arc<Mutex<Vec<Value>>>, Arc<Mutex<String>>) = Default::default();
    let (kept, kept_signature) = (Arc::clone(&heard), Arc::clone(&signature));
    let router = Router::new().route(
        "/media",
        get(move |headers: HeaderMap, upgrade: WebSocketUpgrade| {
            let signed = headers["x-twilio-signature"].to_str().unwrap();
            signed.clone_into(&mut kept_signature.lock().unwrap());
            async move {
                upgrade.on_upgrade(move |mut socket| async move {
                    let mut media = 0;
                    while let Some(Ok(Message::Text(text))) = socket.recv().await {
                        let event: Value = serde_json::from_str(&text).unwrap();
                        let name = event["event"].as_str().unwrap().to_owned();
                        let stream = event["streamSid"].clone();
                        kept.lock().unwrap().push(event);
                        if name == "start" {
                            for line in &lines {
                                let mut line = line.clone();
                                line["streamSid"] = stream.clone();
                                socket.send(Message::text(line.to_string())).await.unwrap();
                            }
                        }
                        media += usize::from(name == "media");
                        if media >= frames {
                            let _ = socket.send(Message::Close(None)).await;
                            return;
                        }
                    }
                })
            }
        }),
    );
    TaskTracker::new().spawn(async move { axum::serve(socket, router).await });
    (url, heard, signature)
}

/// Calls a number that answers `<Connect><Stream>` to this URL, with an action at `/after`.
async fn stream_to(url: &str, more: Value) -> (Carrier, Product, Value) {
    let carrier = Carrier::start().await;
    let url = url.to_owned();
    let product = Product::start(carrier.running.auth_token(), move |seen| match seen.path.as_str() {
        "/voice" => twiml(&format!(
            "<Connect action=\"/after\"><Stream url=\"{url}\" name=\"talk\" statusCallback=\"{}/stream\">\
             <Parameter name=\"agent\" value=\"caf&#233;\"/><Parameter name=\"variant\" value=\"paris\"/></Stream></Connect>",
            seen.base,
        )),
        "/after" => twiml("<Say>After</Say>"),
        _ => no_content(),
    })
    .await;
    let number = carrier.buy(&[("VoiceUrl", &format!("{}/voice", product.url))]).await;
    let story = carrier.call(&number, more).await;
    (carrier, product, story)
}

#[tokio::test]
async fn the_protocol_is_spoken_in_order_with_counters_as_text() {
    let silence = json!({"event": "media", "media": {"payload": "/".repeat(212) + "////"}});
    let mark = json!({"event": "mark", "mark": {"name": "played"}});
    let (url, heard, signature) = listener(vec![silence.clone(), silence, mark], 10).await;
    let (carrier, product, story) = stream_to(&url, json!({})).await;

    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[0], json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}));
    let start = &heard[1];
    assert_eq!((&start["event"], &start["sequenceNumber"]), (&json!("start"), &json!("1")));
    assert_eq!(start["start"]["callSid"], story["sid"]);
    assert_eq!(start["start"]["accountSid"], carrier.running.account_sid());
    assert_eq!(
        start["start"]["mediaFormat"],
        json!({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1})
    );
    assert_eq!(start["start"]["customParameters"], json!({"agent": "café", "variant": "paris"}));
    assert_eq!(start["start"]["tracks"], json!(["inbound"]));
    let media: Vec<&Value> = heard.iter().filter(|event| event["event"] == "media").collect();
    assert_eq!(media[0]["media"]["chunk"], "1");
    assert_eq!(media[1]["media"]["timestamp"], "20");
    assert_eq!(media[0]["media"]["payload"].as_str().unwrap().len(), 216, "160 bytes are 20 ms");
    let marks: Vec<&Value> = heard.iter().filter(|event| event["event"] == "mark").collect();
    assert_eq!(marks[0]["mark"]["name"], "played");
    let at = heard.iter().position(|event| event["event"] == "mark").unwrap();
    assert!(at > 3, "a mark comes back when what was said before it has been played");
    let sequence: Vec<usize> =
        heard[1..].iter().map(|event| event["sequenceNumber"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(sequence, (1..heard.len()).collect::<Vec<_>>());
    assert_eq!(*signature.lock().unwrap(), sign(carrier.running.auth_token(), &url, &[]));

    let stream = &story["streams"][0];
    assert_eq!((&stream["state"], &stream["ended_by"]), (&json!("ended"), &json!("agent_closed")));
    assert_eq!((&stream["frames_heard"], &stream["marks_returned"]), (&json!(2), &json!(["played"])));
    assert!(stream["first_audio_ms"].is_u64());
    assert_eq!(product.at("/after")[0].param("StreamSid"), stream["stream_sid"]);
    assert_eq!(story["spoken"], json!(["After"]), "the agent left, and the action goes on");
    until("two reports", async || product.at("/stream").len() == 2).await;
    let reports = product.at("/stream");
    let mut reported: Vec<&str> = reports.iter().map(|seen| seen.param("StreamEvent")).collect();
    reported.sort_unstable();
    assert_eq!(reported, ["stream-started", "stream-stopped"]);
    assert!(reports.iter().all(|seen| seen.verified && seen.param("StreamName") == "talk"));
}

#[tokio::test]
async fn the_demo_agent_is_heard_and_a_caller_hangs_up() {
    let agent = agent::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (_, product, story) = stream_to(&agent.url, json!({"hangup_after_ms": 130_000})).await;
    let stream = &story["streams"][0];
    assert_eq!(stream["ended_by"], "hung_up");
    assert!(stream["frames_heard"].as_u64().unwrap() > 50, "the greeting and some echo: {stream}");
    let (heard, lasted) =
        (stream["heard_ms"].as_u64().unwrap(), stream["frames_sent"].as_u64().unwrap() * 20);
    assert!((1_000..=lasted).contains(&heard), "nobody hears more than there was time for: {stream}");
    assert!(stream["peak_heard"].as_u64().unwrap() > 3_000, "it is no silence: {stream}");
    assert_eq!(stream["marks_returned"], json!(["greeting"]));
    assert_eq!(story["status"], "completed");
    assert_eq!(agent.sessions(), 1);
    until("the agent is free again", async || agent.sessions_open() == 0).await;
    until("the action", async || !product.at("/after").is_empty()).await;
    assert_eq!(product.at("/after")[0].param("CallStatus"), "completed", "whoever hung up does not wait");
    agent.shutdown().await;
}

#[tokio::test]
async fn digits_and_clear_reach_the_other_side() {
    let long = json!({"event": "media", "media": {"payload": "/".repeat(10_000)}});
    let mark = json!({"event": "mark", "mark": {"name": "never played"}});
    let (url, heard, _) = listener(vec![long, mark, json!({"event": "clear"})], usize::MAX).await;
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), move |_| {
        twiml(&format!("<Connect><Stream url=\"{url}\"/></Connect><Say>Never</Say>"))
    })
    .await;
    let number = carrier.buy(&[("VoiceUrl", &product.url)]).await;
    let (_, call) = carrier.control(Method::POST, "calls", json!({"to": number["phone_number"]})).await;
    let sid = call["sid"].as_str().unwrap();
    let seen = |name: &str| heard.lock().unwrap().iter().any(|event| event["event"] == name);
    until("the mark, at once", async || seen("mark")).await;
    assert!(heard.lock().unwrap().len() < 50, "a cleared mark does not wait for its sound");
    carrier.control(Method::POST, &format!("calls/{sid}/dtmf"), json!({"digits": "4#"})).await;
    until("the digits", async || {
        heard.lock().unwrap().iter().filter(|event| event["event"] == "dtmf").count() == 2
    })
    .await;
    let digits: Vec<Value> =
        heard.lock().unwrap().iter().filter(|event| event["event"] == "dtmf").cloned().collect();
    assert_eq!(digits[0]["dtmf"], json!({"track": "inbound_track", "digit": "4"}));
    assert_eq!(
        carrier.control(Method::POST, &format!("calls/{sid}/dtmf"), json!({"digits": "x"})).await.0,
        400
    );
    carrier.control(Method::POST, &format!("calls/{sid}/hangup"), Value::Null).await;
    until("stop", async || seen("stop")).await;
    let path = format!("calls/{sid}");
    until("the end", async || carrier.control(Method::GET, &path, Value::Null).await.1["settled"] == true)
        .await;
    let story = carrier.control(Method::GET, &path, Value::Null).await.1;
    assert_eq!(story["spoken"], json!([]), "nothing follows a call that was hung up");
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_reported_and_the_call_goes_on() {
    for url in [
        "ws://127.0.0.1:1/media",
        "wss://agent.example.com/media?token=1",
        "http://127.0.0.1/",
        "ws://192.0.2.1/",
    ] {
        let (_, product, story) = stream_to(url, json!({})).await;
        assert_eq!(story["streams"][0]["state"], "failed", "{url}");
        assert!(story["errors"][0] == 31_920 || story["errors"][0] == 11_100, "{url}: {story}");
        assert_eq!(story["spoken"], json!(["After"]), "{url}");
        assert!(events(&story).contains(&"stream-error".to_owned()));
        assert_eq!(product.at("/after").len(), 1);
    }
}

#[tokio::test]
async fn when_the_agent_leaves_the_document_goes_on() {
    let (url, _, _) = listener(vec![], 3).await;
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), move |_| {
        twiml(&format!("<Connect><Stream url=\"{url}\"/></Connect><Say>Below</Say>"))
    })
    .await;
    let number = carrier.buy(&[("VoiceUrl", &product.url)]).await;
    let story = carrier.call(&number, json!({})).await;
    assert_eq!((&story["spoken"], &story["status"]), (&json!(["Below"]), &json!("completed")));
    assert_eq!(story["streams"][0]["ended_by"], "agent_closed");
}

#[tokio::test]
async fn nonsense_ends_a_stream() {
    let nonsense = vec![json!({"event": "sing"}); 12];
    let (url, _, _) = listener(nonsense, usize::MAX).await;
    let (_, _, story) = stream_to(&url, json!({})).await;
    assert_eq!(story["streams"][0]["ended_by"], "malformed");
    assert_eq!(story["errors"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_one_way_stream_runs_beside_the_call() {
    let (url, heard, _) = listener(vec![], usize::MAX).await;
    let carrier = Carrier::start().await;
    let product = Product::start(carrier.running.auth_token(), move |_| {
        twiml(&format!("<Start><Stream url=\"{url}\" track=\"both_tracks\"/></Start><Say>Hello</Say><Pause length=\"20\"/>"))
    })
    .await;
    let number = carrier.buy(&[("VoiceUrl", &product.url)]).await;
    let story = carrier.call(&number, json!({})).await;
    assert_eq!(story["spoken"], json!(["Hello"]));
    until("stop", async || heard.lock().unwrap().iter().any(|event| event["event"] == "stop")).await;
    assert_eq!(heard.lock().unwrap()[1]["start"]["tracks"], json!(["inbound", "outbound"]));
    assert!(heard.lock().unwrap().iter().filter(|event| event["event"] == "media").count() >= 5);
}
