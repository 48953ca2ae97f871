//! `Accounts`: the account itself and its balance.

use serde_json::{Value, json};

use super::errors::Answer;
use super::form::rfc2822;
use super::state::Shared;

/// The parts of an account that its body links to, as far as they exist here.
const SUBRESOURCES: [(&str, &str); 4] = [
    ("available_phone_numbers", "AvailablePhoneNumbers"),
    ("balance", "Balance"),
    ("calls", "Calls"),
    ("incoming_phone_numbers", "IncomingPhoneNumbers"),
];

pub(super) fn fetch(shared: &Shared) -> Answer {
    let state = shared.lock();
    let base = shared.account_path();
    let parts: serde_json::Map<String, Value> = SUBRESOURCES
        .iter()
        .map(|(name, path)| ((*name).to_owned(), json!(format!("{base}/{path}.json"))))
        .collect();
    Answer::ok(json!({
        "sid": shared.account_sid,
        "owner_account_sid": shared.account_sid,
        "auth_token": shared.auth_token,
        "friendly_name": "Simulated account",
        "status": state.account.status,
        "type": state.account.kind,
        "date_created": rfc2822(state.account.created),
        "date_updated": rfc2822(state.account.updated),
        "subresource_uris": parts,
        "uri": format!("{base}.json"),
    }))
}

pub(super) fn balance(shared: &Shared) -> Answer {
    Answer::ok(json!({"account_sid": shared.account_sid, "balance": "100.00", "currency": "USD"}))
}
