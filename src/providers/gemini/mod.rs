//! Gemini's Developer API: generateContent here, jobs in [`batches`], uploads in [`upload`], error replies in [`errors`].

mod batches;
mod errors;
mod names;
mod reply;
mod upload;

use super::settings::Settings;
use super::{Ask, BatchApi, Prepared, Provider, Reading};
use crate::answer::ReadingSchema;
use crate::error::{ApiError, Error, Result};
use crate::exchange::{Body, Endpoint, Header, Request, Response};
use crate::generation::{self, Common, Generation, GenerationConfig, Prompt};
use crate::schema::{Compiled, Dialect};
use serde_json::{Map, Value, json};

const NAME: &str = "gemini";
const HOST: &str = "generativelanguage.googleapis.com";
const DEFAULT_BASE_URL: &str = "https://generativelanguage.googleapis.com";
/// `v1` lacks system instructions and schemas on parts of the fleet; `v1beta` has had everything all along.
const DEFAULT_VERSION: &str = "v1beta";
const MOST_STOP_SEQUENCES: usize = 5;

pub fn open(settings: Settings) -> Result<(Endpoint, Box<dyn Provider>)> {
    settings.check_names(NAME, &["api_version"])?;
    let mut base_url = settings.base_url("GOOGLE_GEMINI_BASE_URL", DEFAULT_BASE_URL)?;
    let given = settings.text("api_version", "GOOGLE_GENAI_API_VERSION")?;
    if given.as_ref().is_some_and(|version| !version.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Err(Error::configuration("api_version must be like \"v1beta\""));
    }
    let given = given.map(|version| if version == "beta" { DEFAULT_VERSION.to_owned() } else { version });
    // The client adds the version; people write it all the same, one or another.
    let written = base_url.strip_segment(|last| given.as_deref() == Some(last) || is_version(last));
    let version = given.or(written).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let key = match settings.credential("api_key", "GOOGLE_API_KEY")? {
        Some(key) => Some(key),
        None => settings.credential("", "GEMINI_API_KEY")?,
    };
    if key.is_none() && base_url.is_host(HOST) {
        return Err(Error::configuration(
            "no key for gemini: set GOOGLE_API_KEY (or GEMINI_API_KEY), or give the option api_key",
        ));
    }
    let header = |value| Header { name: "x-goog-api-key".into(), value, secret: true };
    let endpoint = settings.endpoint(NAME, base_url, key.map(header).into_iter().collect())?;
    Ok((endpoint, Box::new(Gemini { version })))
}

/// `v1`, `v1beta`, `v1alpha`, `v1beta2` and the like.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let stage = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let stage_name = stage.trim_end_matches(|c: char| c.is_ascii_digit());
    stage.len() < rest.len() && matches!(stage_name, "" | "alpha" | "beta")
}

struct Gemini {
    version: String,
}

/// Which field carries a schema, and its dialect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SchemaField {
    /// JSON Schema: single calls, and batches by file.
    JsonSchema,
    /// OpenAPI's schema object: inline batches, where the other field gives answers of the right shape and no sense.
    OpenApi,
}

impl Provider for Gemini {
    fn prepare(&self, ask: &Ask) -> Result<Prepared> {
        self.prepare_with(ask, SchemaField::JsonSchema)
    }

    fn check_text(&self, text: &str) -> Result<()> {
        // As a row of a file it would fail the whole job, minutes later.
        match text.is_empty() {
            true => Err(Error::configuration("is empty, which Gemini does not take")),
            false => Ok(()),
        }
    }

    fn body(&self, prepared: &Prepared, prompt: &Prompt) -> Result<Map<String, Value>> {
        let (system, contents) = match prompt {
            Prompt::Text(text) => (prepared.system.clone(), vec![json!({"role": "user", "parts": [{"text": text}]})]),
            Prompt::Messages(turns) => {
                let (system, turns) = generation::lift_system(prepared.system.as_deref(), turns)?;
                (system, turns.iter().map(content).collect())
            }
        };
        let mut body = Map::new();
        body.insert("contents".into(), contents.into());
        if let Some(system) = system {
            body.insert("systemInstruction".into(), json!({"parts": [{"text": system}]}));
        }
        body.extend(prepared.body.clone());
        Ok(body)
    }

    fn generate(&self, prepared: &Prepared, body: Map<String, Value>) -> Request {
        let path = format!("{}/{}:generateContent", self.version, prepared.model);
        Request::post(path, Body::Json(Value::from(body).to_string().into()))
    }

    fn read(&self, body: &Value, reading: &Reading) -> Result<Generation> {
        reply::read(body, reading)
    }

    fn read_error(&self, response: &Response) -> ApiError {
        errors::read(response)
    }

    fn batches_are_native(&self) -> bool {
        true
    }

    fn batches(&self) -> &dyn BatchApi {
        self
    }
}

