//! Anthropic: the Messages API here, Message Batches in [`batches`], error replies in [`errors`]. Also spoken by vLLM,
//! llama.cpp's server, Ollama and many gateways.

mod batches;
mod errors;
mod reply;

use super::settings::Settings;
use super::{Ask, BatchApi, Notice, Prepared, Provider, Reading};
use crate::answer::{AnswerSchema, ReadingSchema};
use crate::error::{ApiError, ApiErrorKind, Error, Result};
use crate::exchange::{Body, Endpoint, Header, Request, Response};
use crate::generation::{self, Common, Generation, Prompt};
use crate::schema::Dialect;
use serde_json::{Map, Value, json};

const NAME: &str = "anthropic";
const HOST: &str = "api.anthropic.com";
const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
/// The version that knows temperature and top_p.
const DEFAULT_VERSION: &str = "2023-06-01";
/// From this version on, sampling parameters are an error.
const WITHOUT_SAMPLING: &str = "2026-10-21";
/// The API requires `max_tokens`. Below every current model's limit, with room for thinking.
const DEFAULT_MAX_TOKENS: u64 = 8192;

pub fn open(settings: Settings) -> Result<(Endpoint, Box<dyn Provider>)> {
    settings.check_names(NAME, &["auth_token", "anthropic_version"])?;
    let mut base_url = settings.base_url("ANTHROPIC_BASE_URL", DEFAULT_BASE_URL)?;
    // A client adds the version of the path itself; people write it all the same.
    base_url.strip_segment(|last| last == "v1");
    let is_anthropic = base_url.is_host(HOST);
    let version = settings.text("anthropic_version", "")?.unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let mut headers = vec![Header { name: "anthropic-version".into(), value: version.clone(), secret: false }];
    match credential(&settings)? {
        Some(header) => headers.push(header),
        None if has_own_credential(&settings) => {}
        None if is_anthropic => {
            return Err(Error::configuration(
                "no key for anthropic: set ANTHROPIC_API_KEY, or give the option api_key (or auth_token)",
            ));
        }
        None => {}
    }
    let endpoint = settings.endpoint(NAME, base_url, headers)?;
    // The caller's own headers may hold another one.
    let sent = endpoint.headers.iter().find(|header| header.name.eq_ignore_ascii_case("anthropic-version"));
    let version = sent.map_or(version, |header| header.value.clone());
    let sends_key = endpoint.headers.iter().any(|header| header.name.eq_ignore_ascii_case("x-api-key"));
    Ok((endpoint, Box::new(Anthropic { version, is_anthropic, sends_key })))
}

/// A header that the caller wrote is a credential given, too.
fn has_own_credential(settings: &Settings) -> bool {
    ["x-api-key", "authorization"].iter().any(|name| settings.has_header(name))
}

/// Exactly one credential: an explicit one before the environment's, a key before a token.
fn credential(settings: &Settings) -> Result<Option<Header>> {
    let key = |value| Header { name: "x-api-key".into(), value, secret: true };
    let token = |value| Header { name: "authorization".into(), value: format!("Bearer {value}"), secret: true };
    match (settings.credential("api_key", "")?, settings.credential("auth_token", "")?) {
        (Some(_), Some(_)) => Err(Error::configuration("api_key and auth_token are two credentials; give one")),
        (Some(value), None) => Ok(Some(key(value))),
        (None, Some(value)) => Ok(Some(token(value))),
        (None, None) if has_own_credential(settings) => Ok(None),
        (None, None) => match settings.credential("", "ANTHROPIC_API_KEY")? {
            Some(value) => Ok(Some(key(value))),
            None => Ok(settings.credential("", "ANTHROPIC_AUTH_TOKEN")?.map(token)),
        },
    }
}

struct Anthropic {
    version: String,
    /// Not some other server that speaks its language.
    is_anthropic: bool,
    /// The key goes out as Anthropic reads it.
    sends_key: bool,
}

