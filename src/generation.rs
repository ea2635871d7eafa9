//! What is asked of a model and what came back, in no provider's words.

use crate::error::{Error, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

/// One input: a text, or the turns of a conversation (`{"role": ..., "content": ...}`, checked by [`messages`]).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    Text(String),
    Messages(Vec<Value>),
}

/// How to generate. A field that is None is not sent.
#[derive(Debug, Clone, Default)]
pub struct GenerationConfig {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    /// Tokens; reasoning counts into it.
    pub max_tokens: Option<u64>,
    pub seed: Option<i64>,
    /// Everything else, by the provider's own names, plus those that every provider knows (see [`Common`]).
    pub extra: Map<String, Value>,
}

/// The entries of `extra` that mean the same on every provider, taken out of it.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// The system prompt; empty counts as none.
    pub system: Option<String>,
    /// The text is cut before the first of these.
    pub stop: Vec<String>,
    /// All other entries, which go to the provider under their own names.
    pub rest: Map<String, Value>,
}

const A_CONVERSATION: &str = "a list of {\"role\": ..., \"content\": ...} dicts";
/// Where the conversation of a single call stands.
pub const CONVERSATION: &str = "config.extra[\"conversation\"]";
/// Where the conversations of a batch stand.
pub const CONVERSATIONS: &str = "config.extra[\"conversations\"]";

impl Common {
    /// Refuses a `conversation` that is no list of turns, where the provider has no parameter of that name. (A list was
    /// taken out before.)
    pub fn refuse_conversation(&self) -> Result<()> {
        match self.rest.get("conversation") {
            None | Some(Value::Null) => Ok(()),
            Some(other) => Err(wrong_type(CONVERSATION, A_CONVERSATION, other)),
        }
    }

    /// Refuses a `conversation` that is neither a list of turns nor OpenAI's parameter of that name.
    pub fn check_conversation_id(&self) -> Result<()> {
        match self.rest.get("conversation") {
            None | Some(Value::Null | Value::String(_)) => Ok(()),
            Some(Value::Object(fields)) if fields.get("id").is_some_and(Value::is_string) => Ok(()),
            Some(other) => {
                let wanted =
                    format!("{A_CONVERSATION} (or OpenAI's own id of a conversation: a str or {{\"id\": ...}})");
                Err(wrong_type(CONVERSATION, &wanted, other))
            }
        }
    }
}

impl GenerationConfig {
    /// Takes `extra["conversation"]` out, which stands in for the input of a single call. OpenAI has a parameter of that
    /// name, which is never a list.
    pub fn take_conversation(&mut self) -> Result<Option<Prompt>> {
        if self.extra.get("conversations").is_some_and(|list| !list.is_null()) {
            return Err(Error::configuration(
                "config.extra[\"conversations\"] is one conversation for each input of a batch; a single call takes \"conversation\"",
            ));
        }
        match self.extra.get("conversation") {
            Some(Value::Array(_)) => {}
            _ => return Ok(None),
        }
        let turns = self.extra.shift_remove("conversation").unwrap_or_default();
        Ok(Some(Prompt::Messages(messages(turns, CONVERSATION)?)))
    }

    /// Takes `extra["conversations"]` out: one conversation for each input of a batch.
    pub fn take_conversations(&mut self) -> Result<Option<Vec<Vec<Value>>>> {
        if matches!(self.extra.get("conversation"), Some(Value::Array(_))) {
            return Err(Error::configuration(
                "config.extra[\"conversation\"] belongs to a single call; a batch takes \"conversations\", one for each input",
            ));
        }
        let place = CONVERSATIONS;
        match self.extra.shift_remove("conversations") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => {
                let check = |(i, turns)| messages(turns, &format!("{place}[{i}]"));
                list.into_iter().enumerate().map(check).collect::<Result<_>>().map(Some)
            }
            Some(other) => Err(wrong_type(place, "a list of conversations", &other)),
        }
    }

    /// Splits `extra`. `batch_system` is `batch_options["system"]`: another way to give the same text.
    pub fn common(&self, batch_system: Option<&str>) -> Result<Common> {
        let mut rest = self.extra.clone();
        let mut system: Option<(String, String)> = None;
        let mut offer = |name: &str, text: String| match &system {
            Some((first, known)) if *known != text => Err(Error::configuration(format!(
                "{first} and {name} are two names for the system prompt and hold different texts; give one of them"
            ))),
            _ if text.is_empty() => Ok(()),
            _ => {
                system = Some((name.to_owned(), text));
                Ok(())
            }
        };
        for key in ["system", "system_instruction"] {
            match rest.shift_remove(key) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => offer(&format!("config.extra[\"{key}\"]"), text)?,
                Some(other) => return Err(wrong_type(&format!("config.extra[\"{key}\"]"), "a str", &other)),
            }
        }
        if let Some(text) = batch_system {
            offer("batch_options[\"system\"]", text.to_owned())?;
        }
        let stop = match rest.shift_remove("stop") {
            Some(value) => stop_list(value)?,
            None => Vec::new(),
        };
        Ok(Common { system: system.map(|(_, text)| text), stop, rest })
    }
}

