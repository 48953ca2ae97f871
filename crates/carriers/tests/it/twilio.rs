//! Twilio's client against answers shaped like the true ones, and against all the ways in which an answer can fail to come.

use std::time::Duration;

use carriers::http::Timeouts;
use carriers::twilio::{Credentials, Settings, TwilioClient};
use carriers::{
    BuyOutcome, Carrier as _, CarrierError, Configuration, Order, ReleaseOutcome, Tag, VoiceUrls,
};
use domain::id::PurchaseId;
use domain::number::{Capability, Country, E164, NumberType};
use domain::quote::{AreaCode, Digits, Search};
use expect_test::expect;
use secrecy::SecretString;

use crate::server::{Play, Seen, Server};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const NUMBER: &str = "PN89abcdef0123456789abcdef01234567";
const SECRET: &str = "canary-5f3a9c";

fn data(name: &str) -> String {
    let path = format!("{}/testdata/twilio/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn client(url: &str) -> TwilioClient {
    TwilioClient::new(Settings {
        base_url: url.parse().unwrap(),
        account_sid: ACCOUNT.into(),
        credentials: Credentials { user: ACCOUNT.into(), password: SecretString::from(SECRET) },
        timeouts: Timeouts { connect: Duration::from_millis(500), total: Duration::from_millis(500) },
        read_tries: 3,
    })
    .unwrap()
}

fn order() -> Order {
    Order {
        phone_number: number("+12025550173"),
        tag: Tag::of_purchase(PurchaseId::from_bits(7)),
        voice: VoiceUrls {
            voice_url: "https://calls.example.com/callbacks/twilio/t0k3n/voice".into(),
            voice_fallback_url: None,
            status_callback: "https://calls.example.com/callbacks/twilio/t0k3n/voice-status".into(),
        },
    }
}

fn number(text: &str) -> E164 {
    E164::from_carrier(text).unwrap()
}

async fn buy(play: Play) -> (BuyOutcome, Vec<Seen>) {
    let server = Server::play(vec![play]);
    let outcome = client(&server.url).number_buy(&order()).await;
    (outcome, server.seen())
}

fn answers(status: u16, file: &str) -> Play {
    Play::Answer(status, data(file))
}

#[tokio::test]
async fn one_request_buys_tags_and_sets_the_urls() {
    let server = Server::play(vec![answers(201, "incoming_phone_number.json")]);
    let mut order = order();
    order.voice.voice_fallback_url = Some("https://other.example/voice?x=1".into());
    let BuyOutcome::Confirmed(bought) = client(&server.url).number_buy(&order).await else {
        panic!("not confirmed")
    };
    assert_eq!((bought.carrier_number_id.as_str(), bought.phone_number), (NUMBER, order.phone_number));
    assert!(bought.capabilities.voice && bought.capabilities.mms && !bought.voice_is_overridden);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    expect![[r#"
        POST /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/IncomingPhoneNumbers.json
        PhoneNumber=%2B12025550173
        FriendlyName=switchboard%3Apur_00000000000000000000000007
        VoiceUrl=https%3A%2F%2Fcalls.example.com%2Fcallbacks%2Ftwilio%2Ft0k3n%2Fvoice
        VoiceMethod=POST
        StatusCallback=https%3A%2F%2Fcalls.example.com%2Fcallbacks%2Ftwilio%2Ft0k3n%2Fvoice-status
        StatusCallbackMethod=POST
        VoiceFallbackUrl=https%3A%2F%2Fother.example%2Fvoice%3Fx%3D1
        VoiceFallbackMethod=POST"#]]
    .assert_eq(&format!("{}\n{}", seen[0].line, seen[0].body.replace('&', "\n")));
    let authorization = seen[0].headers.iter().find(|line| line.to_lowercase().starts_with("authorization:"));
    assert!(authorization.unwrap().contains("Basic QUMwMTIz"), "user and password by Basic auth");
}

#[tokio::test]
async fn each_answer_to_a_request_to_buy_is_told_as_what_it_is() {
    let problem = |outcome: BuyOutcome| match outcome {
        BuyOutcome::Confirmed(_) => "confirmed".to_owned(),
        BuyOutcome::Unavailable => "unavailable".to_owned(),
        BuyOutcome::Refused { account, code, message } => format!("refused {account} {code}: {message}"),
        BuyOutcome::Deferred { retry_after, .. } => format!("deferred {retry_after:?}"),
        BuyOutcome::Ambiguous { why } => format!("ambiguous: {why}"),
    };
    let other = data("incoming_phone_number.json").replace("+12025550173", "+12025550174");
    let with_secret = format!(r#"{{"code":20001,"message":"bad {SECRET}"}}"#);
    for (play, expected) in [
        (answers(201, "incoming_phone_number.json"), "confirmed"),
        (answers(200, "incoming_phone_number.json"), "confirmed"),
        (answers(400, "error_21422.json"), "unavailable"),
        (answers(400, "error_21631.json"), "refused false 21631: Phone Number Requires"),
        (answers(401, "error_20003.json"), "refused true 20003: Authenticate"),
        (answers(404, "error_20404.json"), "refused false 20404"),
        (answers(429, "error_20429.json"), "deferred None"),
        (Play::With(429, "Retry-After: 7\r\n", String::new()), "deferred Some(7s)"),
        (Play::Answer(400, with_secret), "refused false 20001: bad …"),
        // From here on nobody knows.
        (Play::Answer(201, other), "ambiguous: it answered with another number"),
        (Play::Answer(201, "{}".into()), "ambiguous: its answer cannot be read"),
        (Play::Answer(204, String::new()), "ambiguous: its answer cannot be read"),
        (Play::Truncate(201, data("incoming_phone_number.json")), "ambiguous: "),
        (answers(502, "bad_gateway.html"), "ambiguous: HTTP 502"),
        (answers(400, "bad_gateway.html"), "ambiguous: HTTP 400"),
        (answers(400, "problem.json"), "ambiguous: The parameter is invalid"),
        (answers(500, "error_20429.json"), "ambiguous: "),
        (Play::With(302, "Location: http://127.0.0.1:1/\r\n", String::new()), "ambiguous: HTTP 302"),
        (answers(408, "error_20404.json"), "ambiguous: "),
        (Play::HangUp, "ambiguous: "),
        (Play::Stall, "ambiguous: "),
    ] {
        let (outcome, seen) = buy(play).await;
        let told = problem(outcome);
        assert!(told.starts_with(expected), "{told} is not {expected}");
        assert!(!told.contains(SECRET) && !told.contains("http://"), "{told}");
        assert_eq!(seen.len(), 1, "sent once, whatever the answer ({expected})");
    }
}

#[tokio::test]
async fn a_request_that_never_left_is_known_not_to_have_bought() {
    // A port where nobody listens: bound, then closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = client(&format!("http://{closed}/")).number_buy(&order()).await;
    assert!(matches!(outcome, BuyOutcome::Deferred { retry_after: None, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_request_to_buy_never_takes_a_used_connection() {
    let empty = || answers(200, "incoming_phone_numbers_empty.json");
    let server = Server::play(vec![
        empty(),
        empty(),
        answers(201, "incoming_phone_number.json"),
        empty(),
        answers(400, "error_21422.json"),
    ]);
    let client = client(&server.url);
    assert_eq!(client.number_find(order().phone_number).await, Ok(None));
    assert_eq!(client.number_find(order().phone_number).await, Ok(None));
    let _ = client.number_buy(&order()).await;
    assert_eq!(client.number_find(order().phone_number).await, Ok(None));
    let _ = client.number_buy(&order()).await;
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections[0], connections[1], "reads share one");
    assert_eq!(connections.iter().filter(|&&one| one == connections[2]).count(), 1);
    assert_eq!(connections.iter().filter(|&&one| one == connections[4]).count(), 1);
}

#[tokio::test]
async fn reads_are_repeated_and_give_up() {
    let page = || answers(200, "incoming_phone_numbers_empty.json");
    let server = Server::play(vec![answers(502, "bad_gateway.html"), Play::HangUp, page()]);
    assert_eq!(client(&server.url).number_find(number("+12025550173")).await, Ok(None));
    assert_eq!(server.seen().len(), 3);

    let busy = || answers(503, "bad_gateway.html");
    let server = Server::play(vec![busy(), busy(), busy(), page()]);
    let error = client(&server.url).number_find(number("+12025550173")).await.unwrap_err();
    assert_eq!(error, CarrierError::Unavailable("HTTP 503".into()));
    assert_eq!(server.seen().len(), 3, "three tries in all");

    let server = Server::play(vec![Play::With(429, "Retry-After: 3600\r\n", String::new()), page()]);
    let error = client(&server.url).number_find(number("+12025550173")).await.unwrap_err();
    assert_eq!(error, CarrierError::RateLimited { retry_after: Some(Duration::from_secs(3600)) });
    assert_eq!(server.seen().len(), 1, "an hour is for the caller to wait");

    let server = Server::play(vec![answers(401, "error_20003.json"), page()]);
    let error = client(&server.url).account_check().await.unwrap_err();
    assert_eq!(error, CarrierError::Auth { message: "Authenticate".into() });
    assert_eq!(server.seen().len(), 1, "wrong credentials do not become right");
}

#[tokio::test]
async fn numbers_are_found_exactly_by_number_and_by_tag() {
    // The filter of Twilio matches parts: it may answer with others too.
    let pages = || {
        vec![
            answers(200, "incoming_phone_numbers_page_0.json"),
            answers(200, "incoming_phone_numbers_page_1.json"),
        ]
    };
    let server = Server::play(pages());
    let found = client(&server.url).number_find(number("+12025550174")).await.unwrap().unwrap();
    assert_eq!(found.label, "(202) 555-0174");
    assert!(found.voice_is_overridden && found.voice_url.is_none());
    let lines: Vec<String> = server.seen().into_iter().map(|seen| seen.line).collect();
    expect![[r#"
        GET /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/IncomingPhoneNumbers.json?PhoneNumber=%2B12025550174&PageSize=1000
        GET /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/IncomingPhoneNumbers.json?PageSize=1&Page=1&PageToken=PAPN89abcdef0123456789abcdef01234567"#]]
    .assert_eq(&lines.join("\n"));

    let server = Server::play(pages());
    assert_eq!(client(&server.url).number_find(number("+12025550199")).await, Ok(None));

    let server = Server::play(pages());
    let tag = Tag::of_purchase("pur_01kakapz0000000000000000zz".parse().unwrap());
    let found = client(&server.url).numbers_find_by_tag(&tag).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(Tag::purchase_of(&found[0].label).unwrap().to_string(), "pur_01kakapz0000000000000000zz");
}

#[tokio::test]
async fn the_list_is_paged_and_never_leads_our_credentials_elsewhere() {
    let server = Server::play(vec![
        answers(200, "incoming_phone_numbers_page_0.json"),
        answers(200, "incoming_phone_numbers_page_1.json"),
    ]);
    let client = client(&server.url);
    let first = client.numbers_list(None).await.unwrap();
    let second = client.numbers_list(first.next.as_deref()).await.unwrap();
    assert_eq!((first.numbers.len(), second.numbers.len(), second.next), (1, 1, None));
    for elsewhere in ["http://127.0.0.1:1/x", "//evil.example/x", "https://api.twilio.com/x"] {
        let error = client.numbers_list(Some(elsewhere)).await.unwrap_err();
        assert!(matches!(error, CarrierError::Unexpected(_)), "{elsewhere}: {error}");
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn setting_a_number_up_takes_its_calls_from_trunks_and_applications() {
    let server =
        Server::play(vec![answers(200, "incoming_phone_number.json"), answers(404, "error_20404.json")]);
    let configuration = Configuration { label: "Front desk & more – ".repeat(5), voice: order().voice };
    let client = client(&server.url);
    let now = client.number_configure(NUMBER, &configuration).await.unwrap();
    assert_eq!(configuration.differences(&now), ["label"], "the answer still shows the tag");
    let seen = server.seen().remove(0);
    assert!(seen.line.ends_with(&format!("/IncomingPhoneNumbers/{NUMBER}.json")), "{}", seen.line);
    for part in ["&VoiceFallbackUrl=&", "&VoiceApplicationSid=", "&TrunkSid="] {
        assert!(seen.body.contains(part), "{part} is not in {}", seen.body);
    }
    assert_eq!(configuration.label_kept().chars().count(), 64);
    assert!(!seen.body.contains("Sms"), "voice only");
    assert_eq!(client.number_configure(NUMBER, &configuration).await, Err(CarrierError::NotFound));
    let refused = client.number_configure("../Calls", &configuration).await;
    assert!(matches!(refused, Err(CarrierError::Unexpected(_))));
    assert_eq!(server.seen().len(), 2, "what is no id never becomes a path");
}

#[tokio::test]
async fn giving_back_says_whether_it_is_gone() {
    let server = Server::play(vec![
        Play::Answer(204, String::new()),
        answers(404, "error_20404.json"),
        answers(404, "bad_gateway.html"),
        answers(500, "bad_gateway.html"),
    ]);
    let client = client(&server.url);
    assert_eq!(client.number_release(NUMBER).await, Ok(ReleaseOutcome::Released));
    assert_eq!(client.number_release(NUMBER).await, Ok(ReleaseOutcome::AlreadyGone));
    assert_eq!(client.number_release(NUMBER).await, Err(CarrierError::NotFound), "a proxy's word is none");
    assert!(client.number_release(NUMBER).await.unwrap_err().is_passing());
    assert_eq!(server.seen().len(), 4, "each sent once");
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("DELETE ")));
}

fn search(country: Country, area_code: Option<&str>, digits: Option<&str>) -> Search {
    Search {
        country,
        number_type: NumberType::Local,
        area_code: area_code.map(|text| AreaCode::parse(text, country).unwrap()),
        digits: digits.map(|text| Digits::parse(text).unwrap()),
        capabilities: vec![Capability::Voice, Capability::Sms],
        limit: 10,
    }
}

#[tokio::test]
async fn searching_asks_the_carrier_and_checks_what_it_says() {
    let server = Server::play(vec![answers(200, "available_phone_numbers_local.json")]);
    let found =
        client(&server.url).numbers_search(&search(Country::US, Some("202"), Some("017"))).await.unwrap();
    let numbers: Vec<String> = found.iter().map(|found| found.phone_number.to_string()).collect();
    // …0111 lacks the digits, …0177 cannot do SMS, …0178 needs an address.
    assert_eq!(numbers, ["+12025550179"]);
    assert_eq!((found[0].locality.as_deref(), found[0].region.as_deref()), (None, Some("DC")));

    let empty = r#"{"code": 21452, "message": "No numbers in this area code", "status": 400}"#;
    let server = Server::play(vec![
        answers(404, "error_20404.json"),
        Play::Answer(400, empty.into()),
        Play::Answer(200, "{}".into()),
    ]);
    let client = client(&server.url);
    let french = search(Country::FR, Some("1"), Some("99"));
    assert_eq!(client.numbers_search(&french).await, Ok(Vec::new()), "none of the kind is an answer");
    assert_eq!(client.numbers_search(&french).await, Ok(Vec::new()), "none in the area, too");
    assert!(matches!(client.numbers_search(&french).await, Err(CarrierError::Unexpected(_))));
    expect!["GET /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/AvailablePhoneNumbers/FR/Local.json?Contains=%2B331&VoiceEnabled=true&SmsEnabled=true&ExcludeAllAddressRequired=true&PageSize=1000"]
        .assert_eq(&server.seen()[0].line);
}

#[tokio::test]
async fn the_account_is_checked_and_its_token_not_read() {
    let server = Server::play(vec![answers(200, "account.json"), Play::Answer(200, "{}".into())]);
    let client = client(&server.url);
    let account = client.account_check().await.unwrap();
    assert!(account.active && !account.trial);
    assert!(!format!("{account:?}").contains("never-to-be-read"));
    assert!(matches!(client.account_check().await, Err(CarrierError::Unexpected(_))));
    assert!(!format!("{client:?}").contains(SECRET), "no Debug shows the secret");
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let huge = format!(r#"{{"incoming_phone_numbers":[],"x":"{}"}}"#, "x".repeat(9 * 1024 * 1024));
    let server = Server::play(vec![
        Play::Answer(200, huge.clone()),
        Play::Answer(200, huge.clone()),
        Play::Answer(200, huge),
    ]);
    let error = client(&server.url).numbers_list(None).await.unwrap_err();
    assert_eq!(error, CarrierError::Unavailable("the answer is too large".into()));
}
