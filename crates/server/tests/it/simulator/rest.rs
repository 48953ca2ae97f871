//! The REST interface: credentials, search, buying, listing, settings, errors, and the ledger that outlives the process.

use axum::http::{Method, header};
use serde_json::{Value, json};
use server::simulator::SimulatorConfig;

use super::{Carrier, Product, settings, twiml};

fn code(answer: &(u16, Value)) -> (u16, i64) {
    assert_eq!(answer.1["status"], answer.0, "{answer:?}");
    assert!(answer.1["more_info"].as_str().unwrap().ends_with(&answer.1["code"].to_string()), "{answer:?}");
    assert!(!answer.1["message"].as_str().unwrap().is_empty());
    (answer.0, answer.1["code"].as_i64().unwrap())
}

#[tokio::test]
async fn only_the_accounts_own_credentials_and_keys_are_let_in() {
    let carrier = Carrier::start().await;
    let sid = carrier.running.account_sid();
    let token = carrier.running.auth_token();
    let key = format!("SK{}", "a".repeat(32));
    for (user, password, expected) in [
        (sid, token, 200),
        (key.as_str(), "a secret", 200),
        (sid, "a secret", 401),
        (key.as_str(), token, 401),
        ("AC0", token, 401),
    ] {
        let request = carrier.http.get(carrier.url(".json")).basic_auth(user, Some(password));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expected, "{user}");
        if expected == 401 {
            assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
            assert_eq!(response.json::<Value>().await.unwrap()["code"], 20003);
        }
    }
    let bare = carrier.http.get(carrier.url(".json")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
}

#[tokio::test]
async fn answers_carry_the_carriers_headers_and_dates() {
    let carrier = Carrier::start().await;
    let request = carrier.http.get(carrier.url(".json"));
    let response = request
        .basic_auth(carrier.running.account_sid(), Some(carrier.running.auth_token()))
        .send()
        .await
        .unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert!(header("twilio-request-id").starts_with("RQ"));
    assert_eq!(header("twilio-concurrent-requests"), "1");
    header("twilio-request-duration").parse::<f64>().unwrap();
    assert_eq!(header("content-type"), "application/json;charset=utf-8");
    let account: Value = response.json().await.unwrap();
    assert_eq!(account["auth_token"], carrier.running.auth_token());
    let created = account["date_created"].as_str().unwrap();
    assert!(created.ends_with(" +0000") && created.as_bytes()[3] == b',', "{created}");
}

#[tokio::test]
async fn what_is_not_there_is_a_404_in_json_and_a_wrong_method_a_405() {
    let carrier = Carrier::start().await;
    for path in [
        "/Nothing.json",
        "/IncomingPhoneNumbers",
        "/IncomingPhoneNumbers/PN123.json",
        "/IncomingPhoneNumbers/PN00000000000000000000000000000000.json",
        "/Calls/CA00000000000000000000000000000000.json",
        "/AvailablePhoneNumbers/ZZ.json",
        "/AvailablePhoneNumbers/US/Mobile.json",
        "/AvailablePhoneNumbers/US/local.json",
    ] {
        let answer = carrier.get(path).await;
        assert_eq!(code(&answer), (404, 20404), "{path}");
        let message = answer.1["message"].as_str().unwrap();
        assert!(message.starts_with("The requested resource /2010-04-01/Accounts/AC"), "{message}");
        assert!(message.ends_with(" was not found"), "{message}");
    }
    let elsewhere = carrier.http.get(format!("{}/2008-08-01/Accounts.json", carrier.running.base_url()));
    assert_eq!(code(&carrier.send(elsewhere).await.unwrap()), (404, 20404));
    assert_eq!(code(&carrier.delete("/IncomingPhoneNumbers.json").await), (405, 20004));
    assert_eq!(code(&carrier.post("/Balance.json", &[]).await), (405, 20004));
}

