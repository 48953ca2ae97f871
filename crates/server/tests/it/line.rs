//! A telephone line into a node: signed callbacks through the true router, on routes that the test lays itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use carriers::twilio::signature::{Algorithm, SIGNATURE_HEADER, sign};
use database::calls::{Call, CallEvent, CallFilter, call_list, call_timeline};
use domain::agent::{Content, Draft, Parameters, Variant};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::endpoint::{Dial, Endpoint, Plain, SipUri, StreamUrl, Target};
use domain::environment::Environment;
use domain::fallback::Fallback;
use domain::id::{AgentId, NumberId, VariantId, VersionId, WorkspaceId};
use domain::number::E164;
use domain::route::RouteTable;
use domain::route::row::{CallbackToken, NumberRow, NumberSettings, Row, RunningRow, WorkspaceRow};
use domain::workspace::WorkspaceSettings;
use http_body_util::BodyExt as _;
use server::app::{App, Random, Shared};
use server::background::record_calls;
use server::clock::TestClock;
use server::config::Config;
use tower::ServiceExt as _;

pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub(crate) const TOKEN: &str = "the account's token";
pub(crate) const TOKEN_BEFORE: &str = "the token before it";
pub(crate) const PUBLIC: &str = "https://pbx.example/base";
pub(crate) const CALLER: &str = "+15145550100";
/// How long any one wait may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const AGENT: AgentId = AgentId::from_bits(2);
pub(crate) const NUMBER: NumberId = NumberId::from_bits(9);
pub(crate) const CALLBACK_TOKEN: CallbackToken = CallbackToken([0xab; 16]);

/// The called number.
pub(crate) fn called() -> E164 {
    "+14385550100".parse().unwrap()
}

/// A node with one number.
pub(crate) struct Line {
    pub(crate) app: Shared,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) router: Router,
    pub(crate) workspace: WorkspaceId,
    _folder: tempfile::TempDir,
}

/// What an answer was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What the number's calls depend on.
#[derive(Clone, Default)]
pub(crate) struct Laid {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) parameters: Vec<(&'static str, &'static str)>,
    pub(crate) variants: Vec<Variant>,
    pub(crate) own: Option<NumberSettings>,
    pub(crate) settings: WorkspaceSettings,
    pub(crate) secrets: Vec<Row>,
    pub(crate) unassigned: bool,
}

pub(crate) fn sip(user: &str) -> Dial {
    let uri = SipUri::parse(&format!("sip:{user}@agents.example")).unwrap();
    Dial { target: Target::Sip { uri, auth: None }, ring_timeout_s: 15 }
}

pub(crate) fn phone(n: u64) -> Dial {
    let phone_number = E164::from_digits(14_385_550_100 + n).unwrap();
    Dial { target: Target::Phone { phone_number }, ring_timeout_s: 20 }
}

pub(crate) fn stream() -> Dial {
    let url = StreamUrl::parse("wss://agent.example/media", Plain::Refuse).unwrap();
    Dial { target: Target::Stream { url }, ring_timeout_s: 20 }
}

pub(crate) fn fallback(targets: Vec<Dial>, message: Option<&str>) -> Fallback {
    Fallback { targets, message: message.map(str::to_owned) }
}

