//! The simulated carrier, through its own doors: HTTP from one side, callbacks on the other.

mod agent;
mod calls;
mod faults;
mod media;
mod rest;
mod sdk;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use server::simulator::{self, ApiKey, RunningSimulator, SimulatorConfig, signature};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long any one wait in these tests may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running simulator with a client that knows its credentials.
pub(crate) struct Carrier {
    pub(crate) running: RunningSimulator,
    pub(crate) http: reqwest::Client,
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client, of the far side")]
fn client() -> reqwest::Client {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// What most tests need: no ledger file, and carrier time a hundred times as fast.
pub(crate) fn settings() -> SimulatorConfig {
    SimulatorConfig {
        time_scale: 100,
        api_keys: vec![ApiKey { sid: format!("SK{}", "a".repeat(32)), secret: "a secret".into() }],
        ..SimulatorConfig::default()
    }
}

impl Carrier {
    pub(crate) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: SimulatorConfig) -> Self {
        Self { running: simulator::start(settings).await.unwrap(), http: client() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/2010-04-01/Accounts/{}{path}", self.running.base_url(), self.running.account_sid())
    }

    fn signed_in(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.basic_auth(self.running.account_sid(), Some(self.running.auth_token()))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Value)> {
        let response = self.signed_in(request).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((
            status,
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(json!(text)) },
        ))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(self.url(path))).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        self.send(self.http.post(self.url(path)).form(form)).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.send(self.http.delete(self.url(path))).await.unwrap()
    }

    /// Buys the first number of an area code with these settings, and answers it.
    pub(crate) async fn buy(&self, more: &[(&str, &str)]) -> Value {
        let (_, found) = self.get("/AvailablePhoneNumbers/US/Local.json?AreaCode=415&PageSize=1").await;
        let number = found["available_phone_numbers"][0]["phone_number"].as_str().unwrap().to_owned();
        let form: Vec<(&str, &str)> =
            [("PhoneNumber", number.as_str())].into_iter().chain(more.iter().copied()).collect();
        let (status, body) = self.post("/IncomingPhoneNumbers.json", &form).await;
        assert_eq!(status, 201, "{body}");
        body
    }

    pub(crate) async fn control(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/_control/{path}", self.running.base_url());
        let request = self.http.request(method, url);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn faults(&self, rules: Value) {
        let (status, body) = self.control(Method::POST, "faults", rules).await;
        assert_eq!(status, 201, "{body}");
    }

    /// The ledger's rows of one effect.
    pub(crate) async fn ledger(&self, effect: &str) -> Vec<Value> {
        let (_, rows) = self.control(Method::GET, "ledger", Value::Null).await;
        rows.as_array().unwrap().iter().filter(|row| row["effect"] == effect).cloned().collect()
    }

    /// Calls a number and waits for the end of the story.
    pub(crate) async fn call(&self, number: &Value, more: Value) -> Value {
        let mut body = json!({"to": number["phone_number"], "from": "+15145550100", "wait": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, story) = self.control(Method::POST, "calls", body).await;
        assert_eq!(status, 201, "{story}");
        assert_eq!(story["settled"], true, "{story:#}");
        story
    }
}

/// One callback as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The server that it came to.
    pub(crate) base: String,
    pub(crate) path: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) verified: bool,
    pub(crate) token: String,
}

impl Seen {
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

type Answers = dyn Fn(&Seen) -> Response + Send + Sync;

/// A product in miniature: takes callbacks, checks their signatures, answers what the test says.
pub(crate) struct Product {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Product {
    pub(crate) async fn start(
        auth_token: &str,
        answers: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (kept, base, token) = (Arc::clone(&seen), url.clone(), auth_token.to_owned());
        let answers: Arc<Answers> = Arc::new(answers);
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let (kept, answers) = (Arc::clone(&kept), Arc::clone(&answers));
            let one = read(&base, &token, &uri, &headers, &body);
            async move {
                kept.lock().unwrap().push(one.clone());
                answers(&one)
            }
        });
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let stopped = stop.clone().cancelled_owned();
        tracker.spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await.unwrap() },
        );
        Self { url, seen, stop, tracker }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path == path).collect()
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tracker.close();
    }
}

fn read(base: &str, auth_token: &str, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Seen {
    let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
    let posted = pairs(body);
    let expected = signature::sign(auth_token, &format!("{base}{uri}"), &posted);
    let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let params = posted.into_iter().chain(pairs(uri.query().unwrap_or_default().as_bytes())).collect();
    Seen {
        base: base.to_owned(),
        path: uri.path().to_owned(),
        params,
        verified: text("x-twilio-signature") == expected,
        token: text("i-twilio-idempotency-token"),
    }
}

/// TwiML as an answer.
pub(crate) fn twiml(inside: &str) -> Response {
    ([(header::CONTENT_TYPE, "text/xml")], format!("<Response>{inside}</Response>")).into_response()
}

pub(crate) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Waits until a condition holds, and fails with its name where it does not in time.
pub(crate) async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !holds().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}

/// The events of a story's timeline, in short.
pub(crate) fn events(story: &Value) -> Vec<String> {
    story["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let detail = ["operation", "verb", "status", "to", "code"]
                .iter()
                .find_map(|name| event.get(*name))
                .map_or_else(String::new, |value| format!(" {}", value.to_string().trim_matches('"')));
            format!("{}{detail}", event["event"].as_str().unwrap())
        })
        .collect()
}

/// The project's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}