impl Provider for Anthropic {
    fn prepare(&self, ask: &Ask) -> Result<Prepared> {
        let common = ask.config.common(ask.batch_system)?;
        common.refuse_conversation()?;
        let Common { system, stop, rest } = common;
        if let Some(system) = &system {
            self.check_text(system).map_err(|error| error.about("the system prompt"))?;
        }
        let mut notices = Vec::new();
        if ask.config.seed.is_some() {
            notices.push(Notice::new("seed", "Anthropic's Messages API has no seed: it is not sent"));
        }
        // The API refuses blank ones; the text is cut here instead.
        let is_blank = |stop: &String| stop.trim().is_empty();
        let has_blank = stop.iter().any(is_blank);
        let sent: Vec<String> = stop.iter().filter(|stop| !is_blank(stop)).cloned().collect();
        let server_stops = !sent.is_empty();
        let mut body = Map::new();
        body.insert("model".into(), ask.model.into());
        body.extend(ask.config.max_tokens.map(|value| ("max_tokens".into(), value.into())));
        body.extend(ask.config.temperature.clone().map(|value| ("temperature".into(), Value::Number(value))));
        body.extend(ask.config.top_p.clone().map(|value| ("top_p".into(), Value::Number(value))));
        if !sent.is_empty() {
            body.insert("stop_sequences".into(), sent.into());
        }
        let headers = add_extra(&mut body, rest)?;
        body.entry("max_tokens").or_insert(DEFAULT_MAX_TOKENS.into());
        self.check_sampling(&body)?;
        if ask.schema.is_some() && has_blank {
            notices.push(Notice::new("stop", "a blank stop string cannot be applied to an answer to a schema"));
        }
        let stop = if ask.schema.is_some() { Vec::new() } else { stop };
        let prepared = Prepared {
            body,
            system,
            model: ask.model.to_owned(),
            headers,
            reading: Reading { stop, server_stops, ..Reading::default() },
            notices,
            fallback: None,
        };
        match ask.schema {
            Some(schema) => with_schema(prepared, schema, self.is_anthropic),
            None => Ok(prepared),
        }
    }

    fn check_text(&self, text: &str) -> Result<()> {
        if text.trim().is_empty() {
            return Err(Error::configuration("is empty or blank, which Anthropic does not take"));
        }
        Ok(())
    }

    fn body(&self, prepared: &Prepared, prompt: &Prompt) -> Result<Map<String, Value>> {
        let mut body = prepared.body.clone();
        let (system, messages) = match prompt {
            Prompt::Text(text) => (prepared.system.clone(), vec![json!({"role": "user", "content": text})]),
            Prompt::Messages(turns) => generation::lift_system(prepared.system.as_deref(), turns)?,
        };
        if let Some(system) = system {
            body.insert("system".into(), system.into());
        }
        body.insert("messages".into(), messages.into());
        Ok(body)
    }

    fn generate(&self, prepared: &Prepared, body: Map<String, Value>) -> Request {
        let mut request = Request::post("v1/messages", Body::Json(Value::from(body).to_string().into()));
        request.headers.extend(prepared.headers.iter().cloned());
        request
    }

    fn read(&self, body: &Value, reading: &Reading) -> Result<Generation> {
        reply::read(body, reading)
    }

    fn read_error(&self, response: &Response) -> ApiError {
        let mut error = errors::read(response);
        // vLLM, for one, reads a bearer token alone. Who answers in Anthropic's own words has looked at the key.
        let in_own_words = error.code.as_deref() == Some("authentication_error");
        if error.status == Some(401) && self.sends_key && !self.is_anthropic && !in_own_words {
            error.message.push_str(". If this server wants a bearer token, give the key as auth_token, not as api_key");
        }
        error
    }

    fn wants_fallback(&self, error: &ApiError) -> bool {
        let message = error.message.to_ascii_lowercase();
        let Some((_, after)) = message.split_once("output_config") else { return false };
        // A complaint about what stands inside the field comes from a server that knows it.
        let is_part_of_path = |c: char| c.is_ascii_alphanumeric() || "._'\", []".contains(c);
        let path = after.split(|c| !is_part_of_path(c)).next().unwrap_or_default();
        let is_refused = match error.status {
            Some(200) => error.kind == ApiErrorKind::InvalidRequest,
            status => matches!(status, Some(400 | 422)),
        };
        is_refused
            && !["schema", "effort", "task_budget"].iter().any(|inner| path.contains(inner))
            && ["extra", "unsupported", "not supported", "unknown", "unexpected", "unrecognized", "not permitted"]
                .iter()
                .any(|word| message.contains(word))
    }

    fn batches_are_native(&self) -> bool {
        false
    }

    fn batches(&self) -> &dyn BatchApi {
        self
    }
}

