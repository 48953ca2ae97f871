//! What is counted, for `/metrics`. Each part registers its own figures; those of HTTP stand here.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The upper ends of the buckets of request times, in seconds.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0, 15.0];

/// Everything that is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// How long they took.
    pub request_seconds: Family<RouteLabels, Histogram>,
}

/// A request by its route (as declared, without ids) and answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The method.
    pub method: &'static str,
    /// The route, such as `/v1/numbers/{id}`.
    pub route: String,
    /// The HTTP status.
    pub status: u16,
}

/// A request by its route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The method.
    pub method: &'static str,
    /// The route.
    pub route: String,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("switchboard")),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        metrics.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        metrics.register(
            "http_request_seconds",
            "How long HTTP requests took, in seconds",
            metrics.request_seconds.clone(),
        );
        metrics
    }

    /// Adds a figure; clones of it count together. The names all begin with `switchboard_`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric);
    }

    /// All figures in the text format of `OpenMetrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))
            .expect("writing to a String cannot fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_openmetrics() {
        let metrics = Metrics::new();
        let labels = RequestLabels { method: "GET", route: "/v1/numbers".into(), status: 200 };
        metrics.requests.get_or_create(&labels).inc();
        let text = metrics.text();
        assert!(
            text.contains(
                r#"switchboard_http_requests_total{method="GET",route="/v1/numbers",status="200"} 1"#
            ),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
