//! What the carrier has against what we set, through the true router: seen, believed, and seen to be mended.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use carriers::{Configuration, VoiceUrls};
use expect_test::expect;
use serde_json::{Value, json};
use server::background::driver::Task as _;
use server::background::reconcile_numbers::ReconcileNumbers;

use crate::harness::{Node, on_both_engines};

on_both_engines!(a_number_that_was_set_elsewhere_is_found);

async fn compare(node: &Node, task: &ReconcileNumbers) {
    node.clock.advance(Duration::from_secs(60));
    task.run_once(&node.app).await.unwrap();
}

async fn a_number_that_was_set_elsewhere_is_found(node: Arc<Node>) {
    let number = node.buy("US").await;
    let (id, digits) = (number["id"].as_str().unwrap(), number["phone_number"].as_str().unwrap());
    let path = format!("/v1/numbers/{id}/drift");
    assert_eq!(node.get(&path).await.json(), json!({"ok": true, "checked_at": null, "findings": []}));
    let task = ReconcileNumbers::new(&node.app);
    compare(&node, &task).await;
    assert_eq!(
        node.get(&path).await.json(),
        json!({"ok": true, "checked_at": "2026-11-21T22:01:00.000Z", "findings": []})
    );

    // Somebody changes it in the carrier's portal.
    let carrier = node.app.store.as_ref().unwrap().carrier();
    let listed = carrier.numbers_list(None).await.unwrap().numbers;
    let theirs = listed.iter().find(|owned| owned.phone_number.to_string() == digits).unwrap();
    let voice = VoiceUrls {
        voice_url: "https://elsewhere.example/voice".to_owned(),
        voice_fallback_url: theirs.voice_fallback_url.clone(),
        status_callback: theirs.status_callback.clone().unwrap_or_default(),
    };
    let elsewhere = Configuration { label: theirs.label.clone(), voice };
    carrier.number_configure(&theirs.carrier_number_id, &elsewhere).await.unwrap();
    compare(&node, &task).await;
    let once = node.get(&path).await.json();
    assert_eq!((&once["ok"], &once["findings"][0]["believed"]), (&json!(true), &json!(false)), "{once:#}");
    compare(&node, &task).await;
    node.get(&format!("/v1/numbers/{digits}/drift")).await.check(expect![[r#"
        200
        {
          "checked_at": "2026-11-21T22:03:00.000Z",
          "findings": [
            {
              "believed": true,
              "detail": "voice_url",
              "finding": "drifted",
              "first_seen_at": "2026-11-21T22:02:00.000Z",
              "last_seen_at": "2026-11-21T22:03:00.000Z",
              "seen": 2
            }
          ],
          "ok": false
        }
    "#]]);
    let event = node.get("/v1/audit?action=number.drift").await.json();
    assert_eq!(event["data"][0]["target"], id, "{event:#}");

    let (_, stranger) = node.stranger("others").await;
    let theirs = node.send_as(&stranger, Method::GET, &path, None, &[]).await;
    assert_eq!((theirs.status, theirs.code().as_str()), (404, "not_found"));
    assert_eq!(node.get(&path).await.json()["findings"].as_array().map(Vec::len), Some(1));
    assert_ne!(node.get(&path).await.json()["findings"][0]["detail"], Value::Null);
}
