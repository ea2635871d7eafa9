//! The texts that a conversation sends, each held against what the provider refuses as a prompt.

use crate::error::Result;
use crate::generation::{content_text, is_system};
use serde_json::Value;

/// Holds every text that the conversation found at `place` sends against `check`, as if it were a prompt. What has no text of its
/// own sends none: an image, a tool's result, a signature beside an empty text. An empty system turn counts as none.
pub fn check_texts(turns: &[Value], place: impl Fn() -> String, check: impl Fn(&str) -> Result<()>) -> Result<()> {
    for (i, turn) in turns.iter().enumerate() {
        let check_at = |text: &str, inner: &dyn Fn() -> String| {
            check(text).map_err(|error| error.about(&format!("{}[{i}][\"content\"]{}", place(), inner())))
        };
        match &turn["content"] {
            content if is_system(turn) => {
                let text = content_text(content);
                if !text.is_empty() {
                    check_at(&text, &String::new)?;
                }
            }
            Value::Array(parts) => {
                for (j, part) in parts.iter().enumerate() {
                    if let Value::String(text) = part {
                        check_at(text, &|| format!("[{j}]"))?;
                    } else if let Some(text) = part_text(part) {
                        check_at(text, &|| format!("[{j}][\"text\"]"))?;
                    }
                }
            }
            content => content.as_str().map_or(Ok(()), |text| check_at(text, &String::new))?,
        }
    }
    Ok(())
}

/// The text of a part that is nothing but text: with a type, or (Gemini's form) with no other field.
fn part_text(part: &Value) -> Option<&str> {
    let fields = part.as_object()?;
    fields.get("text")?.as_str().filter(|_| fields.contains_key("type") || fields.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use serde_json::json;

    #[test]
    fn every_text_of_a_conversation_is_checked_and_nothing_else() {
        let refuse_blank = |text: &str| match text.trim().is_empty() {
            true => Err(Error::configuration("is blank")),
            false => Ok(()),
        };
        let check = |content: Value| {
            let turns = [json!({"role": "user", "content": "hi"}), json!({"role": "assistant", "content": content})];
            check_texts(&turns, || "inputs[3]".into(), refuse_blank).map_err(|error| error.to_string())
        };
        let blank = |inner: &str| Err(format!("inputs[3][1][\"content\"]{inner} is blank"));
        assert_eq!(check(json!(" ")), blank(""));
        assert_eq!(
            check(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "\n"}])),
            blank("[1][\"text\"]")
        );
        assert_eq!(check(json!([{"text": ""}])), blank("[0][\"text\"]"));
        assert_eq!(check(json!(["a", ""])), blank("[1]"));
        for without_text in [
            json!([{"type": "tool_result", "tool_use_id": "t", "content": ""}]),
            json!([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            json!([{"type": "image", "source": {}}, {"inlineData": {}}, {"functionCall": {"name": "f"}}]),
            json!([{"text": "", "thoughtSignature": "QQ=="}]),
            json!([{"text": null}, 7]),
        ] {
            assert_eq!(check(without_text.clone()), Ok(()), "{without_text}");
        }
        let system = |content: Value| {
            let turns = [json!({"role": "system", "content": content})];
            check_texts(&turns, || "input".into(), refuse_blank).map_err(|error| error.to_string())
        };
        assert_eq!((system(json!("")), system(json!([{"text": ""}]))), (Ok(()), Ok(())));
        assert_eq!(system(json!("\t")), Err("input[0][\"content\"] is blank".into()));
    }
}
