//! OpenAI: the Responses API here, jobs in [`batches`], error replies in [`errors`]. Also spoken by vLLM, `transformers
//! serve`, llama.cpp's server, Ollama, LM Studio and Azure.

mod batches;
mod errors;
mod reply;

use super::base_url::BaseUrl;
use super::settings::Settings;
use super::{Ask, BatchApi, Notice, Prepared, Provider, Reading};
use crate::answer::ReadingSchema;
use crate::error::{ApiError, Error, Result};
use crate::exchange::{Body, Endpoint, Header, Request, Response};
use crate::generation::{self, Common, Generation, GenerationConfig, Prompt};
use crate::schema::Dialect;
use serde_json::{Map, Value, json};

const NAME: &str = "openai";
const HOST: &str = "api.openai.com";
const AZURE: &str = "openai.azure.com";
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// The least `max_output_tokens` that OpenAI takes (OpenAPI description of CreateResponse).
const LEAST_MAX_TOKENS: u64 = 16;

pub fn open(settings: Settings) -> Result<(Endpoint, Box<dyn Provider>)> {
    settings.check_names(NAME, &["organization", "project"])?;
    let base_url = settings.base_url("OPENAI_BASE_URL", DEFAULT_BASE_URL)?;
    let is_openai = is_openai(&base_url);
    let mut headers = Vec::new();
    let mut header = |name: &str, value: Option<String>, secret| {
        headers.extend(value.map(|value| Header { name: name.into(), value, secret }));
    };
    match settings.credential("api_key", "OPENAI_API_KEY")? {
        Some(key) => header("authorization", Some(format!("Bearer {key}")), true),
        None if is_openai && !has_own_credential(&settings) => {
            return Err(Error::configuration("no key for openai: set OPENAI_API_KEY, or give the option api_key"));
        }
        // A server of the caller's own may need none.
        None => {}
    }
    header("openai-organization", settings.text("organization", "OPENAI_ORG_ID")?, false);
    header("openai-project", settings.text("project", "OPENAI_PROJECT_ID")?, false);
    let endpoint = settings.endpoint(NAME, base_url, headers)?;
    Ok((endpoint, Box::new(OpenAi { is_openai })))
}

/// Whether a server is OpenAI itself, also at Azure: its limits are known, and are not those of others with the same API.
fn is_openai(base_url: &BaseUrl) -> bool {
    base_url.is_host(HOST) || base_url.is_below(AZURE)
}

/// A header that the caller wrote is a credential given, too; `api-key` is Azure's.
fn has_own_credential(settings: &Settings) -> bool {
    ["authorization", "api-key"].iter().any(|name| settings.has_header(name))
}

struct OpenAi {
    /// Not some other server that speaks its language.
    is_openai: bool,
}

impl Provider for OpenAi {
    fn prepare(&self, ask: &Ask) -> Result<Prepared> {
        let common = ask.config.common(ask.batch_system)?;
        common.check_conversation_id()?;
        let Common { system, stop, mut rest } = common;
        check_extra(&rest, system.is_some())?;
        let mut notices = Vec::new();
        let mut body = Map::new();
        body.insert("model".into(), ask.model.into());
        body.extend(self.numbers(ask.config, &mut notices));
        let mut text = text_options(rest.shift_remove("text"))?;
        let compiled = ask.schema.map(|schema| schema.compile(Dialect::OpenAi, self.is_openai)).transpose()?;
        if let Some((schema, compiled)) = ask.schema.zip(compiled.as_ref()) {
            let format = json!({
                "type": "json_schema",
                "strict": compiled.strict,
                "name": schema.name,
                "schema": compiled.schema,
            });
            if text.insert("format".into(), format).is_some() {
                return Err(Error::configuration(
                    "config.extra[\"text\"][\"format\"] and schema both ask for a format; give one",
                ));
            }
        }
        if !text.is_empty() {
            body.insert("text".into(), text.into());
        }
        if !stop.is_empty() && !self.is_openai {
            body.insert("stop".into(), stop.clone().into());
        }
        if let Some(key) = rest.keys().find(|key| body.contains_key(*key)) {
            return Err(Error::configuration(format!(
                "config.extra[\"{key}\"] repeats what the config says already; give one of them"
            )));
        }
        body.extend(rest);
        let stop = match (ask.schema, stop.is_empty()) {
            (Some(_), false) if self.is_openai => {
                notices.push(Notice::new(
                    "stop",
                    "OpenAI has no stop strings and an answer to a schema cannot be cut: stop is not applied",
                ));
                Vec::new()
            }
            (Some(_), _) => Vec::new(),
            (None, _) => stop,
        };
        let schema = compiled.map(|compiled| ReadingSchema {
            wrapped: compiled.wrapped,
            may_be_fenced: !self.is_openai,
            ..ReadingSchema::default()
        });
        let max_tokens = body.get("max_output_tokens").and_then(Value::as_u64).filter(|_| !self.is_openai);
        let reading = Reading { stop, server_stops: !self.is_openai, schema, max_tokens };
        Ok(Prepared { body, system, reading, notices, ..Prepared::default() })
    }

