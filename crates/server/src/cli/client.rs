//! The command line as a thin client of the REST API: where it is, who asks, and how an answer or a refusal is told.
//!
//! It knows HTTP and problem documents, and nothing of numbers or agents: each group of commands knows its own.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::commands::with_commands;
use super::text::{note, visible};
use crate::config::{ClientEnvironment, Config};

/// How long one request may take: more than the server gives itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The largest page that the API gives.
const PAGE_MAX: usize = 200;
/// The longest key file, in bytes: a key and a line break.
const KEY_FILE_BYTES_MAX: usize = 1024;

/// Why a command did not do what it was asked; each has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer was no: exit code 1.
    #[error("{0}")]
    Refused(String),
    /// The command line makes no sense: exit code 2, as clap's own.
    #[error("{0}")]
    Usage(String),
    /// Nobody answered, or the answer was a fault: exit code 3. Trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// A check has found something wrong, or a person is asked: exit code 4.
    #[error("{0}")]
    Found(String),
}

impl Failure {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Found(_) => 4,
        }
    }
}

/// The exit codes, for the end of `--help`.
pub const EXIT_CODES: &str = "Exit codes:\n  \
    0  done\n  \
    1  refused: the answer says why, and how to fix it\n  \
    2  the command line or the settings make no sense\n  \
    3  nobody answered, or a fault on the server's side; trying again may help\n  \
    4  a check has found something wrong, or a person must look";

/// Where the API is and who asks, for every command that is a client of it.
#[derive(Debug, clap::Args)]
pub struct RemoteArgs {
    /// Where the API is [env: SWITCHBOARD_URL] [default: http://127.0.0.1:7600]
    #[arg(long, global = true, help_heading = "Talking to the server", value_name = "URL")]
    url: Option<String>,
    /// The file that holds the API key [env: SWITCHBOARD_KEY_FILE; or the key itself in SWITCHBOARD_KEY]
    #[arg(long, global = true, help_heading = "Talking to the server", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print the API's JSON instead of text
    #[arg(long, global = true, help_heading = "Talking to the server")]
    pub json: bool,
}

/// The API of one server, and the key to ask it with.
pub struct Remote {
    client: reqwest::Client,
    base: Url,
    key: SecretString,
}

/// A list, put together from as many pages as were wanted.
pub struct Listed {
    /// What was found.
    pub data: Vec<Value>,
    /// Whether there is more than was asked for.
    pub more: bool,
}

impl Listed {
    /// The same as the API would answer it.
    pub fn json(self) -> Value {
        serde_json::json!({ "data": self.data, "has_more": self.more })
    }
}

impl RemoteArgs {
    /// Finds address and key; nothing is sent yet.
    pub fn connect(&self) -> Result<Remote, Failure> {
        self.connect_from(ClientEnvironment::load())
    }

    fn connect_from(&self, environment: ClientEnvironment) -> Result<Remote, Failure> {
        let text = self
            .url
            .clone()
            .or(environment.url)
            .unwrap_or_else(|| format!("http://{}", Config::default().listen));
        let base: Url = text
            .parse()
            .ok()
            .filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "{} is no address of an API; write it like http://127.0.0.1:7600",
                    visible(&text)
                ))
            })?;
        let key = match self.key_file.as_ref().or(environment.key_file.as_ref()) {
            Some(path) => read_key(path)?,
            None => environment.key.ok_or_else(|| {
                Failure::Usage(
                    "no API key: set SWITCHBOARD_KEY, or name a file with --key-file. To make one, on the server's machine:\n  \
                     switchboard keys create --role admin > switchboard-admin.key"
                        .to_owned(),
                )
            })?,
        };
        // TLS has one provider in this program; another caller may have set it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let is_here = match base.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the command line's own client: one process, one command, with its limits"
        )]
        let mut builder = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("switchboard-cli/", env!("CARGO_PKG_VERSION")));
        if is_here {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Failure::Unreachable(format!("failed to prepare the client: {error}")))?;
        Ok(Remote { client, base, key })
    }
}

fn read_key(path: &PathBuf) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::Usage(format!("failed to read the key file {}: {error}", path.display()))
    })?;
    let key = text.trim();
    if key.is_empty() || text.len() > KEY_FILE_BYTES_MAX || key.contains(char::is_whitespace) {
        return Err(Failure::Usage(format!(
            "{} does not hold one API key (sbk_…) and nothing else",
            path.display()
        )));
    }
    Ok(SecretString::from(key.to_owned()))
}

impl Remote {
    /// Reads one resource.
    pub async fn read(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.send(Method::GET, path, query, None, None).await
    }

    /// Sends a change.
    pub async fn change(&self, method: Method, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.send(method, path, &[], Some(body), None).await
    }

    /// Reads a list up to `limit` entries, over as many pages as that takes.
    pub async fn list(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Listed, Failure> {
        let mut data = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = (limit - data.len()).clamp(1, PAGE_MAX);
            let mut asked = query.to_vec();
            asked.push(("limit", page.to_string()));
            asked.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut answer = self.read(path, &asked).await?;
            let Some(Value::Array(rows)) = answer.get_mut("data").map(Value::take) else {
                return Err(Failure::Unreachable(format!("the answer of {} is no list", self.base)));
            };
            data.extend(rows);
            cursor = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || data.len() >= limit {
                let more = cursor.is_some() || data.len() > limit;
                data.truncate(limit);
                return Ok(Listed { data, more });
            }
        }
    }

