//! A backup is restored that knows less than the carrier: what was bought after it is found, and nothing is bought again.

use database::{Database, Engine};
use domain::purchase::PurchaseState;
use serde_json::{Value, json};
use server::config::Config;

use crate::program::until;
use crate::world::World;

#[tokio::test]
async fn a_restored_backup_buys_nothing_until_it_was_compared() {
    let mut world = World::new(Engine::Sqlite, 9).await;
    let mut key = world.run(&["keys", "create", "--workspace", "buyers", "--role", "owner"]);
    let (node, _) = world.serving().await;
    let before = world.buy(world.next_number()).await;
    world.until(before, PurchaseState::Active).await;
    node.kill();

    // One more was only written down when the backup was made; then it was bought.
    let meanwhile = world.buy(world.next_number()).await;
    let backup = world.folder.path().join("backup.jsonl");
    let backup = backup.to_str().unwrap();
    world.run(&["backup", "create", backup]);
    let (node, _) = world.serving().await;
    world.until(meanwhile, PurchaseState::Active).await;
    node.kill();
    world.database.close().await;

    let folder = world.folder.path().to_owned();
    let old = format!("data_dir = {:?}\n", folder.join("data"));
    let new = format!(
        "data_dir = {:?}\nencryption_key_file = {:?}\n",
        folder.join("restored"),
        folder.join("data.key")
    );
    assert!(world.settings.contains(&old));
    world.settings = world.settings.replace(&old, &new);
    world.run(&["backup", "restore", backup]);
    let config: Config = toml::from_str(&world.settings).unwrap();
    // The old key opens nothing any more.
    let revoked = std::mem::replace(
        &mut key,
        world.run(&["keys", "create", "--workspace", "buyers", "--role", "owner"]),
    );
    world.database = Database::open(config.database_settings()).await.unwrap();
    world.count_posts().await;
    world.faults(json!([{"operation": "numbers.list", "kind": "error_before"}])).await;

    let (node, url) = world.serving().await;
    let asked = world.http.get(format!("{url}/v1/numbers")).bearer_auth(&revoked).send().await.unwrap();
    assert_eq!(asked.status().as_u16(), 401, "{}", asked.text().await.unwrap());
    let buy = async |idempotency_key: &str| {
        let wanted = json!({"country": "US", "type": "local", "area_code": "415",
            "max_monthly_price": {"amount": "2.00", "currency": "USD"}});
        let request = world.http.post(format!("{url}/v1/numbers/buy")).bearer_auth(&key);
        let answer = request.header("Idempotency-Key", idempotency_key).json(&wanted).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, problem) = buy("early").await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("purchases_locked")), "{problem}");
    world.faults_clear().await;
    world.count_posts().await;
    until("the end of the lock", async || buy("late").await.0 == 202).await;
    // Found by its callback URL, though its tag is long gone: the label stands in its place.
    world.until(meanwhile, PurchaseState::Active).await;
    assert_eq!(world.judge(&[]).await, 3);
    assert_eq!(world.posts_counted().await, 1, "only what was bought after the comparison was sent");
    node.kill();
    world.end().await;
}
