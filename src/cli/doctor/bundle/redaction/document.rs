//! Redacts documents of the daemon by their structure.

use serde_json::{Map, Value};

use super::field_names::{DROPPED_FIELDS, is_command_setting, is_secret_setting};
use super::key_hash::KeyHasher;
use super::text::{TextRedactor, redact_code};
use crate::cli::format::count;
use crate::config::MASK;

/// Objects of which the server determines the content.
const ERROR_OBJECTS: [&str; 2] = ["last_error", "error"];
/// What is kept of an error, besides its code. The message may quote a record.
const ERROR_FIELDS: [&str; 3] = ["class", "http_status", "at"];
const KEY_FIELD: &str = "key";
/// What the daemon did about a batch: it may quote a header of the response.
const NOTE_FIELD: &str = "note";
/// Fields that name no record: keys are not searched for in ids, times, names and states.
const FIXED_FIELDS: [&str; 10] =
    ["id", "at", "since", "state", "severity", "alert", "version", "type", "class", "device_name"];
const FIXED_SUFFIXES: [&str; 2] = ["_id", "_at"];
/// Texts in an entry of the manifest that say nothing of what the record is about.
const MANIFEST_TEXTS: [&str; 10] = [
    "id",
    "type",
    "state",
    "created_at",
    "updated_at",
    "next_attempt_at",
    "batch_id",
    "held_by",
    "blocked_by",
    "discarded_by",
];
/// Redacts status, telemetry, batches and events.
pub(crate) fn redact_document(value: &mut Value, hasher: &KeyHasher, texts: &TextRedactor) {
    match value {
        Value::Object(fields) => redact_fields(fields, hasher, texts),
        Value::Array(values) => {
            for value in values {
                redact_document(value, hasher, texts);
            }
        }
        Value::String(text) => *text = texts.redact(text),
        _ => {}
    }
}

fn redact_fields(fields: &mut Map<String, Value>, hasher: &KeyHasher, texts: &TextRedactor) {
    for dropped in DROPPED_FIELDS {
        fields.remove(dropped);
    }
    for (name, value) in fields.iter_mut() {
        if name == KEY_FIELD {
            hash_key(value, hasher);
        } else if ERROR_OBJECTS.contains(&name.as_str()) && value.is_object() {
            keep_facts_of_error(value);
        } else if let (NOTE_FIELD, Value::String(note)) = (name.as_str(), &mut *value) {
            *note = texts.redact_message(note);
        } else if let (true, Value::String(text)) = (is_fixed(name), &mut *value) {
            *text = texts.redact_secrets(text);
        } else {
            redact_document(value, hasher, texts);
        }
    }
}

fn is_fixed(name: &str) -> bool {
    FIXED_FIELDS.contains(&name) || FIXED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Redacts an entry of the manifest. Texts of newer versions are left out.
pub(crate) fn redact_manifest_entry(entry: &mut Map<String, Value>, hasher: &KeyHasher) {
    entry.retain(|name, value| match value {
        Value::String(_) => name == KEY_FIELD || MANIFEST_TEXTS.contains(&name.as_str()),
        Value::Object(_) | Value::Array(_) => ERROR_OBJECTS.contains(&name.as_str()),
        _ => true,
    });
    for (name, value) in entry.iter_mut() {
        if name == KEY_FIELD {
            hash_key(value, hasher);
        } else if value.is_object() {
            keep_facts_of_error(value);
        }
    }
}

/// Masks what is a secret in `GET /v1/configuration`. Its `key` is the name of a setting.
pub(crate) fn redact_configuration(value: &mut Value, texts: &TextRedactor) {
    for setting in value["values"].as_array_mut().into_iter().flatten() {
        let name = setting["key"].as_str().unwrap_or_default();
        if is_secret_setting(name) && !setting["value"].is_null() {
            setting["value"] = MASK.into();
        } else if is_command_setting(name) {
            mask_arguments(&mut setting["value"]);
        }
    }
    redact_all_texts(value, texts);
}

/// Keeps the path of the program.
fn mask_arguments(command: &mut Value) {
    match command {
        Value::Array(parts) if parts.len() > 1 => {
            let masked = format!("{MASK} ({})", count(parts.len() as u64 - 1, "argument"));
            parts.truncate(1);
            parts.push(masked.into());
        }
        Value::String(text) if !text.starts_with('/') || text.contains(char::is_whitespace) => {
            MASK.clone_into(text);
        }
        _ => {}
    }
}

fn redact_all_texts(value: &mut Value, texts: &TextRedactor) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| redact_all_texts(value, texts)),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_all_texts(value, texts)),
        Value::String(text) => *text = texts.redact_secrets(text),
        _ => {}
    }
}

fn hash_key(value: &mut Value, hasher: &KeyHasher) {
    if let Value::String(key) = value {
        *key = hasher.hash(key);
    }
}

