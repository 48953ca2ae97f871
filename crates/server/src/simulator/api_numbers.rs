//! `IncomingPhoneNumbers`: buy, list, fetch, change and release.

use serde_json::{Value, json};

use super::errors::{Answer, ApiError, Kind};
use super::form::{is_e164, number_friendly, sid};
use super::number::Number;
use super::paging::page;
use super::router::ApiRequest;
use super::state::{Shared, State};
use super::supply::{COUNTRIES, Candidate, NumberKind};

/// The carrier's magic inputs: they answer the same on every account, and nothing is bought.
const MAGIC_UNAVAILABLE: &str = "+15005550000";
const MAGIC_INVALID: &str = "+15005550001";
const MAGIC_FINE: &str = "+15005550006";
const MAGIC_AREA_CODE_EMPTY: &str = "533";
const MAGIC_AREA_CODE_FINE: &str = "500";

pub(super) fn create(shared: &Shared, request: &ApiRequest) -> Result<Answer, ApiError> {
    let form = &request.form;
    let mut state = shared.lock();
    let candidate = match (form.filled("PhoneNumber"), form.filled("AreaCode")) {
        (Some(MAGIC_UNAVAILABLE), _) => return Err(unavailable(MAGIC_UNAVAILABLE)),
        (Some(MAGIC_INVALID), _) => return Err(invalid(MAGIC_INVALID)),
        (_, Some(MAGIC_AREA_CODE_EMPTY)) => return Err(area_code_empty(MAGIC_AREA_CODE_EMPTY)),
        (Some(MAGIC_FINE), _) | (None, Some(MAGIC_AREA_CODE_FINE)) => return magic_purchase(shared, request),
        (Some(text), _) => by_number(shared, &state, text)?,
        (None, Some(area_code)) => by_area_code(shared, &state, area_code)?,
        (None, None) => {
            return Err(ApiError::new(Kind::NumberInvalid, "PhoneNumber or AreaCode is required"));
        }
    };
    if candidate.address_requirements != "none" && form.filled("AddressSid").is_none() {
        return Err(ApiError::new(
            Kind::AddressMissing,
            format!(
                "Phone Number Requires an Address: {} needs AddressSid ({})",
                candidate.phone_number, candidate.address_requirements
            ),
        ));
    }
    let number = number_of(shared, &candidate).with_settings(form, shared.clock.now())?;
    shared.record(&mut state, "number_purchased", &number.sid, request, json!({"number": number}))?;
    let body = number.body(&shared.account_sid);
    state.numbers.put(number);
    Ok(Answer::created(body))
}

fn by_number<'a>(shared: &'a Shared, state: &State, text: &str) -> Result<Candidate<'a>, ApiError> {
    if !is_e164(text) {
        return Err(invalid(text));
    }
    shared
        .supply
        .find(text)
        .filter(|found| !state.numbers.owns(&found.phone_number))
        .ok_or_else(|| unavailable(text))
}

fn by_area_code<'a>(shared: &'a Shared, state: &State, area_code: &str) -> Result<Candidate<'a>, ApiError> {
    if area_code.len() != 3 || !area_code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ApiError::new(Kind::AreaCodeInvalid, format!("Invalid area code: {area_code}")));
    }
    if !shared.supply.area_code_known(area_code) {
        return Err(area_code_empty(area_code));
    }
    COUNTRIES
        .iter()
        .flat_map(|(country, _)| {
            [NumberKind::Local, NumberKind::TollFree]
                .into_iter()
                .flat_map(|kind| shared.supply.candidates(country, kind))
        })
        .find(|found| found.range.area_code == Some(area_code) && !state.numbers.owns(&found.phone_number))
        .ok_or_else(|| area_code_empty(area_code))
}

fn number_of(shared: &Shared, candidate: &Candidate<'_>) -> Number {
    Number::new(
        sid("PN"),
        candidate.phone_number.clone(),
        number_friendly(&candidate.phone_number),
        candidate.capabilities,
        (candidate.address_requirements, candidate.range.kind.type_name()),
        shared.clock.now(),
    )
}

