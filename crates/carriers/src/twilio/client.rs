//! How Twilio is asked: Basic auth, form bodies, one account.
//!
//! Two HTTP clients, on purpose. Reads share connections and are tried a few times, obeying `Retry-After`. What changes something
//! goes out once, on a connection of its own: nothing below us, not even HTTP's own replay of a request on a connection that the
//! other side had closed, may send it a second time.

use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable as _};
use domain::number::{Capability, E164, NumberType};
use domain::quote::Search;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::debug;
use url::Url;

use super::wire;
use crate::carrier::{
    Account, BuyOutcome, Candidate, Carrier, CarrierError, Configuration, LABEL_CHARS_MAX, ListPage,
    MESSAGE_CHARS_MAX, Order, OwnedNumber, ReleaseOutcome, SettingNames, Tag, VoiceUrls,
};
use crate::http::{self, Timeouts};

/// The largest answer that is read: a page of a thousand numbers is about a megabyte.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many numbers one page lists; the most that Twilio gives.
const PAGE_SIZE: usize = 1_000;
/// How many numbers a search asks for where it is narrowed down here.
const SEARCH_WIDE: usize = 1_000;
/// How many pages are read to find one number.
const FIND_PAGES_MAX: usize = 5;
/// The longest `Retry-After` that a read waits for; beyond it the caller is told.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// The pause before the first repeated read; it doubles each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// "Authenticate".
const CODE_AUTHENTICATE: u32 = 20_003;
/// "No numbers in this area code": an answer, not an error.
const CODE_AREA_CODE_EMPTY: u32 = 21_452;
/// "PhoneNumber is not available".
const CODE_UNAVAILABLE: u32 = 21_422;

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The Account SID, or an API key's SID.
    pub user: String,
    /// The auth token, or the API key's secret.
    pub password: SecretString,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// How one account is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is.
    pub base_url: Url,
    /// Whose numbers they are.
    pub account_sid: String,
    /// Who asks.
    pub credentials: Credentials,
    /// How long one request may take.
    pub timeouts: Timeouts,
    /// How often a read is tried, in all.
    pub read_tries: u32,
}

/// One Twilio account.
#[derive(Debug)]
pub struct TwilioClient {
    settings: Settings,
    reads: reqwest::Client,
    writes: reqwest::Client,
}

/// An answer, read whole.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// Why there is no answer.
struct NoAnswer {
    /// Whether the request surely never left: there was no connection.
    unsent: bool,
    why: String,
}

