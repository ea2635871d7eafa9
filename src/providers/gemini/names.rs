//! Gemini's parameter names: which belong where, and their two spellings.

use crate::error::{Error, Result};
use crate::suggest;
use serde_json::{Map, Value, json};

/// Fields of the request itself; everything else in `extra` belongs to its generationConfig.
const REQUEST_FIELDS: &[&str] =
    &["safetySettings", "tools", "toolConfig", "cachedContent", "serviceTier", "store", "labels"];
/// Fields of generationConfig that people write in either spelling (v1beta discovery document).
const CONFIG_FIELDS: &[&str] = &[
    "topK",
    "candidateCount",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseFormat",
    "responseModalities",
    "thinkingConfig",
    "mediaResolution",
    "speechConfig",
    "imageConfig",
    "enableEnhancedCivicAnswers",
    "audioTranscriptionConfig",
    "stopSequences",
    "temperature",
    "topP",
    "maxOutputTokens",
    "seed",
];
/// Short forms of what stands inside thinkingConfig.
const THINKING_FIELDS: &[&str] = &["thinkingBudget", "thinkingLevel", "includeThoughts"];

/// Puts the caller's own parameters where Gemini wants them. What nobody knows goes into generationConfig as it is: the
/// server's error names it.
pub fn place_extra(
    extra: Map<String, Value>,
    body: &mut Map<String, Value>,
    config: &mut Map<String, Value>,
    has_schema: bool,
) -> Result<()> {
    for (key, value) in extra {
        let name = camel(&key);
        if has_schema
            && matches!(name.as_str(), "responseSchema" | "responseJsonSchema" | "responseFormat" | "responseMimeType")
        {
            return Err(Error::configuration(format!(
                "config.extra[\"{key}\"] and schema both ask for a format; give one"
            )));
        }
        if REQUEST_FIELDS.contains(&name.as_str()) {
            body.insert(name, value);
        } else if THINKING_FIELDS.contains(&name.as_str()) {
            match config.entry("thinkingConfig").or_insert_with(|| json!({})) {
                Value::Object(thinking) => thinking.insert(name, value),
                _ => return Err(Error::configuration("config.extra[\"thinking_config\"] must be a dict")),
            };
        } else if let Some(Value::Object(known)) = config.get_mut(&name).filter(|_| name == "thinkingConfig") {
            // Short forms came first.
            match value {
                Value::Object(more) => known.extend(more),
                _ => return Err(Error::configuration("config.extra[\"thinking_config\"] must be a dict")),
            }
        } else if CONFIG_FIELDS.contains(&name.as_str()) {
            if config.contains_key(&name) {
                return Err(Error::configuration(format!(
                    "config.extra[\"{key}\"] repeats what the config says already"
                )));
            }
            config.insert(name, value);
        } else if let Some(near) =
            suggest::nearest(&name, REQUEST_FIELDS).filter(|near| near.eq_ignore_ascii_case(&name))
        {
            body.insert(near.to_owned(), value);
        } else {
            config.insert(key, value);
        }
    }
    Ok(())
}

/// `top_k` as `topK`.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// `topK` as `top_k`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// Fields whose values are the user's own, names and all.
const OPAQUE: &[&str] = &[
    "response_schema",
    "response_json_schema",
    "schema",
    "parameters",
    "parameters_json_schema",
    "response",
    "args",
    "labels",
];

/// A request with the names of its fields in snake case, which the parser of batch files wants. Schemas and the user's data
/// stay as they are.
pub fn snake_request(body: Map<String, Value>) -> Map<String, Value> {
    let field = |(key, value): (String, Value)| {
        let key = snake(&key);
        let value = if OPAQUE.contains(&key.as_str()) { value } else { snake_fields(value) };
        (key, value)
    };
    body.into_iter().map(field).collect()
}

fn snake_fields(value: Value) -> Value {
    match value {
        Value::Object(fields) => snake_request(fields).into(),
        Value::Array(items) => items.into_iter().map(snake_fields).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extras_find_their_place_in_either_spelling() {
        let extra = json!({"top_k": 3, "safety_settings": [], "thinking_budget": 0, "cachedContent": "c", "typo": 1});
        let (mut body, mut config) = (Map::new(), Map::new());
        place_extra(extra.as_object().unwrap().clone(), &mut body, &mut config, false).unwrap();
        assert_eq!(Value::from(body), json!({"safetySettings": [], "cachedContent": "c"}));
        assert_eq!(Value::from(config), json!({"topK": 3, "thinkingConfig": {"thinkingBudget": 0}, "typo": 1}));
    }

    #[test]
    fn tools_and_parts_are_snake_case_outside_of_the_users_data() {
        let body = json!({
            "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "a/b", "data": "x"}},
                                                    {"functionCall": {"name": "f", "args": {"userKey": 1}}}]}],
            "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"aB": 1}}]}],
            "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["aB"]}},
            "labels": {"aB": "cD"},
        });
        assert_eq!(
            Value::from(snake_request(body.as_object().unwrap().clone())),
            json!({
                "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "a/b", "data": "x"}},
                                                        {"function_call": {"name": "f", "args": {"userKey": 1}}}]}],
                "tools": [{"google_search": {}}, {"function_declarations": [{"name": "f", "parameters_json_schema": {"aB": 1}}]}],
                "tool_config": {"function_calling_config": {"allowed_function_names": ["aB"]}},
                "labels": {"aB": "cD"},
            })
        );
    }

    #[test]
    fn a_file_row_is_snake_case_outside_of_schemas() {
        let body = json!({"systemInstruction": {"parts": []}, "generationConfig": {"maxOutputTokens": 9, "responseJsonSchema": {"additionalProperties": false}}});
        assert_eq!(
            Value::from(snake_request(body.as_object().unwrap().clone())),
            json!({"system_instruction": {"parts": []}, "generation_config": {"max_output_tokens": 9, "response_json_schema": {"additionalProperties": false}}})
        );
    }
}
