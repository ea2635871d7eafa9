//! What a well-formed GenerateContentRequest must satisfy, and the words in which the rest is refused. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::schema;
use crate::sandbox::answer::{Sampler, tokens};

/// A request that passed: what the answer depends on.
#[derive(Debug)]
pub struct Ask {
    /// The id, without `models/`.
    pub model: String,
    /// The last text of the user.
    pub prompt: String,
    pub prompt_tokens: u64,
    pub format: Format,
    pub max_output_tokens: Option<u64>,
    pub stop_sequences: Vec<String>,
    /// Whether the model thinks before it answers.
    pub thinks: bool,
    /// Whether the client wants to see a summary of that.
    pub shows_thoughts: bool,
}

/// The form that the answer must have.
#[derive(Debug, Clone)]
pub enum Format {
    Text,
    Json,
    Schema(Arc<Sampler>),
    /// One of the values of an enum, as bare text.
    Enum(Arc<Sampler>),
}

/// The schema seen last: the rows of a batch share theirs, and checking it for each would be most of the work.
#[derive(Debug, Default)]
pub struct SchemaCache {
    last: Option<(Value, Arc<Sampler>)>,
}

/// Google's documentation of `stopSequences`.
const STOP_LIMIT: usize = 5;

/// Checks a request that was read by `proto`.
pub fn check(model: &str, request: &Map<String, Value>, cache: &mut SchemaCache) -> Result<Ask, ApiError> {
    let mut texts = Texts::default();
    if let Some(system) = request.get("systemInstruction") {
        check_parts("system_instruction", system, &mut texts)?;
        texts.user = None;
    }
    let contents = request.get("contents").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if contents.is_empty() {
        return Err(ApiError::broken_rule("contents", "contents is not specified"));
    }
    for (place, content) in contents.iter().enumerate() {
        let role = content.get("role").and_then(Value::as_str).unwrap_or("user");
        if !matches!(role, "user" | "model" | "") {
            return Err(ApiError::invalid("Please use a valid role: user, model."));
        }
        texts.is_model = role == "model";
        check_parts(&format!("contents[{place}]"), content, &mut texts)?;
    }
    if texts.is_model && refuses_prefill(model) {
        return Err(ApiError::invalid("Requests ending with a model turn are not supported."));
    }
    let empty = Map::new();
    let config = request.get("generationConfig").and_then(Value::as_object).unwrap_or(&empty);
    check_sampling(model, config)?;
    let stop = config.get("stopSequences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (thinks, shows_thoughts) = check_thinking(model, config)?;
    Ok(Ask {
        format: check_format(config, cache)?,
        prompt: texts.user.or(texts.last).unwrap_or_default(),
        prompt_tokens: texts.tokens,
        max_output_tokens: config.get("maxOutputTokens").and_then(Value::as_u64),
        stop_sequences: stop.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        thinks,
        shows_thoughts,
        model: model.to_owned(),
    })
}

/// The tokens of contents that were read by `proto`.
pub fn count(contents: &[Value]) -> u64 {
    let text = |content: &Value| -> String {
        let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
        parts.filter_map(|part| part.get("text")?.as_str()).collect()
    };
    contents.iter().map(|content| tokens(&text(content))).sum()
}

#[derive(Debug, Default)]
struct Texts {
    user: Option<String>,
    last: Option<String>,
    tokens: u64,
    is_model: bool,
}

/// What a part may hold besides a text.
const DATA: [&str; 8] = [
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

fn check_parts(path: &str, content: &Value, texts: &mut Texts) -> Result<(), ApiError> {
    let parts = content.get("parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if parts.is_empty() {
        return Err(ApiError::broken_rule(&format!("{path}.parts"), "contents.parts must not be empty."));
    }
    let mut joined = String::new();
    for (place, part) in parts.iter().enumerate() {
        let text = part.get("text").and_then(Value::as_str).unwrap_or("");
        joined.push_str(text);
        if text.is_empty() && !DATA.iter().any(|key| part.get(key).is_some()) {
            let rule = "required oneof field 'data' must have one initialized field";
            return Err(ApiError::broken_rule(&format!("{path}.parts[{place}].data"), rule));
        }
        for key in ["inlineData", "fileData"] {
            if part.get(key).is_some_and(|data| data.get("mimeType").is_none()) {
                let field = format!("{path}.parts[{place}].{}.mime_type", super::proto::snake(key));
                return Err(ApiError::broken_rule(&field, "mime type must be specified"));
            }
        }
    }
    texts.tokens += tokens(&joined);
    if !texts.is_model {
        texts.user = Some(joined.clone());
    }
    texts.last = Some(joined);
    Ok(())
}

/// The number in a model's name: 2.5 of `gemini-2.5-flash`.
fn generation(model: &str) -> Option<f64> {
    model.strip_prefix("gemini-")?.split('-').next()?.parse().ok()
}

/// 3.6 Flash, 3.5 Flash-Lite and what came later refuse to continue an answer.
fn refuses_prefill(model: &str) -> bool {
    let least = if model.contains("lite") { 3.5 } else { 3.6 };
    generation(model).is_some_and(|generation| generation >= least)
}

fn check_sampling(model: &str, config: &Map<String, Value>) -> Result<(), ApiError> {
    let broken = |name: &str, rule: &str| Err(ApiError::broken_rule(&format!("generation_config.{name}"), rule));
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    if number("temperature").is_some_and(|number| !(0.0..=2.0).contains(&number)) {
        return broken("temperature", "temperature must be in the range [0.0, 2.0].");
    }
    if number("topP").is_some_and(|number| !(0.0..=1.0).contains(&number)) {
        return broken("top_p", "top_p must be in the range [0.0, 1.0].");
    }
    if number("topK").is_some_and(|number| number < 1.0) {
        return broken("top_k", "top_k must be positive.");
    }
    if number("maxOutputTokens").is_some_and(|number| number < 1.0) {
        return broken("max_output_tokens", "max_output_tokens must be positive.");
    }
    if number("candidateCount").is_some_and(|number| number != 1.0) {
        return Err(ApiError::invalid("Multiple candidates is not enabled for this model"));
    }
    if number("presencePenalty").or(number("frequencyPenalty")).is_some() {
        return Err(ApiError::invalid(format!("Penalty is not enabled for models/{model}")));
    }
    let stop = config.get("stopSequences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if stop.len() > STOP_LIMIT {
        return broken(
            "stop_sequences",
            &format!("at most {STOP_LIMIT} stop sequences are allowed, got {}.", stop.len()),
        );
    }
    if let Some(place) = stop.iter().position(|text| text == "") {
        return broken(&format!("stop_sequences[{place}]"), "must not be empty.");
    }
    Ok(())
}

/// Whether the model thinks, and whether it shows what it thought.
fn check_thinking(model: &str, config: &Map<String, Value>) -> Result<(bool, bool), ApiError> {
    let given = |key: &str| config.get("thinkingConfig").and_then(|config| config.get(key));
    let (budget, level) = (given("thinkingBudget").and_then(Value::as_i64), given("thinkingLevel"));
    if budget.is_some() && level.is_some() {
        return Err(ApiError::invalid("You can only set one of thinking budget and thinking level."));
    }
    let generation = generation(model);
    if level.is_some() && generation.is_some_and(|generation| generation < 3.0) {
        return Err(ApiError::invalid("Thinking level is not supported for this model."));
    }
    let by_default = generation.is_some_and(|generation| generation >= 2.5) && !model.contains("lite");
    let thinks = match (budget, level.and_then(Value::as_str)) {
        (Some(0), _) if model.contains("pro") => {
            return Err(ApiError::invalid("Budget 0 is invalid. This model only works in thinking mode."));
        }
        (Some(0), _) | (_, Some("MINIMAL")) => false,
        (Some(_), _) | (_, Some(_)) => generation.is_some_and(|generation| generation >= 2.5),
        (None, None) => by_default,
    };
    Ok((thinks, given("includeThoughts") == Some(&Value::Bool(true))))
}

fn check_format(config: &Map<String, Value>, cache: &mut SchemaCache) -> Result<Format, ApiError> {
    let forms =
        ["responseSchema", "responseJsonSchema", "responseFormat"].map(|key| config.get(key).map(|form| (key, form)));
    let mut forms = forms.into_iter().flatten();
    let form = forms.next();
    if forms.next().is_some() {
        let message = "Only one of response_schema, response_json_schema and response_format may be set.";
        return Err(ApiError::invalid(message));
    }
    if let Some(("responseFormat", format)) = form {
        return check_response_format(format, cache);
    }
    let mime_type = config.get("responseMimeType").and_then(Value::as_str).unwrap_or("");
    let schema = match form {
        Some((key, schema)) => Some(sampler(key, schema, cache)?),
        None => None,
    };
    match (mime_type, schema) {
        ("" | "text/plain", None) => Ok(Format::Text),
        ("" | "text/plain", Some(_)) => {
            let rule = "response_schema and response_json_schema need `application/json` or `text/x.enum` as response_mime_type";
            Err(ApiError::broken_rule("generation_config.response_mime_type", rule))
        }
        ("application/json", None) => Ok(Format::Json),
        ("application/json", Some(sampler)) => Ok(Format::Schema(sampler)),
        ("text/x.enum", Some(sampler)) if sampler.schema().get("enum").is_some() => Ok(Format::Enum(sampler)),
        ("text/x.enum", _) => {
            let rule = "`text/x.enum` needs a schema of type STRING with an enum";
            Err(ApiError::broken_rule("generation_config.response_mime_type", rule))
        }
        _ => {
            let rule = "allowed mimetypes are `text/plain`, `application/json` and `text/x.enum`";
            Err(ApiError::broken_rule("generation_config.response_mime_type", rule))
        }
    }
}

fn check_response_format(format: &Value, cache: &mut SchemaCache) -> Result<Format, ApiError> {
    let text = format.get("text");
    let is_json = text.and_then(|text| text.get("mimeType")).is_some_and(|mime_type| mime_type == "APPLICATION_JSON");
    match text.and_then(|text| text.get("schema")) {
        Some(schema) if is_json => sampler("responseFormat", schema, cache).map(Format::Schema),
        Some(_) => Err(ApiError::invalid("response_format.text.schema needs APPLICATION_JSON as its mime_type.")),
        None if is_json => Ok(Format::Json),
        None => Ok(Format::Text),
    }
}

fn sampler(form: &str, given: &Value, cache: &mut SchemaCache) -> Result<Arc<Sampler>, ApiError> {
    if let Some((known, sampler)) = &cache.last
        && known == given
    {
        return Ok(sampler.clone());
    }
    let path = format!("generation_config.{}", super::proto::snake(form));
    let checked = match form {
        "responseSchema" => schema::from_openapi(given, &path),
        _ => schema::check_json_schema(given, &path).map(|()| given.clone()),
    };
    let schema = checked.map_err(|(field, rule)| ApiError::broken_rule(&field, &rule))?;
    let sampler = Arc::new(Sampler::new(schema));
    cache.last = Some((given.clone(), sampler.clone()));
    Ok(sampler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_config(config: Value) -> Result<Ask, String> {
        let request = json!({"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": config});
        check("m", request.as_object().unwrap(), &mut SchemaCache::default()).map_err(|error| error.message)
    }

    #[test]
    fn finds_the_prompt() {
        let request = json!({"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [
            {"role": "user", "parts": [{"text": "He"}, {"inlineData": {"mimeType": "image/png", "data": ""}}, {"text": "llo"}]},
            {"role": "model", "parts": [{"text": "a"}]}]});
        let ask = check("gemini-2.5-flash", request.as_object().unwrap(), &mut SchemaCache::default()).unwrap();
        assert_eq!((ask.prompt.as_str(), ask.prompt_tokens, ask.thinks), ("Hello", 4, true));
        let newest = check("gemini-3.6-flash", request.as_object().unwrap(), &mut SchemaCache::default());
        assert!(newest.unwrap_err().message.contains("model turn"));
    }

    #[test]
    fn words_of_refusal() {
        let refuse = |config: Value| check_config(config).unwrap_err();
        assert!(refuse(json!({"temperature": 2.1})).contains("generation_config.temperature"));
        assert!(refuse(json!({"stopSequences": ["1", "2", "3", "4", "5", "6"]})).contains("stop_sequences"));
        assert!(refuse(json!({"responseJsonSchema": {"type": "string"}})).contains("response_mime_type"));
        assert!(refuse(json!({"responseMimeType": "text/html"})).contains("allowed mimetypes"));
        let both = json!({"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}, "responseJsonSchema": {}});
        assert!(refuse(both).contains("Only one of"));
        assert!(refuse(json!({"presencePenalty": 0.0})).contains("Penalty is not enabled"));
        assert!(
            check_config(json!({"responseFormat": {"text": {"mimeType": "APPLICATION_JSON", "schema": {}}}})).is_ok()
        );
    }
}