impl TwilioClient {
    /// A client for this account. Asks nothing yet.
    pub fn new(settings: Settings) -> Result<TwilioClient, CarrierError> {
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| CarrierError::Unavailable(http::without_url(error)))
        };
        Ok(TwilioClient {
            reads: build(http::client_builder(settings.timeouts))?,
            writes: build(http::client_builder(settings.timeouts).pool_max_idle_per_host(0))?,
            settings,
        })
    }

    fn account_url(&self, rest: &str) -> Url {
        let mut url = self.settings.base_url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/2010-04-01/Accounts/{}{rest}", self.settings.account_sid));
        url
    }

    fn number_url(&self, carrier_number_id: &str) -> Result<Url, CarrierError> {
        // It becomes a part of a path: nothing but an id may.
        if !wire::is_sid(carrier_number_id, "PN") {
            return Err(CarrierError::Unexpected("the number's id there is not a Twilio id".into()));
        }
        Ok(self.account_url(&format!("/IncomingPhoneNumbers/{carrier_number_id}.json")))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, NoAnswer> {
        let credentials = &self.settings.credentials;
        let response = request
            .basic_auth(&credentials.user, Some(credentials.password.expose_secret()))
            .header(reqwest::header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(|error| NoAnswer { unsent: error.is_connect(), why: http::without_url(error) })?;
        let status = response.status();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after =
            header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        if let Some(request_id) = header("twilio-request-id") {
            debug!(carrier.request_id = %clean(request_id), "Twilio answers {status}");
        }
        let body = http::read_body(response, BODY_BYTES_MAX)
            .await
            .map_err(|error| NoAnswer { unsent: false, why: error.to_string() })?;
        Ok(Answer { status, retry_after, body })
    }

    /// Sends what changes something. Once.
    async fn write(&self, method: Method, url: Url, form: &[(&str, &str)]) -> Result<Answer, NoAnswer> {
        self.send(self.writes.request(method, url).form(form)).await
    }

    /// Asks, up to `read_tries` times.
    async fn read(&self, url: &Url) -> Result<Vec<u8>, CarrierError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(RETRY_FIRST)
            .with_max_delay(RETRY_AFTER_MAX)
            .with_max_times(self.settings.read_tries.saturating_sub(1) as usize);
        (|| async {
            match self.send(self.reads.get(url.clone())).await {
                Ok(answer) if answer.status.is_success() => Ok(answer.body),
                Ok(answer) => Err(self.read_error(&answer)),
                Err(no_answer) => Err(CarrierError::Unavailable(clean(&no_answer.why))),
            }
        })
        .retry(backoff)
        .when(CarrierError::is_passing)
        .adjust(|error, pause| match error {
            CarrierError::RateLimited { retry_after: Some(asked) } if *asked > RETRY_AFTER_MAX => None,
            CarrierError::RateLimited { retry_after: Some(asked) } => pause.map(|ours| ours.max(*asked)),
            _ => pause,
        })
        .await
    }

    fn read_error(&self, answer: &Answer) -> CarrierError {
        let error = wire::error(&answer.body);
        let message = self.message(answer, error.message.as_deref());
        match answer.status.as_u16() {
            401 | 403 => CarrierError::Auth { message },
            404 => CarrierError::NotFound,
            429 => CarrierError::RateLimited { retry_after: answer.retry_after },
            500.. => CarrierError::Unavailable(message),
            400..=499 => CarrierError::Refused { code: error.code, message },
            _ => CarrierError::Unexpected(message),
        }
    }

    /// The carrier's own words, short, printable and without our secret, whatever a broken proxy echoes.
    fn message(&self, answer: &Answer, said: Option<&str>) -> String {
        let secret = self.settings.credentials.password.expose_secret();
        match said {
            Some(said) if !secret.is_empty() => clean(&said.replace(secret, "…")),
            Some(said) => clean(said),
            None => format!("HTTP {}", answer.status.as_u16()),
        }
    }

    fn incoming_url(&self, filters: &[(&str, &str)]) -> Url {
        let mut url = self.account_url("/IncomingPhoneNumbers.json");
        url.query_pairs_mut().extend_pairs(filters).append_pair("PageSize", &PAGE_SIZE.to_string());
        url
    }

    async fn page(&self, url: &Url) -> Result<ListPage, CarrierError> {
        let body = self.read(url).await?;
        wire::numbers(&body)
            .ok_or_else(|| CarrierError::Unexpected("its list of numbers cannot be read".into()))
    }

    /// The URL of a next page. Our credentials go with it: never to another host.
    fn next_url(&self, next: &str) -> Result<Url, CarrierError> {
        self.settings
            .base_url
            .join(next)
            .ok()
            .filter(|url| url.origin() == self.settings.base_url.origin())
            .ok_or_else(|| CarrierError::Unexpected("its next page is at another place".into()))
    }

    async fn find(&self, filters: &[(&str, &str)]) -> Result<Vec<OwnedNumber>, CarrierError> {
        let mut found = Vec::new();
        let mut url = self.incoming_url(filters);
        for _ in 0..FIND_PAGES_MAX {
            let page = self.page(&url).await?;
            found.extend(page.numbers);
            let Some(next) = page.next else { return Ok(found) };
            url = self.next_url(&next)?;
        }
        Err(CarrierError::Unexpected("its filter does not narrow its list down".into()))
    }

    fn bought(&self, order: &Order, answer: &Answer) -> BuyOutcome {
        let error = wire::error(&answer.body);
        let why = || self.message(answer, error.message.as_deref());
        match (answer.status.as_u16(), error.code) {
            (200..=299, _) => match wire::number(&answer.body) {
                Some(number) if number.phone_number == order.phone_number => BuyOutcome::Confirmed(number),
                Some(_) => BuyOutcome::Ambiguous { why: "it answered with another number".into() },
                None => BuyOutcome::Ambiguous { why: "its answer cannot be read".into() },
            },
            // "The request was not processed": https://www.twilio.com/docs/api/errors/20429
            (429, _) => BuyOutcome::Deferred { retry_after: answer.retry_after, why: why() },
            (400, Some(CODE_UNAVAILABLE)) => BuyOutcome::Unavailable,
            // A refusal has a code. Without one a proxy may have answered for a carrier that did something.
            (status @ (400..=407 | 410..=424 | 426..=499), Some(code)) => BuyOutcome::Refused {
                account: matches!(status, 401 | 403) || code == CODE_AUTHENTICATE,
                code,
                message: why(),
            },
            _ => BuyOutcome::Ambiguous { why: why() },
        }
    }
}

