//! The document of the HTTP API says what the routes do: all of them, and with which fields.

use std::{collections::BTreeSet, fs};

use dunlin::api::request::METHODS;
use serde_json::{Map, Value, json};

use crate::harness::{KEY_SETTING, Node, NodeCommand, get};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

fn document() -> Value {
    serde_json::from_str(&fs::read_to_string(DOCUMENT).unwrap()).unwrap()
}

/// A node where every method has something to do.
fn node() -> Node {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dunlin.toml");
    let options = "presence = true\nhistory_size = 10\nhistory_ttl = \"60s\"";
    fs::write(&path, format!("[channel.without_namespace]\n{options}")).unwrap();
    NodeCommand::new().file(&path).set(&[KEY_SETTING]).start()
}

/// The operations that take a body, with their paths.
fn posts(document: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.filter_map(|(path, operations)| Some((path.as_str(), operations.get("post")?)))
}

fn request_schema<'a>(document: &'a Value, operation: &'a Value) -> &'a Value {
    resolve(document, &operation["requestBody"]["content"]["application/json"]["schema"])
}

fn example(operation: &Value) -> &Map<String, Value> {
    operation["requestBody"]["content"]["application/json"]["example"].as_object().unwrap()
}

/// The method of a path, if it is one that can fail.
fn method(path: &str) -> Option<&'static str> {
    let name = path.strip_prefix("/api/")?;
    METHODS.into_iter().find(|method| *method == name)
}

#[test]
fn every_route_is_documented_and_nothing_else() {
    let document = document();
    let documented: BTreeSet<_> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let methods: Vec<_> = METHODS.iter().map(|method| format!("/api/{method}")).collect();
    let others = ["/api/batch", "/api", "/api/openapi.json", "/health", "/ready", "/metrics"];
    let routes: BTreeSet<_> = methods.iter().map(String::as_str).chain(others).collect();
    assert_eq!(documented, routes);

    let node = node();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let status = match operations.get("post") {
            Some(_) => node.post(path, "X-API-Key: k3y\r\n", "{}").status,
            None => get(node.address, path).status,
        };
        assert_eq!(status, 200, "{path}");
        if operations.get("post").is_some() {
            assert_eq!(node.post(path, "", "{}").status, 401, "{path}");
        }
    }
    let served = get(node.address, "/api/openapi.json").body;
    assert_eq!(serde_json::from_str::<Value>(&served).unwrap(), document);
}

#[test]
fn examples_are_taken_and_answers_have_their_form() {
    let (document, node) = (document(), node());
    for (path, operation) in posts(&document) {
        let request = Value::Object(example(operation).clone());
        check(&document, request_schema(&document, operation), &request, path);
        let answer = node.post(path, "X-API-Key: k3y\r\n", &request.to_string());
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let content = &operation["responses"]["200"]["content"];
        check(&document, &content["application/json"]["schema"], &answer, path);
        assert!(path == "/api/rpc" || answer.get("error").is_none(), "{path}: {answer}");
    }
}

#[test]
fn fields_are_required_if_and_only_if_it_says_so() {
    let (document, node) = (document(), node());
    for (path, operation) in posts(&document) {
        let Some(method) = method(path).filter(|method| *method != "rpc") else { continue };
        let required = request_schema(&document, operation)["required"].as_array();
        let required: Vec<_> = required.into_iter().flatten().collect();
        for name in example(operation).keys() {
            let mut request = example(operation).clone();
            request.remove(name);
            // Either of the two payloads is needed.
            let is_required = required.iter().any(|required| *required == name)
                || (["data", "b64data"].contains(&name.as_str()) && method != "subscribe");
            let answer = node.call(method, &Value::Object(request).to_string());
            let code = answer["error"]["code"].as_u64();
            assert_eq!(code, is_required.then_some(107), "{method} without {name}: {answer}");
        }
    }
}

#[test]
fn fields_have_the_types_that_it_says() {
    let (document, node) = (document(), node());
    for (path, operation) in posts(&document) {
        let Some(method) = method(path) else { continue };
        let fields = request_schema(&document, operation)["properties"].as_object().unwrap();
        for (name, field) in fields {
            let wrong = match resolve(&document, field)["type"].as_str() {
                Some("string" | "object" | "array") => json!(1),
                Some("integer" | "boolean") => json!("1"),
                None => continue, // anything will do
                other => panic!("{path} {name}: {other:?}"),
            };
            let mut request = example(operation).clone();
            request.insert(name.clone(), wrong);
            let body = Value::Object(request).to_string();
            let response = node.post(&format!("/api/{method}"), "X-API-Key: k3y\r\n", &body);
            assert_eq!(response.status, 400, "{method}: {name} is no field of that type");
        }
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect(name),
        None => schema,
    }
}

/// Holds a value against a schema: types, required fields, and none that is not documented.
#[track_caller]
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolve(document, schema);
    let is_of_type = match schema["type"].as_str() {
        None => return,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("{place}: type {other}"),
    };
    assert!(is_of_type, "{place}: {value} is no {}", schema["type"]);
    if let Some(all) = schema["enum"].as_array() {
        assert!(all.contains(value), "{place}: {value} is none of {all:?}");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{place}: {value} lacks {name}");
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, place);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let place = format!("{place} {name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema)) => check(document, schema, field, &place),
            (None, None) => {
                let is_open = schema.get("minProperties").is_some();
                assert!(is_open, "{place} is not documented");
            }
        }
    }
}
