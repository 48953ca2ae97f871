//! Numbers, assignments and readiness as JSON shows them, and the bodies that change them as the reference describes them.

use domain::environment::Environment;
use domain::id::{AgentId, VariantId};
use domain::money::Money;
use domain::number::{Capability, Country, E164, NumberStatus, NumberType, Source};
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoint::{FallbackIn, FallbackOut};
use super::number_settings::{CallerRulesIn, CallerRulesOut, HoursIn, HoursOut};
use super::schema::{self, time, time_opt};
use crate::actions::numbers::Number;

/// A phone number.
#[derive(Serialize, ToSchema)]
#[schema(as = Number)]
pub struct NumberOut {
    /// Its id.
    #[schema(value_type = schema::NumberId)]
    id: String,
    /// The number itself.
    #[schema(value_type = schema::PhoneNumber)]
    phone_number: E164,
    /// Its country, where the numbering plan tells.
    #[schema(value_type = Option<schema::CountryCode>)]
    country: Option<Country>,
    /// Its kind.
    #[serde(rename = "type")]
    #[schema(value_type = schema::NumberType)]
    number_type: NumberType,
    /// Where it comes from.
    #[schema(value_type = schema::NumberSource)]
    source: Source,
    /// How far it is.
    #[schema(value_type = schema::NumberStatus)]
    status: NumberStatus,
    /// Why it failed, or why a person is asked.
    #[schema(example = json!(null))]
    status_reason: Option<String>,
    /// What people call it.
    #[schema(example = "Front desk")]
    label: Option<String>,
    /// What people sort it by.
    tags: Vec<String>,
    /// What it can do.
    #[schema(value_type = Vec<schema::Capability>)]
    capabilities: Vec<Capability>,
    /// Its town.
    #[schema(example = "San Francisco")]
    locality: Option<String>,
    /// Its region or state.
    #[schema(example = "CA")]
    region: Option<String>,
    /// What it costs each month.
    #[schema(value_type = schema::Money)]
    monthly_price: Money,
    /// What it cost once.
    #[schema(value_type = schema::Money)]
    setup_price: Money,
    /// Who answers it; null: nobody.
    assignment: Option<AssignmentOut>,
    /// While set, it cannot be released.
    release_lock: bool,
    /// Whom it answers; null: everybody.
    inbound: Option<CallerRulesOut>,
    /// Tried before the agent's and the workspace's fallback.
    fallback: Option<FallbackOut>,
    /// When it answers as usual; null: always.
    hours: Option<HoursOut>,
    /// Instead of the agent's.
    #[schema(value_type = Option<schema::Language>)]
    language: Option<String>,
    /// Instead of the workspace's.
    #[schema(value_type = Option<schema::TimeZone>)]
    time_zone: Option<String>,
    /// When a person asked to give it back.
    #[schema(value_type = Option<schema::Time>)]
    release_requested_at: Option<String>,
    /// When it is given back, unless that is cancelled.
    #[schema(value_type = Option<schema::Time>)]
    release_at: Option<String>,
    /// When it was asked for.
    #[schema(value_type = schema::Time)]
    created_at: String,
    /// When it was last changed.
    #[schema(value_type = schema::Time)]
    updated_at: String,
}

/// Who answers a number.
#[derive(Serialize, ToSchema)]
#[schema(as = Assignment)]
pub struct AssignmentOut {
    /// The agent.
    #[schema(value_type = schema::AgentId)]
    agent_id: AgentId,
    /// Whose version of it.
    #[schema(value_type = schema::Environment)]
    environment: Environment,
    /// As which variant; null: the default one.
    #[schema(value_type = Option<schema::VariantId>)]
    variant_id: Option<VariantId>,
}

/// Who is to answer a number.
#[derive(ToSchema)]
#[schema(as = AssignmentIn)]
#[expect(dead_code, reason = "says what `assignment_fields` reads; a test compares")]
pub struct AssignmentIn {
    /// The agent.
    #[schema(value_type = schema::AgentId)]
    agent_id: String,
    /// Whose version of it.
    #[schema(value_type = schema::Environment)]
    environment: String,
    /// As which variant; left out: the default one.
    #[schema(value_type = Option<schema::VariantId>)]
    variant_id: Option<String>,
}

