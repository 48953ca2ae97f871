//! The one place where HTTP clients are made: with time-outs, without redirects, without retries of their own, without proxies
//! from the environment.

use std::time::Duration;

/// How long a request may take, in its parts.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Altogether, body included.
    pub total: Duration,
}

/// How long an idle connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);

/// A client builder with our limits set; `rustls` with ring does TLS.
#[expect(clippy::disallowed_methods, reason = "this is the shared builder that the rule points to")]
pub fn client_builder(timeouts: Timeouts) -> reqwest::ClientBuilder {
    // A second call finds it installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.total)
        .pool_idle_timeout(IDLE)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
}

/// Reads a body of at most `bytes_max` bytes, counted after decompression.
pub async fn read_body(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| BodyError::Broken(without_url(error)))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than the limit.
    #[error("the answer is too large")]
    TooLarge,
    /// It ended early, or could not be decoded.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// What went wrong, with its causes, and without the URL, which may hold what is not to be shown.
pub fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}
