//! What `POST /v1/messages` accepts, and the words in which it refuses the rest. Pure.

use serde_json::{Map, Value};

use super::Version;
use super::content::{Texts, check_messages, check_system, is_prefilled};
use super::error::ApiError;
use super::models::{Family, family};
use super::tools::{Form, SchemaCache, check_form};
use super::values::{
    Checked, cache_control, check_keys, choice, flag, fraction, integer, join, list, object, present, tag, text,
};

/// A request that passed: what the answer depends on.
#[derive(Debug)]
pub struct Ask {
    pub model: String,
    /// The last text of the user.
    pub prompt: String,
    pub input_tokens: u64,
    /// Of the input tokens, those read from the cache.
    pub cached_tokens: u64,
    pub form: Form,
    pub max_tokens: u64,
    pub stop: Vec<String>,
    /// Whether the model thinks before it answers, and shows it.
    pub thinks: bool,
    pub shows_thinking: bool,
}

/// Every parameter of a message.
const KEYS: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "thinking",
    "output_config",
    "tools",
    "tool_choice",
    "service_tier",
    "speed",
    "inference_geo",
    "container",
    "diagnostics",
    "cache_control",
];

/// Those of the token count.
const COUNT_KEYS: &[&str] =
    &["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "speed"];

/// Checks a request body as Anthropic does.
pub fn check(body: &Map<String, Value>, version: Version, cache: &mut SchemaCache) -> Checked<Ask> {
    check_keys("", body, KEYS)?;
    if version == Version::October2026
        && let Some(key) = ["temperature", "top_p", "top_k"].into_iter().find(|key| body.contains_key(*key))
    {
        return Err(ApiError::extra(key));
    }
    let max_tokens = integer("max_tokens", body.get("max_tokens").ok_or_else(|| ApiError::missing("max_tokens"))?, 1)?;
    let (texts, form, family) = check_prompt(body, version, cache)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if max_tokens > family.max_tokens {
        let most = family.max_tokens;
        let what = format!("{max_tokens} > {most}, which is the maximum allowed number of output tokens for {model}");
        return Err(ApiError::at("max_tokens", what));
    }
    if body.get("stream").is_some_and(|stream| stream == &Value::Bool(true)) {
        return Err(ApiError::at("stream", "the sandbox does not stream yet; leave 'stream' out or set it to false"));
    }
    let (thinks, shows_thinking) = check_thinking(body, &family, Some(max_tokens))?;
    check_sampling(body, &family)?;
    check_rest(body)?;
    Ok(Ask {
        model: model.to_owned(),
        prompt: texts.user,
        input_tokens: texts.tokens,
        cached_tokens: texts.cached_tokens,
        form,
        max_tokens,
        stop: check_stop(body)?,
        thinks,
        shows_thinking,
    })
}

/// Checks the body of a token count and returns the tokens.
pub fn count(body: &Map<String, Value>, version: Version) -> Checked<u64> {
    check_keys("", body, COUNT_KEYS)?;
    let (texts, _, family) = check_prompt(body, version, &mut SchemaCache::default())?;
    check_thinking(body, &family, None)?;
    check_rest(body)?;
    Ok(texts.tokens)
}

/// What a message and a token count share.
fn check_prompt(
    body: &Map<String, Value>,
    version: Version,
    cache: &mut SchemaCache,
) -> Checked<(Texts, Form, Family)> {
    let model = text("model", body.get("model").ok_or_else(|| ApiError::missing("model"))?)?;
    if model.is_empty() {
        return Err(ApiError::at("model", "String should have at least 1 character"));
    }
    let family = family(model);
    let mut texts = Texts::default();
    if let Some(system) = body.get("system") {
        check_system(system, &mut texts)?;
    }
    let messages = body.get("messages").ok_or_else(|| ApiError::missing("messages"))?;
    check_messages(messages, &family, version, &mut texts)?;
    let form = check_form(body, &family, cache)?;
    if matches!(form, Form::Json(_)) && is_prefilled(body) {
        return Err(ApiError::at("output_config.format", "structured outputs are not compatible with message prefill"));
    }
    Ok((texts, form, family))
}

/// Whether the model thinks, and shows it.
fn check_thinking(body: &Map<String, Value>, family: &Family, max_tokens: Option<u64>) -> Checked<(bool, bool)> {
    let Some(given) = body.get("thinking") else {
        return Ok((family.thinks_by_default, !family.omits_thinking));
    };
    let given = object("thinking", given)?;
    let kind = tag("thinking", given, &["adaptive", "between_tools", "disabled", "enabled"])?;
    let path = join("thinking", kind);
    let keys: &[&str] = match kind {
        "enabled" => &["type", "budget_tokens", "display"],
        "adaptive" => &["type", "display"],
        _ => &["type"],
    };
    check_keys(&path, given, keys)?;
    if family.refused_thinking.contains(&kind) {
        return Err(ApiError::at("thinking.type", format!("\"{kind}\" is not supported for this model.")));
    }
    let effort = body.get("output_config").and_then(|config| config.get("effort")).and_then(Value::as_str);
    if kind == "disabled" && effort.is_some_and(|effort| family.must_think_at.contains(&effort)) {
        return Err(ApiError::at("thinking.type", "\"disabled\" is not supported at this effort for this model."));
    }
    if kind == "enabled" {
        let path = join(&path, "budget_tokens");
        let budget = given.get("budget_tokens").ok_or_else(|| ApiError::missing(&path))?;
        let budget = integer(&path, budget, 1024)?;
        if max_tokens.is_some_and(|most| budget >= most) {
            let message = "`max_tokens` must be greater than `thinking.budget_tokens`.";
            return Err(ApiError::invalid(message));
        }
    }
    let display = match present(given, "display") {
        Some(display) => Some(choice(&join(&path, "display"), display, &["summarized", "omitted"])?),
        None => None,
    };
    let shown = display.map_or(!family.omits_thinking, |display| display == "summarized");
    Ok((matches!(kind, "enabled" | "adaptive"), shown))
}

fn check_sampling(body: &Map<String, Value>, family: &Family) -> Checked {
    let fraction_of = |key: &str| body.get(key).map(|value| fraction(key, value)).transpose();
    let (temperature, top_p) = (fraction_of("temperature")?, fraction_of("top_p")?);
    let top_k = body.get("top_k").map(|value| integer("top_k", value, 0)).transpose()?;
    if family.refuses_sampling {
        let given = [("temperature", temperature), ("top_p", top_p), ("top_k", top_k.map(|_| 0.0))];
        // Docs: a default value is accepted.
        if let Some((key, _)) = given.iter().find(|(_, value)| value.is_some_and(|value| value != 1.0)) {
            return Err(ApiError::invalid(format!("`{key}` is deprecated for this model.")));
        }
    }
    if family.one_of_both && temperature.is_some() && top_p.is_some() {
        let message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
        return Err(ApiError::invalid(message));
    }
    let thinking = body.get("thinking").and_then(|thinking| thinking.get("type")).and_then(Value::as_str);
    if matches!(thinking, Some("enabled" | "adaptive")) {
        if temperature.is_some_and(|temperature| temperature != 1.0) {
            return Err(ApiError::invalid("`temperature` may only be set to 1 when thinking is enabled."));
        }
        if top_p.is_some_and(|top_p| top_p < 0.95) {
            let message = "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.";
            return Err(ApiError::invalid(message));
        }
        if top_k.is_some() {
            return Err(ApiError::invalid("`top_k` must be unset when thinking is enabled."));
        }
    }
    Ok(())
}

fn check_stop(body: &Map<String, Value>) -> Checked<Vec<String>> {
    let Some(given) = body.get("stop_sequences") else {
        return Ok(Vec::new());
    };
    let path = "stop_sequences";
    let mut stop = Vec::new();
    for (place, sequence) in list(path, given)?.iter().enumerate() {
        let sequence = text(&join(path, place), sequence)?;
        if sequence.is_empty() {
            return Err(ApiError::at(path, "each stop sequence must be non-empty"));
        }
        if sequence.trim().is_empty() {
            return Err(ApiError::at(path, "each stop sequence must contain non-whitespace"));
        }
        stop.push(sequence.to_owned());
    }
    Ok(stop)
}

fn check_rest(body: &Map<String, Value>) -> Checked {
    cache_control("", body)?;
    if let Some(stream) = body.get("stream") {
        flag("stream", stream)?;
    }
    if let Some(metadata) = body.get("metadata") {
        let metadata = object("metadata", metadata)?;
        check_keys("metadata", metadata, &["user_id"])?;
        if let Some(user) = present(metadata, "user_id") {
            text("metadata.user_id", user)?;
        }
    }
    if let Some(tier) = body.get("service_tier") {
        choice("service_tier", tier, &["auto", "standard_only"])?;
    }
    if let Some(speed) = present(body, "speed") {
        choice("speed", speed, &["standard", "fast"])?;
    }
    if let Some(geo) = present(body, "inference_geo") {
        text("inference_geo", geo)?;
    }
    if let Some(diagnostics) = present(body, "diagnostics") {
        check_keys("diagnostics", object("diagnostics", diagnostics)?, &["previous_message_id"])?;
    }
    match present(body, "container") {
        Some(container) if !container.is_string() && !container.is_object() => {
            Err(ApiError::at("container", "Input should be a valid string or dictionary"))
        }
        _ => Ok(()),
    }
}

/// What a request inside a batch may not have.
pub fn check_batched(params: &Map<String, Value>) -> Checked {
    match ["stream", "speed"]
        .into_iter()
        .find(|key| present(params, key).is_some_and(|value| value != &Value::Bool(false)))
    {
        Some(key) => Err(ApiError::at(key, "not supported in a message batch")),
        None => Ok(()),
    }
}