#[async_trait]
impl Carrier for TwilioClient {
    fn name(&self) -> &'static str {
        "twilio"
    }

    fn setting_names(&self) -> SettingNames {
        SettingNames {
            credentials: "carriers.twilio.account_sid and auth_token (or the API key)",
            address: "carriers.twilio.base_url",
        }
    }

    fn request_limit(&self) -> Duration {
        self.settings.timeouts.total
    }

    async fn account_check(&self) -> Result<Account, CarrierError> {
        let body = self.read(&self.account_url(".json")).await?;
        wire::account(&body).ok_or_else(|| CarrierError::Unexpected("its account cannot be read".into()))
    }

    async fn numbers_search(&self, search: &Search) -> Result<Vec<Candidate>, CarrierError> {
        let url = search_url(
            self.account_url(&format!(
                "/AvailablePhoneNumbers/{}/{}.json",
                search.country,
                path_name(search.number_type)
            )),
            search,
        );
        let body = match self.read(&url).await {
            Ok(body) => body,
            Err(CarrierError::NotFound | CarrierError::Refused { code: Some(CODE_AREA_CODE_EMPTY), .. }) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut found = wire::candidates(&body, search.country, search.number_type)
            .ok_or_else(|| CarrierError::Unexpected("its numbers on sale cannot be read".into()))?;
        found.retain(|candidate| matches(candidate, search));
        found.truncate(usize::from(search.limit));
        Ok(found)
    }

    async fn number_buy(&self, order: &Order) -> BuyOutcome {
        let number = order.phone_number.to_string();
        let mut form = vec![("PhoneNumber", number.as_str()), ("FriendlyName", order.tag.as_str())];
        form.extend(voice_form(&order.voice));
        match self.write(Method::POST, self.account_url("/IncomingPhoneNumbers.json"), &form).await {
            Ok(answer) => self.bought(order, &answer),
            Err(NoAnswer { unsent: true, why }) => {
                BuyOutcome::Deferred { retry_after: None, why: clean(&why) }
            }
            Err(NoAnswer { unsent: false, why }) => BuyOutcome::Ambiguous { why: clean(&why) },
        }
    }

    async fn number_find(&self, phone_number: E164) -> Result<Option<OwnedNumber>, CarrierError> {
        // The filter matches parts of numbers too.
        let found = self.find(&[("PhoneNumber", &phone_number.to_string())]).await?;
        Ok(found.into_iter().find(|number| number.phone_number == phone_number))
    }

    async fn numbers_find_by_tag(&self, tag: &Tag) -> Result<Vec<OwnedNumber>, CarrierError> {
        let mut found = self.find(&[("FriendlyName", tag.as_str())]).await?;
        found.retain(|number| number.label == tag.as_str());
        Ok(found)
    }

    async fn number_configure(
        &self,
        carrier_number_id: &str,
        configuration: &Configuration,
    ) -> Result<OwnedNumber, CarrierError> {
        let label: String = configuration.label.chars().take(LABEL_CHARS_MAX).collect();
        let mut form = vec![("FriendlyName", label.as_str())];
        form.extend(voice_form(&configuration.voice));
        if configuration.voice.voice_fallback_url.is_none() {
            form.push(("VoiceFallbackUrl", ""));
        }
        // Either of these would take the calls in place of the URL.
        form.extend([("VoiceApplicationSid", ""), ("TrunkSid", "")]);
        match self.write(Method::POST, self.number_url(carrier_number_id)?, &form).await {
            Ok(answer) if answer.status.is_success() => wire::number(&answer.body)
                .ok_or_else(|| CarrierError::Unexpected("the number's settings cannot be read".into())),
            Ok(answer) => Err(self.read_error(&answer)),
            Err(no_answer) => Err(CarrierError::Unavailable(clean(&no_answer.why))),
        }
    }

    async fn numbers_list(&self, next: Option<&str>) -> Result<ListPage, CarrierError> {
        let url = match next {
            Some(next) => self.next_url(next)?,
            None => self.incoming_url(&[]),
        };
        self.page(&url).await
    }

    async fn number_release(&self, carrier_number_id: &str) -> Result<ReleaseOutcome, CarrierError> {
        match self.write(Method::DELETE, self.number_url(carrier_number_id)?, &[]).await {
            Ok(answer) if answer.status.is_success() => Ok(ReleaseOutcome::Released),
            Ok(answer) => match self.read_error(&answer) {
                // A proxy's 404 is no verdict on the number.
                CarrierError::NotFound if wire::error(&answer.body).code.is_some() => {
                    Ok(ReleaseOutcome::AlreadyGone)
                }
                error => Err(error),
            },
            Err(no_answer) => Err(CarrierError::Unavailable(clean(&no_answer.why))),
        }
    }
}