/// As with the carrier's test credentials: a realistic answer, and no effect.
fn magic_purchase(shared: &Shared, request: &ApiRequest) -> Result<Answer, ApiError> {
    let like = shared
        .supply
        .candidates("US", NumberKind::Local)
        .next()
        .expect("numbers are sold in the United States");
    let mut number = number_of(shared, &like);
    MAGIC_FINE.clone_into(&mut number.e164);
    number.friendly_name = number_friendly(MAGIC_FINE);
    let number = number.with_settings(&request.form, shared.clock.now())?;
    Ok(Answer::created(number.body(&shared.account_sid)))
}

fn unavailable(number: &str) -> ApiError {
    ApiError::new(Kind::NumberUnavailable, format!("PhoneNumber Requested is not available: {number}"))
}

fn invalid(number: &str) -> ApiError {
    ApiError::new(Kind::NumberInvalid, format!("PhoneNumber is invalid: {number}"))
}

fn area_code_empty(area_code: &str) -> ApiError {
    ApiError::new(Kind::AreaCodeEmpty, format!("No phone numbers found in area code {area_code}"))
}

pub(super) fn list(shared: &Shared, request: &ApiRequest) -> Result<Answer, ApiError> {
    let state = shared.lock();
    let digits = request.query.filled("PhoneNumber").map(partial_digits);
    let name = request.query.filled("FriendlyName");
    let origin = request.query.filled("Origin");
    let now = shared.clock.now();
    let matching: Vec<&Number> = state
        .numbers
        .latest_first()
        .filter(|number| {
            digits.as_deref().is_none_or(|digits| partial_match(digits, &number.e164))
                && name.is_none_or(|name| number.friendly_name == name)
                && origin.is_none_or(|origin| origin == "twilio")
                && request.view.hidden_for.is_none_or(|hidden| number.created + hidden <= now)
        })
        .collect();
    let page = page(request, &matching, |number| number.sid.as_str())?;
    let bodies: Vec<Value> = page.items.iter().map(|number| number.body(&shared.account_sid)).collect();
    Ok(Answer::ok(page.body("incoming_phone_numbers", bodies)))
}

fn partial_digits(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_digit() || *c == '*').collect()
}

/// Whether the digits, in which `*` is any one digit, are found anywhere in the number.
fn partial_match(digits: &str, e164: &str) -> bool {
    let (wanted, have) = (digits.as_bytes(), &e164.as_bytes()[1..]);
    wanted.is_empty()
        || have
            .windows(wanted.len())
            .any(|at| at.iter().zip(wanted).all(|(has, want)| *want == b'*' || has == want))
}

pub(super) fn fetch(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let state = shared.lock();
    let number = state.numbers.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?;
    Ok(Answer::ok(number.body(&shared.account_sid)))
}

pub(super) fn update(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let mut state = shared.lock();
    let number = state.numbers.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?.clone();
    if request.form.filled("AccountSid").is_some_and(|account| account != shared.account_sid) {
        return Err(ApiError::new(
            Kind::ParameterInvalid,
            "AccountSid is not one of this account's sub-accounts",
        ));
    }
    let number = number.with_settings(&request.form, shared.clock.now())?;
    shared.record(&mut state, "number_updated", sid, request, json!({"number": number}))?;
    let body = number.body(&shared.account_sid);
    state.numbers.put(number);
    Ok(Answer::ok(body))
}

pub(super) fn delete(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let mut state = shared.lock();
    let phone_number =
        state.numbers.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?.e164.clone();
    shared.record(&mut state, "number_released", sid, request, json!({"phone_number": phone_number}))?;
    state.numbers.remove(sid);
    Ok(Answer::no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_numbers_match_anywhere_and_stars_are_one_digit() {
        for (digits, expected) in [
            ("415", true),
            ("+14155550123", true),
            ("415555****", true),
            ("5551", false),
            ("0124", false),
            ("4*5", true),
        ] {
            assert_eq!(partial_match(&partial_digits(digits), "+14155550123"), expected, "{digits}");
        }
    }
}
