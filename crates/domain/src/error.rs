//! The error table: every refusal that anyone outside can meet, with its code, its HTTP and SIP status and its
//! advice, written once. The API, the call path, the CLI and the docs are made from it; tests enumerate it.
//!
//! [`Refusal`] is one such code with the sentence that belongs to one case. This file decides nothing: parsers and
//! rules elsewhere choose the code.

use std::fmt;

macro_rules! error_table {
    ($( $variant:ident, $code:literal, $http:literal, $sip:expr, $title:literal, $advice:literal; )*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $( #[doc = $title] $variant, )*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Code] = &[ $( Code::$variant, )* ];

            /// The code as it is written on the wire: stable, `snake_case`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $code, )* }
            }

            /// The HTTP status it is answered with.
            pub const fn http_status(self) -> u16 {
                match self { $( Code::$variant => $http, )* }
            }

            /// The SIP status (RFC 3261 §21) it is answered with on a call, where a call can meet it.
            pub const fn sip_status(self) -> Option<u16> {
                match self { $( Code::$variant => $sip, )* }
            }

            /// A short, fixed sentence: the `title` of a problem document.
            pub const fn title(self) -> &'static str {
                match self { $( Code::$variant => $title, )* }
            }

            /// What to do about it: the text of the code's page.
            pub const fn advice(self) -> &'static str {
                match self { $( Code::$variant => $advice, )* }
            }
        }
    };
}

