//! proto3 JSON as Google's servers read it: names in either spelling, a name that no field has refused, values of the field's
//! type only. Pure. What is read comes out with camelCase names.

use serde_json::{Map, Value, json};

use super::error::ApiError;

/// The type of a field.
#[derive(Debug)]
pub enum Kind {
    Text,
    Flag,
    Float,
    Int32,
    Int64,
    /// The name of the enum, and its values.
    Enum(&'static str, &'static [&'static str]),
    Message(&'static Message),
    List(&'static Kind),
    /// Keys are the client's own.
    Map(&'static Kind),
    /// JSON of any form, or a message that is of no matter for an echo.
    Any,
}

/// The fields of a message by their camelCase names.
#[derive(Debug)]
pub struct Message(pub &'static [(&'static str, Kind)]);

/// Which spelling of a name is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// camelCase and snake_case.
    Both,
    /// As the parser of batch files does.
    Snake,
}

/// Something that does not fit the message.
#[derive(Debug)]
pub struct Violation {
    /// snake_case path of the message or value.
    field: String,
    /// The name that is no field there.
    unknown: Option<String>,
    description: String,
}

/// Reads a message; the error lists all that does not fit.
pub fn read(message: &Message, value: Value, names: Names) -> Result<Map<String, Value>, Vec<Violation>> {
    let mut reader = Reader { names, violations: Vec::new() };
    let read = reader.message(message, value, "");
    if reader.violations.is_empty() { Ok(read) } else { Err(reader.violations) }
}

/// The 400 of a request body.
pub fn refused(violations: &[Violation]) -> ApiError {
    let messages: Vec<&str> = violations.iter().map(|violation| violation.description.as_str()).collect();
    let listed: Vec<Value> = violations
        .iter()
        .map(|Violation { field, description, .. }| match field.as_str() {
            "" => json!({"description": description}),
            field => json!({"field": field, "description": description}),
        })
        .collect();
    ApiError::invalid(messages.join("\n")).with("BadRequest", json!({"fieldViolations": listed}))
}

/// What the parser of batch files says of a line.
pub fn refused_line(number: usize, violations: &[Violation]) -> String {
    let what = match violations.first() {
        Some(Violation { unknown: Some(name), .. }) => format!("no such field: '{name}'"),
        Some(violation) => violation.description.clone(),
        None => "not a JSON object".to_owned(),
    };
    format!("Error on line {number}: invalid JSON, {what}")
}

/// `maxOutputTokens` as `max_output_tokens`.
pub fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

struct Reader {
    names: Names,
    violations: Vec<Violation>,
}

impl Reader {
    fn message(&mut self, message: &Message, value: Value, path: &str) -> Map<String, Value> {
        let mut out = Map::new();
        let Value::Object(given) = value else {
            self.wrong(path, "a message", &value);
            return out;
        };
        for (name, value) in given {
            let Some((camel, kind)) = message.0.iter().find(|(camel, _)| self.is_called(camel, &name)) else {
                self.unknown(path, &name);
                continue;
            };
            // In proto3 JSON null stands for absent.
            if value.is_null() && !matches!(kind, Kind::Any) {
                continue;
            }
            let field = snake(camel);
            let path = if path.is_empty() { field } else { format!("{path}.{field}") };
            let value = self.value(kind, value, &path);
            out.insert((*camel).to_owned(), value);
        }
        out
    }

    fn is_called(&self, camel: &str, name: &str) -> bool {
        (self.names == Names::Both && camel == name) || is_snake_of(camel, name)
    }

    fn value(&mut self, kind: &Kind, value: Value, path: &str) -> Value {
        match kind {
            Kind::Any => value,
            Kind::Message(message) => Value::Object(self.message(message, value, path)),
            Kind::List(kind) => match value {
                Value::Array(items) => {
                    let item = |(place, item)| self.value(kind, item, &format!("{path}[{place}]"));
                    items.into_iter().enumerate().map(item).collect()
                }
                other => self.wrong(path, "a list", &other),
            },
            Kind::Map(kind) => match value {
                Value::Object(items) => {
                    let item = |(key, item)| {
                        let path = format!("{path}[{key}]");
                        (key, self.value(kind, item, &path))
                    };
                    Value::Object(items.into_iter().map(item).collect())
                }
                other => self.wrong(path, "a map", &other),
            },
            scalar => match convert(scalar, &value) {
                Some(value) => value,
                None if value.is_array() => {
                    let description = format!(
                        "Invalid JSON payload received. Unknown name \"{}\" at '{path}': Proto field is not repeating, cannot start list.",
                        path.rsplit('.').next().unwrap_or(path)
                    );
                    self.violations.push(Violation { field: path.to_owned(), unknown: None, description });
                    Value::Null
                }
                None => self.wrong(path, &type_name(scalar), &value),
            },
        }
    }

    fn wrong(&mut self, path: &str, expected: &str, value: &Value) -> Value {
        let at = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
        let description = format!("Invalid value{at} ({expected}), {value}");
        self.violations.push(Violation { field: path.to_owned(), unknown: None, description });
        Value::Null
    }

    fn unknown(&mut self, path: &str, name: &str) {
        let at = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
        let description = format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: Cannot find field.");
        self.violations.push(Violation { field: path.to_owned(), unknown: Some(name.to_owned()), description });
    }
}

/// Whether `name` is the snake_case of `camel`; without making it, since every name of every row passes here.
fn is_snake_of(camel: &str, name: &str) -> bool {
    let mut name = name.bytes();
    let mut matches = |wanted: u8| name.next() == Some(wanted);
    let same = camel.bytes().all(|letter| match letter {
        b'A'..=b'Z' => matches(b'_') && matches(letter.to_ascii_lowercase()),
        letter => matches(letter),
    });
    same && name.next().is_none()
}

/// A scalar in its JSON form; `None` if it is not of the type. Numbers may come as strings.
fn convert(kind: &Kind, value: &Value) -> Option<Value> {
    match (kind, value) {
        (Kind::Text, Value::String(_)) | (Kind::Flag, Value::Bool(_)) | (Kind::Float, Value::Number(_)) => {
            Some(value.clone())
        }
        (Kind::Float, Value::String(text)) => {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        (Kind::Int64, _) => integer(value).map(Value::from),
        (Kind::Int32, _) => integer(value).and_then(|number| i32::try_from(number).ok()).map(Value::from),
        (Kind::Enum(_, names), Value::String(text)) => {
            names.iter().find(|name| name.eq_ignore_ascii_case(text)).map(|name| json!(name))
        }
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
            Some(number as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Text => "TYPE_STRING".into(),
        Kind::Flag => "TYPE_BOOL".into(),
        Kind::Float => "TYPE_FLOAT".into(),
        Kind::Int32 => "TYPE_INT32".into(),
        Kind::Int64 => "TYPE_INT64".into(),
        Kind::Enum(name, _) => format!("type.googleapis.com/google.ai.generativelanguage.v1main.{name}"),
        Kind::Message(_) | Kind::List(_) | Kind::Map(_) | Kind::Any => "a message".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::GENERATE_CONTENT_REQUEST;
    use super::*;

    fn refuse(value: Value, names: Names) -> String {
        refused(&read(&GENERATE_CONTENT_REQUEST, value, names).unwrap_err()).message
    }

    #[test]
    fn reads_both_spellings() {
        let mixed = json!({"contents": [{"parts": [{"text": "x"}]}], "generation_config": {
            "thinkingConfig": {"thinking_budget": "0"}, "topP": 0.5, "response_json_schema": {"snake_case": 1}, "seed": null}});
        let expected = json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {
            "thinkingConfig": {"thinkingBudget": 0}, "topP": 0.5, "responseJsonSchema": {"snake_case": 1}}});
        assert_eq!(Value::Object(read(&GENERATE_CONTENT_REQUEST, mixed, Names::Both).unwrap()), expected);
        assert!(
            refuse(json!({"generationConfig": {}}), Names::Snake).contains("\"generationConfig\": Cannot find field")
        );
    }

    #[test]
    fn words_of_refusal() {
        let refuse = |config: Value| refuse(json!({"generationConfig": config}), Names::Both);
        assert_eq!(
            refuse(json!({"max_tokens": 5})),
            "Invalid JSON payload received. Unknown name \"max_tokens\" at 'generation_config': Cannot find field."
        );
        assert_eq!(
            refuse(json!({"seed": 3_000_000_000_u32})),
            "Invalid value at 'generation_config.seed' (TYPE_INT32), 3000000000"
        );
        assert!(
            refuse(json!({"responseSchema": {"additionalProperties": false}}))
                .contains("'generation_config.response_schema'")
        );
        assert!(refuse(json!({"responseSchema": {"type": ["string", "null"]}})).contains("not repeating"));
    }
}