fn stop_list(value: Value) -> Result<Vec<String>> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) => vec![Value::String(text)],
        Value::Array(items) => items,
        other => return Err(wrong_type("config.extra[\"stop\"]", "a str or a list of str", &other)),
    };
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| match item {
            Value::String(text) if text.is_empty() => Err(Error::configuration(format!(
                "config.extra[\"stop\"][{i}] is an empty str, which every text contains; leave it out"
            ))),
            Value::String(text) => Ok(text),
            other => Err(wrong_type(&format!("config.extra[\"stop\"][{i}]"), "a str", &other)),
        })
        .collect()
}

fn wrong_type(place: &str, wanted: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "None".to_owned(),
        Value::Bool(_) => "a bool".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a str".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a dict".to_owned(),
    };
    Error::configuration(format!("{place} must be {wanted}, not {found}"))
}

/// Checks the turns of a conversation found at `place`: a non-empty list of dicts, each with a `role` and a `content`.
pub fn messages(value: Value, place: &str) -> Result<Vec<Value>> {
    let Value::Array(turns) = value else {
        return Err(wrong_type(place, A_CONVERSATION, &value));
    };
    if turns.is_empty() {
        return Err(Error::configuration(format!("{place} is an empty list of messages; give at least one")));
    }
    for (i, turn) in turns.iter().enumerate() {
        let place = format!("{place}[{i}]");
        let Value::Object(fields) = turn else {
            return Err(wrong_type(&place, "a {\"role\": ..., \"content\": ...} dict", turn));
        };
        match fields.get("role") {
            Some(Value::String(role)) if !role.is_empty() => {}
            Some(other) => return Err(wrong_type(&format!("{place}[\"role\"]"), "a non-empty str", other)),
            None => return Err(Error::configuration(format!("{place} has no \"role\""))),
        }
        match fields.get("content") {
            Some(Value::String(_)) => {}
            Some(Value::Array(parts)) if !parts.is_empty() => {}
            Some(other) => {
                return Err(wrong_type(&format!("{place}[\"content\"]"), "a str or a non-empty list of parts", other));
            }
            None => return Err(Error::configuration(format!("{place} has no \"content\""))),
        }
    }
    Ok(turns)
}

/// Whether a turn is the system prompt, or a part of it.
pub fn is_system(turn: &Value) -> bool {
    matches!(turn["role"].as_str(), Some("system" | "developer"))
}

/// The system prompt that has to stand beside the conversation `turns`: none if a turn of it says the same already.
pub fn system_beside<'s>(system: Option<&'s str>, turns: &[Value]) -> Result<Option<&'s str>> {
    let Some(system) = system else { return Ok(None) };
    match turns.iter().find(|turn| is_system(turn)) {
        None => Ok(Some(system)),
        Some(turn) if content_text(&turn["content"]) == system => Ok(None),
        Some(_) => Err(Error::configuration(
            "the conversation has a system turn, and the system prompt given beside it is another text; give one of them",
        )),
    }
}

/// `prompt` as a conversation that begins with the system prompt; as it is where there is none.
pub fn with_system(prompt: Prompt, system: Option<&str>) -> Result<Prompt> {
    let mut turns = match (prompt, system) {
        (prompt, None) => return Ok(prompt),
        (Prompt::Text(text), _) => vec![json!({"role": "user", "content": text})],
        (Prompt::Messages(turns), _) => turns,
    };
    if let Some(system) = system_beside(system, &turns)? {
        turns.insert(0, json!({"role": "system", "content": system}));
    }
    Ok(Prompt::Messages(turns))
}

/// The system prompt of a conversation, lifted out of its turns, for providers that want it beside them; and the other turns.
/// `system` is the one that was given beside the conversation.
pub fn lift_system(system: Option<&str>, turns: &[Value]) -> Result<(Option<String>, Vec<Value>)> {
    let (lifted, others): (Vec<Value>, Vec<Value>) = turns.iter().cloned().partition(is_system);
    if others.is_empty() {
        return Err(Error::configuration("the conversation holds system turns only; it needs a user turn"));
    }
    system_beside(system, turns)?;
    let texts: Vec<String> =
        lifted.iter().map(|turn| content_text(&turn["content"])).filter(|text| !text.is_empty()).collect();
    let lifted = (!texts.is_empty()).then(|| texts.join("\n\n"));
    Ok((lifted.or_else(|| system.map(str::to_owned)), others))
}

