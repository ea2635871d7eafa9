//! The `input` of a request: a text, or messages. Pure.

use serde_json::Value;

use super::error::ApiError;
use super::values::{check_keys, choice, wrong_type};
use crate::sandbox::answer::tokens;

/// The texts of an input.
#[derive(Debug, Default)]
pub struct Texts {
    /// The last one of the user.
    pub user: Option<String>,
    pub last: Option<String>,
    pub tokens: u64,
    pub says_json: bool,
}

impl Texts {
    fn add(&mut self, role: &str, text: &str) {
        self.tokens += tokens(text);
        self.says_json |= text.to_ascii_lowercase().contains("json");
        if role == "user" {
            self.user = Some(text.to_owned());
        }
        self.last = Some(text.to_owned());
    }
}

/// Checks the `input` of a request and collects its texts.
pub fn check_input(input: &Value, texts: &mut Texts) -> Result<(), ApiError> {
    match input {
        Value::String(text) => texts.add("user", text),
        Value::Array(items) if items.is_empty() => {
            let message = "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.";
            return Err(ApiError::invalid("empty_array", "input", message));
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                check_item(&format!("input[{place}]"), item, texts)?;
            }
        }
        other => {
            return Err(wrong_type("input", "one of a string or array of input items", other));
        }
    }
    Ok(())
}

const MESSAGE_KEYS: &[&str] = &["type", "role", "content", "id", "status", "phase"];

/// Items other than messages: read by the provider, of no matter for an echo.
const OTHER_ITEMS: &[&str] = &["function_call", "function_call_output", "reasoning", "item_reference", "message"];

fn check_item(path: &str, item: &Value, texts: &mut Texts) -> Result<(), ApiError> {
    let Value::Object(item) = item else {
        return Err(wrong_type(path, "an object", item));
    };
    if let Some(kind) = item.get("type") {
        choice(&format!("{path}.type"), kind, OTHER_ITEMS)?;
        if kind != "message" {
            return Ok(());
        }
    }
    check_keys(path, item, MESSAGE_KEYS)?;
    let role = item.get("role").ok_or_else(|| ApiError::missing(&format!("{path}.role")))?;
    choice(&format!("{path}.role"), role, &["assistant", "system", "developer", "user"])?;
    let role = role.as_str().unwrap_or("user");
    let content_path = format!("{path}.content");
    match item.get("content") {
        None => Err(ApiError::missing(&content_path)),
        Some(Value::String(text)) => {
            texts.add(role, text);
            Ok(())
        }
        Some(Value::Array(parts)) => check_parts(&content_path, role, parts, texts),
        Some(other) => Err(wrong_type(&content_path, "one of an array of objects or string", other)),
    }
}

fn check_parts(path: &str, role: &str, parts: &[Value], texts: &mut Texts) -> Result<(), ApiError> {
    let (kinds, text_key): (&[&str], _) = match role {
        "assistant" => (&["output_text", "refusal"], "output_text"),
        _ => (&["input_text", "input_image", "input_file"], "input_text"),
    };
    let mut joined = String::new();
    for (place, part) in parts.iter().enumerate() {
        let path = format!("{path}[{place}]");
        let Value::Object(part) = part else {
            return Err(wrong_type(&path, "an object", part));
        };
        let kind = part.get("type").ok_or_else(|| ApiError::missing(&format!("{path}.type")))?;
        choice(&format!("{path}.type"), kind, kinds)?;
        if kind == text_key {
            match part.get("text") {
                Some(Value::String(text)) => joined.push_str(text),
                Some(other) => return Err(wrong_type(&format!("{path}.text"), "a string", other)),
                None => return Err(ApiError::missing(&format!("{path}.text"))),
            }
        }
    }
    texts.add(role, &joined);
    Ok(())
}
