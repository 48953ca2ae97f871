//! Every route, once: the same declaration gives axum its handler and the OpenAPI document its operation. Which errors an
//! operation can answer is declared beside it, as codes of the one table.

mod examples;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use domain::error::{Code, shown};
use domain::permission::Permission;
use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::body::Query;
use super::error::{ERROR_PAGES, FieldError, PROBLEM_JSON, Problem, ProblemBody};
use super::fields::nearest;
use super::{
    agents, answer, audit, auth, callouts, calls, docs, events, findings, health, keys, numbers, roles,
    routes, store, variants, versions, workspace,
};
use crate::actions::Caller;
use crate::actions::needs::{needs, needs_check};
use crate::app::Shared;

/// What every route can answer.
const ALWAYS: &[Code] = &[Code::Internal, Code::Timeout];
/// What every route with a key can answer.
const WITH_KEY: &[Code] = &[
    Code::KeyInUrl,
    Code::Unauthenticated,
    Code::KeyRevoked,
    Code::KeyExpired,
    Code::Forbidden,
    Code::RateLimited,
    Code::DatabaseUnavailable,
];
/// What every route with a body can answer, its fields' own codes apart.
const WITH_BODY: &[Code] = &[
    Code::JsonSyntax,
    Code::JsonDuplicateKey,
    Code::JsonNumber,
    Code::JsonDepth,
    Code::InvalidUtf8,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::ValidationFailed,
    Code::UnknownField,
    Code::WrongType,
    Code::Required,
    Code::InvalidValue,
    Code::DiskFull,
];
/// What every route with query parameters can answer, and every one that refuses them.
const WITH_QUERY: &[Code] = &[
    Code::ValidationFailed,
    Code::UnknownField,
    Code::InvalidValue,
    Code::FieldConflict,
    Code::InvalidUtf8,
    Code::TooLong,
];

/// Routes that need a key, with their documentation.
#[derive(Default)]
pub struct Routes(OpenApiRouter<Shared>);

impl Routes {
    /// None yet.
    pub fn new() -> Routes {
        Routes::default()
    }

    /// Adds what `routes!(handler)` made. `codes` are the errors of its own; those that follow from having a key, a body, a
    /// path or a query are added here.
    #[must_use]
    pub fn with(self, route: UtoipaMethodRouter<Shared>, codes: &[Code]) -> Routes {
        Routes(self.0.routes(asked_first(documented(route, WITH_KEY, codes))))
    }

    /// Adds the routes of a noun.
    #[must_use]
    pub fn and(self, other: Routes) -> Routes {
        Routes(self.0.merge(other.0))
    }
}

/// Asks, before anything else of a request is read, whether the caller may do this, and refuses parameters where there are none.
fn asked_first((schemas, mut paths, router): UtoipaMethodRouter<Shared>) -> UtoipaMethodRouter<Shared> {
    let mut router = router;
    for item in paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let id = operation.operation_id.as_deref().unwrap_or_default();
            let needs = needs(id).unwrap_or_else(|| panic!("`actions/needs.rs` does not name {id}"));
            if !has_query(operation) {
                router = router.layer(from_fn(no_query));
            }
            router =
                router.layer(from_fn(move |request: Request, next: Next| permitted(needs, request, next)));
            if let [first, rest @ ..] = needs {
                let all = rest.iter().fold(format!("`{first}`"), |all, one| format!("{all} and `{one}`"));
                let about = operation.description.get_or_insert_default();
                about.push_str(if about.is_empty() { "Needs " } else { "\n\nNeeds " });
                about.push_str(&all);
                about.push('.');
            }
        }
    }
    (schemas, paths, router)
}

async fn permitted(needs: &[Permission], request: Request, next: Next) -> Result<Response, Problem> {
    // Without a caller there was no `require_key`; the handler says so.
    if let Some(caller) = request.extensions().get::<Caller>() {
        needs_check(caller, needs)?;
    }
    Ok(next.run(request).await)
}

async fn no_query(request: Request, next: Next) -> Result<Response, Problem> {
    Query::parse(request.uri().query().unwrap_or_default())?.read(|_| Some(()))?;
    Ok(next.run(request).await)
}

/// The routes that need a key.
fn with_key() -> Routes {
    Routes::new()
        .and(numbers::routes())
        .and(findings::routes())
        .and(store::routes())
        .and(agents::routes())
        .and(variants::routes())
        .and(versions::routes())
        .and(callouts::routes())
        .and(routes::routes())
        .and(calls::routes())
        .and(workspace::routes())
        .and(keys::routes())
        .and(roles::routes())
        .and(audit::routes())
        .and(events::routes())
}

/// The routes that do not.
fn open() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(documented(routes!(health::live), &[], &[]))
        .routes(documented(routes!(health::ready), &[], &[Code::DatabaseUnavailable, Code::DiskFull]))
        .routes(documented(routes!(health::metrics), &[], &[]))
}