error_table! {
    // The request itself.
    JsonSyntax, "json_syntax", 400, None, "The body is not valid JSON", "Fix the JSON at the line and column named in `detail`.";
    JsonDuplicateKey, "json_duplicate_key", 400, None, "A key stands twice in one JSON object", "Send each key once; we will not guess which value you meant.";
    JsonNumber, "json_number", 400, None, "A JSON number is out of range", "Send a finite number within the limits of the field.";
    JsonDepth, "json_depth", 400, None, "The JSON is nested too deeply", "Send at most 32 levels of arrays and objects.";
    InvalidUtf8, "invalid_utf8", 400, None, "The body is not valid UTF-8", "Send UTF-8 without lone surrogates.";
    InvalidForm, "invalid_form", 400, None, "The form body cannot be read", "Send application/x-www-form-urlencoded as the carrier's documents describe.";
    BadCursor, "bad_cursor", 400, None, "The cursor is not one of ours", "Use `next_cursor` of the previous page unchanged, with the same filters.";
    BadEventId, "bad_event_id", 400, None, "The Last-Event-ID is not the id of an event", "Send the `id` of the event that you saw last, or leave the header out and read anew what you show.";
    KeyInUrl, "key_in_url", 400, None, "An API key was sent in the URL", "Send it as `Authorization: Bearer …`. URLs end up in logs: revoke this key and create another.";
    IdempotencyKeyRequired, "idempotency_key_required", 400, None, "This request needs an Idempotency-Key", "Send a header `Idempotency-Key` with a value of your own, such as a UUID, and the same one when you repeat the request.";
    IdempotencyKeyInvalid, "idempotency_key_invalid", 400, None, "The Idempotency-Key cannot be used", "Send 1 to 255 visible ASCII characters.";
    Unauthenticated, "unauthenticated", 401, None, "No valid API key was sent", "Send `Authorization: Bearer sbk_…`. Create a key with `switchboard keys create`.";
    KeyRevoked, "key_revoked", 401, None, "This API key was revoked", "Create another with `switchboard keys create` or POST /v1/api-keys.";
    KeyExpired, "key_expired", 401, None, "This API key has expired", "Create another with `switchboard keys create` or POST /v1/api-keys.";
    Forbidden, "forbidden", 403, None, "This key may not do that", "Use a key whose role has the permission named in `detail`.";
    NotFound, "not_found", 404, None, "There is nothing here", "Check the id. Ids of other workspaces look like ids that do not exist.";
    AgentNotFound, "agent_not_found", 404, None, "There is no such agent", "List the agents of this workspace with GET /v1/agents.";
    VariantNotFound, "variant_not_found", 404, None, "There is no such variant", "List the agent's variants with GET /v1/agents/{id}/variants.";
    MethodNotAllowed, "method_not_allowed", 405, None, "This address does not take that method", "See the Allow header and the API reference under /docs.";
    IdempotencyConflict, "idempotency_conflict", 409, None, "This Idempotency-Key was used with another request", "Use a new key for a new request; repeat the old request unchanged to see its answer.";
    PurchaseInProgress, "purchase_in_progress", 409, None, "This number is being bought already", "Wait for the purchase named in `detail`, or choose another number.";
    NumberUnavailable, "number_unavailable", 409, None, "This number cannot be bought any more", "Search again; nothing was charged.";
    QuoteExpired, "quote_expired", 409, None, "This quote has expired", "Search again and buy with the new quote; the price may have changed.";
    PriceAboveMaximum, "price_above_maximum", 409, None, "No number is on sale at or below your maximum", "Raise `max_monthly_price`, or choose another country or type.";
    NoNumberFound, "no_number_found", 409, None, "No number matches", "Loosen the filter named in `detail`.";
    BudgetExceeded, "budget_exceeded", 409, None, "The workspace's budget does not allow this purchase", "Wait for the time named in `detail`, or ask the operator to raise store.limits.*.";
    PurchasesLocked, "purchases_locked", 409, None, "Buying is locked until a reconcile has ended", "The database was restored from a backup. Run `switchboard reconcile`, read its report, and try again.";
    NotPublished, "not_published", 409, None, "The agent runs nothing in that environment", "Publish the agent, then promote it to that environment.";
    VariantNotPublished, "variant_not_published", 409, None, "The variant is not published to that environment", "Publish the agent to that environment first; then the variant can be assigned.";
    CapabilityMissing, "capability_missing", 409, None, "The number cannot do what the agent needs", "Choose a number with the capability named in `detail`.";
    NumberInUse, "number_in_use", 409, None, "The number is assigned to an agent", "Remove the assignment first, or repeat with `?force=true`.";
    NumberState, "number_state", 409, None, "The number's state does not allow that", "Read `status` of the number; `detail` names the states in which this works.";
    ReleaseLocked, "release_locked", 409, None, "The number is locked against release", "Set `release_lock` to false with PATCH first.";
    NotInEnvironment, "not_in_environment", 409, None, "The agent does not run there", "Promote or publish it there first.";
    PreReleaseNotReady, "pre_release_not_ready", 409, None, "Live takes only what pre-release runs", "Promote the version to pre_release, try it there, then promote it to live.";
    NothingToPublish, "nothing_to_publish", 409, None, "There is nothing to publish", "Give the draft an endpoint, or change it: `detail` says which is missing.";
    VersionNotFound, "version_not_found", 404, None, "There is no such version", "List the versions with GET /v1/agents/{id}/versions.";
    DefaultVariant, "default_variant", 409, None, "The default variant cannot be removed while others exist", "Remove the other variants first, or rename this one.";
    NameTaken, "name_taken", 409, None, "The name is taken", "Choose another name; names are compared without regard to letter case.";
    AgentInUse, "agent_in_use", 409, None, "The agent still answers numbers", "Reassign the numbers named in `detail` first.";
    AmbiguousNumber, "ambiguous_number", 409, None, "More than one number of this workspace has these digits", "Use one of the ids named in `detail`.";
    RoleInUse, "role_in_use", 409, None, "Keys still have this role", "Revoke those keys first, or leave the role.";
    LastOwner, "last_owner", 409, None, "The last owner key cannot be revoked", "Create another key with the role owner first.";
    LimitReached, "limit_reached", 409, None, "A limit of the workspace is reached", "Remove something first; `detail` names the limit.";
    StaleVersion, "stale_version", 412, None, "The resource has changed since you read it", "Read it again, apply your change to what you find, and send its new ETag.";
    BodyTooLarge, "body_too_large", 413, None, "The body is too large", "Send a smaller body; the limit is in `detail`.";
    UnsupportedMediaType, "unsupported_media_type", 415, None, "The Content-Type is not one that this address takes", "Send application/json.";
    ValidationFailed, "validation_failed", 422, None, "The request has errors", "See `errors`: one entry for each field.";
    UnknownField, "unknown_field", 422, None, "There is no such field", "Remove it, or use the nearest name given in `detail`.";
    WrongType, "wrong_type", 422, None, "The value has the wrong type", "Send the type named in `detail`.";
    Required, "required", 422, None, "The field is required", "Send it.";
    InvalidValue, "invalid_value", 422, None, "The value is not one of those allowed", "Send one of the values named in `detail`.";
    TooLong, "too_long", 422, None, "The value is too long", "Shorten it to the limit named in `detail`.";
    TooMany, "too_many", 422, None, "There are too many entries", "Send at most as many as `detail` names.";
    Blank, "blank", 422, None, "The value is empty or only spaces", "Send a value, or leave the field out.";
    ControlCharacter, "control_character", 422, None, "The value holds a control or invisible character", "Remove the character named in `detail`.";
    LimitRange, "limit_range", 422, None, "The limit is out of range", "Send a whole number within the range in `detail`.";
    FieldConflict, "field_conflict", 422, None, "These fields do not go together", "Send only one of them.";
    InvalidId, "invalid_id", 422, None, "This is not an id of the right kind", "Ids look like num_01k… ; the prefix says the kind.";
    NotE164, "not_e164", 422, None, "The phone number is not in E.164 form", "Write + and country code and number, without spaces, dashes or parentheses, e.g. +14385950345.";
    E164Length, "e164_length", 422, None, "The phone number has too few or too many digits", "An E.164 number has at most 15 digits; see `detail` for this country.";
    BadCountryCode, "bad_country_code", 422, None, "The phone number's country code does not exist", "Check the digits right behind the +.";
    EmergencyOrShortCode, "emergency_or_short_code", 422, None, "This is an emergency number or a short code", "Use a full number; emergency numbers and short codes cannot be routed.";
    BadCountry, "bad_country", 422, None, "This is not a country code", "Send two letters by ISO 3166-1, such as US, CA, GB or FR.";
    CountryNotSold, "country_not_sold", 422, None, "The store sells no numbers there", "See GET /v1/store/countries for what can be bought where.";
    BadAreaCode, "bad_area_code", 422, None, "There is no such area code", "Send the digits of an area code of that country, without a leading 0.";
    BadTimeZone, "bad_time_zone", 422, None, "This is not a time zone", "Use a name of the IANA database, such as America/Toronto.";
    BadLanguage, "bad_language", 422, None, "This is not a language tag", "Use a BCP 47 tag, such as en-US or fr.";
    BadSchedule, "bad_schedule", 422, None, "The hours cannot be read", "Times are HH:MM from 00:00 to 24:00, the end after the start, and ranges of a day do not overlap.";
    BadQuote, "bad_quote", 422, None, "This quote is not one of ours", "Search with GET /v1/store/numbers and send one of its quote_id values unchanged.";
    BadPrice, "bad_price", 422, None, "This is not an amount of money", "Send {\"amount\":\"1.15\",\"currency\":\"USD\"}.";
    ConfirmationMismatch, "confirmation_mismatch", 422, None, "The confirmation does not match the number", "Send the number itself in `confirm`; releasing cannot be undone after the hold.";
    UrlScheme, "url_scheme", 422, None, "The URL's scheme is not allowed here", "Use the scheme named in `detail`.";
    UrlInvalid, "url_invalid", 422, None, "This is not a URL that can be used here", "See `detail` for what is expected.";
    UrlCredentials, "url_credentials", 422, None, "The URL holds a user name or password", "Remove it; use the fields for credentials.";
    UrlPort, "url_port", 422, None, "The URL's port is not allowed", "Use 443, 80 or a port from 1024 up, or ask the operator to add it to egress.allowed_ports.";
    UrlQuery, "url_query", 422, None, "A stream URL cannot have a query string", "Carriers drop it. Send values as `call_parameters` instead: they arrive in the stream's start message.";
    DestinationBlocked, "destination_blocked", 422, None, "Calls are not sent on to this number", "Use a number of a country that the operator allows under egress.allowed_phone_countries; premium and satellite numbers never are.";
    AddressNotAllowed, "address_not_allowed", 422, None, "This address may not be reached", "Use a public address, or ask the operator to allow it under egress.allowed_addresses.";
    FallbackLoop, "fallback_loop", 422, None, "The fallback leads back to itself", "Remove the target named in `detail`.";
    FallbackTooLong, "fallback_too_long", 422, None, "The fallback chain is too long", "A call tries at most 5 targets, the agent's own included.";
    SecretWhitespace, "secret_whitespace", 422, None, "The secret begins or ends with white space", "Copy it again without the space or line break; we never trim secrets.";
    SecretMasked, "secret_masked", 422, None, "The secret is a mask, not a secret", "Leave the field out to keep the stored secret, or send the whole new one.";
    RateLimited, "rate_limited", 429, None, "Too many requests", "Wait for Retry-After seconds.";
    // Callbacks from carriers.
    SignatureMissing, "signature_missing", 403, None, "The carrier's signature is missing", "Only the carrier may call this address.";
    SignatureInvalid, "signature_invalid", 403, None, "The carrier's signature is wrong", "Check `public_url` and the account's auth token; the log names the URL that was signed.";
    // Calls.
    UnknownNumber, "unknown_number", 404, Some(404), "The number is not one of ours", "Check at the carrier which numbers send their calls here.";
    CallerBlocked, "caller_blocked", 403, Some(403), "The number's rules refuse this caller", "See the number's `inbound` rules.";
    RoutesNotReady, "routes_not_ready", 503, Some(503), "The routes are not loaded yet", "The carrier tries again or takes its own fallback.";
    // Ours.
    Internal, "internal", 500, Some(503), "Something went wrong on our side", "Report it with the request_id; nothing of the request was kept unless a list shows it.";
    CarrierUnavailable, "carrier_unavailable", 502, None, "The carrier did not answer as expected", "Try again; nothing was bought.";
    CarrierAuthFailed, "carrier_auth_failed", 502, None, "The carrier refused the operator's credentials", "The operator checks carriers.twilio.* in the settings.";
    StoreUnavailable, "store_unavailable", 503, None, "The store has no supply", "The operator sets store.supply in the settings.";
    DatabaseUnavailable, "database_unavailable", 503, None, "The database is out of reach", "Try again; calls go on meanwhile, and nothing was changed.";
    Timeout, "timeout", 503, None, "The request took too long", "Try again with the same Idempotency-Key.";
    Overloaded, "overloaded", 503, Some(503), "Too much at once", "Wait for Retry-After seconds.";
    DiskFull, "disk_full", 507, None, "The disk is full", "The operator frees space; calls go on meanwhile.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing refused, and why: a code of the table and the sentence for this case, which names what was received,
/// what is expected, and how to fix it. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which entry of the table.
    pub code: Code,
    /// The sentence for this case.
    pub detail: String,
}

