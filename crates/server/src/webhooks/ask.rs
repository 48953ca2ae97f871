//! Asks a team's server what to do with a call, and reads its answer strictly: a target, a message, or a refusal. What stands in
//! an answer passes the same checks as what is saved.

use std::time::Duration;

use carriers::http::{read_body, without_url};
use domain::endpoint::{
    RING_TIMEOUT_S, RING_TIMEOUT_S_DEFAULT, SIP_AUTH_BYTES_MAX, SipUri, StreamUrl, Webhook, WebhookUrl,
};
use domain::error::{Code, Refusal};
use domain::fallback::MESSAGE_CHARS_MAX;
use domain::number::E164;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::guard::Egress;
use super::sign;
use crate::twiml::Leg;

/// How long the team's server may take, from the first packet to the last byte of its answer.
pub const ASK_LIMIT: Duration = super::guard::REQUEST_LIMIT;
/// The largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What the team's server is told.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// Our id of the call; also the id of the request.
    pub call_id: String,
    /// Who calls, as the carrier wrote it.
    pub from: String,
    /// The number that was called.
    pub to: String,
    /// The number's id.
    pub number_id: String,
    /// The agent.
    pub agent_id: String,
    /// In which environment.
    pub environment: &'static str,
    /// The version that runs.
    pub version: u32,
    /// The variant's name, if the agent has any.
    pub variant: Option<String>,
    /// The call parameters and the variant's attributes.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// When the call came in.
    pub at: Timestamp,
}

/// What the team's server wants.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Connect the call.
    Connect {
        /// To what.
        leg: Leg,
        /// How long it may ring.
        ring_timeout_s: u16,
    },
    /// Speak a message and end the call.
    Say(String),
    /// Refuse the call.
    Reject,
}

/// Why there is no usable answer, as the call's record shows it. Never what the server said: that may be anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The address may not be reached.
    #[error("the webhook's address is refused: {0}")]
    NotAllowed(Code),
    /// It could not be reached, or broke off; why, in words of ours.
    #[error("the team's server could not be reached: {0}")]
    Unreachable(&'static str),
    /// It took too long.
    #[error("the team's server did not answer within {} s", ASK_LIMIT.as_secs())]
    TooSlow,
    /// It answered with an HTTP error.
    #[error("the team's server answered with the HTTP status {0}")]
    Status(u16),
    /// Its answer is too large.
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// Its answer makes no sense.
    #[error("the answer cannot be used: {0}")]
    Senseless(String),
}

impl Fault {
    /// One word for it, as it is counted.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Fault::NotAllowed(_) => "not_allowed",
            Fault::Unreachable(_) => "unreachable",
            Fault::TooSlow => "too_slow",
            Fault::Status(_) => "http_status",
            Fault::TooLarge => "too_large",
            Fault::Senseless(_) => "unusable",
        }
    }
}

/// Asks. Takes at most [`ASK_LIMIT`].
pub async fn ask(
    egress: &Egress,
    webhook: &Webhook,
    secret: Option<&str>,
    question: &Question,
    now: Timestamp,
) -> Result<Answer, Fault> {
    tokio::time::timeout(ASK_LIMIT, exchange(egress, &webhook.webhook_url, secret, question, now))
        .await
        .unwrap_or(Err(Fault::TooSlow))
}

async fn exchange(
    egress: &Egress,
    url: &WebhookUrl,
    secret: Option<&str>,
    question: &Question,
    now: Timestamp,
) -> Result<Answer, Fault> {
    let client = egress.client_for(&url.address()).map_err(|refusal| Fault::NotAllowed(refusal.code))?;
    let body = serde_json::to_string(question).expect("a question is plain data");
    let mut request = client.post(url.as_str()).header("content-type", "application/json");
    if let Some(secret) = secret {
        for (name, value) in sign::headers(secret, &question.call_id, now, &body) {
            request = request.header(name, value);
        }
    }
    let response = request.body(body).send().await.map_err(fault)?;
    let status = response.status();
    if !status.is_success() {
        return Err(Fault::Status(status.as_u16()));
    }
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err(Fault::TooLarge);
    }
    let body = read_body(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
        carriers::http::BodyError::TooLarge => Fault::TooLarge,
        carriers::http::BodyError::Broken(_) => {
            Fault::Unreachable("it broke off in the middle of its answer")
        }
    })?;
    read_answer(egress, &body)
}