impl Gemini {
    fn prepare_with(&self, ask: &Ask, default_field: SchemaField) -> Result<Prepared> {
        let common = ask.config.common(ask.batch_system)?;
        common.refuse_conversation()?;
        let Common { system, stop, mut rest } = common;
        rest.retain(|name, value| name != "conversation" || !value.is_null());
        for key in ["model", "contents", "stream"] {
            if rest.contains_key(key) {
                return Err(Error::configuration(format!(
                    "config.extra[\"{key}\"] would overwrite what the call itself says; leave it out"
                )));
            }
        }
        let field = schema_field(rest.shift_remove("schema_field"), default_field)?;
        let mut config = numbers(ask.config)?;
        if stop.len() > MOST_STOP_SEQUENCES {
            return Err(Error::configuration(format!(
                "config.extra[\"stop\"] holds {} strings; Gemini takes {MOST_STOP_SEQUENCES}",
                stop.len()
            )));
        }
        if !stop.is_empty() {
            config.insert("stopSequences".into(), stop.clone().into());
        }
        let stop = if ask.schema.is_some() { Vec::new() } else { stop };
        let mut schema = None;
        if let Some(asked) = ask.schema {
            let compiled = match field {
                SchemaField::JsonSchema => asked.compile(Dialect::GeminiJsonSchema, true)?,
                SchemaField::OpenApi => asked.compile(Dialect::GeminiOpenApi, true)?,
            };
            let Compiled { schema: compiled, wrapped, .. } = compiled;
            config.insert("responseMimeType".into(), "application/json".into());
            let name = if field == SchemaField::JsonSchema { "responseJsonSchema" } else { "responseSchema" };
            config.insert(name.into(), compiled);
            schema = Some(ReadingSchema { wrapped, may_be_fenced: true, ..ReadingSchema::default() });
        }
        let mut body = Map::new();
        names::place_extra(rest, &mut body, &mut config, schema.is_some())?;
        if !config.is_empty() {
            body.insert("generationConfig".into(), config.into());
        }
        let model = model_path(ask.model)?;
        let reading = Reading { stop, server_stops: true, schema, max_tokens: None };
        Ok(Prepared { body, system, model, reading, ..Prepared::default() })
    }
}

/// `extra["schema_field"]`, for when the server's ways change.
fn schema_field(given: Option<Value>, default: SchemaField) -> Result<SchemaField> {
    match given.as_ref().and_then(Value::as_str) {
        None if given.is_none() => Ok(default),
        Some("responseJsonSchema" | "response_json_schema") => Ok(SchemaField::JsonSchema),
        Some("responseSchema" | "response_schema") => Ok(SchemaField::OpenApi),
        _ => Err(Error::configuration(
            "config.extra[\"schema_field\"] must be \"responseJsonSchema\" or \"responseSchema\"",
        )),
    }
}

/// The fields that are numbers, under Gemini's names. It knows 32 bits.
fn numbers(config: &GenerationConfig) -> Result<Map<String, Value>> {
    let int32 = |name: &str, value: i128| match i32::try_from(value) {
        Ok(value) => Ok(Value::from(value)),
        Err(_) => Err(Error::configuration(format!("config.{name} is {value}; Gemini takes an int of 32 bits"))),
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
    put("temperature", config.temperature.clone().map(Value::Number));
    put("topP", config.top_p.clone().map(Value::Number));
    put("maxOutputTokens", config.max_tokens.map(|value| int32("max_tokens", value.into())).transpose()?);
    put("seed", config.seed.map(|value| int32("seed", value.into())).transpose()?);
    Ok(fields)
}

/// The path of a model, whose name may come with or without its collection.
fn model_path(model: &str) -> Result<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
    if !model.chars().all(legal) || model.contains("..") || model.starts_with('/') || model.ends_with('/') {
        return Err(Error::configuration(format!("model is '{model}', which cannot be the name of a Gemini model")));
    }
    if model.starts_with("models/") || model.starts_with("tunedModels/") {
        return Ok(model.to_owned());
    }
    Ok(format!("models/{model}"))
}

/// A turn of a conversation in Gemini's form.
fn content(turn: &Value) -> Value {
    let role = if matches!(turn["role"].as_str(), Some("assistant" | "model")) { "model" } else { "user" };
    let part = |part: &Value| match (part, part["text"].as_str()) {
        (Value::String(text), _) => json!({"text": text}),
        // The other providers' form of a text; Gemini's own has no type.
        (_, Some(text)) if !part["type"].is_null() => json!({"text": text}),
        _ => part.clone(),
    };
    let parts: Vec<Value> = match &turn["content"] {
        Value::Array(parts) => parts.iter().map(part).collect(),
        text => vec![json!({"text": text})],
    };
    json!({"role": role, "parts": parts})
}