impl Anthropic {
    fn check_sampling(&self, body: &Map<String, Value>) -> Result<()> {
        if body.get("temperature").and_then(Value::as_f64).is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(Error::configuration("config.temperature must be 0 to 1 on Anthropic"));
        }
        let has_sampling = ["temperature", "top_p", "top_k"].iter().any(|name| body.contains_key(*name));
        // Versions are dates.
        if has_sampling && self.version.as_str() >= WITHOUT_SAMPLING {
            return Err(Error::configuration(format!(
                "anthropic_version {} takes no temperature, top_p or top_k; leave them out, or use {DEFAULT_VERSION}",
                self.version
            )));
        }
        Ok(())
    }
}

/// Puts the caller's own parameters into the body; returns the headers that some of them become.
fn add_extra(body: &mut Map<String, Value>, mut rest: Map<String, Value>) -> Result<Vec<(&'static str, String)>> {
    for key in ["model", "messages", "stream"] {
        if rest.contains_key(key) {
            return Err(Error::configuration(format!(
                "config.extra[\"{key}\"] would overwrite what the call itself says; leave it out"
            )));
        }
    }
    // As everywhere, None means not given; the API takes no null.
    rest.retain(|_, value| !value.is_null());
    if let Some(key) = rest.keys().find(|key| body.contains_key(*key)) {
        return Err(Error::configuration(format!(
            "config.extra[\"{key}\"] would overwrite what config says already; give one of the two"
        )));
    }
    let mut headers = Vec::new();
    match rest.shift_remove("betas") {
        None => {}
        Some(Value::String(beta)) => headers.push(("anthropic-beta", beta)),
        Some(Value::Array(betas)) if betas.is_empty() => {}
        Some(Value::Array(betas)) if betas.iter().all(Value::is_string) => {
            headers.push(("anthropic-beta", betas.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")));
        }
        Some(_) => return Err(Error::configuration("config.extra[\"betas\"] must be a list of str")),
    }
    if headers.iter().any(|(_, value)| !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())) {
        return Err(Error::configuration("config.extra[\"betas\"] holds a character that a header cannot hold"));
    }
    if let Some(effort) = rest.shift_remove("effort") {
        let other = output_config(&mut rest)?.insert("effort".into(), effort.clone());
        if other.is_some_and(|other| other != effort) {
            return Err(Error::configuration(
                "config.extra[\"effort\"] and config.extra[\"output_config\"][\"effort\"] differ; give one",
            ));
        }
    }
    if rest.contains_key("output_config") {
        output_config(&mut rest)?;
    }
    body.extend(rest);
    Ok(headers)
}

/// The `output_config` of a body, made if it is not there: its entries are merged, never overwritten.
fn output_config(body: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    match body.entry("output_config").or_insert_with(|| json!({})) {
        Value::Object(options) => Ok(options),
        _ => Err(Error::configuration("config.extra[\"output_config\"] must be a dict")),
    }
}

fn reading(wrapped: bool) -> ReadingSchema {
    ReadingSchema { wrapped, may_be_fenced: true, any_case: true, tool: None }
}

/// The call with Anthropic's own structured outputs, and as a fallback for older servers with a forced tool.
fn with_schema(mut prepared: Prepared, schema: &AnswerSchema, is_anthropic: bool) -> Result<Prepared> {
    let mut fallback = prepared.clone();
    let input = schema.compile_for_tool()?;
    let tool = schema.name.clone();
    fallback.body.shift_remove("output_config");
    let ours = json!({"name": tool, "description": "Return the answer.", "input_schema": input.schema});
    match fallback.body.get_mut("tools") {
        Some(Value::Array(tools)) => tools.push(ours),
        _ => drop(fallback.body.insert("tools".into(), json!([ours]))),
    }
    let choice = json!({"type": "tool", "name": tool, "disable_parallel_tool_use": true});
    fallback.body.insert("tool_choice".into(), choice);
    fallback.notices = Vec::new();
    fallback.reading.schema = Some(ReadingSchema { tool: Some(tool), ..reading(input.wrapped) });

    let compiled = schema.compile(Dialect::Anthropic, is_anthropic)?;
    let format = json!({"type": "json_schema", "schema": compiled.schema});
    if output_config(&mut prepared.body)?.insert("format".into(), format).is_some() {
        return Err(Error::configuration(
            "config.extra[\"output_config\"][\"format\"] and schema both ask for a format; give one",
        ));
    }
    prepared.reading.schema = Some(reading(compiled.wrapped));
    prepared.fallback = Some(Box::new(fallback));
    Ok(prepared)
}