fn keep_facts_of_error(error: &mut Value) {
    let Value::Object(fields) = error else { return };
    let code = fields.get("code").and_then(Value::as_str).map(|code| Value::from(redact_code(code)));
    fields.retain(|name, _| ERROR_FIELDS.contains(&name.as_str()));
    fields.insert("code".to_owned(), code.unwrap_or(Value::Null));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::bundle::redaction::known_secrets::KnownStrings;

    fn tools() -> (KeyHasher, TextRedactor) {
        (KeyHasher::new().unwrap(), TextRedactor::new(&KnownStrings::default()).unwrap())
    }

    fn rejected() -> Value {
        json!({"class": "rejected", "http_status": 422, "code": "BAD DATE sesame", "message": "sesame",
            "field": "/sesame", "at": "2026-03-01T08:15:30.120Z"})
    }

    #[test]
    fn errors_keep_facts_and_keys_become_hashes_at_every_depth() {
        let (hasher, texts) = tools();
        let mut status = json!({
            "sync": {"last_error": rejected(), "denied": [{"records": 7, "error": rejected()}], "text": "waiting"},
            "queue": {"holding": [{"key": "sesame", "holds": 3}, {"key": null}]},
            "batches": [{"note": "the response is encoded as \"sesame\": it waits to be sent again"}],
            "newer": [{"payload": {"a": "sesame"}, "receipt": {"b": "sesame"}, "field": "sesame"}],
        });
        redact_document(&mut status, &hasher, &texts);
        assert!(!status.to_string().contains("sesame"), "{status}");
        let error =
            json!({"class": "rejected", "http_status": 422, "code": "***", "at": "2026-03-01T08:15:30.120Z"});
        assert_eq!((&status["sync"]["last_error"], &status["sync"]["denied"][0]["error"]), (&error, &error));
        assert_eq!(status["queue"]["holding"][0]["key"], hasher.hash("sesame").as_str());
        assert_eq!(status["queue"]["holding"][1]["key"], Value::Null);
    }

    #[test]
    fn a_key_that_is_also_an_id_or_a_time_leaves_them_as_they_are() {
        let mut known = KnownStrings::default();
        known.add_key("Zurich");
        let (hasher, texts) = (KeyHasher::new().unwrap(), TextRedactor::new(&known).unwrap());
        let mut status =
            json!({"device_id": "Zurich-7", "sync": {"since": "Zurich", "text": "waits for Zurich"}});
        redact_document(&mut status, &hasher, &texts);
        let expected = json!({"device_id": "Zurich-7", "sync": {"since": "Zurich", "text": "waits for ***"}});
        assert_eq!(status, expected);
    }

    #[test]
    fn texts_of_newer_versions_are_left_out_of_the_manifest() {
        let (hasher, _) = tools();
        let entry = json!({"id": "1", "key": "sesame", "state": "FAILED", "attempts": 2, "title": "sesame",
            "tags": ["sesame"], "last_error": rejected()});
        let Value::Object(mut entry) = entry else { unreachable!() };
        redact_manifest_entry(&mut entry, &hasher);
        let entry = Value::from(entry);
        assert!(!entry.to_string().contains("sesame"), "{entry}");
        assert_eq!((&entry["state"], &entry["attempts"]), (&json!("FAILED"), &json!(2)));
    }

    #[test]
    fn settings_that_hold_a_secret_are_masked_and_names_of_files_are_not() {
        let (_, texts) = tools();
        let mut configuration = json!({"values": [
            {"key": "server.url", "value": "https://me:sesame@host/?k=sesame", "source": "/etc/c.toml:1"},
            {"key": "telemetry.otlp_headers", "value": "x: sesame", "source": "default"},
            {"key": "server.token_file", "value": "/etc/token", "source": "default"},
            {"key": "server.token", "value": null, "source": "default"},
            {"key": "telemetry.alert_credential_expiry", "value": "14d", "source": "default"},
            {"key": "telemetry.alert_command", "value": ["/usr/bin/curl", "-u", "joe:sesame"], "source": "default"},
            {"key": "telemetry.alert_command", "value": "/usr/bin/curl -u joe:sesame", "source": "default"},
        ], "refused": {"message": "server.proxy: http://me:sesame@host is not usable"}});
        redact_configuration(&mut configuration, &texts);
        assert!(!configuration.to_string().contains("sesame"), "{configuration}");
        assert_eq!(configuration["values"][2]["value"], "/etc/token");
        assert_eq!(configuration["values"][3]["value"], Value::Null);
        assert_eq!(configuration["values"][0]["key"], "server.url");
        assert_eq!(configuration["values"][4]["value"], "14d");
        assert_eq!(configuration["values"][5]["value"], json!(["/usr/bin/curl", "*** (2 arguments)"]));
    }
}
