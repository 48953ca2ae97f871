//! `AvailablePhoneNumbers`: which countries, and which numbers, the simulated carrier would sell now.
//!
//! It only reads; buying is `api_numbers`.

use serde_json::{Value, json};

use super::errors::{Answer, ApiError, Kind};
use super::form::{Form, number_friendly};
use super::router::ApiRequest;
use super::state::Shared;
use super::supply::{COUNTRIES, Candidate, NumberKind};

/// How many numbers a search answers where `PageSize` does not say.
const SEARCH_DEFAULT: usize = 50;
/// The most runs (`%`) in one pattern, because each multiplies the work of matching.
const PATTERN_RUNS_MAX: usize = 3;
/// The most that a search answers.
const SEARCH_MAX: usize = 1_000;

pub(super) fn countries(shared: &Shared, request: &ApiRequest) -> Answer {
    let countries: Vec<Value> =
        COUNTRIES.iter().map(|(code, name)| country_body(shared, code, name)).collect();
    Answer::ok(json!({"countries": countries, "uri": request.path}))
}

pub(super) fn country(shared: &Shared, request: &ApiRequest, code: &str) -> Result<Answer, ApiError> {
    let (code, name) = COUNTRIES
        .iter()
        .find(|(known, _)| *known == code)
        .ok_or_else(|| ApiError::not_found(&request.path))?;
    Ok(Answer::ok(country_body(shared, code, name)))
}

fn country_body(shared: &Shared, code: &str, name: &str) -> Value {
    let base = format!("{}/AvailablePhoneNumbers/{code}", shared.account_path());
    let kinds: serde_json::Map<String, Value> = shared
        .supply
        .kinds(code)
        .into_iter()
        .map(|kind| (kind.uri_name().to_owned(), json!(format!("{base}/{}.json", kind.path_name()))))
        .collect();
    json!({
        "country_code": code,
        "country": name,
        "uri": format!("{base}.json"),
        "beta": false,
        "subresource_uris": kinds,
    })
}

pub(super) fn search(
    shared: &Shared,
    request: &ApiRequest,
    country: &str,
    kind: &str,
) -> Result<Answer, ApiError> {
    let kind = NumberKind::ALL
        .into_iter()
        .find(|known| known.path_name() == kind && shared.supply.kinds(country).contains(known))
        .ok_or_else(|| ApiError::not_found(&request.path))?;
    let query = &request.query;
    let filter = Filter::read(query)?;
    let limit = page_size(query)?;
    let state = shared.lock();
    let found: Vec<Value> = shared
        .supply
        .candidates(country, kind)
        .filter(|candidate| filter.matches(candidate) && !state.numbers.owns(&candidate.phone_number))
        .take(limit)
        .map(|candidate| candidate_body(&candidate))
        .collect();
    Ok(Answer::ok(json!({"available_phone_numbers": found, "uri": request.path_and_query()})))
}

fn page_size(query: &Form) -> Result<usize, ApiError> {
    match query.filled("PageSize") {
        None => Ok(SEARCH_DEFAULT),
        Some(text) => text
            .parse::<usize>()
            .map(|size| size.clamp(1, SEARCH_MAX))
            .map_err(|_| ApiError::new(Kind::ParameterInvalid, format!("PageSize {text} is not a number"))),
    }
}

/// The wire names of a search result's capabilities are upper case for messaging; an owned number's are lower case.
fn candidate_body(candidate: &Candidate<'_>) -> Value {
    let place = candidate.range.place;
    json!({
        "friendly_name": number_friendly(&candidate.phone_number),
        "phone_number": candidate.phone_number,
        "lata": Value::Null,
        "locality": place.map(|place| place.locality),
        "rate_center": place.map(|place| place.locality.to_uppercase()),
        "latitude": place.map(|place| place.latitude),
        "longitude": place.map(|place| place.longitude),
        "region": place.map(|place| place.region),
        "postal_code": place.map(|place| place.postal_code),
        "iso_country": candidate.range.country,
        "address_requirements": candidate.address_requirements,
        "beta": false,
        "capabilities": {
            "voice": candidate.capabilities.voice,
            "SMS": candidate.capabilities.sms,
            "MMS": candidate.capabilities.mms,
        },
    })
}

/// What a search asks for.
#[derive(Debug, Default)]
struct Filter {
    area_code: Option<String>,
    contains: Option<Pattern>,
    voice: Option<bool>,
    sms: Option<bool>,
    mms: Option<bool>,
    fax: Option<bool>,
    exclude_addresses: Vec<&'static str>,
    region: Option<String>,
    locality: Option<String>,
    postal_code: Option<String>,
}

