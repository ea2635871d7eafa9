//! Ids of rows, found without reading the rest of the row.

use super::RowId;
use crate::json;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// The `custom_id` of a row, as OpenAI and Anthropic write it.
pub fn custom_id(line: &[u8]) -> Option<RowId> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        custom_id: Cow<'a, str>,
    }
    let name = match serde_json::from_slice::<Row>(line) {
        Ok(row) => non_blank(row.custom_id.into_owned())?,
        Err(_) => as_text(&json::parse(line).ok()?["custom_id"])?,
    };
    Some(RowId { index: None, name })
}

/// The `key` of a row, or of its `metadata`, as Gemini writes it.
pub fn key(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        key: Cow<'a, str>,
    }
    let key = serde_json::from_slice::<Row>(line).ok().and_then(|row| non_blank(row.key.into_owned()));
    key.or_else(|| {
        let row = json::parse(line).ok()?;
        as_text(&row["key"]).or_else(|| as_text(&row["metadata"]["key"]))
    })
}

/// An id is a text; a server that writes a number means its digits.
fn as_text(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => non_blank(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// No row is sent with a blank id: a server that writes one has lost it.
fn non_blank(id: String) -> Option<String> {
    Some(id).filter(|id| !id.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_text_or_a_number_and_a_blank_one_is_none() {
        let id = |line: &str| custom_id(line.as_bytes()).map(|id| id.name);
        assert_eq!(id(r#"{"custom_id": "a"}"#).as_deref(), Some("a"));
        assert_eq!(id(r#"{"custom_id": 30}"#).as_deref(), Some("30"));
        for none in ["", " ", "\t"].map(|id| format!(r#"{{"custom_id": "{id}"}}"#)) {
            assert_eq!(id(&none), None, "{none}");
        }
        for none in [r#"{"custom_id": null}"#, r#"{"custom_id": ["a"]}"#, r#"{"custom_id": {}}"#, "{}", "[]", "3", "{"]
        {
            assert_eq!(id(none), None, "{none}");
        }
    }

    #[test]
    fn a_key_stands_in_the_row_or_in_its_metadata() {
        let key = |line: &str| key(line.as_bytes());
        for (line, expected) in [
            (r#"{"key": "a"}"#, Some("a")),
            (r#"{"metadata": {"key": "a"}}"#, Some("a")),
            (r#"{"key": null, "metadata": {"key": "a"}}"#, Some("a")),
            (r#"{"key": "", "metadata": {"key": 7}}"#, Some("7")),
            (r#"{"key": "", "metadata": {"key": ""}}"#, None),
            (r#"{"metadata": null}"#, None),
            (r#"{"metadata": {"key": null}}"#, None),
            (r#"{"metadata": "a"}"#, None),
        ] {
            assert_eq!(key(line).as_deref(), expected, "{line}");
        }
    }
}