/// The whole API as a service.
pub fn router(app: &Shared) -> Router {
    let (with_key, _) = with_key().0.split_for_parts();
    let with_key = with_key.route_layer(from_fn_with_state(app.clone(), auth::require_key));
    let (open, _) = open().split_for_parts();
    with_key
        .merge(open)
        .merge(docs::router())
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(docs::security_headers))
        .layer(from_fn_with_state(app.clone(), answer::answer))
        .with_state(app.clone())
}

/// The whole API as a document.
pub fn openapi() -> OpenApi {
    let (_, keyed) = with_key().0.split_for_parts();
    let (_, open) = open().split_for_parts();
    let info = InfoBuilder::new()
        .title("Switchboard")
        .version("1")
        .description(Some(docs::DESCRIPTION))
        .license(Some(
            utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    let mut document = OpenApiBuilder::new()
        .info(info)
        .paths(Paths::new())
        .components(Some(Components::new()))
        .tags(Some(
            docs::TAGS
                .iter()
                .map(|(name, about)| TagBuilder::new().name(*name).description(Some(*about)).build()),
        ))
        .security(Some([SecurityRequirement::new("api_key", Vec::<String>::new())]))
        .build();
    document.merge(keyed);
    document.merge(open);
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    components.schemas.insert(FieldError::name().into_owned(), FieldError::schema());
    components.security_schemes.insert(
        "api_key".to_owned(),
        RefOr::T(SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("sbk_<id>_<secret>")
                .description(Some("Made with `switchboard keys create` or POST /v1/api-keys; shown once."))
                .build(),
        )),
    );
    let mut document = examples::fill(&document);
    super::strict::tighten(&mut document);
    document
}

/// Adds the errors to what `routes!` made.
fn documented(
    (schemas, mut paths, router): UtoipaMethodRouter<Shared>,
    audience: &[Code],
    codes: &[Code],
) -> UtoipaMethodRouter<Shared> {
    for (path, item) in &mut paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let mut all: Vec<Code> = ALWAYS.iter().chain(audience).chain(codes).copied().collect();
            if operation.request_body.is_some() {
                all.extend(WITH_BODY);
            }
            if path.contains('{') {
                all.extend([Code::NotFound, Code::InvalidUtf8]);
            }
            if has_query(operation) || !audience.is_empty() {
                all.extend(WITH_QUERY);
            }
            all.sort_unstable();
            all.dedup();
            document_errors(operation, &all);
        }
    }
    (schemas, paths, router)
}

fn has_query(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| {
        matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == utoipa::openapi::path::ParameterIn::Query)
    })
}

fn document_errors(operation: &mut Operation, codes: &[Code]) {
    let mut statuses: Vec<u16> = codes.iter().map(|code| code.http_status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let here: Vec<Code> = codes.iter().copied().filter(|code| code.http_status() == status).collect();
        let list: Vec<String> =
            here.iter().map(|code| format!("[`{code}`]({ERROR_PAGES}/{code}): {}", code.title())).collect();
        let example = json!({
            "type": format!("{ERROR_PAGES}/{}", here[0]),
            "title": here[0].title(),
            "status": status,
            "code": here[0].as_str(),
            "detail": here[0].advice(),
            "errors": [],
            "request_id": "req_01kb5x3a7m0000000000000000",
        });
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .example(Some(example))
            .build();
        let response =
            ResponseBuilder::new().description(list.join("; ")).content(PROBLEM_JSON, content).build();
        operation.responses.responses.insert(status.to_string(), RefOr::T(response));
    }
}

async fn no_such_route(uri: Uri) -> Problem {
    let advice = match nearest_collection(uri.path()) {
        _ if uri.path().ends_with('/') => "leave out the slash at the end".to_owned(),
        Some(collection) => format!("did you mean /v1/{collection}?"),
        None => "the reference under /docs lists what there is".to_owned(),
    };
    Problem::new(Code::NotFound, format!("there is no address {}; {advice}", shown(uri.path())))
}

/// The collection that a mistyped path may have meant.
fn nearest_collection(path: &str) -> Option<&'static str> {
    static COLLECTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let paths = openapi().paths.paths;
        paths
            .keys()
            .filter_map(|path| path.strip_prefix("/v1/")?.split('/').next().map(str::to_owned))
            .collect()
    });
    let asked = path.trim_start_matches('/').trim_start_matches("v1/").split('/').next()?;
    let known: Vec<&'static str> = COLLECTIONS.iter().map(String::as_str).collect();
    nearest(asked, &known)
}

/// The answer to a method that an address does not take.
pub async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not take {}; the Allow header says what it takes",
            shown(uri.path()),
            shown(method.as_str())
        ),
    )
}
