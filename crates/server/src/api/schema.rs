//! How our own small types look in the OpenAPI document: each with its name, its form, and an example. A field that holds one says
//! `#[schema(value_type = schema::PhoneNumber)]`, since the domain knows nothing of OpenAPI.

use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

macro_rules! texts {
    ($( $(#[doc = $doc:literal])* $name:ident, $pattern:expr, $example:literal; )*) => { $(
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let description = concat!($($doc),*).trim();
                let object = ObjectBuilder::new()
                    .schema_type(SchemaType::new(Type::String))
                    .description(Some(description))
                    .pattern($pattern)
                    .examples([$example]);
                RefOr::T(Schema::Object(object.build()))
            }
        }

        impl ToSchema for $name {}
    )* };
}

texts! {
    /// A phone number in E.164: `+`, country code, number; no spaces, dashes or parentheses.
    PhoneNumber, Some(r"^\+[1-9][0-9]{3,14}$"), "+14385950345";
    /// A country by its two letters of ISO 3166-1.
    CountryCode, Some("^[A-Z]{2}$"), "US";
    /// The id of a number.
    NumberId, Some("^num_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "num_01kb5x3a7m0000000000000000";
    /// The id of an agent.
    AgentId, Some("^agt_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "agt_01kb5x3a7m0000000000000000";
    /// The id of a variant.
    VariantId, Some("^var_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "var_01kb5x3a7m0000000000000000";
    /// The id of a version.
    VersionId, Some("^ver_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "ver_01kb5x3a7m0000000000000000";
    /// The id of a workspace.
    WorkspaceId, Some("^wsp_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "wsp_01kb5x3a7m0000000000000000";
    /// The id of an API key.
    KeyId, Some("^key_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "key_01kb5x3a7m0000000000000000";
    /// The id of a role.
    RoleId, Some("^rol_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "rol_01kb5x3a7m0000000000000000";
    /// A name of the IANA time zone database.
    TimeZone, None::<&str>, "America/Toronto";
    /// A BCP 47 language tag.
    Language, None::<&str>, "en-US";
    /// A decimal amount with at most two decimals.
    Amount, Some(r"^[0-9]{1,8}(\.[0-9]{1,2})?$"), "1.15";
    /// A currency by its three letters of ISO 4217.
    Currency, Some("^[A-Z]{3}$"), "USD";
}

macro_rules! words {
    ($( $(#[doc = $doc:literal])* $name:ident = $words:ty; )*) => { $(
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = <$words>::ALL.iter().map(|word| word.as_str());
                let object = ObjectBuilder::new()
                    .schema_type(SchemaType::new(Type::String))
                    .description(Some(concat!($($doc),*).trim()))
                    .enum_values(Some(words));
                RefOr::T(Schema::Object(object.build()))
            }
        }

        impl ToSchema for $name {}
    )* };
}

words! {
    /// Each environment runs one version of each agent, or none.
    Environment = domain::environment::Environment;
    /// The state of a number.
    NumberStatus = domain::number::NumberStatus;
    /// What kind of number it is.
    NumberType = domain::number::NumberType;
    /// Where a number comes from.
    NumberSource = domain::number::Source;
    /// One thing that a number can do.
    Capability = domain::number::Capability;
    /// The right to do one kind of thing.
    Permission = domain::permission::Permission;
    /// The roles that every workspace has.
    BuiltInRole = domain::permission::BuiltInRole;
    /// What sandbox runs.
    SandboxFollows = domain::environment::SandboxFollows;
    /// Why a number is not ready, or what to know although it is.
    ReadinessReason = domain::readiness::ReasonCode;
    /// A day of the week.
    Day = domain::hours::Day;
}

/// A moment: RFC 3339, UTC, with milliseconds.
pub struct Time;

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A moment: RFC 3339, UTC, with milliseconds."))
            .examples(["2026-11-21T22:00:00.000Z"]);
        RefOr::T(Schema::Object(object.build()))
    }
}

impl ToSchema for Time {}

/// An amount of money.
#[derive(ToSchema)]
#[schema(as = Money)]
pub struct Money {
    /// A decimal amount.
    #[schema(value_type = Amount)]
    pub amount: String,
    /// Its currency.
    #[schema(value_type = Currency)]
    pub currency: String,
}

/// A moment as every answer writes it: RFC 3339, UTC, always three decimals.
pub fn time(at: jiff::Timestamp) -> String {
    // Truncated, so that nothing seems to have happened later than it did.
    let at = jiff::Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
    format!("{at:.3}")
}

/// As [`time`], where there may be none.
pub fn time_opt(at: Option<jiff::Timestamp>) -> Option<String> {
    at.map(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        let at: jiff::Timestamp = "2026-11-21T22:00:00.0009Z".parse().unwrap();
        assert_eq!(time(at), "2026-11-21T22:00:00.000Z");
        assert_eq!(time("2026-11-21T22:00:00.25Z".parse().unwrap()), "2026-11-21T22:00:00.250Z");
    }
}