    fn body(&self, prepared: &Prepared, prompt: &Prompt) -> Result<Map<String, Value>> {
        let mut body = prepared.body.clone();
        let mut system = prepared.system.as_deref();
        let input = match prompt {
            Prompt::Text(text) => Value::String(text.clone()),
            Prompt::Messages(turns) => {
                system = generation::system_beside(system, turns)?;
                Value::Array(turns.iter().map(turn).collect())
            }
        };
        if let Some(system) = system {
            body.insert("instructions".into(), system.into());
        }
        body.insert("input".into(), input);
        Ok(body)
    }

    fn generate(&self, _prepared: &Prepared, mut body: Map<String, Value>) -> Request {
        // Some compatible servers stream unless told not to.
        body.insert("stream".into(), false.into());
        Request::post("responses", Body::Json(Value::from(body).to_string().into()))
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

impl OpenAi {
    /// The fields that are numbers, under OpenAI's names.
    fn numbers(&self, config: &GenerationConfig, notices: &mut Vec<Notice>) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut max_tokens = config.max_tokens;
        if let Some(asked @ 1..LEAST_MAX_TOKENS) = max_tokens.filter(|_| self.is_openai) {
            max_tokens = Some(LEAST_MAX_TOKENS);
            notices.push(Notice::new(
                "max_tokens",
                format!("OpenAI takes no max_tokens below {LEAST_MAX_TOKENS}: {asked} is sent as {LEAST_MAX_TOKENS}"),
            ));
        }
        let mut seed = config.seed;
        if seed.is_some() && self.is_openai {
            seed = None;
            notices.push(Notice::new("seed", "OpenAI's Responses API has no seed: it is not sent"));
        }
        let mut put = |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
        put("temperature", config.temperature.clone().map(Value::Number));
        put("top_p", config.top_p.clone().map(Value::Number));
        put("max_output_tokens", max_tokens.map(Value::from));
        put("seed", seed.map(Value::from));
        fields
    }
}

/// Refuses the entries of `extra` that are ours to set.
fn check_extra(rest: &Map<String, Value>, has_system: bool) -> Result<()> {
    for key in ["model", "input", "stream"] {
        if rest.contains_key(key) {
            return Err(Error::configuration(format!(
                "config.extra[\"{key}\"] would overwrite what the call itself says; leave it out"
            )));
        }
    }
    if rest.get("background").is_some_and(|value| *value != Value::Bool(false)) {
        return Err(Error::configuration(
            "config.extra[\"background\"] makes a response that has to be polled, which is not supported; use a batch",
        ));
    }
    if has_system && rest.contains_key("instructions") {
        return Err(Error::configuration(
            "config.extra has both a system prompt and OpenAI's name for it, \"instructions\"; give one",
        ));
    }
    Ok(())
}

fn text_options(text: Option<Value>) -> Result<Map<String, Value>> {
    match text {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(options)) => Ok(options),
        Some(_) => Err(Error::configuration("config.extra[\"text\"] must be a dict, like {\"verbosity\": \"low\"}")),
    }
}

/// A turn of a conversation, whose parts of text have other names here than with the other providers.
fn turn(turn: &Value) -> Value {
    let mut turn = turn.clone();
    let name = if turn["role"] == "assistant" { "output_text" } else { "input_text" };
    for part in turn["content"].as_array_mut().into_iter().flatten() {
        if part["type"] == "text" {
            part["type"] = name.into();
        }
    }
    turn
}