impl Filter {
    fn read(query: &Form) -> Result<Self, ApiError> {
        let area_code = query.filled("AreaCode").map(str::to_owned);
        if let Some(code) = &area_code
            && (code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(ApiError::new(Kind::AreaCodeInvalid, format!("Invalid area code: {code}")));
        }
        let mut exclude_addresses = Vec::new();
        if boolean(query, "ExcludeAllAddressRequired")? == Some(true) {
            exclude_addresses.extend(["any", "local", "foreign"]);
        }
        if boolean(query, "ExcludeLocalAddressRequired")? == Some(true) {
            exclude_addresses.push("local");
        }
        if boolean(query, "ExcludeForeignAddressRequired")? == Some(true) {
            exclude_addresses.push("foreign");
        }
        Ok(Self {
            area_code,
            contains: query.filled("Contains").map(Pattern::read).transpose()?,
            voice: boolean(query, "VoiceEnabled")?,
            sms: boolean(query, "SmsEnabled")?,
            mms: boolean(query, "MmsEnabled")?,
            fax: boolean(query, "FaxEnabled")?,
            exclude_addresses,
            region: query.filled("InRegion").map(str::to_owned),
            locality: query.filled("InLocality").map(str::to_owned),
            postal_code: query.filled("InPostalCode").map(str::to_owned),
        })
    }

    fn matches(&self, candidate: &Candidate<'_>) -> bool {
        let same = |wanted: &Option<String>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| has.is_some_and(|has| has.eq_ignore_ascii_case(wanted)))
        };
        let able = |wanted: Option<bool>, has: bool| wanted.is_none_or(|wanted| wanted == has);
        let place = candidate.range.place;
        same(&self.area_code, candidate.range.area_code)
            && same(&self.region, place.map(|place| place.region))
            && same(&self.locality, place.map(|place| place.locality))
            && same(&self.postal_code, place.map(|place| place.postal_code))
            && able(self.voice, candidate.capabilities.voice)
            && able(self.sms, candidate.capabilities.sms)
            && able(self.mms, candidate.capabilities.mms)
            && able(self.fax, candidate.capabilities.fax)
            && !self.exclude_addresses.contains(&candidate.address_requirements)
            && self.contains.as_ref().is_none_or(|pattern| pattern.matches(&candidate.phone_number))
    }
}

fn boolean(query: &Form, name: &str) -> Result<Option<bool>, ApiError> {
    match query.filled(name) {
        None => Ok(None),
        Some("true" | "True" | "1") => Ok(Some(true)),
        Some("false" | "False" | "0") => Ok(Some(false)),
        Some(other) => Err(ApiError::new(Kind::ParameterInvalid, format!("{name} {other} is not a boolean"))),
    }
}

/// `Contains`: digits and keypad letters anywhere; `*` is one digit, `%` any run, `+` anchors the start, `$` the end.
#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    at_start: bool,
    at_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Digit(u8),
    One,
    Run,
}

impl Pattern {
    fn read(text: &str) -> Result<Self, ApiError> {
        let refuse =
            || ApiError::new(Kind::ParameterInvalid, format!("Contains {text} is not a valid pattern"));
        if !(2..=16).contains(&text.chars().count()) || text.matches('%').count() > PATTERN_RUNS_MAX {
            return Err(refuse());
        }
        // A plus that was not percent-encoded arrives as a space.
        let (at_start, rest) = match text.strip_prefix(['+', ' ']) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (at_end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let parts = rest
            .bytes()
            .map(|byte| match byte.to_ascii_uppercase() {
                b'*' => Ok(Part::One),
                b'%' => Ok(Part::Run),
                digit @ b'0'..=b'9' => Ok(Part::Digit(digit)),
                letter @ b'A'..=b'Z' => {
                    Ok(Part::Digit(b"22233344455566677778889999"[usize::from(letter - b'A')]))
                }
                _ => Err(refuse()),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { parts, at_start, at_end })
    }

    fn matches(&self, e164: &str) -> bool {
        let digits = &e164.as_bytes()[1..];
        let last_start = if self.at_start { 0 } else { digits.len() };
        (0..=last_start).any(|start| self.matches_from(&self.parts, &digits[start..]))
    }

    fn matches_from(&self, parts: &[Part], digits: &[u8]) -> bool {
        match (parts.split_first(), digits.split_first()) {
            (None, _) => !self.at_end || digits.is_empty(),
            (Some((Part::Run, rest)), _) => {
                (0..=digits.len()).any(|skip| self.matches_from(rest, &digits[skip..]))
            }
            (Some((Part::One, rest)), Some((_, more))) => self.matches_from(rest, more),
            (Some((Part::Digit(wanted), rest)), Some((digit, more))) if wanted == digit => {
                self.matches_from(rest, more)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        for (pattern, number, expected) in [
            ("0123", "+14155550123", true),
            ("5550", "+14155550123", true),
            ("+1415", "+14155550123", true),
            ("+415", "+14155550123", false),
            ("123$", "+14155550123", true),
            ("012$", "+14155550123", false),
            ("415***01", "+14155550123", true),
            ("415**01", "+14155550123", false),
            ("+1%23$", "+14155550123", true),
            ("JKL", "+14155550123", true), // keypad 555
            ("+44", "+442079460000", true),
        ] {
            let read = Pattern::read(pattern).unwrap();
            assert_eq!(read.matches(number), expected, "{pattern} {number}");
        }
        assert!(Pattern::read("1").is_err());
        assert!(Pattern::read("12-34").is_err());
        assert!(Pattern::read("12345678901234567").is_err());
    }
}
