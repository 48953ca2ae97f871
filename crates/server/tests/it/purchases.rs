//! Buying numbers, through the true router: whatever rushes in, each number is bought once, and nobody spends more than allowed.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use domain::permission::BuiltInRole;
use expect_test::expect;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Node, on_both_engines, on_sqlite};
use crate::numbers::numbers;

on_both_engines!(fifty_twins_buy_one_number, twenty_buyers_of_one_number, the_daily_limit_holds_under_a_rush,);
on_sqlite!(buying_is_refused_clearly);

async fn fifty_twins_buy_one_number(node: Arc<Node>) {
    let body = json!({"country": "US", "max_monthly_price": {"amount": "2.00", "currency": "USD"}});
    let twins = (0..50).map(|_| {
        let (node, body) = (node.clone(), body.clone());
        async move {
            node.send_as(
                &node.owner_key,
                Method::POST,
                "/v1/numbers/buy",
                Some(body),
                &[("idempotency-key", "twins")],
            )
            .await
        }
    });
    let answers = join_all(twins).await;
    assert!(
        answers.iter().all(|answer| answer.status == 202 && answer.text == answers[0].text),
        "{answers:?}"
    );
    let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_some()).count();
    assert_eq!(replayed, 49);
    node.settle().await;
    assert_eq!(numbers(&node, "").await.len(), 1);
}

async fn twenty_buyers_of_one_number(node: Arc<Node>) {
    let found = node.get("/v1/store/numbers?country=CA&limit=1").await.json();
    let quote = found["data"][0]["quote_id"].clone();
    let buyers = (0..20).map(|buyer| {
        let (node, body) = (node.clone(), json!({"quote_id": quote}));
        async move {
            let key = format!("buyer-{buyer}");
            node.send_as(
                &node.owner_key,
                Method::POST,
                "/v1/numbers/buy",
                Some(body),
                &[("idempotency-key", &key)],
            )
            .await
        }
    });
    let (mut bought, mut refused) = (0, 0);
    for answer in join_all(buyers).await {
        match (answer.status, answer.code().as_str()) {
            (202, _) => bought += 1,
            (409, "purchase_in_progress") => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((bought, refused), (1, 19));
    node.settle().await;
    let (_, stranger) = node.stranger("rival").await;
    let body = Some(json!({"quote_id": quote}));
    let stolen =
        node.send_as(&stranger, Method::POST, "/v1/numbers/buy", body, &[("idempotency-key", "x")]).await;
    assert_eq!((stolen.status, stolen.code().as_str()), (422, "bad_quote"), "a quote is its workspace's own");
}

async fn the_daily_limit_holds_under_a_rush(node: Arc<Node>) {
    let buyers = (0..40).map(|buyer| {
        let node = node.clone();
        async move {
            let key = format!("rush-{buyer}");
            let country = ["US", "CA", "FR"][buyer % 3];
            let body =
                json!({"country": country, "max_monthly_price": {"amount": "2.00", "currency": "USD"}});
            node.send_as(
                &node.owner_key,
                Method::POST,
                "/v1/numbers/buy",
                Some(body),
                &[("idempotency-key", &key)],
            )
            .await
        }
    });
    let mut codes = std::collections::BTreeMap::new();
    for answer in join_all(buyers).await {
        let what = if answer.status == 202 { "bought".to_owned() } else { answer.code() };
        *codes.entry(what).or_insert(0) += 1;
    }
    assert_eq!(codes.get("bought"), Some(&10), "buys_per_day is 10: {codes:?}");
    assert!(
        codes
            .keys()
            .all(|code| ["bought", "budget_exceeded", "purchase_in_progress"].contains(&code.as_str())),
        "{codes:?}"
    );
    node.settle().await;
    node.clock.advance(Duration::from_secs(24 * 3600));
    node.buy("GB").await;
}

async fn buying_is_refused_clearly(node: Arc<Node>) {
    let buy = |key: &'static str, body: Value| {
        let node = node.clone();
        async move {
            let headers: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("idempotency-key", key)] };
            node.send_as(&node.owner_key, Method::POST, "/v1/numbers/buy", Some(body), headers).await
        }
    };
    buy("", json!({})).await.check(expect![[r#"
        400
        {
          "code": "idempotency_key_required",
          "detail": "buying spends money, so it must be safe to repeat: send a header Idempotency-Key with a value of your own, such as a UUID",
          "errors": [],
          "request_id": "req_…",
          "status": 400,
          "title": "This request needs an Idempotency-Key",
          "type": "/docs/errors/idempotency_key_required"
        }
    "#]]);
    buy("a", json!({})).await.check(expect![[r#"
        422
        {
          "code": "validation_failed",
          "detail": "2 errors, in country, max_monthly_price; nothing was changed",
          "errors": [
            {
              "code": "required",
              "detail": "is missing: send a quote_id, or country and max_monthly_price to let us choose",
              "field": "country"
            },
            {
              "code": "required",
              "detail": "is missing: send a quote_id, or country and max_monthly_price to let us choose",
              "field": "max_monthly_price"
            }
          ],
          "request_id": "req_…",
          "status": 422,
          "title": "The request has errors",
          "type": "/docs/errors/validation_failed"
        }
    "#]]);
    let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
    for (body, status, code, part) in [
        (json!({"country": "US", "max_monthly_price": usd("1.00")}), 409, "price_above_maximum", "1.15 USD"),
        (json!({"country": "DE", "max_monthly_price": usd("9.00")}), 422, "country_not_sold", "US local"),
        (json!({"country": "ZZ", "max_monthly_price": usd("9.00")}), 422, "bad_country", "`ZZ`"),
        (json!({"country": "US", "max_monthly_price": usd("9,00")}), 422, "bad_price", "`9,00`"),
        (
            json!({"country": "US", "max_monthly_price": {"amount": "9", "currency": "EUR"}}),
            422,
            "bad_price",
            "USD",
        ),
        (
            json!({"country": "US", "area_code": "9999", "max_monthly_price": usd("9.00")}),
            422,
            "bad_area_code",
            "three digits",
        ),
        (json!({"quote_id": "quo_abc"}), 422, "bad_quote", "search"),
        (json!({"quote_id": "quo_abc", "country": "US"}), 422, "field_conflict", "quote_id"),
    ] {
        let answer = buy("b", body.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}: {}", answer.text);
        assert!(answer.text.contains(part), "{body}: {}", answer.text);
    }
    let found = node.get("/v1/store/numbers?country=US&limit=1").await.json();
    node.clock.advance(Duration::from_secs(601));
    let late = buy("c", json!({"quote_id": found["data"][0]["quote_id"]})).await;
    assert_eq!((late.status, late.code().as_str()), (409, "quote_expired"), "{}", late.text);
    let fine = json!({"country": "US", "max_monthly_price": usd("9.00")});
    assert_eq!(buy("d", fine).await.status, 202, "a refusal is not kept under its key");
    let other = buy("d", json!({"country": "CA", "max_monthly_price": usd("9.00")})).await;
    assert_eq!((other.status, other.code().as_str()), (409, "idempotency_conflict"));
    node.settle().await;
    let builder = node.key(BuiltInRole::Builder).await;
    let body = Some(json!({"country": "US", "max_monthly_price": usd("9.00")}));
    let refused =
        node.send_as(&builder, Method::POST, "/v1/numbers/buy", body, &[("idempotency-key", "e")]).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"));
}
