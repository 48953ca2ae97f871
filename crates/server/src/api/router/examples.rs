//! An example for every answer, put together from the examples of its fields, so that each stands in one place.

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// How deep an example goes.
const DEPTH_MAX: usize = 8;

/// The document with an example at every successful JSON answer that has none.
pub(super) fn fill(document: &OpenApi) -> OpenApi {
    let mut value = serde_json::to_value(document).expect("the document serialises");
    let whole = value.clone();
    for item in value["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
                continue;
            };
            for (status, response) in responses {
                let content =
                    response.pointer_mut("/content/application~1json").and_then(Value::as_object_mut);
                if let (true, Some(content)) = (status.starts_with('2'), content)
                    && !content.contains_key("example")
                    && let Some(schema) = content.get("schema")
                {
                    let example = example(&whole, schema, 0);
                    content.insert("example".to_owned(), example);
                }
            }
        }
    }
    describe_kinds(&mut value["components"]["schemas"]);
    serde_json::from_value(value).expect("the document with examples is still one")
}

/// The word that tells alternatives apart says what the alternative is: nobody can write that at its declaration.
fn describe_kinds(schema: &mut Value) {
    let about = schema["description"].as_str().map(str::to_owned);
    if let (Some(about), Some(kind)) = (about, schema.pointer_mut("/properties/type"))
        && let Some([Value::String(word)]) = kind["enum"].as_array().map(Vec::as_slice)
        && kind.get("description").is_none()
    {
        let told = format!("`{word}`: {about}");
        kind["description"] = told.into();
    }
    match schema {
        Value::Object(parts) => parts.values_mut().for_each(describe_kinds),
        Value::Array(parts) => parts.iter_mut().for_each(describe_kinds),
        _ => {}
    }
}

fn example(document: &Value, schema: &Value, depth: usize) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let meant = document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        return example(document, meant, depth);
    }
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(given) = schema.get("example") {
        return given.clone();
    }
    if let Some(given) = schema["examples"].as_array().and_then(|examples| examples.first()) {
        return given.clone();
    }
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().filter_map(|part| example(document, part, depth).as_object().cloned());
        let mut whole: Map<String, Value> = parts.flatten().collect();
        whole.extend(properties(document, schema, depth));
        return Value::Object(whole);
    }
    let alternatives = ["oneOf", "anyOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(first) = alternatives.and_then(|all| all.iter().find(|one| one["type"] != "null")) {
        return example(document, first, depth);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    if kinds.len() > 1 && kinds.contains(&"null") {
        return Value::Null;
    }
    match kinds.first() {
        Some(&"object") => Value::Object(properties(document, schema, depth)),
        Some(&"array") => json!([example(document, &schema["items"], depth + 1)]),
        Some(&"boolean") => json!(false),
        Some(&"integer" | &"number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some(&"string") => json!("…"),
        _ => Value::Null,
    }
}

fn properties(document: &Value, schema: &Value, depth: usize) -> Map<String, Value> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, field)| (name.clone(), example(document, field, depth + 1))).collect()
}
