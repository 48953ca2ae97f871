//! The demonstration's way to an HTTP API: it asks as any program would, and counts how long each answer took.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::clock::Clock;

/// How long one answer may take. A call through the simulated carrier answers when the call is over.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// One API, and who asks.
pub(super) struct Door {
    client: reqwest::Client,
    base: String,
    key: Option<SecretString>,
    clock: Arc<dyn Clock>,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// The method.
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) path: &'a str,
    /// What is sent.
    pub(super) body: Option<&'a Value>,
    /// Sent as `Idempotency-Key`.
    pub(super) idempotency_key: Option<&'a str>,
}

/// An answer that is no error.
#[derive(Debug)]
pub(super) struct Reply {
    /// The HTTP status.
    pub(super) status: u16,
    /// What is in it.
    pub(super) body: Value,
    /// Whether it is the answer of an earlier request with the same key.
    pub(super) replayed: bool,
    /// How long it took.
    pub(super) took: Duration,
}

impl Door {
    /// A way to what listens there.
    pub(super) fn new(
        base: String,
        key: Option<SecretString>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Door> {
        // TLS has one provider in this program; another part may have set it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        #[expect(clippy::disallowed_methods, reason = "a visitor's own client, to this machine only")]
        let client = reqwest::Client::builder()
            .timeout(ANSWER_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("failed to prepare an HTTP client")?;
        Ok(Door { client, base, key, clock })
    }

    /// Where it is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Reads something.
    pub(super) async fn read(&self, path: &str) -> anyhow::Result<Reply> {
        self.ask(Ask { method: &Method::GET, path, body: None, idempotency_key: None }).await
    }

    /// Asks, and takes an answer that is an error as one.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> anyhow::Result<Reply> {
        let Ask { method, path, body, idempotency_key } = ask;
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let begun = self.clock.monotonic();
        let mut answer = request.send().await.with_context(|| format!("{method} {path} got no answer"))?;
        let status = answer.status().as_u16();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.with_context(|| format!("{method} {path} got half an answer"))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                bail!("the answer to {method} {path} is larger than {ANSWER_BYTES_MAX} bytes");
            }
            bytes.extend_from_slice(&chunk);
        }
        let took = self.clock.monotonic().saturating_sub(begun);
        let body: Value = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{method} {path} answered {status}, and not in JSON"))?
        };
        if status >= 400 {
            bail!("{method} {path} answered {status}: {}", why(&body));
        }
        Ok(Reply { status, body, replayed, took })
    }
}

/// What a problem document, or the simulated carrier's control endpoint, says is wrong.
fn why(body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    match (text("code"), text("detail"), text("error")) {
        (Some(code), detail, _) => {
            let each: Vec<String> = body["errors"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|error| format!("; {}: {}", error["field"], error["detail"]))
                .collect();
            format!("{code}: {}{}", detail.unwrap_or_default(), each.concat())
        }
        (None, _, Some(error)) => error.to_owned(),
        _ => body.to_string(),
    }
}
