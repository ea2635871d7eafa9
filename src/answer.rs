//! Structured answers: what schema is asked for, and whether what came back fits it.

use crate::candidates::candidates;
use crate::error::{Error, OutputErrorKind, Result, quote, quote_list, quote_up_to};
use crate::generation::{FinishReason, Generation};
use crate::json;
use crate::schema::{self, Compiled, Dialect, Validator};
use serde_json::Value;

/// How to find the value in an answer.
#[derive(Debug, Clone, Default)]
pub struct ReadingSchema {
    /// The answer is `{"value": ...}`, and the caller wants what is in it.
    pub wrapped: bool,
    /// The server may wrap JSON in a Markdown fence.
    pub may_be_fenced: bool,
    /// The answer is the input of a call of this tool.
    pub tool: Option<String>,
    /// The words of an `enum` may come back in another casing.
    pub any_case: bool,
}

/// A caller's schema.
pub struct AnswerSchema {
    schema: Value,
    /// Fit for every provider.
    pub name: String,
    strict: bool,
    /// It has an `enum` or a `const` of words.
    has_words: bool,
    /// Even a short answer may take long to be held against it.
    pub is_costly: bool,
    /// None where somebody else validates: Pydantic, in Python.
    validator: Option<Validator>,
}

impl AnswerSchema {
    /// `strict` asks the provider to hold the model to the schema, where it can. With `validate`, answers are checked
    /// against `schema` here.
    pub fn new(schema: Value, name: &str, strict: bool, validate: bool) -> Result<Self> {
        let validator = validate.then(|| Validator::new(&schema)).transpose()?;
        let has_words = schema::has_words(&schema);
        let is_costly = validate && schema::is_costly(&schema);
        Ok(Self { schema, name: schema::sanitize_name(name), strict, has_words, is_costly, validator })
    }

    /// The schema in a provider's dialect. The provider's own servers (`at_provider`) have limits on its size, which other
    /// servers of the same wire format have not.
    pub fn compile(&self, dialect: Dialect, at_provider: bool) -> Result<Compiled> {
        let compiled = if self.strict {
            schema::compile(&self.schema, dialect)
        } else {
            schema::compile_loosely(&self.schema, dialect)
        }?;
        match compiled.over_limit {
            Some(error) if at_provider => Err(error.into()),
            _ => Ok(compiled),
        }
    }

    /// The schema for a tool's input, which no provider narrows.
    pub fn compile_for_tool(&self) -> Result<Compiled> {
        Ok(schema::compile_loosely(&self.schema, Dialect::OpenAi)?)
    }

    /// Makes the text of `generation` the JSON text of the value that the caller wants, or says why that cannot be. Of an answer
    /// in several messages that is the first that fits; where Python decides that, the others are its alternatives.
    pub fn check(&self, generation: &mut Generation, reading: &ReadingSchema) -> Result<()> {
        let was_cut = generation.finish_reason == FinishReason::Length;
        let (mut fitting, mut unfit) = (Vec::new(), None);
        let mut no_json = None;
        // Of an answer that was cut, and came in several texts, all of it is not one of them.
        let whole = Some(generation.text.as_str()).filter(|_| !was_cut || generation.alternatives.is_empty());
        for text in candidates(whole, &generation.alternatives) {
            match self.value_in(&text, reading) {
                Ok(text) if fitting.contains(&text) => {}
                Ok(text) => fitting.push(text),
                Err(Misfit::Unfit(message)) => drop(unfit.get_or_insert(message)),
                Err(Misfit::NoJson(error)) => drop(no_json.get_or_insert(error)),
            }
            if self.validator.is_some() && !fitting.is_empty() {
                break;
            }
        }
        if fitting.is_empty() {
            return Err(misfit(generation, unfit, no_json));
        }
        generation.text = fitting.remove(0);
        (generation.alternatives, generation.refusal) = (fitting, None);
        if was_cut {
            // By nothing that matters.
            generation.finish_reason = FinishReason::Stop;
        }
        Ok(())
    }

    /// The JSON text of the value in one text of an answer.
    fn value_in(&self, said: &str, reading: &ReadingSchema) -> Result<String, Misfit> {
        let mut text = said.trim();
        if reading.may_be_fenced && text.starts_with("```") {
            text = without_fence(text).unwrap_or(text);
        }
        // A Pydantic model reads the text itself, and stricter: what was mended here must stay mended.
        let strict = json::strict(text).map_err(Misfit::NoJson)?;
        let mut text = strict.as_ref();
        if reading.wrapped {
            text = schema::unwrap_text(text).ok_or_else(|| {
                Misfit::Unfit(format!("the answer has no \"value\", in which it was asked for: {}", quote(said)))
            })?;
        }
        let mended = (reading.any_case && self.has_words).then(|| self.with_our_casing(text)).flatten();
        let text = mended.as_deref().unwrap_or(text);
        if let Some(validator) = &self.validator {
            let value = json::parse(text.as_bytes()).map_err(Misfit::NoJson)?;
            validator.validate(&value).map_err(|violations| {
                let places = violations.iter().map(|v| format!("at '{}': {}", quote_up_to(&v.path, 80), v.message));
                Misfit::Unfit(format!("the answer does not fit the schema: {}", quote_list(places, "; ")))
            })?;
        }
        Ok(text.to_owned())
    }

