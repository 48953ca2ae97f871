//! Whether it lives, whether it can work, and what was counted. No key is needed; nothing here tells about anybody's data.

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::json_answer;
use crate::actions::health::health_check;
use crate::app::Shared;

/// Whether it can work.
#[derive(Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: where something is wrong, the answer is a problem.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the program runs
///
/// Asks nothing else. Restart it where this does not answer.
#[utoipa::path(get, path = "/live", tag = "Operation", responses((status = 200, description = "It runs", body = Health)), security(()))]
pub async fn live() -> Response {
    json_answer(&Health { status: "ok" })
}

/// Whether the program can work
///
/// Reads from the database and writes to it. Calls are routed without it, so keep carriers pointed here all the same.
#[utoipa::path(get, path = "/ready", tag = "Operation", responses((status = 200, description = "It can work", body = Health)), security(()))]
pub async fn ready(State(app): State<Shared>) -> Result<Response, Problem> {
    health_check(&app).await?;
    Ok(json_answer(&Health { status: "ok" }))
}

/// What was counted
///
/// Figures in the text format of OpenMetrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operation", responses((status = 200, description = "Figures", body = String, content_type = "application/openmetrics-text")), security(()))]
pub async fn metrics(State(app): State<Shared>) -> Response {
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    app.gauges.refresh(&app).await;
    ([(CONTENT_TYPE, content_type)], app.metrics.text()).into_response()
}
