//! Checks responses against the `OpenAPI` document: status, content type and body. A field that the document does
//! not name is an error, too.

use std::cell::RefCell;
use std::collections::BTreeSet;

use hyper::Method;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::http::HttpResponse;

/// The document as it is served.
pub(crate) struct Document {
    pub(crate) whole: Value,
    /// The document, with schemas that allow no other fields.
    strict: Value,
    /// Operations that were called, with the statuses of their responses.
    seen: RefCell<BTreeSet<(String, u16)>>,
}

impl Document {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let whole = daemon.get("/v1/openapi.json").expect_json(200);
        let mut strict = whole.clone();
        for schema in strict["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            // Where a schema is referenced, it is known whether other fields are allowed.
            tighten(schema, true);
        }
        tighten(&mut strict["paths"], false);
        Self { whole, strict, seen: RefCell::default() }
    }

    /// Every operation: path, method, name.
    pub(crate) fn operations(&self) -> Vec<(String, String, String)> {
        let paths = self.whole["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap();
            methods.iter().map(|(method, operation)| {
                let name = operation["operationId"].as_str().unwrap();
                (path.clone(), method.to_uppercase(), name.to_owned())
            })
        });
        operations.collect()
    }

    /// Operations that had no successful response yet.
    pub(crate) fn untried(&self) -> Vec<String> {
        let seen = self.seen.borrow();
        let good = |name: &String| seen.iter().any(|(known, status)| known == name && *status < 300);
        self.operations().into_iter().map(|(_, _, name)| name).filter(|name| !good(name)).collect()
    }

    /// Makes a call, and checks the response against the document.
    #[track_caller]
    pub(crate) fn call(
        &self,
        daemon: &Daemon,
        method: &Method,
        path: &str,
        kind: &str,
        body: &str,
    ) -> HttpResponse {
        let answer = daemon.call(method.clone(), path, kind, body);
        self.check(method, path, &answer);
        answer
    }

    #[track_caller]
    pub(crate) fn get(&self, daemon: &Daemon, path: &str) -> HttpResponse {
        self.call(daemon, &Method::GET, path, "application/json", "")
    }

    #[track_caller]
    pub(crate) fn post(&self, daemon: &Daemon, path: &str, body: &str) -> HttpResponse {
        self.call(daemon, &Method::POST, path, "application/json", body)
    }

    #[track_caller]
    fn check(&self, method: &Method, path: &str, answer: &HttpResponse) {
        let path = path.split('?').next().unwrap();
        let paths = self.strict["paths"].as_object().unwrap();
        let (_, item) = paths.iter().find(|(known, _)| is_like(path, known)).expect("a path of the document");
        let operation = &item[method.as_str().to_ascii_lowercase()];
        let (what, status) = (format!("{method} {path}"), answer.status.to_string());
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{what} is not described"));
        let response = &operation["responses"][&status];
        assert!(response.is_object(), "{what}: {status} is not described: {}", answer.text());
        let content = &response["content"][answer.header("content-type")];
        assert!(content.is_object(), "{what}: {} is not described", answer.header("content-type"));
        if answer.header("content-type") == "application/json" {
            self.validate(&what, &content["schema"], &answer.json());
        }
        if let Some(line) = operation.get("x-line").filter(|_| answer.status == 200) {
            for text in answer.text().lines() {
                self.validate(&what, line, &serde_json::from_str(text).unwrap());
            }
        }
        self.seen.borrow_mut().insert((name.to_owned(), answer.status));
    }

    /// Checks the data of an event against the document.
    #[track_caller]
    pub(crate) fn check_event(&self, event: &str, data: &Value) {
        let events = &self.strict["paths"]["/v1/events"]["get"]["x-events"];
        let schema = &events[event];
        assert!(schema.is_object(), "the event {event} is not described");
        self.validate(event, schema, data);
        self.seen.borrow_mut().insert(("events".into(), 200));
    }

    /// Checks every example against its schema. Returns those of requests, with method and path.
    #[track_caller]
    pub(crate) fn check_examples(&self) -> Vec<(String, String, String, Value)> {
        let mut requests = Vec::new();
        for (path, method, name) in self.operations() {
            let operation = &self.strict["paths"][&path][method.to_ascii_lowercase()];
            let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
            for (kind, content) in fields(&operation["requestBody"]["content"]) {
                assert!(content["example"] != Value::Null, "{name} has no example of a request");
                if kind == "application/json" {
                    self.validate(&name, &content["schema"], &content["example"]);
                }
                requests.push((method.clone(), path.clone(), kind, content["example"].clone()));
            }
            for (status, response) in fields(&operation["responses"]) {
                let content = &response["content"]["application/json"];
                if content["example"] != Value::Null {
                    self.validate(&format!("{name} {status}"), &content["schema"], &content["example"]);
                }
            }
        }
        requests
    }

    #[track_caller]
    fn validate(&self, what: &str, schema: &Value, body: &Value) {
        let whole = json!({"allOf": [schema], "components": self.strict["components"]});
        let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
        let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:#?}\n{body:#}");
    }
}

fn is_like(path: &str, template: &str) -> bool {
    let (path, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len()
        && path.iter().zip(&template).all(|(part, known)| part == known || known.starts_with('{'))
}

/// Makes schemas reject fields that they do not name. A part of an `allOf` does not know the other parts.
fn tighten(schema: &mut Value, is_part: bool) {
    match schema {
        Value::Object(fields) => {
            let names_fields = ["properties", "$ref", "allOf"].iter().any(|name| fields.contains_key(*name));
            if names_fields && !is_part {
                fields.insert("unevaluatedProperties".into(), false.into());
            }
            for (name, inner) in fields.iter_mut() {
                match inner {
                    Value::Array(parts) if name == "allOf" => {
                        for part in parts {
                            tighten_part(part);
                        }
                    }
                    _ => tighten(inner, false),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tighten(item, false)),
        _ => {}
    }
}

fn tighten_part(part: &mut Value) {
    let properties = part.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(serde_json::Map::values_mut) {
        // The code of an error is such a part; its other fields are in the next part.
        if property.get("properties").is_none() {
            tighten(property, false);
        }
    }
}
