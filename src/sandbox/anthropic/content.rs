//! The `messages` and the `system` of a request. Pure.

use serde_json::{Map, Value};

use super::Version;
use super::error::ApiError;
use super::models::Family;
use super::values::{Checked, cache_control, check_keys, choice, join, list, needed_text, object, present, tag, text};
use crate::sandbox::answer::tokens;

/// The texts of a request.
#[derive(Debug, Default)]
pub struct Texts {
    /// The last one of the user.
    pub user: String,
    pub tokens: u64,
    /// Of these, tokens of blocks marked for the cache.
    pub cached_tokens: u64,
}

impl Texts {
    fn add(&mut self, text: &str, cached: bool) {
        let tokens = tokens(text);
        self.tokens += tokens;
        self.cached_tokens += if cached { tokens } else { 0 };
    }
}

const BLOCKS: [&str; 16] = [
    "bash_code_execution_tool_result",
    "code_execution_tool_result",
    "container_upload",
    "document",
    "image",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "text",
    "text_editor_code_execution_tool_result",
    "thinking",
    "tool_result",
    "tool_search_tool_result",
    "tool_use",
    "web_fetch_tool_result",
    "web_search_tool_result",
];

/// Checks the messages and collects their texts.
pub fn check_messages(messages: &Value, family: &Family, version: Version, texts: &mut Texts) -> Checked {
    let messages = list("messages", messages)?;
    if messages.is_empty() {
        return Err(ApiError::at("messages", "at least one message is required"));
    }
    let mut last_role = "";
    for (place, message) in messages.iter().enumerate() {
        let path = format!("messages.{place}");
        let message = object(&path, message)?;
        check_keys(&path, message, &["role", "content"])?;
        let role_path = join(&path, "role");
        let role = message.get("role").ok_or_else(|| ApiError::missing(&role_path))?;
        last_role = choice(&role_path, role, &["user", "assistant", "system"])?;
        let said = check_content(&path, message, last_role, version, texts)?;
        if last_role == "user" {
            texts.user = said;
        } else if last_role == "assistant" && place + 1 == messages.len() && said.ends_with(char::is_whitespace) {
            return Err(ApiError::at("messages", "final assistant content cannot end with trailing whitespace"));
        }
    }
    if last_role == "assistant" && family.refuses_prefill {
        let message =
            "This model does not support assistant message prefill. The conversation must end with a user message.";
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

/// Whether the conversation ends with the assistant's turn, which the answer would continue.
pub fn is_prefilled(body: &Map<String, Value>) -> bool {
    let last = body.get("messages").and_then(Value::as_array).and_then(|messages| messages.last());
    last.and_then(|message| message.get("role")).is_some_and(|role| role == "assistant")
}

/// Checks the content of one message and returns its text.
fn check_content(
    path: &str,
    message: &Map<String, Value>,
    role: &str,
    version: Version,
    texts: &mut Texts,
) -> Checked<String> {
    let path = join(path, "content");
    match message.get("content") {
        None => Err(ApiError::missing(&path)),
        Some(Value::String(text)) => {
            check_text("messages", text)?;
            texts.add(text, false);
            Ok(text.clone())
        }
        Some(Value::Array(blocks)) => {
            if blocks.is_empty() && role == "user" {
                return Err(ApiError::at("messages", "user messages must have non-empty content"));
            }
            let (mut said, mut results) = (String::new(), String::new());
            for (place, block) in blocks.iter().enumerate() {
                let path = join(&path, place);
                let block = object(&path, block)?;
                let text = check_block(&path, block, role, version)?;
                texts.add(&text, block.contains_key("cache_control"));
                let into = if block.get("type").is_some_and(|kind| kind == "text") { &mut said } else { &mut results };
                into.push_str(&text);
            }
            Ok(if said.is_empty() { results } else { said })
        }
        Some(_) => Err(ApiError::at(&path, "Input should be a valid string or a list of content blocks")),
    }
}

fn check_text(path: &str, text: &str) -> Checked {
    if text.is_empty() {
        return Err(ApiError::at(path, "text content blocks must be non-empty"));
    }
    if text.trim().is_empty() {
        return Err(ApiError::at(path, "text content blocks must contain non-whitespace text"));
    }
    Ok(())
}

/// Checks one block of a message and returns its text, which may be empty.
fn check_block(path: &str, block: &Map<String, Value>, role: &str, version: Version) -> Checked<String> {
    let kind = tag(path, block, &BLOCKS)?;
    cache_control(path, block)?;
    let keys: &[&str] = match kind {
        "text" => &["type", "text", "cache_control", "citations"],
        "thinking" => &["type", "thinking", "signature"],
        "redacted_thinking" => &["type", "data"],
        "tool_use" => &["type", "id", "name", "input", "cache_control", "caller", "toolset_name"],
        "tool_result" => &["type", "tool_use_id", "content", "is_error", "cache_control"],
        "image" => &["type", "source", "cache_control", "transformations"],
        "document" => &["type", "source", "title", "context", "citations", "cache_control"],
        // Blocks of server tools: read by the provider, of no matter for an echo.
        _ => return Ok(String::new()),
    };
    check_keys(path, block, keys)?;
    let needed = |key: &str| block.get(key).ok_or_else(|| ApiError::missing(&join(path, key)));
    match kind {
        "text" => {
            let text = needed_text(path, block, "text")?;
            check_text("messages", text)?;
            let cites = block.get("citations").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
            if cites && role == "user" && version == Version::October2026 {
                return Err(ApiError::extra(&join(path, "citations")));
            }
            Ok(text.to_owned())
        }
        "thinking" => {
            needed_text(path, block, "signature")?;
            needed_text(path, block, "thinking").map(|_| String::new())
        }
        "redacted_thinking" => needed_text(path, block, "data").map(|_| String::new()),
        "tool_use" => {
            needed_text(path, block, "id")?;
            needed_text(path, block, "name")?;
            object(&join(path, "input"), needed("input")?).map(|_| String::new())
        }
        "tool_result" => {
            needed_text(path, block, "tool_use_id")?;
            tool_result(path, block, role, version)
        }
        "document" if role == "assistant" && version == Version::October2026 => {
            Err(ApiError::at(path, "document blocks are not permitted in assistant messages"))
        }
        _ => object(&join(path, "source"), needed("source")?).map(|_| String::new()),
    }
}

fn tool_result(path: &str, block: &Map<String, Value>, role: &str, version: Version) -> Checked<String> {
    match present(block, "content") {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(content) => {
            let path = join(path, "content");
            let mut said = String::new();
            for (place, inner) in list(&path, content)?.iter().enumerate() {
                let path = join(&path, place);
                let inner = object(&path, inner)?;
                tag(&path, inner, &["text", "image", "document", "search_result", "tool_reference"])?;
                if inner.get("type").is_some_and(|kind| kind != "tool_reference") {
                    said.push_str(&check_block(&path, inner, role, version)?);
                }
            }
            Ok(said)
        }
    }
}

/// Checks the `system` of a request: a text, or blocks of text.
pub fn check_system(system: &Value, texts: &mut Texts) -> Checked {
    if let Value::String(text) = system {
        if !text.is_empty() {
            texts.add(text, false);
        }
        return Ok(());
    }
    let Value::Array(blocks) = system else {
        return Err(ApiError::at("system", "Input should be a valid string or a list of text blocks"));
    };
    for (place, block) in blocks.iter().enumerate() {
        let path = format!("system.{place}");
        let block = object(&path, block)?;
        tag(&path, block, &["text"])?;
        check_keys(&path, block, &["type", "text", "cache_control", "citations"])?;
        cache_control(&path, block)?;
        let said =
            text(&join(&path, "text"), block.get("text").ok_or_else(|| ApiError::missing(&join(&path, "text")))?)?;
        check_text("system", said)?;
        texts.add(said, block.contains_key("cache_control"));
    }
    Ok(())
}