fn voice_form(voice: &VoiceUrls) -> Vec<(&'static str, &str)> {
    let mut form = vec![
        ("VoiceUrl", voice.voice_url.as_str()),
        ("VoiceMethod", "POST"),
        ("StatusCallback", voice.status_callback.as_str()),
        ("StatusCallbackMethod", "POST"),
    ];
    if let Some(url) = &voice.voice_fallback_url {
        form.extend([("VoiceFallbackUrl", url.as_str()), ("VoiceFallbackMethod", "POST")]);
    }
    form
}

const fn path_name(number_type: NumberType) -> &'static str {
    match number_type {
        NumberType::Local => "Local",
        NumberType::TollFree => "TollFree",
        NumberType::Mobile => "Mobile",
        NumberType::National => "National",
    }
}

fn search_url(mut url: Url, search: &Search) -> Url {
    let mut query = url.query_pairs_mut();
    let north_american = search.country.calling_code() == Some(1);
    let mut narrowed_here = false;
    match (&search.area_code, &search.digits) {
        (Some(area_code), digits) if north_american => {
            query.append_pair("AreaCode", area_code.as_str());
            if let Some(digits) = digits {
                query.append_pair("Contains", digits.as_str());
            }
        }
        (Some(area_code), digits) => {
            // `AreaCode` is for North America; elsewhere the beginning of the number says it. A leading + anchors.
            let code = search.country.calling_code().unwrap_or_default();
            query.append_pair("Contains", &format!("+{code}{}", area_code.as_str()));
            narrowed_here = digits.is_some();
        }
        (None, Some(digits)) => {
            query.append_pair("Contains", digits.as_str());
        }
        (None, None) => {}
    }
    for capability in &search.capabilities {
        let name = match capability {
            Capability::Voice => "VoiceEnabled",
            Capability::Sms => "SmsEnabled",
            Capability::Mms => "MmsEnabled",
        };
        query.append_pair(name, "true");
    }
    query.append_pair("ExcludeAllAddressRequired", "true");
    let size = if narrowed_here { SEARCH_WIDE } else { usize::from(search.limit) };
    query.append_pair("PageSize", &size.clamp(1, SEARCH_WIDE).to_string());
    drop(query);
    url
}

/// Whether a candidate is what was asked for, whatever the carrier made of the question.
fn matches(candidate: &Candidate, search: &Search) -> bool {
    let digits = candidate.phone_number.to_string();
    let code = search.country.calling_code().unwrap_or_default();
    candidate.country == search.country
        && search
            .area_code
            .as_ref()
            .is_none_or(|area_code| digits.starts_with(&format!("+{code}{}", area_code.as_str())))
        && search.digits.as_ref().is_none_or(|wanted| digits.contains(wanted.as_str()))
        && search.capabilities.iter().all(|&capability| candidate.capabilities.has(capability))
}

/// Foreign words as they may be logged: short, on one line.
fn clean(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
