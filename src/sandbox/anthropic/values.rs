//! Checks of single values, and Anthropic's words (those of pydantic) when one fails. Pure.

use serde_json::{Map, Value};

use super::error::ApiError;

pub type Checked<T = ()> = Result<T, ApiError>;

/// The path of `name` inside `parent`, which is empty at the top.
pub fn join(parent: &str, name: impl std::fmt::Display) -> String {
    if parent.is_empty() { name.to_string() } else { format!("{parent}.{name}") }
}

/// A 400 for the first key of an object that is not known.
pub fn check_keys(path: &str, object: &Map<String, Value>, known: &[&str]) -> Checked {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ApiError::extra(&join(path, key))),
        None => Ok(()),
    }
}

/// A value that is there and not null.
pub fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

pub fn object<'a>(path: &str, value: &'a Value) -> Checked<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| ApiError::at(path, "Input should be a valid dictionary"))
}

pub fn list<'a>(path: &str, value: &'a Value) -> Checked<&'a Vec<Value>> {
    value.as_array().ok_or_else(|| ApiError::at(path, "Input should be a valid list"))
}

pub fn text<'a>(path: &str, value: &'a Value) -> Checked<&'a str> {
    value.as_str().ok_or_else(|| ApiError::at(path, "Input should be a valid string"))
}

pub fn flag(path: &str, value: &Value) -> Checked<bool> {
    value.as_bool().ok_or_else(|| ApiError::at(path, "Input should be a valid boolean"))
}

/// The string under a key that must be there.
pub fn needed_text<'a>(path: &str, object: &'a Map<String, Value>, key: &str) -> Checked<&'a str> {
    let path = join(path, key);
    text(&path, object.get(key).ok_or_else(|| ApiError::missing(&path))?)
}

/// A whole number of at least `least`.
pub fn integer(path: &str, value: &Value, least: u64) -> Checked<u64> {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0);
    let Some(number) = whole else {
        return Err(ApiError::at(path, "Input should be a valid integer"));
    };
    if number < least as f64 {
        return Err(ApiError::at(path, format!("Input should be greater than or equal to {least}")));
    }
    Ok(number as u64)
}

/// A number from 0 to 1.
pub fn fraction(path: &str, value: &Value) -> Checked<f64> {
    let number = value.as_f64().ok_or_else(|| ApiError::at(path, "Input should be a valid number"))?;
    if number < 0.0 {
        return Err(ApiError::at(path, "Input should be greater than or equal to 0"));
    }
    if number > 1.0 {
        return Err(ApiError::at(path, "Input should be less than or equal to 1"));
    }
    Ok(number)
}

/// One of some strings.
pub fn choice<'a>(path: &str, value: &'a Value, choices: &[&str]) -> Checked<&'a str> {
    match value.as_str() {
        Some(text) if choices.contains(&text) => Ok(text),
        _ => Err(ApiError::at(path, format!("Input should be {}", quoted(choices)))),
    }
}

/// `'a', 'b' or 'c'`.
fn quoted(choices: &[&str]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => quoted.concat(),
    }
}

/// The `type` of a tagged object, one of `tags`.
pub fn tag<'a>(path: &str, object: &'a Map<String, Value>, tags: &[&str]) -> Checked<&'a str> {
    let Some(value) = object.get("type") else {
        return Err(ApiError::at(path, "Unable to extract tag using discriminator 'type'"));
    };
    match value.as_str() {
        Some(tag) if tags.contains(&tag) => Ok(tag),
        _ => {
            let expected: Vec<String> = tags.iter().map(|tag| format!("'{tag}'")).collect();
            let found = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let message = format!(
                "Input tag '{found}' found using 'type' does not match any of the expected tags: {}",
                expected.join(", ")
            );
            Err(ApiError::at(path, message))
        }
    }
}

/// A name of a tool or a request: 1 to 64 letters, digits, `_` or `-`.
pub fn name(path: &str, text: &str) -> Checked {
    if text.is_empty() {
        return Err(ApiError::at(path, "String should have at least 1 character"));
    }
    if text.chars().count() > 64 {
        return Err(ApiError::at(path, "String should have at most 64 characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(ApiError::at(path, "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"));
    }
    Ok(())
}

/// The mark that a prefix may be cached.
pub fn cache_control(path: &str, object: &Map<String, Value>) -> Checked {
    let Some(value) = present(object, "cache_control") else {
        return Ok(());
    };
    let path = join(path, "cache_control");
    let control = self::object(&path, value)?;
    check_keys(&path, control, &["type", "ttl"])?;
    tag(&path, control, &["ephemeral"])?;
    match control.get("ttl") {
        Some(ttl) => choice(&join(&path, "ttl"), ttl, &["5m", "1h"]).map(drop),
        None => Ok(()),
    }
}
