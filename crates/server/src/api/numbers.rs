//! `/v1/numbers`: what there is, who answers it, giving it back. Buying stands in `store`.
//!
//! The example that the other nouns follow.

use axum::extract::State;
use axum::response::Response;
use domain::agent::Language;
use domain::assignment::Assignment;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown};
use domain::hours::Zone;
use domain::id::{AgentId, VariantId};
use domain::number::{Capability, Country, NumberStatus, Source, TAGS_MAX, parse_label, parse_tag};
use domain::readiness::Readiness;
use utoipa_axum::routes;

use super::body::{Body, MaybeBody, Query, parse_flag};
use super::endpoint::{Reading, TARGET_CODES};
use super::error::Problem;
use super::fields::{Fields, Json};
use super::list::{ListKey, Page, PageRequest};
use super::number_settings::{caller_rules, hours};
use super::number_shapes::{AssignmentIn, NumberIn, NumberOut, ReadinessOut, ReleaseIn};
use super::path::Path;
use super::router::Routes;
use super::schema;
use super::{json_answer, with_etag};
use crate::actions::numbers::{
    Number, NumberFilter, NumberPatch, NumberRef, Release, number_assign, number_list, number_patch,
    number_readiness, number_release, number_release_cancel, number_show, number_unassign,
};
use crate::actions::{Caller, IfMatch};
use crate::app::Shared;

const LIST: &str = "/v1/numbers";
/// The longest text that is searched for, in characters.
const SEARCH_CHARS_MAX: usize = 100;

const SETTINGS: &[Code] = &[
    Code::StaleVersion,
    Code::AmbiguousNumber,
    Code::NumberState,
    Code::FieldConflict,
    Code::BadCountry,
    Code::BadTimeZone,
    Code::BadLanguage,
    Code::BadSchedule,
];
const RELEASE: &[Code] = &[
    Code::StaleVersion,
    Code::AmbiguousNumber,
    Code::NumberState,
    Code::NumberInUse,
    Code::ReleaseLocked,
    Code::ConfirmationMismatch,
];

/// The routes of this file.
pub fn routes() -> Routes {
    Routes::new()
        .with(
            routes!(list),
            &[Code::LimitRange, Code::BadCursor, Code::InvalidValue, Code::InvalidId, Code::BadCountry],
        )
        .with(routes!(show), &[Code::AmbiguousNumber])
        .with(routes!(patch), &[SETTINGS, TARGET_CODES].concat())
        .with(routes!(delete), RELEASE)
        .with(
            routes!(assign),
            &[
                Code::StaleVersion,
                Code::AmbiguousNumber,
                Code::NumberState,
                Code::InvalidId,
                Code::AgentNotFound,
                Code::VariantNotFound,
                Code::NotPublished,
                Code::VariantNotPublished,
                Code::CapabilityMissing,
                Code::FallbackLoop,
                Code::FallbackTooLong,
            ],
        )
        .with(routes!(unassign), &[Code::StaleVersion, Code::AmbiguousNumber])
        .with(routes!(release), RELEASE)
        .with(routes!(release_cancel), &[Code::StaleVersion, Code::AmbiguousNumber, Code::NumberState])
        .with(routes!(readiness), &[Code::AmbiguousNumber])
}

/// List numbers
///
/// Oldest first. Filters can be combined. `search` finds digits anywhere in the number, and text anywhere in the label.
#[utoipa::path(get, path = "/v1/numbers", tag = "Numbers", operation_id = "number_list",
    params(
        ("environment" = Option<schema::Environment>, Query, description = "Assigned in this environment."),
        ("agent_id" = Option<schema::AgentId>, Query, description = "Assigned to this agent."),
        ("source" = Option<schema::NumberSource>, Query, description = "Of this source."),
        ("status" = Option<String>, Query, description = "In one of these states, separated by commas, such as `active,release_scheduled`."),
        ("search" = Option<String>, Query, description = "Digits anywhere in the number, or text anywhere in the label."),
        ("country" = Option<schema::CountryCode>, Query, description = "Of this country."),
        ("capability" = Option<schema::Capability>, Query, description = "That can do this."),
        ("unassigned" = Option<bool>, Query, description = "`true`: only those that no agent answers."),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 unless sent."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, with the same filters.")),
    responses((status = 200, description = "A page of numbers", body = Page<NumberOut>)))]
