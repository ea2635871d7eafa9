//! The models that are listed. Any other name is answered too: which ones exist changes too often to be known here.

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::error::{ApiError, no_model};
use super::{Answer, bad_page_token, page, pretty};

const MODELS: [(&str, &str, &str); 6] = [
    ("gemini-2.5-flash", "001", "Gemini 2.5 Flash"),
    ("gemini-2.5-flash-lite", "001", "Gemini 2.5 Flash-Lite"),
    ("gemini-2.5-pro", "2.5", "Gemini 2.5 Pro"),
    ("gemini-3-flash-preview", "3-flash-preview-12-2025", "Gemini 3 Flash Preview"),
    ("gemini-flash-latest", "Gemini Flash Latest", "Gemini Flash Latest"),
    ("gemini-flash-lite-latest", "Gemini Flash-Lite Latest", "Gemini Flash-Lite Latest"),
];

/// Whether a model may be called so at all.
pub fn check_name(model: &str) -> Result<(), ApiError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
    if !model.is_empty() && model.bytes().all(fits) && !model.contains("..") {
        return Ok(());
    }
    Err(ApiError::invalid(format!("* GenerateContentRequest.model: unexpected model name format: models/{model}\n")))
}

fn object((id, version, display_name): &(&str, &str, &str)) -> Value {
    json!({
        "name": format!("models/{id}"),
        "version": version,
        "displayName": display_name,
        "description": "A model of the sandbox, which echoes the prompt.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "batchGenerateContent"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": !id.contains("lite"),
    })
}

pub fn list(parts: &Parts) -> Answer {
    let (size, token) = page(parts, 50, 1_000)?;
    let start = match token {
        None => 0,
        Some(token) => token.parse().ok().filter(|start| *start < MODELS.len()).ok_or_else(bad_page_token)?,
    };
    let models: Vec<Value> = MODELS.iter().skip(start).take(size).map(object).collect();
    let mut reply = json!({"models": models});
    if start + size < MODELS.len() {
        reply["nextPageToken"] = json!((start + size).to_string());
    }
    Ok(pretty(StatusCode::OK, &reply))
}

pub fn retrieve(id: &str, version: &str) -> Answer {
    let found = MODELS.iter().find(|(known, ..)| *known == id).ok_or_else(|| no_model(id, version))?;
    Ok(pretty(StatusCode::OK, &object(found)))
}