/// What can be changed of a number. Absent fields are left alone; null clears.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `patch` reads; a test compares")]
pub struct NumberIn {
    /// What people call it.
    #[schema(max_length = 100)]
    label: Option<String>,
    /// What people sort it by.
    #[schema(max_items = 20)]
    tags: Option<Vec<String>>,
    /// While set, it cannot be released. Cannot be null.
    release_lock: Option<bool>,
    /// Whom it answers; null: everybody.
    inbound: Option<CallerRulesIn>,
    /// Tried before the agent's and the workspace's fallback.
    fallback: Option<FallbackIn>,
    /// When it answers as usual; null: always.
    hours: Option<HoursIn>,
    /// Instead of the agent's.
    #[schema(value_type = Option<schema::Language>)]
    language: Option<String>,
    /// Instead of the workspace's.
    #[schema(value_type = Option<schema::TimeZone>)]
    time_zone: Option<String>,
}

/// A request to give a number back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `release` reads; a test compares")]
pub struct ReleaseIn {
    /// The number itself, so that nobody releases another by mistake.
    #[schema(value_type = schema::PhoneNumber)]
    confirm: Option<String>,
}

/// What a number is ready for.
#[derive(ToSchema)]
#[schema(as = Readiness)]
#[expect(dead_code, reason = "says how `domain::readiness` is written")]
pub struct ReadinessOut {
    /// Taking calls.
    inbound: ReadyOut,
    /// Placing calls.
    outbound: ReadyOut,
    /// Exchanging messages.
    sms: ReadyOut,
}

/// Whether one kind of work can be done.
#[derive(ToSchema)]
#[schema(as = Ready)]
#[expect(dead_code, reason = "says how `domain::readiness` is written")]
pub struct ReadyOut {
    /// Whether it can.
    ready: bool,
    /// Why not; or, where it can, what to know.
    reasons: Vec<ReadyReasonOut>,
}

/// Why a number is not ready, or what to know although it is.
#[derive(ToSchema)]
#[schema(as = ReadyReason)]
#[expect(dead_code, reason = "says how `domain::readiness` is written")]
pub struct ReadyReasonOut {
    /// For programs.
    #[schema(value_type = schema::ReadinessReason)]
    code: String,
    /// For people: why, and what to do.
    detail: String,
}

impl From<&Number> for NumberOut {
    fn from(number: &Number) -> Self {
        let settings = &number.settings;
        NumberOut {
            id: number.id.to_string(),
            phone_number: number.phone_number,
            country: number.country,
            number_type: number.number_type,
            source: number.source,
            status: number.status,
            status_reason: number.status_reason.clone(),
            label: number.label.clone(),
            tags: number.tags.clone(),
            capabilities: number.capabilities.list().collect(),
            locality: number.locality.clone(),
            region: number.region.clone(),
            monthly_price: number.price.monthly,
            setup_price: number.price.setup,
            assignment: number.assignment.map(|assignment| AssignmentOut {
                agent_id: assignment.agent_id,
                environment: assignment.environment,
                variant_id: assignment.variant_id,
            }),
            release_lock: number.release_lock,
            inbound: settings.inbound.as_ref().map(CallerRulesOut::from),
            fallback: settings.fallback.as_ref().map(FallbackOut::from),
            hours: settings.hours.as_ref().map(HoursOut::from),
            language: settings.language.as_ref().map(|language| language.as_str().to_owned()),
            time_zone: settings.time_zone.as_ref().map(ToString::to_string),
            release_requested_at: time_opt(number.hold.map(|hold| hold.requested_at)),
            release_at: time_opt(number.hold.map(|hold| hold.release_at)),
            created_at: time(number.created_at),
            updated_at: time(number.updated_at),
        }
    }
}
