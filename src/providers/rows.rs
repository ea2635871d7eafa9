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
        Ok(row) => row.custom_id.into_owned(),
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
    match serde_json::from_slice::<Row>(line) {
        Ok(row) => Some(row.key.into_owned()),
        Err(_) => {
            let row = json::parse(line).ok()?;
            as_text(&row["key"]).or_else(|| as_text(&row["metadata"]["key"]))
        }
    }
}

/// An id is a text; a server that writes a number means its digits.
fn as_text(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}
