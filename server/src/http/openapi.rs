//! `GET /api/v1/openapi.json`: the description of everything in [`super::routes`].

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use watchbell_event::yaml::{self, Node};

/// Written by hand in YAML, because people read and write it.
const TEXT: &str = include_str!("../../openapi.yaml");

/// The document as JSON. It holds nothing that is secret, so anybody may read it.
pub(super) async fn document() -> Response {
    static JSON: LazyLock<String> = LazyLock::new(|| parsed().to_string());
    ([(header::CONTENT_TYPE, "application/json")], JSON.as_str()).into_response()
}

fn parsed() -> Value {
    let documents = yaml::parse(TEXT).unwrap_or_default();
    documents.first().map(value).unwrap_or_default()
}

fn value(node: &Node) -> Value {
    match &node.value {
        yaml::Value::Null => Value::Null,
        yaml::Value::Bool(flag) => Value::from(*flag),
        yaml::Value::Integer(number, _) => Value::from(*number),
        yaml::Value::Float(number, _) => Value::from(*number),
        yaml::Value::String(text) => Value::from(text.as_str()),
        yaml::Value::Sequence(items) => items.iter().map(value).collect(),
        yaml::Value::Mapping(entries) => Value::Object(
            entries.iter().map(|entry| (entry.key.clone(), value(&entry.value))).collect::<Map<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes;

    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().iter();
                methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
            })
            .collect()
    }

    #[test]
    fn each_route_is_described_and_nothing_else() {
        let document = parsed();
        let described: BTreeSet<_> =
            operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
        let routed: BTreeSet<_> =
            routes().into_iter().map(|(method, path, _)| (method.to_string(), path.to_owned())).collect();
        let undescribed: Vec<_> = routed.difference(&described).collect();
        let invented: Vec<_> = described.difference(&routed).collect();
        assert!(undescribed.is_empty(), "add to server/openapi.yaml: {undescribed:?}");
        assert!(invented.is_empty(), "remove from server/openapi.yaml: {invented:?}");
    }

    #[test]
    fn each_operation_says_what_it_is_and_how_it_fails() {
        let document = parsed();
        let mut ids = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            let name = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
            assert!(ids.insert(id), "{name}: {id} is taken");
            for part in ["summary", "tags", "security", "responses"] {
                assert!(!operation[part].is_null(), "{name} has no {part}");
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name} never succeeds");
            let open = operation["security"] == serde_json::json!([{}]);
            // gRPC says in a header what another answer says by its status
            let is_grpc = !operation["requestBody"]["content"]["application/grpc"].is_null();
            assert!(
                open || is_grpc || !responses["401"].is_null(),
                "{name} needs a token, but has no answer 401"
            );
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path: BTreeSet<_> = parameters
                .iter()
                .map(|parameter| resolve(&document, parameter))
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect();
            let wanted: BTreeSet<_> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}').map(ToOwned::to_owned))
                .collect();
            assert_eq!(in_path, wanted, "{name}: parameters in the path");
        }
    }

    #[test]
    fn the_version_is_that_of_the_program() {
        assert_eq!(parsed()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = parsed();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => {
                    let target = resolve(&document, value);
                    assert!(!target.is_null(), "{} leads nowhere", members["$ref"]);
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }

    /// What a reference leads to; anything else is what it is.
    fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => value,
        }
    }
}
