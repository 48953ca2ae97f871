//! Findings as JSON: how the carrier's side of a number differs from ours.

use axum::extract::State;
use axum::response::Response;
use domain::error::Code;
use domain::reconcile::FindingKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::error::Problem;
use super::json_answer;
use super::path::Path;
use super::router::Routes;
use super::schema::{self, time, time_opt};
use crate::actions::Caller;
use crate::actions::findings::{Drift, number_drift};
use crate::actions::numbers::NumberRef;
use crate::app::Shared;

/// The routes of findings.
pub fn routes() -> Routes {
    Routes::new().with(routes!(drift), &[Code::AmbiguousNumber])
}

/// What the carrier has of a number against what we set.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Drift)]
pub struct DriftOut {
    /// Whether nothing differs that is believed.
    pub ok: bool,
    /// When the carrier's list was last compared with ours; null where it never was.
    #[schema(value_type = Option<schema::Time>)]
    pub checked_at: Option<String>,
    /// How the number differs.
    pub findings: Vec<FindingOut>,
}

/// One difference.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingOut {
    /// `ghost`: it is ours, and the carrier does not list it. `drifted`: the carrier has it, and its calls are set to go elsewhere.
    #[schema(value_type = String, example = "drifted")]
    pub finding: FindingKind,
    /// What exactly: for `drifted`, the carrier's names of the settings that differ.
    #[schema(example = "voice_url")]
    pub detail: String,
    /// Whether it was seen often enough: carriers' lists lag, so that a difference in one of them proves nothing yet.
    pub believed: bool,
    /// In how many comparisons it was seen that were far enough apart.
    pub seen: u32,
    /// When it was first seen.
    #[schema(value_type = schema::Time)]
    pub first_seen_at: String,
    /// When it was last seen.
    #[schema(value_type = schema::Time)]
    pub last_seen_at: String,
}

impl From<Drift> for DriftOut {
    fn from(drift: Drift) -> Self {
        let findings: Vec<FindingOut> = drift
            .findings
            .iter()
            .map(|finding| FindingOut {
                finding: finding.observation.kind,
                detail: finding.observation.detail.clone(),
                believed: finding.is_believed(drift.rules),
                seen: finding.seen,
                first_seen_at: time(finding.first_seen_at),
                last_seen_at: time(finding.last_seen_at),
            })
            .collect();
        DriftOut {
            ok: !findings.iter().any(|finding| finding.believed),
            checked_at: time_opt(drift.checked_at),
            findings,
        }
    }
}

/// What the carrier has
///
/// How the carrier's side of a number differs from what we set, as the last comparisons saw it. Nothing is fixed by itself.
#[utoipa::path(get, path = "/v1/numbers/{id}/drift", tag = "Numbers", operation_id = "number_drift",
    params(("id" = schema::NumberId, Path, description = "The number's id, or its E.164 form.")),
    responses((status = 200, description = "How it differs", body = DriftOut)))]
async fn drift(
    State(app): State<Shared>,
    caller: Caller,
    Path(number): Path<NumberRef>,
) -> Result<Response, Problem> {
    Ok(json_answer(&DriftOut::from(number_drift(&app, &caller, number).await?)))
}