impl Refusal {
    /// A refusal with the sentence for this case.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Refusal { code, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Refusal {}

/// The longest received value that an error repeats, in characters.
pub const RECEIVED_CHARS_MAX: usize = 64;

/// A received value as an error shows it: quoted, cut to [`RECEIVED_CHARS_MAX`], with control and invisible
/// characters written as code points, so that it cannot forge a log line or hide.
pub fn shown(received: &str) -> String {
    let mut out = String::from("`");
    for (count, c) in received.chars().enumerate() {
        if count == RECEIVED_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            use fmt::Write as _;
            let _ = write!(out, "<U+{:04X}>", c as u32);
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// Characters that print as nothing, or turn the direction of what follows.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{00A0}' | '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{2000}'..='\u{200F}' | '\u{2028}'..='\u{202F}'
        | '\u{205F}'..='\u{206F}' | '\u{3000}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_snake_case_and_have_sane_statuses() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let name = code.as_str();
            assert!(seen.insert(name), "{name} stands twice in the table");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{name}");
            assert!((400..600).contains(&code.http_status()), "{name}");
            assert!(code.sip_status().is_none_or(|status| (400..700).contains(&status)), "{name}");
            assert!(code.title().len() > 8 && code.advice().ends_with('.'), "{name}");
        }
    }

    /// A carrier goes on to its next route only after an answer that says "try elsewhere".
    #[test]
    fn our_own_faults_let_the_carrier_rescue_the_call() {
        for code in Code::ALL {
            if code.http_status() >= 500 {
                assert!(matches!(code.sip_status(), None | Some(503)), "{code}");
            }
        }
    }

    #[test]
    fn shown_values_are_short_and_visible() {
        assert_eq!(shown("+1438\u{200B}5"), "`+1438<U+200B>5`");
        assert_eq!(shown("a\r\nb"), "`a<U+000D><U+000A>b`");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), RECEIVED_CHARS_MAX + 3);
    }
}