#[tokio::test]
async fn search_shows_numbers_as_the_carrier_writes_them() {
    let carrier = Carrier::start().await;
    let (_, found) = carrier.get("/AvailablePhoneNumbers/US/Local.json?AreaCode=808&PageSize=1").await;
    let number = &found["available_phone_numbers"][0];
    assert_eq!(
        found["uri"].as_str().unwrap().split('?').next().unwrap(),
        format!("/2010-04-01/Accounts/{}/AvailablePhoneNumbers/US/Local.json", carrier.running.account_sid())
    );
    assert!(number["phone_number"].as_str().unwrap().starts_with("+180855501"));
    assert!(number["friendly_name"].as_str().unwrap().starts_with("(808) 555-01"));
    assert_eq!(number["latitude"], "21.310000", "coordinates are text on this wire");
    let capabilities: Vec<&String> = number["capabilities"].as_object().unwrap().keys().collect();
    assert_eq!(capabilities, ["MMS", "SMS", "voice"], "upper case here, lower case on owned numbers");

    let count = async |query: &str| {
        let (status, body) = carrier.get(&format!("/AvailablePhoneNumbers/{query}")).await;
        assert_eq!(status, 200, "{body}");
        body["available_phone_numbers"].as_array().unwrap().len()
    };
    assert_eq!(count("US/Local.json").await, 50);
    assert_eq!(count("US/Local.json?PageSize=1000&AreaCode=415").await, 100);
    assert_eq!(count("US/Local.json?AreaCode=999").await, 0);
    assert_eq!(count("GB/Local.json?Contains=%2B4420*946&PageSize=3").await, 3);
    assert_eq!(count("GB/Local.json?Contains=%2B4420*947&PageSize=3").await, 0);
    assert_eq!(count("US/Local.json?Contains=0123%24&AreaCode=415").await, 1);
    assert_eq!(count("US/Local.json?FaxEnabled=true&SmsEnabled=false&PageSize=1000").await, 0);
    let without_voice = count("GB/Mobile.json?VoiceEnabled=false&PageSize=1000").await;
    assert!((1..200).contains(&without_voice), "{without_voice}");

    let refused = carrier.get("/AvailablePhoneNumbers/US/Local.json?AreaCode=41").await;
    assert_eq!(code(&refused), (400, 21451));
    let refused = carrier.get("/AvailablePhoneNumbers/US/Local.json?Contains=1-2").await;
    assert_eq!(code(&refused), (400, 20001));
}

