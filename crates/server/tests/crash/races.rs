//! Many buyers at once, over HTTP and over two nodes: one key buys once and answers alike, one number is sold to one of them, and
//! a budget is not overdrawn by a single number.

use database::Engine;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::program::Program;
use crate::world::World;

/// A world with nodes that serve, and a key to ask them with.
struct Market {
    world: World,
    nodes: Vec<(Program, String)>,
    key: String,
}

/// What one buyer was answered.
struct Bought {
    status: StatusCode,
    replayed: bool,
    body: String,
}

impl Market {
    async fn new(engine: Engine, nodes: usize, buys_per_day: u32) -> Market {
        let mut world = World::new(engine, 5).await;
        world.settings =
            world.settings.replace("buys_per_day = 1000000", &format!("buys_per_day = {buys_per_day}"));
        let key = world.run(&["keys", "create", "--workspace", "buyers", "--role", "owner"]);
        let mut serving = Vec::new();
        for _ in 0..nodes {
            serving.push(world.serving().await);
        }
        Market { world, nodes: serving, key }
    }

    /// Quotes of up to fifty numbers of an area code.
    async fn quotes(&self, area_code: u32) -> Vec<String> {
        let url = format!(
            "{}/v1/store/numbers?country=US&type=local&area_code={area_code}&limit=50",
            self.nodes[0].1
        );
        let answer = self.world.http.get(url).bearer_auth(&self.key).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{body}");
        let offers = body["data"].as_array().unwrap();
        offers.iter().map(|offer| offer["quote_id"].as_str().unwrap().to_owned()).collect()
    }

    /// All of them at once, taking turns between the nodes.
    async fn buy_at_once(&self, wanted: &[(String, String)]) -> Vec<Bought> {
        let requests = wanted.iter().enumerate().map(|(count, (idempotency_key, quote_id))| async move {
            let url = format!("{}/v1/numbers/buy", self.nodes[count % self.nodes.len()].1);
            let request = self.world.http.post(url).bearer_auth(&self.key);
            let request = request.header("Idempotency-Key", idempotency_key);
            let answer = request.json(&json!({ "quote_id": quote_id })).send().await.unwrap();
            Bought {
                status: answer.status(),
                replayed: answer.headers().contains_key("idempotent-replayed"),
                body: answer.text().await.unwrap(),
            }
        });
        futures_util::future::join_all(requests).await
    }

    async fn end(self) {
        for (node, _) in self.nodes {
            node.kill();
        }
        self.world.end().await;
    }
}

fn code(bought: &Bought) -> String {
    let problem: Value = serde_json::from_str(&bought.body).unwrap();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn fifty_requests_with_one_key_are_one_purchase_and_fifty_same_answers_on_sqlite() {
    one_key(Engine::Sqlite, 1).await;
}

#[tokio::test]
async fn fifty_requests_with_one_key_are_one_purchase_and_fifty_same_answers_on_two_nodes() {
    one_key(Engine::Postgres, 2).await;
}

async fn one_key(engine: Engine, nodes: usize) {
    let market = Market::new(engine, nodes, 100).await;
    market.world.count_posts().await;
    let quote = market.quotes(212).await.remove(0);
    let bought = market.buy_at_once(&vec![("the-key".to_owned(), quote); 50]).await;
    for answer in &bought {
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert_eq!(answer.body, bought[0].body);
    }
    assert_eq!(bought.iter().filter(|answer| !answer.replayed).count(), 1, "one was first");
    assert_eq!(market.world.judge(&[]).await, 1);
    assert_eq!(market.world.posts_counted().await, 1);
    market.end().await;
}

#[tokio::test]
async fn twenty_keys_for_one_number_are_one_purchase_and_nineteen_refusals() {
    let market = Market::new(Engine::Postgres, 2, 100).await;
    let quote = market.quotes(718).await.remove(0);
    // As long as the carrier is down the purchase stays open.
    market.world.faults(json!([{"operation": "numbers.*", "kind": "error_before"}])).await;
    let wanted: Vec<(String, String)> =
        (0..20).map(|count| (format!("key-{count}"), quote.clone())).collect();
    let bought = market.buy_at_once(&wanted).await;
    let (first, refused): (Vec<&Bought>, Vec<&Bought>) =
        bought.iter().partition(|answer| answer.status == StatusCode::ACCEPTED);
    assert_eq!((first.len(), refused.len()), (1, 19));
    let number: Value = serde_json::from_str(&first[0].body).unwrap();
    for answer in refused {
        assert_eq!(
            (answer.status.as_u16(), code(answer).as_str()),
            (409, "purchase_in_progress"),
            "{}",
            answer.body
        );
        assert!(
            answer.body.contains(number["id"].as_str().unwrap()),
            "it names the purchase: {}",
            answer.body
        );
    }
    market.world.faults_clear().await;
    assert_eq!(market.world.judge(&[]).await, 1);
    market.end().await;
}

#[tokio::test]
async fn ten_a_day_are_ten_for_two_hundred_buyers_on_two_nodes() {
    let market = Market::new(Engine::Postgres, 2, 10).await;
    market.world.count_posts().await;
    let mut wanted = Vec::new();
    for area_code in [212, 718, 516, 585] {
        for quote in market.quotes(area_code).await {
            wanted.push((format!("key-{}", wanted.len()), quote));
        }
    }
    assert_eq!(wanted.len(), 200);
    let bought = market.buy_at_once(&wanted).await;
    let accepted = bought.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    assert_eq!(accepted, 10);
    for answer in bought.iter().filter(|answer| answer.status != StatusCode::ACCEPTED) {
        assert_eq!(
            (answer.status.as_u16(), code(answer).as_str()),
            (409, "budget_exceeded"),
            "{}",
            answer.body
        );
    }
    assert_eq!(market.world.judge(&[]).await, 10);
    assert_eq!(market.world.posts_counted().await, 10);
    market.end().await;
}