    /// The answer with the words of the schema as the schema writes them; None if nothing has to change.
    fn with_our_casing(&self, text: &str) -> Option<String> {
        let mut value = json::parse(text.as_bytes()).ok()?;
        schema::restore_casing(&mut value, &self.schema).then(|| value.to_string())
    }
}

/// Why a text is not the answer.
enum Misfit {
    NoJson(serde_json::Error),
    Unfit(String),
}

/// The error for an answer of which nothing fits: what is wrong with the first text that is JSON at all.
fn misfit(generation: &Generation, unfit: Option<String>, no_json: Option<serde_json::Error>) -> Error {
    let said = &generation.text;
    let (kind, message) = match (unfit, &generation.refusal) {
        (Some(message), _) => (OutputErrorKind::Invalid, message),
        (None, Some(refusal)) => {
            let message = format!("the model refused: {}", quote(refusal));
            return Error::output(OutputErrorKind::Refusal, message, Some(refusal.clone()));
        }
        (None, None) => {
            let reason = no_json.map(|error| format!(" ({error})")).unwrap_or_default();
            let message = format!("the answer is no JSON{reason}: {}", quote(said));
            match generation.finish_reason {
                FinishReason::Length => {
                    let message = format!("max_tokens was reached, and {message}; raise max_tokens");
                    (OutputErrorKind::Truncated, message)
                }
                _ => (OutputErrorKind::Invalid, message),
            }
        }
    };
    Error::output(kind, message, Some(said.clone()))
}

/// What stands inside one Markdown fence around the whole text.
fn without_fence(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("```")?.strip_suffix("```")?;
    let (language, inside) = inside.split_once('\n')?;
    language.trim().bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| inside.trim())
}

impl From<schema::SchemaError> for Error {
    fn from(error: schema::SchemaError) -> Self {
        Self::Schema { path: error.path, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(text: &str) -> Generation {
        Generation {
            text: text.into(),
            alternatives: Vec::new(),
            refusal: None,
            finish_reason: FinishReason::Stop,
            usage: None,
            model: None,
            id: None,
            raw: Default::default(),
        }
    }

    fn check(schema: Value, text: &str, wrapped: bool) -> Result<String> {
        let mut generation = said(text);
        let reading = ReadingSchema { wrapped, may_be_fenced: true, any_case: true, tool: None };
        AnswerSchema::new(schema, "x", true, true)?.check(&mut generation, &reading)?;
        Ok(generation.text)
    }

    #[test]
    fn an_answer_cut_by_max_tokens_is_truncated_unless_it_is_whole() {
        let schema = AnswerSchema::new(json!({"type": "object"}), "x", true, true).unwrap();
        let check = |text: &str| {
            let mut generation = Generation { finish_reason: FinishReason::Length, ..said(text) };
            schema.check(&mut generation, &ReadingSchema::default()).map(|()| generation.finish_reason)
        };
        assert_eq!(check("{}").unwrap(), FinishReason::Stop);
        for (text, expected) in [("{\"a", OutputErrorKind::Truncated), ("[]", OutputErrorKind::Invalid)] {
            assert!(matches!(check(text), Err(Error::Output(error)) if error.kind == expected), "{text}");
        }
    }

    #[test]
    fn an_answer_is_unfenced_unwrapped_and_validated() {
        let list = json!({"type": "array", "items": {"type": "integer"}});
        assert_eq!(check(list.clone(), "{\"value\": [1,  2]}", true).unwrap(), "[1,  2]");
        assert_eq!(check(list.clone(), "```json\n[1]\n```", false).unwrap(), "[1]");
        for (text, said) in [("[1, \"a\"]", "at '/1'"), ("[1", "no JSON"), ("", "no JSON")] {
            let message = check(list.clone(), text, false).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        let words = json!({"properties": {"w": {"enum": ["Yes"]}, "n": {}}});
        assert_eq!(check(words.clone(), r#"{"w": "YES", "n": 1.50}"#, false).unwrap(), r#"{"w":"Yes","n":1.50}"#);
        assert_eq!(check(words, r#"{"w": "Yes", "n": 1.50}"#, false).unwrap(), r#"{"w": "Yes", "n": 1.50}"#);
        assert!(check(list, "[1]", true).unwrap_err().to_string().contains("\"value\""));
    }
}