/// The text of a turn's content: itself, or its parts of text.
pub fn content_text(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        text => text.as_str().unwrap_or_default().to_owned(),
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// It had said all.
    Stop,
    /// `max_tokens` was reached: the text is cut.
    Length,
    /// Any other reason, in the provider's word.
    Other(String),
}

impl FinishReason {
    /// The reason that is called `name`.
    pub fn named(name: &str) -> Self {
        match name {
            "stop" => Self::Stop,
            "length" => Self::Length,
            other => Self::Other(other.to_owned()),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Other(word) => word,
        }
    }
}

/// Tokens, with one meaning on every provider: input includes what was cached, output includes reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
}

impl Usage {
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
    }
}

/// A usable answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Generation {
    /// What the model said. With a schema: the JSON text of the value, unwrapped.
    pub text: String,
    /// The texts that `text` was joined from, if they are several: with a schema, one of them may be the answer. Once that is
    /// checked, the texts that are JSON as well, to be tried where `text` does not fit a model in Python.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// What the model refused with, beside a text.
    #[serde(skip)]
    pub refusal: Option<String>,
    pub finish_reason: FinishReason,
    /// None where the server does not count.
    pub usage: Option<Usage>,
    /// The model that answered, in the server's words.
    pub model: Option<String>,
    pub id: Option<String>,
    /// The reply's body as it came.
    #[serde(skip)]
    pub raw: Bytes,
}

impl Generation {
    /// An answer of which nothing else is known.
    pub fn new(text: String, finish_reason: FinishReason) -> Self {
        Self {
            text,
            alternatives: Vec::new(),
            refusal: None,
            finish_reason,
            usage: None,
            model: None,
            id: None,
            raw: Bytes::new(),
        }
    }
}

/// Cuts `text` before the first occurrence of any stop string; whether there was one.
pub fn cut_at_stop(text: &mut String, stop: &[String]) -> bool {
    let Some(at) = stop.iter().filter_map(|stop| text.find(stop.as_str())).min() else { return false };
    text.truncate(at);
    true
}

/// The single texts of an answer, where they are several that are not blank; else none, since all of it is the text then.
pub fn alternatives(texts: Vec<String>) -> Vec<String> {
    let is_several = texts.iter().filter(|text| !text.trim().is_empty()).nth(1).is_some();
    if is_several { texts } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: Value) -> GenerationConfig {
        GenerationConfig { extra: extra.as_object().unwrap().clone(), ..Default::default() }
    }

    #[test]
    fn the_system_prompt_has_three_names_and_one_text() {
        let both = config(json!({"system": "a", "system_instruction": "a", "top_k": 3}));
        let common = both.common(Some("a")).unwrap();
        assert_eq!((common.system.as_deref(), common.rest.len()), (Some("a"), 1));
        let message = both.common(Some("b")).unwrap_err().to_string();
        assert!(message.contains("batch_options[\"system\"]") && message.contains("different"), "{message}");
        assert!(config(json!({"system": 3})).common(None).unwrap_err().to_string().contains("must be a str"));
    }

    #[test]
    fn stop_is_a_str_or_a_list_and_cuts_at_the_first() {
        assert_eq!(config(json!({"stop": "x"})).common(None).unwrap().stop, ["x"]);
        assert!(config(json!({"stop": ["x", ""]})).common(None).is_err());
        let mut text = "one two three".to_owned();
        assert!(cut_at_stop(&mut text, &["three".into(), " two".into()]));
        assert_eq!(text, "one");
        assert!(!cut_at_stop(&mut text, &["x".into()]));
    }

    #[test]
    fn a_conversation_is_checked_turn_by_turn() {
        assert!(messages(json!([{"role": "user", "content": "hi"}]), "input").is_ok());
        for (bad, place) in [
            (json!("hi"), "input must be"),
            (json!([]), "empty"),
            (json!(["a"]), "input[0]"),
            (json!([{"role": "user"}]), "no \"content\""),
            (json!([{"role": 1, "content": "a"}]), "input[0][\"role\"]"),
        ] {
            let message = messages(bad, "input").unwrap_err().to_string();
            assert!(message.contains(place), "{message}");
        }
    }
}
