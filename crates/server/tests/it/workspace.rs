//! The workspace: its settings and the outage switches.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use expect_test::expect;
use serde_json::json;

use crate::harness::{Node, on_both_engines};

on_both_engines!(settings_are_changed_and_read_back);

async fn settings_are_changed_and_read_back(node: Arc<Node>) {
    node.get("/v1/workspace").await.check(expect![[r#"
        200
        {
          "created_at": "2026-11-21T22:00:00.000Z",
          "default_country": null,
          "fallback": null,
          "id": "wsp_…",
          "name": "default",
          "outage": {
            "live": false,
            "pre_release": false,
            "sandbox": false
          },
          "outage_since": {
            "live": null,
            "pre_release": null,
            "sandbox": null
          },
          "sandbox_follows": "published",
          "time_zone": "UTC",
          "updated_at": "2026-11-21T22:00:00.000Z"
        }
    "#]]);
    let body = json!({
        "name": "acme",
        "default_country": "CA",
        "time_zone": "America/Toronto",
        "fallback": {"targets": [{"type": "phone", "phone_number": "+15145550142"}], "message": "We call you back."},
        "sandbox_follows": "saved",
        "outage": {"live": true},
    });
    node.patch("/v1/workspace", body).await.check(expect![[r#"
        200
        {
          "created_at": "2026-11-21T22:00:00.000Z",
          "default_country": "CA",
          "fallback": {
            "message": "We call you back.",
            "targets": [
              {
                "phone_number": "+15145550142",
                "ring_timeout_s": 20,
                "type": "phone"
              }
            ]
          },
          "id": "wsp_…",
          "name": "acme",
          "outage": {
            "live": true,
            "pre_release": false,
            "sandbox": false
          },
          "outage_since": {
            "live": "2026-11-21T22:00:00.000Z",
            "pre_release": null,
            "sandbox": null
          },
          "sandbox_follows": "saved",
          "time_zone": "America/Toronto",
          "updated_at": "2026-11-21T22:00:00.000Z"
        }
    "#]]);
    node.clock.advance(Duration::from_secs(60));
    let still = node.patch("/v1/workspace", json!({"outage": {"live": true, "sandbox": false}})).await.json();
    assert_eq!(
        still["outage_since"]["live"], "2026-11-21T22:00:00.000Z",
        "switching on twice keeps the first time"
    );
    let cleared = json!({"default_country": null, "time_zone": null, "fallback": null, "sandbox_follows": null, "outage": {"live": false}});
    let cleared = node.patch("/v1/workspace", cleared).await.json();
    assert_eq!((&cleared["time_zone"], &cleared["sandbox_follows"]), (&json!("UTC"), &json!("published")));
    assert_eq!((&cleared["fallback"], &cleared["outage"]["live"]), (&json!(null), &json!(false)));
    let (_, stranger) = node.stranger("other").await;
    let taken =
        node.send_as(&stranger, Method::PATCH, "/v1/workspace", Some(json!({"name": "acme"})), &[]).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "name_taken"), "{}", taken.text);
}
