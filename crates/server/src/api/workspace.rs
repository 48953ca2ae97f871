//! `GET` and `PATCH /v1/workspace`.

use axum::extract::State;
use axum::response::Response;
use domain::environment::{Environment, SandboxFollows};
use domain::error::Code;
use domain::hours::Zone;
use domain::number::{Country, parse_text};
use domain::workspace::NAME_CHARS_MAX;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Body;
use super::endpoint::{FallbackIn, FallbackOut, Reading, TARGET_CODES};
use super::error::Problem;
use super::fields::Json;
use super::router::Routes;
use super::schema::{self, time, time_opt};
use super::{json_answer, with_etag};
use crate::actions::workspace::{Workspace, WorkspacePatch, workspace_patch, workspace_show};
use crate::actions::{Caller, IfMatch};
use crate::app::Shared;

/// The routes of this file.
pub fn routes() -> Routes {
    let codes =
        [&[Code::StaleVersion, Code::NameTaken, Code::BadCountry, Code::BadTimeZone], TARGET_CODES].concat();
    Routes::new().with(routes!(show), &[]).with(routes!(patch), &codes)
}

/// The workspace of the key
#[utoipa::path(get, path = "/v1/workspace", tag = "Workspace", operation_id = "workspace_show",
    responses((status = 200, description = "The workspace", body = WorkspaceOut)))]
async fn show(State(app): State<Shared>, caller: Caller) -> Result<Response, Problem> {
    Ok(shown(&workspace_show(&app, &caller).await?))
}

/// Change the workspace
///
/// `outage` is the switch for an emergency: calls to all numbers of an environment go straight to their fallbacks, until it is off again.
#[utoipa::path(patch, path = "/v1/workspace", tag = "Workspace", operation_id = "workspace_patch",
    params(("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    request_body(content = WorkspaceIn, example = json!({"time_zone": "America/Toronto", "outage": {"live": true}})),
    responses((status = 200, description = "The workspace as it is now", body = WorkspaceOut)))]
async fn patch(
    State(app): State<Shared>,
    caller: Caller,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app);
    let patch = body.read(|fields| {
        let name = fields.patch_value("name", |json| json.text(|text| parse_text(text, NAME_CHARS_MAX)));
        let default_country = fields.patch("default_country", Json::parse::<Country>);
        let time_zone = fields.patch("time_zone", |json| json.text(Zone::parse));
        let fallback = fields.patch("fallback", |json| reading.fallback(json));
        let sandbox_follows = fields.patch("sandbox_follows", Json::parse::<SandboxFollows>);
        let outage = fields.patch_value("outage", |json| {
            json.object(|fields| {
                let switches = Environment::ALL.iter().map(|&environment| {
                    fields.patch_value(environment.as_str(), Json::boolean).map(|on| (environment, on))
                });
                Some(switches.flatten().collect::<Vec<_>>())
            })
        });
        Some(WorkspacePatch {
            name,
            default_country,
            time_zone,
            fallback,
            sandbox_follows,
            outage: outage.unwrap_or_default(),
            ..WorkspacePatch::default()
        })
    })?;
    let patch = WorkspacePatch { secrets: reading.secrets(), ..patch };
    Ok(shown(&workspace_patch(&app, &caller, patch, if_match).await?))
}

fn shown(workspace: &Workspace) -> Response {
    with_etag(json_answer(&WorkspaceOut::from(workspace)), workspace.revision)
}

/// A workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Workspace)]
struct WorkspaceOut {
    /// Its id.
    #[schema(value_type = schema::WorkspaceId)]
    id: String,
    /// What people call it.
    #[schema(example = "default")]
    name: String,
    /// Understood where a phone number is written without country code, for suggestions only.
    #[schema(value_type = Option<schema::CountryCode>)]
    default_country: Option<Country>,
    /// Numbers without a time zone of their own live in this one.
    #[schema(value_type = schema::TimeZone)]
    time_zone: String,
    /// The last fallback before the spoken message.
    fallback: Option<FallbackOut>,
    /// What sandbox runs: the latest `saved` draft, or the latest `published` version.
    #[schema(value_type = schema::SandboxFollows)]
    sandbox_follows: SandboxFollows,
    /// Which environments are switched to their fallbacks.
    outage: OutageOut,
    /// Since when.
    outage_since: OutageSinceOut,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    created_at: String,
    /// When it was last changed.
    #[schema(value_type = schema::Time)]
    updated_at: String,
}

/// Which environments are switched to their fallbacks.
#[derive(Serialize, ToSchema)]
#[schema(as = Outage)]
struct OutageOut {
    /// Sandbox.
    sandbox: bool,
    /// Pre-release.
    pre_release: bool,
    /// Live.
    live: bool,
}

/// Since when environments are switched to their fallbacks.
#[derive(Serialize, ToSchema)]
#[schema(as = OutageSince)]
struct OutageSinceOut {
    /// Sandbox.
    #[schema(value_type = Option<schema::Time>)]
    sandbox: Option<String>,
    /// Pre-release.
    #[schema(value_type = Option<schema::Time>)]
    pre_release: Option<String>,
    /// Live.
    #[schema(value_type = Option<schema::Time>)]
    live: Option<String>,
}

/// What can be changed of a workspace.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `patch` reads; a test compares")]
struct WorkspaceIn {
    /// What people call it.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// Understood where a phone number is written without country code, for suggestions only.
    #[schema(value_type = Option<schema::CountryCode>)]
    default_country: Option<String>,
    /// Numbers without a time zone of their own live in this one. Null: UTC.
    #[schema(value_type = Option<schema::TimeZone>)]
    time_zone: Option<String>,
    /// The last fallback before the spoken message.
    fallback: Option<FallbackIn>,
    /// What sandbox runs: the latest `saved` draft, or the latest `published` version. Null: `published`.
    #[schema(value_type = Option<schema::SandboxFollows>)]
    sandbox_follows: Option<String>,
    /// Switches environments to their fallbacks, or back; those left out stay as they are.
    outage: Option<OutageIn>,
}

/// Switches environments to their fallbacks, or back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `patch` reads; a test compares")]
struct OutageIn {
    /// Sandbox.
    sandbox: Option<bool>,
    /// Pre-release.
    pre_release: Option<bool>,
    /// Live.
    live: Option<bool>,
}

impl From<&Workspace> for WorkspaceOut {
    fn from(workspace: &Workspace) -> Self {
        let settings = &workspace.settings;
        let since = |environment| settings.outage.since(environment);
        WorkspaceOut {
            id: workspace.id.to_string(),
            name: workspace.name.clone(),
            default_country: settings.default_country,
            time_zone: settings.time_zone.to_string(),
            fallback: settings.fallback.as_ref().map(FallbackOut::from),
            sandbox_follows: settings.sandbox_follows,
            outage: OutageOut {
                sandbox: since(Environment::Sandbox).is_some(),
                pre_release: since(Environment::PreRelease).is_some(),
                live: since(Environment::Live).is_some(),
            },
            outage_since: OutageSinceOut {
                sandbox: time_opt(since(Environment::Sandbox)),
                pre_release: time_opt(since(Environment::PreRelease)),
                live: time_opt(since(Environment::Live)),
            },
            created_at: time(workspace.created_at),
            updated_at: time(workspace.updated_at),
        }
    }
}