fn fault(error: reqwest::Error) -> Fault {
    if error.is_timeout() {
        return Fault::TooSlow;
    }
    let is_connect = error.is_connect();
    let text = without_url(error).to_lowercase();
    if text.contains(Code::AddressNotAllowed.as_str()) {
        return Fault::NotAllowed(Code::AddressNotAllowed);
    }
    // The libraries' words name systems and files; a few of ours say what people can act on.
    let found = [
        ("dns", "its name does not resolve"),
        ("lookup", "its name does not resolve"),
        ("certificate", "its TLS certificate is not accepted"),
        ("refused", "it refuses connections"),
        ("tls", "no TLS connection came about"),
    ]
    .into_iter()
    .find(|(word, _)| text.contains(word));
    Fault::Unreachable(match found {
        Some((_, why)) => why,
        None if is_connect => "no connection came about",
        None => "the connection broke off before it answered",
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerJson {
    connect: Option<ConnectJson>,
    say: Option<String>,
    reject: Option<bool>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ConnectJson {
    Sip { uri: String, username: Option<String>, password: Option<String>, ring_timeout_s: Option<u16> },
    Stream { url: String },
    Phone { phone_number: String, ring_timeout_s: Option<u16> },
}

/// Reads an answer.
pub fn read_answer(egress: &Egress, body: &[u8]) -> Result<Answer, Fault> {
    let answer: AnswerJson = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let refused = |refusal: Refusal| Fault::Senseless(refusal.to_string());
    match (answer.connect, answer.say, answer.reject) {
        (Some(connect), None, None) => connect_read(egress, connect).map_err(refused),
        (None, Some(message), None) => message_read(message).map_err(refused).map(Answer::Say),
        (None, None, Some(true)) => Ok(Answer::Reject),
        _ => {
            Err(Fault::Senseless("it must hold exactly one of connect, say and \"reject\": true".to_owned()))
        }
    }
}

/// Says where an answer stops making sense, and not with what: the parser's own words repeat values, and one may be a password.
fn unreadable(error: &serde_json::Error) -> Fault {
    let why = match error.classify() {
        serde_json::error::Category::Data => "a field is unknown, missing or of the wrong type",
        _ => "it is not JSON",
    };
    Fault::Senseless(format!("{why}, at line {} column {}", error.line(), error.column()))
}

fn connect_read(egress: &Egress, connect: ConnectJson) -> Result<Answer, Refusal> {
    let (leg, ring_timeout_s, address) = match connect {
        ConnectJson::Stream { url } => {
            let url = StreamUrl::parse(&url, egress.plain())?;
            let address = url.address();
            (Leg::Stream { url }, None, Some(address))
        }
        ConnectJson::Sip { uri, username, password, ring_timeout_s } => {
            let uri = SipUri::parse(&uri)?;
            let address = uri.address();
            let auth = match (username, password) {
                (Some(username), Some(password)) => {
                    auth_check(&username)?;
                    auth_check(&password)?;
                    Some((username, SecretString::from(password)))
                }
                (None, None) => None,
                _ => {
                    return Err(Refusal::new(
                        Code::Required,
                        "username and password belong together; send both or none",
                    ));
                }
            };
            (Leg::Sip { uri, auth }, ring_timeout_s, Some(address))
        }
        ConnectJson::Phone { phone_number, ring_timeout_s } => {
            (Leg::Phone { phone_number: E164::parse(&phone_number, None)? }, ring_timeout_s, None)
        }
    };
    if let Some(address) = address {
        egress.client_for(&address)?;
    }
    let ring_timeout_s = ring_timeout_s.unwrap_or(RING_TIMEOUT_S_DEFAULT);
    if !RING_TIMEOUT_S.contains(&ring_timeout_s) {
        return Err(Refusal::new(
            Code::InvalidValue,
            format!(
                "ring_timeout_s is {ring_timeout_s}; it is {} to {}",
                RING_TIMEOUT_S.start(),
                RING_TIMEOUT_S.end()
            ),
        ));
    }
    Ok(Answer::Connect { leg, ring_timeout_s })
}

fn auth_check(text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > SIP_AUTH_BYTES_MAX {
        return Err(Refusal::new(
            Code::TooLong,
            format!("username and password have 1 to {SIP_AUTH_BYTES_MAX} bytes each"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::new(Code::ControlCharacter, "username or password holds a control character"));
    }
    Ok(())
}

fn message_read(message: String) -> Result<String, Refusal> {
    if message.trim().is_empty() {
        return Err(Refusal::new(Code::Required, "say is empty"));
    }
    if message.chars().count() > MESSAGE_CHARS_MAX {
        return Err(Refusal::new(Code::TooLong, format!("say has more than {MESSAGE_CHARS_MAX} characters")));
    }
    if message.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Refusal::new(Code::ControlCharacter, "say holds a control character"));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "only its error is looked at")]
    async fn a_server_that_refuses_connections_is_told_apart() {
        // Bound and let go of: nobody listens there now.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = client.post(format!("http://127.0.0.1:{port}/")).send().await.unwrap_err();
        assert_eq!(fault(error), Fault::Unreachable("it refuses connections"));
    }

    #[test]
    fn answers_are_read_strictly() {
        let egress = Egress::new(&crate::config::Egress::default()).unwrap();
        let read = |body: &str| read_answer(&egress, body.as_bytes());
        assert!(matches!(
            read(r#"{"connect":{"type":"stream","url":"wss://agent.example/m"}}"#),
            Ok(Answer::Connect { leg: Leg::Stream { .. }, .. })
        ));
        assert!(matches!(
            read(
                r#"{"connect":{"type":"sip","uri":"sip:a@agents.example","username":"u","password":"p","ring_timeout_s":10}}"#
            ),
            Ok(Answer::Connect { leg: Leg::Sip { auth: Some(_), .. }, ring_timeout_s: 10 })
        ));
        assert!(matches!(
            read(r#"{"connect":{"type":"phone","phone_number":"+14385950345"}}"#),
            Ok(Answer::Connect { leg: Leg::Phone { .. }, ring_timeout_s: RING_TIMEOUT_S_DEFAULT })
        ));
        assert!(matches!(read(r#"{"say":"Hello."}"#), Ok(Answer::Say(_))));
        assert!(matches!(read(r#"{"reject":true}"#), Ok(Answer::Reject)));
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "<Response/>",
            r#"{"reject":false}"#,
            r#"{"say":"Hello.","reject":true}"#,
            r#"{"say":""}"#,
            r#"{"say":"a\u0000"}"#,
            r#"{"say":7}"#,
            r#"{"Say":"Hello."}"#,
            r#"{"connect":{"type":"stream","url":"wss://agent.example/m?x=1"}}"#,
            r#"{"connect":{"type":"stream","url":"ws://127.0.0.1/"}}"#,
            r#"{"connect":{"type":"stream","url":"wss://169.254.169.254/"}}"#,
            r#"{"connect":{"type":"sip","uri":"sip:a@10.0.0.1"}}"#,
            r#"{"connect":{"type":"sip","uri":"sip:a@agents.example","username":"u"}}"#,
            r#"{"connect":{"type":"sip","uri":"sip:a@agents.example?X-A=1"}}"#,
            r#"{"connect":{"type":"phone","phone_number":"911"}}"#,
            r#"{"connect":{"type":"phone","phone_number":"+14385950345","ring_timeout_s":4}}"#,
            r#"{"connect":{"type":"webhook","webhook_url":"https://x.example/"}}"#,
            r#"{"connect":{"type":"phone","phone_number":"+14385950345","premium":true}}"#,
            r#"{"connect":{"type":"phone","phone_number":"+14385950345"}} {}"#,
        ] {
            assert!(matches!(read(body), Err(Fault::Senseless(_))), "{body}");
        }
        let secret =
            r#"{"connect":{"type":"sip","uri":"sip:a@agents.example","username":"u","password":8675309}}"#;
        let said = read(secret).unwrap_err().to_string();
        assert!(!said.contains("8675309") && said.contains("line 1"), "{said}");
        let long = format!(r#"{{"say":"{}"}}"#, "x".repeat(MESSAGE_CHARS_MAX + 1));
        assert!(read(&long).is_err());
    }
}
