//! Checks of single values, and OpenAI's words when one fails. Pure.

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::sandbox::faults::distance;

/// What a parameter may be.
pub enum Type {
    Text,
    Flag,
    Object,
    List,
    Any,
    Number(f64, f64),
    Integer(i64, i64),
    OneOf(&'static [&'static str]),
}

/// A 400 for a key that is not known at `path`, which ends in that key.
pub fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let (parent, name) = path.rsplit_once('.').map_or(("", path), |(parent, name)| (parent, name));
    let nearest = known.map(|known| (distance(name, known), known)).min();
    let hint = match nearest {
        Some((far, known)) if far <= 2 && far < name.len() => {
            let dot = if parent.is_empty() { "" } else { "." };
            format!(" Did you mean '{parent}{dot}{known}'?")
        }
        _ => String::new(),
    };
    ApiError::invalid("unknown_parameter", path, format!("Unknown parameter: '{path}'.{hint}"))
}

/// A 400 for the first key of an object that is not known.
pub fn check_keys(path: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(&format!("{path}.{key}"), known.iter().copied())),
        None => Ok(()),
    }
}

/// A 400 for a value that is not of this type.
pub fn check_type(name: &str, kind: &Type, value: &Value) -> Result<(), ApiError> {
    let expected = match kind {
        Type::Any => return Ok(()),
        Type::Text if value.is_string() => return Ok(()),
        Type::Flag if value.is_boolean() => return Ok(()),
        Type::Object if value.is_object() => return Ok(()),
        Type::List if value.is_array() => return Ok(()),
        Type::Number(low, high) if value.is_number() => return in_range(name, value, *low, *high),
        Type::Integer(low, high) if value.is_i64() || value.is_u64() => {
            return in_integer_range(name, value, *low, *high);
        }
        Type::OneOf(choices) if value.is_string() => return choice(name, value, choices),
        Type::Text => "a string",
        Type::Flag => "a boolean",
        Type::Object => "an object",
        Type::List => "an array",
        Type::Number(..) => "a decimal",
        Type::Integer(..) => "an integer",
        Type::OneOf(choices) => {
            return Err(wrong_type(name, &format!("one of {}", quoted(choices)), value));
        }
    };
    Err(wrong_type(name, expected, value))
}

/// A 400 for a value of the wrong JSON type.
pub fn wrong_type(name: &str, expected: &str, value: &Value) -> ApiError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, but got {got} instead.");
    ApiError::invalid("invalid_type", name, message)
}

fn in_range(name: &str, value: &Value, low: f64, high: f64) -> Result<(), ApiError> {
    let number = value.as_f64().unwrap_or(f64::NAN);
    if number < low {
        let message = format!(
            "Invalid '{name}': decimal below minimum value. Expected a value >= {low}, but got {value} instead."
        );
        return Err(ApiError::invalid("decimal_below_min_value", name, message));
    }
    if number > high {
        let message = format!(
            "Invalid '{name}': decimal above maximum value. Expected a value <= {high}, but got {value} instead."
        );
        return Err(ApiError::invalid("decimal_above_max_value", name, message));
    }
    Ok(())
}

/// A 400 for an integer outside `low..=high`.
pub fn in_integer_range(name: &str, value: &Value, low: i64, high: i64) -> Result<(), ApiError> {
    let number = value.as_i64().unwrap_or(i64::MAX);
    if number < low {
        let message = format!(
            "Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got {value} instead."
        );
        return Err(ApiError::invalid("integer_below_min_value", name, message));
    }
    if number > high {
        let message = format!(
            "Invalid '{name}': integer above maximum value. Expected a value <= {high}, but got {value} instead."
        );
        return Err(ApiError::invalid("integer_above_max_value", name, message));
    }
    Ok(())
}

fn quoted(choices: &[&str]) -> String {
    match choices {
        [] => String::new(),
        [only] => format!("'{only}'"),
        [first, second] => format!("'{first}' and '{second}'"),
        [others @ .., last] => {
            let others: Vec<String> = others.iter().map(|choice| format!("'{choice}'")).collect();
            format!("{}, and '{last}'", others.join(", "))
        }
    }
}

/// A 400 for a string that is none of the choices.
pub fn choice(name: &str, value: &Value, choices: &[&str]) -> Result<(), ApiError> {
    match value {
        Value::String(text) if choices.contains(&text.as_str()) => Ok(()),
        Value::String(text) => {
            let message = format!("Invalid value: '{text}'. Supported values are: {}.", quoted(choices));
            Err(ApiError::invalid("invalid_value", name, message))
        }
        _ => Err(wrong_type(name, "a string", value)),
    }
}

/// At most 16 pairs, keys of at most 64 characters, values strings of at most 512 (OpenAPI description of `metadata`).
pub fn check_metadata(metadata: Option<&Value>) -> Result<(), ApiError> {
    let pairs = match metadata {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(pairs)) => pairs,
        Some(other) => return Err(wrong_type("metadata", "an object", other)),
    };
    if pairs.len() > 16 {
        let message = format!(
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with {} \
             properties instead.",
            pairs.len()
        );
        return Err(ApiError::invalid("object_above_max_properties", "metadata", message));
    }
    for (key, value) in pairs {
        let name = format!("metadata.{key}");
        if key.chars().count() > 64 {
            return Err(too_long("metadata", "property name", 64, key));
        }
        match value {
            Value::String(text) if text.chars().count() > 512 => {
                return Err(too_long(&name, "string", 512, text));
            }
            Value::String(_) => {}
            other => return Err(wrong_type(&name, "a string", other)),
        }
    }
    Ok(())
}

/// A 400 for a text that is too long.
pub fn too_long(name: &str, what: &str, most: usize, text: &str) -> ApiError {
    let message = format!(
        "Invalid '{name}': {what} too long. Expected a string with maximum length {most}, but got a string with length {} instead.",
        text.chars().count()
    );
    ApiError::invalid("string_above_max_length", name, message)
}