pub(crate) fn parameters(entries: &[(&str, &str)]) -> Parameters {
    Parameters::check(entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        .unwrap()
}

impl Laid {
    pub(crate) fn dial(dial: Dial) -> Laid {
        Laid { endpoint: Some(dial.into()), ..Laid::default() }
    }

    /// The table, at a version.
    pub(crate) fn table(self, workspace: WorkspaceId, version: u64) -> RouteTable {
        let content = Content {
            draft: Draft {
                endpoint: self.endpoint,
                fallback: self.fallback,
                call_parameters: parameters(&self.parameters),
                ..Draft::default()
            },
            variants: self.variants,
        };
        let running = RunningRow {
            version_id: VersionId::from_bits(3),
            version: 1,
            agent_name: "Support".into(),
            content: Arc::new(content),
        };
        let assignment =
            Assignment { agent_id: AGENT, environment: Environment::Live, variant_id: None::<VariantId> };
        let number = NumberRow {
            number_id: NUMBER,
            workspace_id: workspace,
            callback_token: CALLBACK_TOKEN,
            assignment: (!self.unassigned).then_some(assignment),
            own: self.own.map(Box::new),
        };
        let mut rows = self.secrets;
        let home = self.settings.default_country.or(Some("CA".parse().unwrap()));
        let settings = WorkspaceSettings { default_country: home, ..self.settings };
        rows.push(Row::Workspace(workspace, Some(WorkspaceRow { settings })));
        rows.push(Row::Running((AGENT, Environment::Live), Some(running)));
        rows.push(Row::Number((Ingress::STORE, called()), Some(number)));
        RouteTable::build(rows, version)
    }
}

/// Settings of a node whose carrier is nobody: calls are placed by the test itself.
pub(crate) fn settings(folder: &std::path::Path, more: &str) -> Config {
    let text = format!(
        "data_dir = '{}'\npublic_url = {PUBLIC:?}\n{more}\n[carriers.twilio]\naccount_sid = {ACCOUNT:?}\nauth_token = {TOKEN:?}\n\
         auth_token_previous = {TOKEN_BEFORE:?}\n",
        folder.join("data").display()
    );
    toml::from_str(&text).unwrap()
}

impl Line {
    /// A node on a database of its own.
    pub(crate) async fn open(laid: Laid) -> Line {
        Line::open_with(laid, "").await
    }

    pub(crate) async fn open_with(laid: Laid, more: &str) -> Line {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at("2026-11-23T15:30:00Z".parse().unwrap()));
        let config = settings(folder.path(), more);
        let app = App::open(config, clock.clone(), Random::from_seed(1)).await.unwrap();
        let workspace = app
            .database
            .read(|read| database::workspaces::workspace_find_by_name(read, "default"))
            .await
            .unwrap()
            .unwrap()
            .id;
        app.routes.replace(laid.table(workspace, 1));
        app.routes.confirm();
        app.tasks.spawn("record_calls", record_calls::run(app.clone()));
        Line::on(app, clock, workspace, folder)
    }

    /// A line into this node.
    pub(crate) fn on(
        app: Shared,
        clock: Arc<TestClock>,
        workspace: WorkspaceId,
        folder: tempfile::TempDir,
    ) -> Line {
        let router = server::serve::router(&app);
        Line { app, clock, router, workspace, _folder: folder }
    }

    /// Lays other routes.
    pub(crate) fn lay(&self, laid: Laid) {
        self.app.routes.replace(laid.table(self.workspace, self.app.routes.current().version() + 1));
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        assert!(header("x-request-id").is_some_and(|id| id.starts_with("req_")), "as every answer");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "as every answer");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answered { status, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Sends a correctly signed callback. `path` is what stands behind the number's token, with its query.
    pub(crate) async fn post(&self, path: &str, parameters: &[(&str, &str)]) -> Answered {
        self.send(signed(&path_of(path), parameters, TOKEN).body(body_of(parameters)).unwrap()).await
    }

    /// A call comes in.
    pub(crate) async fn voice(&self, call_sid: &str) -> String {
        let answered = self.post("voice", &ringing(call_sid)).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        answered.body
    }

    /// Twilio asks what comes after a target, at the address that it was told.
    pub(crate) async fn after(&self, twiml: &str, call_sid: &str, more: &[(&str, &str)]) -> String {
        let mut parameters = ringing(call_sid);
        parameters.iter_mut().find(|(name, _)| *name == "CallStatus").unwrap().1 = "in-progress";
        for pair in more {
            match parameters.iter_mut().find(|(name, _)| name == &pair.0) {
                Some(known) => *known = *pair,
                None => parameters.push(*pair),
            }
        }
        let action = action(twiml);
        let path = action.rsplit_once('/').unwrap().1;
        let answered = self.post(path, &parameters).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        answered.body
    }

    /// The calls that are in the database, oldest first, once there are so many reports of them.
    pub(crate) async fn kept(&self, reports: i64) -> Vec<(Call, Vec<CallEvent>)> {
        let (workspace, now) = (self.workspace, self.app.clock.now());
        let list = move || async move {
            let mut calls = self
                .app
                .database
                .read(move |read| {
                    let calls = call_list(read, workspace, &CallFilter::default(), None, 200, now)?;
                    calls
                        .into_iter()
                        .map(|call| Ok((call.clone(), call_timeline(read, call.id)?)))
                        .collect::<Result<Vec<_>, database::DbError>>()
                })
                .await
                .unwrap_or_default();
            calls.reverse();
            calls
        };
        let waited = async {
            loop {
                let calls = list().await;
                if calls.iter().map(|(call, _)| call.timeline_count).sum::<i64>() >= reports {
                    return calls;
                }
                tokio::task::yield_now().await;
            }
        };
        let calls = tokio::time::timeout(PATIENCE, waited).await.ok();
        assert!(calls.is_some(), "only this was kept: {:#?}", list().await);
        calls.unwrap_or_default()
    }
}

/// The path of one of the number's callbacks.
pub(crate) fn path_of(path: &str) -> String {
    format!("/callbacks/twilio/{}/{path}", CALLBACK_TOKEN.to_hex())
}

/// A signed request, without its body yet.
pub(crate) fn signed(path: &str, parameters: &[(&str, &str)], token: &str) -> axum::http::request::Builder {
    let signature = sign(Algorithm::HmacSha1, token, &format!("{PUBLIC}{path}"), parameters);
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
        .header(SIGNATURE_HEADER, signature)
}

pub(crate) fn body_of(parameters: &[(&str, &str)]) -> Body {
    Body::from(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish())
}

/// What Twilio sends when a call comes in.
pub(crate) fn ringing(call_sid: &str) -> Vec<(&str, &str)> {
    vec![
        ("AccountSid", ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", call_sid),
        ("CallStatus", "ringing"),
        ("Called", "+14385550100"),
        ("Caller", CALLER),
        ("Direction", "inbound"),
        ("From", CALLER),
        ("FromCity", ""),
        ("To", "+14385550100"),
        ("ToCountry", "CA"),
    ]
}

/// The address that a document tells Twilio to ask next.
pub(crate) fn action(twiml: &str) -> String {
    let rest = twiml.split_once("action=\"").unwrap_or_else(|| panic!("no action in {twiml}")).1;
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

/// A document without what differs from run to run.
pub(crate) fn plain(twiml: &str) -> String {
    let mut text = String::new();
    let mut rest = twiml;
    while let Some((before, after)) = rest.split_once("cal_") {
        text.push_str(before);
        text.push_str("cal_…");
        rest = &after[26..];
    }
    text.push_str(rest);
    text.replace(&CALLBACK_TOKEN.to_hex(), "{token}").replace("1795447800000", "{now}")
}