async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let (filter, page) = query.read(|fields| Some((filter(fields), PageRequest::read(fields))))?;
    let list =
        ListKey { workspace: caller.workspace, route: LIST, filters: query.without(&["limit", "cursor"]) };
    let after = page.after(&app.cursors, &list)?;
    let numbers = number_list(&app, &caller, filter, after, page.limit + 1).await?;
    let key = |number: &Number| number.id.to_string();
    Ok(json_answer(&Page::cut(numbers, &page, &app.cursors, &list, key, |number| NumberOut::from(&number))))
}

/// Show a number
///
/// By its id, or by itself: `/v1/numbers/+14385950345`.
#[utoipa::path(get, path = "/v1/numbers/{id}", tag = "Numbers", operation_id = "number_show",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form.")),
    responses((status = 200, description = "The number", body = NumberOut)))]
async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
) -> Result<Response, Problem> {
    Ok(shown_with_etag(&number_show(&app, &caller, number).await?))
}

/// Change a number
///
/// Its label, tags and lock, and where it differs from its agent and workspace: whom it answers and when, its fallback, language and
/// time zone.
#[utoipa::path(patch, path = "/v1/numbers/{id}", tag = "Numbers", operation_id = "number_patch",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    request_body(content = NumberIn, example = json!({"label": "Front desk", "release_lock": true})),
    responses((status = 200, description = "The number as it is now", body = NumberOut)))]
async fn patch(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app);
    let patch = body.read(|fields| {
        let label = fields.patch("label", |json| json.text(parse_label));
        let tags = fields.patch("tags", |json| json.array(TAGS_MAX, |json| json.text(parse_tag)));
        let release_lock = fields.patch_value("release_lock", Json::boolean);
        let inbound = fields.patch("inbound", caller_rules);
        let fallback = fields.patch("fallback", |json| reading.fallback(json));
        let hours = fields.patch("hours", |json| hours(json, &reading));
        let language = fields.patch("language", |json| json.text(Language::parse));
        let time_zone = fields.patch("time_zone", |json| json.text(Zone::parse));
        fields.refuse_shown(
            &[
                "id",
                "phone_number",
                "country",
                "type",
                "capabilities",
                "source",
                "status",
                "assignment",
                "monthly_price",
                "created_at",
                "updated_at",
            ],
            "it follows from what is done: assign with PUT …/assignment, give back with POST …/release",
        );
        Some(NumberPatch {
            label,
            tags,
            release_lock,
            inbound,
            fallback,
            hours,
            language,
            time_zone,
            ..NumberPatch::default()
        })
    })?;
    let patch = NumberPatch { secrets: reading.secrets(), ..patch };
    Ok(shown_with_etag(&number_patch(&app, &caller, number, patch, if_match).await?))
}

/// Assign a number
///
/// From now on the agent answers it, in this environment and as this variant (or the default variant), instead of whoever did.
#[utoipa::path(put, path = "/v1/numbers/{id}/assignment", tag = "Numbers", operation_id = "number_assign",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    request_body(content = AssignmentIn, example = json!({"agent_id": "agt_01kb5x3a7m0000000000000000", "environment": "live"})),
    responses((status = 200, description = "The number as it is now", body = NumberOut)))]
async fn assign(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let assignment = body.read(assignment_fields)?;
    Ok(shown_with_etag(&number_assign(&app, &caller, number, assignment, if_match).await?))
}

/// Unassign a number
///
/// No agent answers it any more; callers reach its fallback, or the workspace's, or hear a message.
#[utoipa::path(delete, path = "/v1/numbers/{id}/assignment", tag = "Numbers", operation_id = "number_unassign",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    responses((status = 200, description = "The number as it is now", body = NumberOut)))]
async fn unassign(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    Ok(shown_with_etag(&number_unassign(&app, &caller, number, if_match).await?))
}

/// Release a number
///
/// It answers as before until `release_at`, and can be kept until then with `POST …/release/cancel`; then it is given back at the
/// carrier, perhaps for good. `confirm` is the number itself. A number that an agent answers is released only with `?force=true`, a locked
/// one never.
#[utoipa::path(post, path = "/v1/numbers/{id}/release", tag = "Numbers", operation_id = "number_release",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("force" = Option<bool>, Query, description = "`true`: although an agent answers it."),
        ("If-Match" = Option<String>, Header, description = "Release it only if it is still what you have seen: its `ETag`.")),
    request_body(content = ReleaseIn, example = json!({"confirm": "+14385950345"})),
    responses((status = 200, description = "The number, with `release_at`", body = NumberOut)))]
