//! Numbers through the true router, on both engines: the story of one number, and what is refused on the way.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use domain::permission::BuiltInRole;
use expect_test::expect;
use serde_json::{Value, json};

use crate::harness::{Node, on_both_engines, on_sqlite};

on_both_engines!(a_number_is_bought_changed_and_given_back, lists_filter_and_page,);
on_sqlite!(
    settings_are_read_back_as_they_were_sent,
    a_release_needs_care,
    revisions_are_honoured,
    readiness_says_what_is_missing,
    numbers_are_found_by_their_digits,
);

async fn a_number_is_bought_changed_and_given_back(node: Arc<Node>) {
    let body = json!({"country": "US", "area_code": "415", "max_monthly_price": {"amount": "2.00", "currency": "USD"}, "label": "Front desk"});
    let headers = [("idempotency-key", "story")];
    let bought =
        node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", Some(body.clone()), &headers).await;
    bought.check(expect![[r#"
        202
        {
          "assignment": null,
          "capabilities": [
            "voice",
            "sms",
            "mms"
          ],
          "country": "US",
          "created_at": "2026-11-21T22:00:00.000Z",
          "fallback": null,
          "hours": null,
          "id": "num_…",
          "inbound": null,
          "label": "Front desk",
          "language": null,
          "locality": "San Francisco",
          "monthly_price": {
            "amount": "1.15",
            "currency": "USD"
          },
          "phone_number": "+14155550174",
          "region": "CA",
          "release_at": null,
          "release_lock": false,
          "release_requested_at": null,
          "setup_price": {
            "amount": "0.00",
            "currency": "USD"
          },
          "source": "store",
          "status": "ordering",
          "status_reason": null,
          "tags": [],
          "time_zone": null,
          "type": "local",
          "updated_at": "2026-11-21T22:00:00.000Z"
        }
    "#]]);
    node.settle().await;
    let again = node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", Some(body), &headers).await;
    assert_eq!(
        (again.status, &again.text),
        (bought.status, &bought.text),
        "a replay is the same, byte for byte"
    );
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let id = bought.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/numbers/{id}");

    let number = node.get(&path).await;
    assert_eq!((number.status, number.json()["status"].as_str()), (200, Some("active")), "{}", number.text);
    node.patch(&path, json!({"label": null, "tags": ["reception", "montréal"], "release_lock": true}))
        .await
        .check(expect![[r#"
        200
        {
          "assignment": null,
          "capabilities": [
            "voice",
            "sms",
            "mms"
          ],
          "country": "US",
          "created_at": "2026-11-21T22:00:00.000Z",
          "fallback": null,
          "hours": null,
          "id": "num_…",
          "inbound": null,
          "label": null,
          "language": null,
          "locality": "San Francisco",
          "monthly_price": {
            "amount": "1.15",
            "currency": "USD"
          },
          "phone_number": "+14155550174",
          "region": "CA",
          "release_at": null,
          "release_lock": true,
          "release_requested_at": null,
          "setup_price": {
            "amount": "0.00",
            "currency": "USD"
          },
          "source": "store",
          "status": "active",
          "status_reason": null,
          "tags": [
            "reception",
            "montréal"
          ],
          "time_zone": null,
          "type": "local",
          "updated_at": "2026-11-21T22:00:00.000Z"
        }
    "#]]);
    node.post(&format!("{path}/release"), json!({"confirm": number.json()["phone_number"]})).await.check(expect![[r#"
        409
        {
          "code": "release_locked",
          "detail": "+14155550174 has a release lock; take it off first with PATCH /v1/numbers/num_… {\"release_lock\":false}",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The number is locked against release",
          "type": "/docs/errors/release_locked"
        }
    "#]]);
    node.patch(&path, json!({"release_lock": false})).await;
    let released =
        node.post(&format!("{path}/release"), json!({"confirm": number.json()["phone_number"]})).await;
    assert_eq!((released.status, released.json()["status"].as_str()), (200, Some("release_scheduled")));
    assert_eq!(released.json()["release_at"], "2026-11-28T22:00:00.000Z");
    let kept = node.send(Method::POST, &format!("{path}/release/cancel"), None).await;
    assert_eq!((kept.status, kept.json()["status"].as_str()), (200, Some("active")));
    let late = node.send(Method::POST, &format!("{path}/release/cancel"), None).await;
    late.check(expect![[r#"
        409
        {
          "code": "number_state",
          "detail": "+14155550174 is active and cannot be kept: no release is scheduled; this works while it is release_scheduled",
          "errors": [],
          "request_id": "req_…",
          "status": 409,
          "title": "The number's state does not allow that",
          "type": "/docs/errors/number_state"
        }
    "#]]);

    node.post(&format!("{path}/release"), json!({"confirm": number.json()["phone_number"]})).await;
    node.clock.advance(Duration::from_secs(8 * 24 * 3600));
    node.settle().await;
    let gone = node.get(&path).await;
    assert_eq!(gone.json()["status"], "released", "{}", gone.text);
}

async fn lists_filter_and_page(node: Arc<Node>) {
    for (country, label) in
        [("US", "Reception"), ("CA", "réception 2"), ("GB", "100 % desk_1"), ("FR", "Paris")]
    {
        let number = node.buy(country).await;
        node.clock.advance(Duration::from_millis(1));
        let patched = node
            .patch(&format!("/v1/numbers/{}", number["id"].as_str().unwrap()), json!({"label": label}))
            .await;
        assert_eq!(patched.status, 200);
    }
    let labels = |list: Vec<Value>| -> Vec<String> {
        list.iter().map(|number| number["label"].as_str().unwrap().to_owned()).collect()
    };
    for (filter, found) in [
        ("?search=RECEPTION", vec!["Reception"]),
        ("?search=%25", vec!["100 % desk_1"]),
        ("?search=k_1", vec!["100 % desk_1"]),
        ("?country=FR", vec!["Paris"]),
        ("?country=FR&status=failed", vec![]),
        ("?status=active,ordering&country=CA", vec!["réception 2"]),
        ("?unassigned=true&capability=voice", vec!["Reception", "réception 2", "100 % desk_1", "Paris"]),
        ("?environment=live", vec![]),
        ("?source=store&search=zzz", vec![]),
    ] {
        assert_eq!(labels(numbers(&node, filter).await), found, "{filter}");
    }
    let first = node.get("/v1/numbers?limit=3&source=store").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = node.get(&format!("/v1/numbers?limit=3&source=store&cursor={cursor}")).await.json();
    assert_eq!(labels(second["data"].as_array().unwrap().clone()), ["Paris"]);
    assert_eq!(second["next_cursor"], Value::Null);
    let (_, stranger) = node.stranger("other").await;
    for (key, path) in [
        (&stranger, format!("/v1/numbers?source=store&cursor={cursor}")),
        (&node.owner_key, format!("/v1/numbers?cursor={cursor}")),
        (&node.owner_key, format!("/v1/api-keys?cursor={cursor}")),
        (&node.owner_key, "/v1/numbers?cursor=abc".to_owned()),
    ] {
        let answer = node.send_as(key, Method::GET, &path, None, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_cursor"), "{path}");
    }
}

async fn settings_are_read_back_as_they_were_sent(node: Arc<Node>) {
    let number = node.buy("CA").await;
    let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let settings = json!({
        "inbound": {"allow_countries": ["CA", "US"], "block_countries": [], "allow_numbers": ["+33612345678"], "block_numbers": [], "block_anonymous": true},
        "fallback": {"targets": [{"type": "phone", "phone_number": "+15145550199", "ring_timeout_s": 25}], "message": "Nous rappelons."},
        "hours": {
            "week": {"monday": [{"from": "09:00", "to": "12:00"}, {"from": "13:00", "to": "17:30"}], "tuesday": [], "wednesday": [], "thursday": [], "friday": [], "saturday": [], "sunday": []},
            "holidays": [{"date": "2026-12-25", "name": "Noël", "open": []}],
            "closed": {"targets": [], "message": "Fermé."}
        },
        "language": "fr-CA",
        "time_zone": "America/Toronto",
    });
    let patched = node.patch(&path, settings.clone()).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    for (field, sent) in settings.as_object().unwrap() {
        assert_eq!(&patched.json()[field], sent, "{field}");
    }
    let secret = json!({"fallback": {"targets": [{"type": "sip", "uri": "sip:desk@127.0.0.1", "username": "desk", "password": "correct horse battery"}]}});
    let patched = node.patch(&path, secret).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    assert_eq!(patched.json()["fallback"]["targets"][0]["password"], json!({"set": true, "last4": "tery"}));
    assert!(!patched.text.contains("horse"));
    let cleared =
        json!({"inbound": null, "fallback": null, "hours": null, "language": null, "time_zone": null});
    let patched = node.patch(&path, cleared.clone()).await.json();
    for (field, sent) in cleared.as_object().unwrap() {
        assert_eq!(&patched[field], sent, "{field}");
    }

    node.patch(&path, json!({
        "lable": "x",
        "tags": ["ok", 7, "a\nb"],
        "release_lock": null,
        "inbound": [],
        "fallback": {"targets": [{"type": "phone", "phone_number": "514 555-0199"}, {"type": "stream", "url": "https://x.example"}, {"type": "fax"}]},
        "hours": {"week": {"monday": [{"from": "9:00", "to": "17:00"}], "lundi": []}},
        "language": "français",
        "time_zone": "EST5",
    })).await.check(expect![[r#"
        422
        {
          "code": "validation_failed",
          "detail": "12 errors, in tags[1], tags[2], release_lock, inbound, fallback.targets[0].phone_number, fallback.targets[1].url, fallback.targets[2].type, hours.week.monday[0].from, hours.week.lundi, language and others; nothing was changed",
          "errors": [
            {
              "code": "wrong_type",
              "detail": "is the number `7`; expected a string",
              "field": "tags[1]"
            },
            {
              "code": "control_character",
              "detail": "`a<U+000A>b` holds the character U+000A, which does not show",
              "field": "tags[2]"
            },
            {
              "code": "required",
              "detail": "cannot be cleared; send a value, or leave it out to keep it",
              "field": "release_lock"
            },
            {
              "code": "wrong_type",
              "detail": "is an array; expected an object",
              "field": "inbound"
            },
            {
              "code": "not_e164",
              "detail": "`514 555-0199` holds a space, which E.164 does not allow; did you mean +15145550199?",
              "field": "fallback.targets[0].phone_number"
            },
            {
              "code": "url_scheme",
              "detail": "`https://x.example` has the scheme `https`; only wss: is allowed here",
              "field": "fallback.targets[1].url"
            },
            {
              "code": "invalid_value",
              "detail": "`fax` is no kind of target; it is one of sip, stream, phone",
              "field": "fallback.targets[2].type"
            },
            {
              "code": "bad_schedule",
              "detail": "`9:00` is not a time of day; send HH:MM from 00:00 to 24:00",
              "field": "hours.week.monday[0].from"
            },
            {
              "code": "unknown_field",
              "detail": "there is no field `lundi`; the fields here are monday, tuesday, wednesday, thursday, friday, saturday, sunday",
              "field": "hours.week.lundi"
            },
            {
              "code": "bad_language",
              "detail": "`français` is not a language tag; send one such as en-US, fr or zh-Hant-TW",
              "field": "language"
            },
            {
              "code": "bad_time_zone",
              "detail": "`EST5` is not a time zone of the IANA database; send a name such as America/Toronto, Europe/Paris or UTC",
              "field": "time_zone"
            },
            {
              "code": "unknown_field",
              "detail": "there is no field `lable`; did you mean `label`?",
              "field": "lable"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The request has errors",
          "type": "/docs/errors/validation_failed"
        }
    "#]]);
}

async fn a_release_needs_care(node: Arc<Node>) {
    let number = node.buy("US").await;
    let (id, phone_number) = (number["id"].as_str().unwrap(), number["phone_number"].as_str().unwrap());
    let release = format!("/v1/numbers/{id}/release");
    node.send(Method::POST, &release, None).await.check(expect![[r#"
        422
        {
          "code": "required",
          "detail": "confirm: is missing: after the hold a number that is given back may be gone for good, so send \"confirm\":\"+15095550105\"",
          "errors": [
            {
              "code": "required",
              "detail": "is missing: after the hold a number that is given back may be gone for good, so send \"confirm\":\"+15095550105\"",
              "field": "confirm"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The field is required",
          "type": "/docs/errors/required"
        }
    "#]]);
    node.post(&release, json!({"confirm": "+14385950345"})).await.check(expect![[r#"
        422
        {
          "code": "confirmation_mismatch",
          "detail": "confirm: is `+14385950345`, and the number is +15095550105; nothing was released",
          "errors": [
            {
              "code": "confirmation_mismatch",
              "detail": "is `+14385950345`, and the number is +15095550105; nothing was released",
              "field": "confirm"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The confirmation does not match the number",
          "type": "/docs/errors/confirmation_mismatch"
        }
    "#]]);
    let builder = node.key(BuiltInRole::Builder).await;
    let refused =
        node.send_as(&builder, Method::POST, &release, Some(json!({"confirm": phone_number})), &[]).await;
    refused.check(expect![[r#"
        403
        {
          "code": "forbidden",
          "detail": "this needs the permission numbers:release, which the role of your key does not have",
          "errors": [],
          "request_id": "req_…",
          "status": 403,
          "title": "This key may not do that",
          "type": "/docs/errors/forbidden"
        }
    "#]]);
    let encoded = phone_number.replace('+', "%2B");
    let deleted = node.delete(&format!("/v1/numbers/{encoded}?confirm={encoded}")).await;
    assert_eq!(
        (deleted.status, deleted.json()["status"].as_str()),
        (200, Some("release_scheduled")),
        "{}",
        deleted.text
    );
    let twice = node.post(&release, json!({"confirm": phone_number})).await;
    assert_eq!((twice.status, twice.code().as_str()), (409, "number_state"));
    let readiness = node.get(&format!("/v1/numbers/{id}/readiness")).await.json();
    assert_eq!(readiness["inbound"]["reasons"][1]["code"], "release_scheduled");
}

async fn revisions_are_honoured(node: Arc<Node>) {
    let number = node.buy("US").await;
    let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let tag = node.get(&path).await.header("etag").unwrap().to_owned();
    let patch = |tag: String| {
        let (node, path) = (node.clone(), path.clone());
        async move {
            let body = Some(json!({"label": tag.clone()}));
            node.send_as(&node.owner_key, Method::PATCH, &path, body, &[("if-match", &tag)]).await
        }
    };
    let changed = patch(tag.clone()).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    let stale = patch(tag).await;
    assert_eq!((stale.status, stale.code().as_str()), (412, "stale_version"));
    assert_eq!(patch("*".to_owned()).await.status, 200);
    let same = node.patch(&path, json!({"label": "*"})).await;
    let before = node.get(&path).await;
    assert_eq!(same.header("etag"), before.header("etag"), "what changes nothing is no change");
}

async fn readiness_says_what_is_missing(node: Arc<Node>) {
    let number = node.buy("GB").await;
    node.get(&format!("/v1/numbers/{}/readiness", number["id"].as_str().unwrap())).await.check(expect![[r#"
        200
        {
          "inbound": {
            "ready": false,
            "reasons": [
              {
                "code": "not_assigned",
                "detail": "no agent is assigned, so callers reach the fallback; assign one with PUT /v1/numbers/{id}/assignment"
              }
            ]
          },
          "outbound": {
            "ready": false,
            "reasons": [
              {
                "code": "inbound_only",
                "detail": "numbers bought in the store serve inbound only: the account that they are bought with is the operator's, and its caller ID is not yours to show. To place calls, use a number of an account of your own at Twilio or Telnyx, or of your carrier's SIP trunk; connecting those is not part of this version yet"
              }
            ]
          },
          "sms": {
            "ready": false,
            "reasons": [
              {
                "code": "no_sms",
                "detail": "the number has no SMS capability; search the store with capabilities=sms for one that has it"
              }
            ]
          }
        }
    "#]]);
}

async fn numbers_are_found_by_their_digits(node: Arc<Node>) {
    let number = node.buy("CA").await;
    let phone_number = number["phone_number"].as_str().unwrap();
    for path in
        [phone_number.to_owned(), phone_number.replace('+', "%2B"), number["id"].as_str().unwrap().to_owned()]
    {
        let found = node.get(&format!("/v1/numbers/{path}")).await;
        assert_eq!((found.status, &found.json()["id"]), (200, &number["id"]), "{path}");
    }
    assert_eq!(numbers(&node, &format!("?search={}", &phone_number[4..9])).await.len(), 1, "digits anywhere");
    let (_, stranger) = node.stranger("other").await;
    let nobody = "num_01kb5x3a7m0000000000000000";
    let foreign = node
        .send_as(
            &stranger,
            Method::GET,
            &format!("/v1/numbers/{}", number["id"].as_str().unwrap()),
            None,
            &[],
        )
        .await;
    let missing = node.get(&format!("/v1/numbers/{nobody}")).await;
    assert_eq!(foreign.status, 404);
    let mut foreign = foreign.json();
    foreign["detail"] =
        foreign["detail"].as_str().unwrap().replace(number["id"].as_str().unwrap(), nobody).into();
    let mut missing = missing.json();
    missing["request_id"] = foreign["request_id"].clone();
    assert_eq!(foreign, missing, "another workspace's number looks like none");
}

pub(crate) async fn numbers(node: &Node, filter: &str) -> Vec<Value> {
    let list = node.get(&format!("/v1/numbers{filter}")).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json()["data"].as_array().unwrap().clone()
}
