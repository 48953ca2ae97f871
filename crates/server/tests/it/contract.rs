//! Holds every answer of every test against `openapi.json`: the status is documented for that operation, the body has the documented
//! form, and a problem's code is one that the operation lists. So the reference cannot promise what the handlers do not keep.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(server::api::docs::openapi_text()).unwrap());

type Validators = Mutex<HashMap<String, Arc<Validator>>>;

/// Fails where an answer is not what the document says.
pub(crate) fn check(method: &Method, path: &str, status: u16, text: &str) {
    let path = path.split('?').next().unwrap();
    let Some((template, operation)) = operation(method, path) else {
        assert!(
            !path.starts_with("/v1/") || matches!(status, 400 | 401 | 404 | 405),
            "{method} {path} is not in the document"
        );
        return;
    };
    let place = format!("{method} {template} {status}");
    let response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "{place} is not documented: {text}");
    let content = &response["content"];
    if status >= 400 {
        let problem: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}: {text}"));
        let code = problem["code"].as_str().unwrap();
        let listed = response["description"].as_str().unwrap();
        assert!(listed.contains(&format!("[`{code}`]")), "{place} does not list the code {code}: {text}");
        for error in problem["errors"].as_array().unwrap() {
            let code = error["code"].as_str().unwrap();
            let all = operation["responses"].to_string();
            assert!(
                all.contains(&format!("[`{code}`]")),
                "{place} does not list the field code {code}: {text}"
            );
        }
    }
    for media_type in ["application/json", "application/problem+json"] {
        let schema = &content[media_type]["schema"];
        if schema.is_null() {
            continue;
        }
        let body: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}: {text}"));
        let errors: Vec<String> = validator(&format!("{place} {media_type}"), schema)
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{place} is not as documented: {errors:#?}\n{body:#}");
    }
}

/// The operation that answers a path.
fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let document: &'static Value = &DOCUMENT;
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        template.len() == parts.len()
            && template
                .iter()
                .zip(&parts)
                .all(|(template, part)| template.starts_with('{') || template == part)
    };
    let mut found: Vec<_> =
        document["paths"].as_object().unwrap().iter().filter(|(template, _)| fits(template)).collect();
    // `/v1/numbers/buy` is not the number `buy`.
    found.sort_by_key(|(template, _)| template.matches('{').count());
    let (template, item) = found.first()?;
    let operation = item.get(method.as_str().to_lowercase())?;
    Some((template.as_str(), operation))
}

fn validator(place: &str, schema: &Value) -> Arc<Validator> {
    static VALIDATORS: LazyLock<Validators> = LazyLock::new(Validators::default);
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = validators.entry(place.to_owned()).or_insert_with(|| {
        let mut schema = schema.clone();
        schema["components"] = json!({ "schemas": DOCUMENT["components"]["schemas"] });
        Arc::new(jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{place}: {error}")))
    });
    made.clone()
}
