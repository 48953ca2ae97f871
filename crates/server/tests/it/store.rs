//! The store: what is sold where, and searching.

use std::sync::Arc;

use expect_test::expect;

use crate::harness::{Node, on_sqlite};

on_sqlite!(countries_are_listed_with_prices, searches_find_exact_numbers);

async fn countries_are_listed_with_prices(node: Arc<Node>) {
    let countries = node.get("/v1/store/countries").await;
    let names: Vec<String> = countries.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|country| format!("{} {}", country["country"], country["types"].as_array().unwrap().len()))
        .collect();
    expect![[r#"
        "CA" 1
        "FR" 1
        "GB" 1
        "US" 2"#]]
    .assert_eq(&names.join("\n"));
}

async fn searches_find_exact_numbers(node: Arc<Node>) {
    node.get("/v1/store/numbers?country=GB&limit=1").await.check(expect![[r#"
        200
        {
          "data": [
            {
              "capabilities": [
                "voice"
              ],
              "country": "GB",
              "locality": "Leeds",
              "monthly_price": {
                "amount": "1.15",
                "currency": "USD"
              },
              "phone_number": "+441134960861",
              "quote_expires_at": "2026-11-21T22:10:00.000Z",
              "quote_id": "quo_…",
              "region": "England",
              "setup_price": {
                "amount": "1.00",
                "currency": "USD"
              },
              "type": "local"
            }
          ],
          "next_cursor": null
        }
    "#]]);
    for (query, holds) in [
        ("country=US&area_code=415", "+1415"),
        ("country=US&digits=0142", "0142"),
        ("country=CA&capabilities=voice,sms", "+1"),
        ("country=FR", "+33"),
        ("country=US&type=toll_free", "+18"),
    ] {
        let found = node.get(&format!("/v1/store/numbers?{query}&limit=5")).await.json();
        let numbers = found["data"].as_array().unwrap();
        assert!(!numbers.is_empty() && numbers.len() <= 5, "{query}");
        for number in numbers {
            assert!(number["phone_number"].as_str().unwrap().contains(holds), "{query}: {number}");
        }
    }
    let nothing = node.get("/v1/store/numbers?country=US&digits=99999999").await;
    assert_eq!(
        (nothing.status, nothing.json()["data"].as_array().unwrap().len()),
        (200, 0),
        "{}",
        nothing.text
    );
}