#[tokio::test]
async fn every_number_on_sale_is_one_that_the_product_accepts() {
    let carrier = Carrier::start().await;
    for (country, kinds) in [
        ("US", vec!["Local", "TollFree"]),
        ("CA", vec!["Local"]),
        ("GB", vec!["Local", "Mobile", "TollFree", "National"]),
        ("FR", vec!["Local", "Mobile"]),
    ] {
        for kind in kinds {
            let (_, found) =
                carrier.get(&format!("/AvailablePhoneNumbers/{country}/{kind}.json?PageSize=300")).await;
            for number in found["available_phone_numbers"].as_array().unwrap() {
                let text = number["phone_number"].as_str().unwrap();
                let parsed = domain::e164::E164::parse(text, None).map(|number| number.to_string());
                assert_eq!(parsed.as_deref().ok(), Some(text), "{country} {kind} {text}: {parsed:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_number_is_sold_once_and_leaves_the_shelf() {
    let carrier = Carrier::start().await;
    let number = carrier
        .buy(&[("FriendlyName", "sb:1"), ("VoiceUrl", "https://pbx.example.com/v"), ("SmsMethod", "GET")])
        .await;
    let e164 = number["phone_number"].as_str().unwrap();
    assert!(number["sid"].as_str().unwrap().starts_with("PN"));
    assert_eq!(
        number["capabilities"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["fax", "mms", "sms", "voice"]
    );
    assert_eq!(number["voice_url"], "https://pbx.example.com/v");
    assert_eq!(number["voice_fallback_url"], "");
    assert_eq!(number["trunk_sid"], Value::Null);
    assert_eq!(number["sms_method"], "GET");
    assert_eq!(number["type"], "local");
    assert_eq!(number["status"], "in-use");

    let again = carrier.post("/IncomingPhoneNumbers.json", &[("PhoneNumber", e164)]).await;
    assert_eq!(code(&again), (400, 21422));
    let (_, found) = carrier.get("/AvailablePhoneNumbers/US/Local.json?AreaCode=415&PageSize=1000").await;
    let found = found["available_phone_numbers"].as_array().unwrap();
    assert!(found.len() == 99 && found.iter().all(|other| other["phone_number"] != e164));

    let sid = number["sid"].as_str().unwrap();
    assert_eq!(carrier.delete(&format!("/IncomingPhoneNumbers/{sid}.json")).await, (204, Value::Null));
    assert_eq!(code(&carrier.delete(&format!("/IncomingPhoneNumbers/{sid}.json")).await), (404, 20404));
    let (status, once_more) = carrier.post("/IncomingPhoneNumbers.json", &[("PhoneNumber", e164)]).await;
    assert_eq!(status, 201);
    assert_ne!(once_more["sid"], number["sid"]);
}

#[tokio::test]
async fn of_twenty_who_buy_one_number_at_once_one_gets_it() {
    let carrier = Carrier::start().await;
    let form = [("PhoneNumber", "+14155550123")];
    let tries = (0..20).map(|_| carrier.post("/IncomingPhoneNumbers.json", &form));
    let mut codes: Vec<_> = futures_util::future::join_all(tries)
        .await
        .into_iter()
        .map(|(status, body)| (status, body["code"].as_i64()))
        .collect();
    codes.sort_unstable();
    assert_eq!(codes[0], (201, None));
    assert!(codes[1..].iter().all(|code| *code == (400, Some(21422))), "{codes:?}");
    assert_eq!(carrier.ledger("number_purchased").await.len(), 1);
}

#[tokio::test]
async fn purchases_are_refused_with_the_carriers_codes() {
    let carrier = Carrier::start().await;
    let (_, french) = carrier.get("/AvailablePhoneNumbers/FR/Local.json?PageSize=100").await;
    let french = french["available_phone_numbers"].as_array().unwrap();
    let addressed = french.iter().find(|number| number["address_requirements"] == "local").unwrap();
    let addressed = addressed["phone_number"].as_str().unwrap();
    let long_name = "x".repeat(65);
    let fine = ("PhoneNumber", "+14155550123");
    for (form, expected) in [
        (vec![("PhoneNumber", "+15005550000")], 21422),
        (vec![("PhoneNumber", "+15005550001")], 21421),
        (vec![("AreaCode", "533")], 21452),
        (vec![("AreaCode", "999")], 21452),
        (vec![("AreaCode", "4I5")], 21451),
        (vec![("PhoneNumber", "4155550123")], 21421),
        (vec![("PhoneNumber", "+14155559999")], 21422),
        (vec![], 21421),
        (vec![fine, ("VoiceUrl", "pbx.example.com")], 21205),
        (vec![fine, ("VoiceApplicationSid", "AP1")], 21218),
        (vec![fine, ("FriendlyName", &long_name)], 20001),
        (vec![fine, ("VoiceMethod", "PUT")], 20001),
        (vec![("PhoneNumber", addressed)], 21631),
    ] {
        let answer = carrier.post("/IncomingPhoneNumbers.json", &form).await;
        assert_eq!(code(&answer), (400, expected), "{form:?}");
    }
    let address = format!("AD{}", "0".repeat(32));
    let with_address = [("PhoneNumber", addressed), ("AddressSid", address.as_str())];
    assert_eq!(carrier.post("/IncomingPhoneNumbers.json", &with_address).await.0, 201);
    let (status, magic) =
        carrier.post("/IncomingPhoneNumbers.json", &[("PhoneNumber", "+15005550006")]).await;
    assert_eq!((status, &magic["phone_number"]), (201, &json!("+15005550006")));
    assert_eq!(carrier.post("/IncomingPhoneNumbers.json", &[("AreaCode", "500")]).await.0, 201);
    assert_eq!(
        carrier.ledger("number_purchased").await.len(),
        1,
        "magic numbers and refusals have no effect"
    );

    carrier.control(Method::PUT, "account", json!({"status": "suspended"})).await;
    assert_eq!(code(&carrier.post("/IncomingPhoneNumbers.json", &[fine]).await), (403, 20003));
    assert_eq!(carrier.get(".json").await.1["status"], "suspended");
}

#[tokio::test]
async fn updates_are_partial_and_a_trunk_and_an_application_oust_each_other() {
    let carrier = Carrier::start().await;
    let number = carrier
        .buy(&[("VoiceUrl", "https://a.example.com/"), ("StatusCallback", "https://a.example.com/s")])
        .await;
    let path = format!("/IncomingPhoneNumbers/{}.json", number["sid"].as_str().unwrap());
    let (trunk, application) = (format!("TK{}", "1".repeat(32)), format!("AP{}", "2".repeat(32)));
    let update = async |form: &[(&str, &str)]| carrier.post(&path, form).await.1;

    let changed = update(&[("VoiceFallbackUrl", "https://b.example.com/")]).await;
    assert_eq!(changed["voice_url"], "https://a.example.com/");
    assert_eq!(changed["voice_fallback_url"], "https://b.example.com/");
    let changed = update(&[("VoiceApplicationSid", &application)]).await;
    assert_eq!(changed["voice_application_sid"], application);
    let changed = update(&[("TrunkSid", &trunk)]).await;
    assert_eq!((&changed["trunk_sid"], &changed["voice_application_sid"]), (&json!(trunk), &Value::Null));
    let changed = update(&[("VoiceApplicationSid", &application)]).await;
    assert_eq!(
        (&changed["voice_application_sid"], &changed["trunk_sid"]),
        (&json!(application), &Value::Null)
    );
    let changed = update(&[("VoiceApplicationSid", ""), ("StatusCallback", "")]).await;
    assert_eq!((&changed["voice_application_sid"], &changed["status_callback"]), (&Value::Null, &json!("")));
    assert_eq!(carrier.get(&path).await.1, changed);
    assert_eq!(code(&carrier.post(&path, &[("SmsUrl", "nonsense")]).await), (400, 21205));
    assert_eq!(carrier.get(&path).await.1, changed, "a refused update changes nothing");
}

#[tokio::test]
async fn lists_are_filtered_and_paged_by_relative_links() {
    let carrier = Carrier::start().await;
    let mut sids = Vec::new();
    for name in ["a", "b", "a", "c", "d"] {
        sids.insert(0, carrier.buy(&[("FriendlyName", name)]).await["sid"].as_str().unwrap().to_owned());
    }
    let list = async |path: &str| carrier.get(path).await.1;
    let of = |page: &Value| -> Vec<String> {
        let numbers = page["incoming_phone_numbers"].as_array().unwrap();
        numbers.iter().map(|number| number["sid"].as_str().unwrap().to_owned()).collect()
    };

    let first = list("/IncomingPhoneNumbers.json?PageSize=2").await;
    assert_eq!(of(&first), sids[..2]);
    assert_eq!((&first["page"], &first["start"], &first["end"]), (&json!(0), &json!(0), &json!(1)));
    assert_eq!(first["previous_page_uri"], Value::Null);
    let next = first["next_page_uri"].as_str().unwrap().to_owned();
    assert!(next.starts_with("/2010-04-01/") && next.contains(&format!("PageToken=PA{}", sids[1])), "{next}");
    let (_, second) =
        carrier.send(carrier.http.get(format!("{}{next}", carrier.running.base_url()))).await.unwrap();
    assert_eq!(of(&second), sids[2..4]);
    let back = second["previous_page_uri"].as_str().unwrap();
    let (_, first_again) =
        carrier.send(carrier.http.get(format!("{}{back}", carrier.running.base_url()))).await.unwrap();
    assert_eq!(of(&first_again), sids[..2]);
    let last = second["next_page_uri"].as_str().unwrap();
    // What is bought while somebody pages does not shift the pages that follow.
    carrier.buy(&[]).await;
    let (_, third) =
        carrier.send(carrier.http.get(format!("{}{last}", carrier.running.base_url()))).await.unwrap();
    assert_eq!(of(&third), sids[4..]);
    assert_eq!(third["next_page_uri"], Value::Null);

    assert_eq!(
        of(&list("/IncomingPhoneNumbers.json?FriendlyName=a").await),
        [sids[2].clone(), sids[4].clone()]
    );
    assert_eq!(of(&list("/IncomingPhoneNumbers.json?FriendlyName=A").await), Vec::<String>::new());
    let number = list(&format!("/IncomingPhoneNumbers/{}.json", sids[0])).await["phone_number"]
        .as_str()
        .unwrap()
        .to_owned();
    let exact = list(&format!("/IncomingPhoneNumbers.json?PhoneNumber=%2B{}", &number[1..])).await;
    assert_eq!(of(&exact), sids[..1]);
    assert_eq!(of(&list("/IncomingPhoneNumbers.json?PhoneNumber=415555****").await).len(), 6);
    assert_eq!(of(&list("/IncomingPhoneNumbers.json?PhoneNumber=212").await).len(), 0);
}

#[tokio::test]
async fn the_ledger_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let with_ledger =
        || SimulatorConfig { ledger_path: Some(folder.path().join("ledger.jsonl")), ..settings() };
    let carrier = Carrier::with(with_ledger()).await;
    let product = Product::start(carrier.running.auth_token(), |_| twiml("<Hangup/>")).await;
    let kept = carrier.buy(&[("FriendlyName", "kept"), ("VoiceUrl", &product.url)]).await;
    let released = carrier.buy(&[]).await;
    carrier.delete(&format!("/IncomingPhoneNumbers/{}.json", released["sid"].as_str().unwrap())).await;
    let path = format!("/IncomingPhoneNumbers/{}.json", kept["sid"].as_str().unwrap());
    let (_, updated) = carrier.post(&path, &[("FriendlyName", "renamed")]).await;
    let story = carrier.call(&kept, json!({})).await;
    let credentials = (carrier.running.account_sid().to_owned(), carrier.running.auth_token().to_owned());
    carrier.running.shutdown().await;

    let carrier = Carrier::with(with_ledger()).await;
    assert_eq!(
        (carrier.running.account_sid(), carrier.running.auth_token()),
        (&*credentials.0, &*credentials.1)
    );
    assert_eq!(carrier.get(&path).await.1, updated);
    let (_, all) = carrier.control(Method::GET, "numbers", Value::Null).await;
    assert_eq!(all.as_array().unwrap().len(), 1);
    let again = carrier
        .post("/IncomingPhoneNumbers.json", &[("PhoneNumber", kept["phone_number"].as_str().unwrap())])
        .await;
    assert_eq!(code(&again), (400, 21422));
    let call = carrier.get(&format!("/Calls/{}.json", story["sid"].as_str().unwrap())).await.1;
    assert_eq!((&call["status"], &call["direction"]), (&json!("completed"), &json!("inbound")));
    let (_, rows) = carrier.control(Method::GET, "ledger", Value::Null).await;
    let effects: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["effect"].as_str().unwrap()).collect();
    assert_eq!(
        effects,
        [
            "account_opened",
            "number_purchased",
            "number_purchased",
            "number_released",
            "number_updated",
            "call_placed",
            "call_ended"
        ]
    );
    carrier.running.shutdown().await;

    let stranger = SimulatorConfig { account_sid: Some(format!("AC{}", "9".repeat(32))), ..with_ledger() };
    let refused = server::simulator::start(stranger).await.unwrap_err();
    assert!(refused.to_string().contains("the ledger belongs to account"), "{refused}");
}

#[tokio::test]
async fn the_control_endpoint_refuses_what_a_web_page_could_send() {
    let carrier = Carrier::start().await;
    let url = format!("{}/_control/faults", carrier.running.base_url());
    let as_text = carrier.http.post(&url).body("[]").send().await.unwrap();
    assert_eq!(as_text.status(), 415);
    let from_page =
        carrier.http.delete(&url).header("origin", "https://evil.example.com").send().await.unwrap();
    assert_eq!(from_page.status(), 403);
    let rebound = carrier.http.get(&url).header("host", "evil.example.com").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    let (status, body) = carrier.control(Method::POST, "faults", json!([{"kind": "explode"}])).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("rule 0 is not a rule"), "{body}");
    assert_eq!(carrier.control(Method::GET, "nothing", Value::Null).await.0, 404);
}
