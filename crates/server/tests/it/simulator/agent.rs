//! The demo agent, spoken to by a WebSocket client that is not the simulated carrier.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use server::demo::agent;
use server::simulator::audio::decode;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::until;

#[tokio::test]
async fn it_greets_marks_echoes_and_leaves_with_the_call() {
    let running = agent::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (mut socket, _) = connect_async(running.url.as_str()).await.unwrap();
    for event in [
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
        json!({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": {"streamSid": "MZ1"}}),
    ] {
        socket.send(Message::text(event.to_string())).await.unwrap();
    }
    let mut frames = Vec::new();
    let mark = loop {
        let message = socket.next().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(event["streamSid"], "MZ1");
        if event["event"] == "mark" {
            break event;
        }
        frames.push(STANDARD.decode(event["media"]["payload"].as_str().unwrap()).unwrap());
    };
    assert_eq!(mark["mark"]["name"], agent::GREETING_MARK);
    assert_eq!(frames.len(), 50, "one second in frames of 20 ms");
    assert!(frames.iter().all(|frame| frame.len() == 160));
    let loud = frames.iter().flatten().filter(|byte| decode(**byte).unsigned_abs() > 1_000).count();
    assert!(loud > 5_000, "most of it is sound: {loud}");

    let said = json!({"event": "media", "streamSid": "MZ1", "media": {"payload": "AAEC"}});
    socket.send(Message::text(said.to_string())).await.unwrap();
    let echo: Value = serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(echo, said);
    assert_eq!((running.sessions(), running.sessions_open()), (1, 1));

    let stop = json!({"event": "stop", "streamSid": "MZ1", "stop": {}});
    socket.send(Message::text(stop.to_string())).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    until("the session ends", async || running.sessions_open() == 0).await;
    running.shutdown().await;
}

#[tokio::test]
async fn shutting_down_closes_open_calls() {
    let running = agent::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (mut socket, _) = connect_async(running.url.as_str()).await.unwrap();
    until("the session begins", async || running.sessions_open() == 1).await;
    running.shutdown().await;
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}