    /// Sends one request and reads the answer, which is JSON or nothing.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("checked to be http or https").pop_if_empty().push("v1").extend(path);
        let mut request = self.client.request(method, url).bearer_auth(self.key.expose_secret());
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Unreachable(format!(
                    "the answer of {} is larger than {ANSWER_BYTES_MAX} bytes",
                    self.base
                )));
            }
        }
        let body: Option<Value> =
            if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
        match body {
            Some(body) if status.is_success() => Ok(body),
            Some(problem) if problem.get("code").is_some() => {
                let text = problem_text(&problem);
                Err(if status.is_server_error() {
                    Failure::Unreachable(text)
                } else {
                    Failure::Refused(text)
                })
            }
            _ => Err(Failure::Unreachable(format!(
                "{} answered {status}, and not as Switchboard does: is it the right address?",
                self.base
            ))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())
        } else {
            // The innermost cause says it best: "connection refused", not "error sending request".
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        };
        Failure::Unreachable(format!(
            "failed to reach {}: {why}. Is the server running there? (--url, SWITCHBOARD_URL)",
            self.base
        ))
    }
}

/// A problem document as people read it: what is wrong, each field, and what to do.
fn problem_text(problem: &Value) -> String {
    let text =
        |value: &Value, name: &str| visible(value.get(name).and_then(Value::as_str).unwrap_or_default());
    let code = text(problem, "code");
    let (title, detail) = (text(problem, "title"), with_commands(&text(problem, "detail")));
    let mut out = format!("{title} ({code})");
    let errors = problem.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !detail.is_empty() && detail != title {
        let _ = write!(out, "\n  {detail}");
    }
    // The detail of a problem with one error names its field and says the same.
    for error in errors.iter().filter(|_| errors.len() > 1) {
        let _ = write!(out, "\n  {}: {}", text(error, "field"), with_commands(&text(error, "detail")));
    }
    if let Some(known) = domain::error::Code::ALL.iter().find(|known| known.as_str() == code) {
        let _ = write!(out, "\n  → {}", with_commands(known.advice()));
    }
    let request_id = text(problem, "request_id");
    if !request_id.is_empty() {
        let _ = write!(out, "\n  request {request_id}");
    }
    out
}

/// Says that a list goes on.
pub fn note_more(listed: &Listed) {
    if listed.more {
        note(&format!("There are more than these {}; raise --limit to see them.", listed.data.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn environment() -> ClientEnvironment {
        ClientEnvironment { url: None, key: Some(SecretString::from("sbk_x".to_owned())), key_file: None }
    }

    #[test]
    fn address_and_key_are_found_or_asked_for() {
        let args = |url: Option<&str>, key_file: Option<&str>| RemoteArgs {
            url: url.map(str::to_owned),
            key_file: key_file.map(PathBuf::from),
            json: false,
        };
        let base = |args: RemoteArgs, environment| {
            args.connect_from(environment).map(|remote| remote.base.to_string())
        };
        assert_eq!(base(args(None, None), environment()).unwrap(), "http://127.0.0.1:7600/");
        let elsewhere =
            ClientEnvironment { url: Some("https://calls.example/switchboard".to_owned()), ..environment() };
        assert_eq!(base(args(None, None), elsewhere).unwrap(), "https://calls.example/switchboard");
        for (args, environment, said) in [
            (args(Some("localhost:7600"), None), environment(), "no address of an API"),
            (args(None, Some("/nowhere/key")), environment(), "/nowhere/key"),
            (args(None, None), ClientEnvironment { key: None, ..environment() }, "switchboard keys create"),
        ] {
            let failure = base(args, environment).unwrap_err();
            assert_eq!(failure.exit_code(), 2);
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn a_problem_is_told_with_every_field_and_the_way_out() {
        let problem = serde_json::json!({
            "code": "validation_failed", "title": "The request has errors", "status": 422, "detail": "2 fields have errors",
            "errors": [
                {"field": "label", "code": "blank", "detail": "the label is empty"},
                {"field": "tags[3]", "code": "too_long", "detail": "a\u{1b}[31m red tag"},
            ],
            "request_id": "req_1",
        });
        expect![[r"
            The request has errors (validation_failed)
              2 fields have errors
              label: the label is empty
              tags[3]: a\u{1b}[31m red tag
              → See `errors`: one entry for each field.
              request req_1"]]
        .assert_eq(&problem_text(&problem));
        let one = serde_json::json!({
            "code": "blank", "title": "The value is empty or only spaces", "status": 422, "detail": "label: is empty",
            "errors": [{"field": "label", "code": "blank", "detail": "is empty"}], "request_id": "req_1",
        });
        assert_eq!(problem_text(&one).matches("is empty").count(), 2, "once in the title: {one}");
    }
}
