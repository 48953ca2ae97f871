//! What every request must keep to, written into the OpenAPI document in one place: no field that is not declared, and headers of one
//! form. The handlers hold to it in `fields.rs`, `idempotency.rs` and `etag.rs`; schemathesis compares.

use std::collections::BTreeSet;

use utoipa::Number;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Components, Object, Schema};
use utoipa::openapi::{OpenApi, RefOr};

use super::idempotency::KEY_CHARS_MAX;
use super::list::LIMIT_MAX;

/// Visible ASCII.
const IDEMPOTENCY_KEY_PATTERN: &str = "^[!-~]+$";
/// How a reference to a component begins.
const COMPONENTS: &str = "#/components/schemas/";

/// Writes it into the document.
pub(super) fn tighten(document: &mut OpenApi) {
    let mut named = BTreeSet::new();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete] {
            let Some(operation) = operation else { continue };
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    idempotency_key(parameter);
                    limit(parameter);
                }
            }
            body(operation, &mut named);
        }
    }
    if let Some(components) = &mut document.components {
        all_named(components, named);
    }
}

fn idempotency_key(parameter: &mut Parameter) {
    if parameter.parameter_in != ParameterIn::Header || parameter.name != "Idempotency-Key" {
        return;
    }
    if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema {
        schema.min_length = Some(1);
        schema.max_length = Some(KEY_CHARS_MAX);
        schema.pattern = Some(IDEMPOTENCY_KEY_PATTERN.to_owned());
    }
}

fn limit(parameter: &mut Parameter) {
    if parameter.parameter_in == ParameterIn::Query
        && parameter.name == "limit"
        && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
    {
        schema.minimum = Some(Number::UInt(1));
        schema.maximum = Some(Number::UInt(LIMIT_MAX as usize));
    }
}

fn body(operation: &mut Operation, named: &mut BTreeSet<String>) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(schema) = &mut content.schema
        {
            strict(schema, named);
        }
    }
}

/// Every component that a request leads to, and what those lead to.
fn all_named(components: &mut Components, mut waiting: BTreeSet<String>) {
    let mut done = BTreeSet::new();
    while let Some(name) = waiting.pop_first() {
        if let Some(schema) = components.schemas.get_mut(&name)
            && done.insert(name)
        {
            let mut found = BTreeSet::new();
            strict(schema, &mut found);
            waiting.extend(found.difference(&done).cloned());
        }
    }
}

fn strict(schema: &mut RefOr<Schema>, named: &mut BTreeSet<String>) {
    match schema {
        RefOr::Ref(reference) => {
            named.extend(reference.ref_location.strip_prefix(COMPONENTS).map(str::to_owned));
        }
        RefOr::T(Schema::Object(object)) => strict_object(object, named),
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                strict(items, named);
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.iter_mut().for_each(|item| strict(item, named)),
        RefOr::T(Schema::AnyOf(any_of)) => any_of.items.iter_mut().for_each(|item| strict(item, named)),
        // Each part of it must let the others' fields pass.
        RefOr::T(_) => {}
    }
}

fn strict_object(object: &mut Object, named: &mut BTreeSet<String>) {
    for property in object.properties.values_mut() {
        strict(property, named);
    }
    match object.additional_properties.as_deref_mut() {
        None if !object.properties.is_empty() => {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        Some(AdditionalProperties::RefOr(values)) => strict(values, named),
        _ => {}
    }
}