async fn release(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    query: Query,
    if_match: IfMatch,
    MaybeBody(body): MaybeBody,
) -> Result<Response, Problem> {
    let force = query.read(|fields| Some(fields.optional("force", |json| json.text(parse_flag))))?;
    let confirm = body.read(|fields| Some(fields.optional("confirm", |json| json.text(any_text))))?;
    let release = Release { confirm, force: force.unwrap_or_default() };
    Ok(shown_with_etag(&number_release(&app, &caller, number, release, if_match).await?))
}

/// Release a number (the same as POST …/release)
#[utoipa::path(delete, path = "/v1/numbers/{id}", tag = "Numbers", operation_id = "number_delete",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("confirm" = Option<String>, Query, description = "The number itself, percent-encoded: `%2B14385950345`."),
        ("force" = Option<bool>, Query, description = "`true`: although an agent answers it."),
        ("If-Match" = Option<String>, Header, description = "Release it only if it is still what you have seen: its `ETag`.")),
    responses((status = 200, description = "The number, with `release_at`", body = NumberOut)))]
async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    query: Query,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let release = query.read(|fields| {
        let confirm = fields.optional("confirm", |json| json.text(any_text));
        let force = fields.optional("force", |json| json.text(parse_flag));
        Some(Release { confirm, force: force.unwrap_or_default() })
    })?;
    Ok(shown_with_etag(&number_release(&app, &caller, number, release, if_match).await?))
}

/// Keep a number that was to be released
#[utoipa::path(post, path = "/v1/numbers/{id}/release/cancel", tag = "Numbers", operation_id = "number_release_cancel",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form."),
        ("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    responses((status = 200, description = "The number as it is now", body = NumberOut)))]
async fn release_cancel(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
    if_match: IfMatch,
    MaybeBody(body): MaybeBody,
) -> Result<Response, Problem> {
    body.read(|_| Some(()))?;
    Ok(shown_with_etag(&number_release_cancel(&app, &caller, number, if_match).await?))
}

/// Whether a number is ready
///
/// For taking calls, placing calls and exchanging messages: whether it can, and if not, what is missing. Where `ready` is true, `reasons`
/// says what to know.
#[utoipa::path(get, path = "/v1/numbers/{id}/readiness", tag = "Numbers", operation_id = "number_readiness",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form.")),
    responses((status = 200, description = "What it is ready for", body = ReadinessOut)))]
async fn readiness(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
) -> Result<Response, Problem> {
    let readiness: Readiness = number_readiness(&app, &caller, number).await?;
    Ok(json_answer(&readiness))
}

fn filter(fields: &mut Fields<'_>) -> NumberFilter {
    let environment = fields.optional("environment", Json::parse::<Environment>);
    let agent = fields.optional("agent_id", Json::parse::<AgentId>);
    let source = fields.optional("source", Json::parse::<Source>);
    let statuses = fields.optional("status", |json| json.text(parse_words::<NumberStatus>));
    let search = fields.optional("search", |json| json.text(parse_search));
    let country = fields.optional("country", Json::parse::<Country>);
    let capability = fields.optional("capability", Json::parse::<Capability>);
    let unassigned = fields.optional("unassigned", |json| json.text(parse_flag));
    NumberFilter {
        environment,
        agent,
        source,
        statuses: statuses.unwrap_or_default(),
        search,
        country,
        capability,
        is_unassigned: unassigned.unwrap_or_default(),
    }
}

/// Reads words of a closed set, separated by commas.
pub(super) fn parse_words<T: std::str::FromStr<Err = Refusal>>(text: &str) -> Result<Vec<T>, Refusal> {
    text.split(',').map(|word| word.trim().parse()).collect()
}

fn parse_search(text: &str) -> Result<String, Refusal> {
    let chars = text.chars().count();
    if chars > SEARCH_CHARS_MAX {
        return Err(Refusal::new(
            Code::TooLong,
            format!("{} has {chars} characters; at most {SEARCH_CHARS_MAX} are searched for", shown(text)),
        ));
    }
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "what reads a field may refuse")]
fn any_text(text: &str) -> Result<String, Refusal> {
    Ok(text.to_owned())
}

/// The fields of an assignment.
pub(super) fn assignment_fields(fields: &mut Fields<'_>) -> Option<Assignment> {
    let agent_id = fields.required("agent_id", Json::parse::<AgentId>);
    let environment = fields.required("environment", Json::parse::<Environment>);
    let variant_id = fields.optional("variant_id", Json::parse::<VariantId>);
    Some(Assignment { agent_id: agent_id?, environment: environment?, variant_id })
}

fn shown_with_etag(number: &Number) -> Response {
    with_etag(json_answer(&NumberOut::from(number)), number.revision)
}
