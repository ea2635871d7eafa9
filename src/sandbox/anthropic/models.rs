//! What differs between the models, from Anthropic's pages on models and thinking; and the model list. Pure.

use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Answer, limit};
use crate::sandbox::http::{self, query};

/// What a family of models takes and refuses.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// How its ids begin.
    prefix: &'static str,
    /// Neither temperature, top_p nor top_k.
    pub refuses_sampling: bool,
    /// Not temperature and top_p at once.
    pub one_of_both: bool,
    /// Types of `thinking` that it refuses.
    pub refused_thinking: &'static [&'static str],
    pub thinks_by_default: bool,
    /// Efforts at which thinking cannot be turned off.
    pub must_think_at: &'static [&'static str],
    pub refuses_forced_tools: bool,
    pub refuses_prefill: bool,
    /// Thinking is not shown unless asked for.
    pub omits_thinking: bool,
    pub max_tokens: u64,
}

/// A model that the table does not know, and so may do anything.
const ANY: Family = Family {
    prefix: "",
    refuses_sampling: false,
    one_of_both: false,
    refused_thinking: &[],
    thinks_by_default: false,
    must_think_at: &[],
    refuses_forced_tools: false,
    refuses_prefill: false,
    omits_thinking: false,
    max_tokens: u64::MAX,
};
const NEWEST: Family = Family {
    refuses_sampling: true,
    thinks_by_default: true,
    refused_thinking: &["enabled"],
    refuses_prefill: true,
    omits_thinking: true,
    max_tokens: 128_000,
    ..ANY
};
const ALWAYS_THINKS: &[&str] = &["enabled", "disabled"];
const FOUR_5: Family = Family { one_of_both: true, refused_thinking: &["adaptive"], max_tokens: 64_000, ..ANY };
const FOUR_6: Family = Family { one_of_both: true, refuses_prefill: true, max_tokens: 128_000, ..ANY };
const FOUR_7: Family = Family { thinks_by_default: false, ..NEWEST };

/// The first that fits counts: longer names stand before shorter ones.
const FAMILIES: [Family; 18] = [
    Family { prefix: "claude-opus-5-5", refused_thinking: ALWAYS_THINKS, refuses_forced_tools: true, ..NEWEST },
    Family { prefix: "claude-fable-5-1", refused_thinking: ALWAYS_THINKS, refuses_forced_tools: true, ..NEWEST },
    Family { prefix: "claude-fable-5", refused_thinking: ALWAYS_THINKS, ..NEWEST },
    Family { prefix: "claude-mythos-preview", refused_thinking: &["disabled"], refuses_forced_tools: true, ..NEWEST },
    Family { prefix: "claude-mythos-5", refused_thinking: ALWAYS_THINKS, ..NEWEST },
    Family { prefix: "claude-sonnet-5-5", refused_thinking: ALWAYS_THINKS, ..NEWEST },
    Family { prefix: "claude-haiku-5-5", must_think_at: &["xhigh", "max"], ..NEWEST },
    Family { prefix: "claude-opus-5", must_think_at: &["xhigh", "max"], ..NEWEST },
    Family { prefix: "claude-sonnet-5", ..NEWEST },
    Family { prefix: "claude-opus-4-8", ..FOUR_7 },
    Family { prefix: "claude-opus-4-7", ..FOUR_7 },
    Family { prefix: "claude-opus-4-6", ..FOUR_6 },
    Family { prefix: "claude-sonnet-4-6", ..FOUR_6 },
    Family { prefix: "claude-opus-4-5", ..FOUR_5 },
    Family { prefix: "claude-sonnet-4-5", ..FOUR_5 },
    Family { prefix: "claude-haiku-4-5", ..FOUR_5 },
    Family { prefix: "claude-opus-4-1", max_tokens: 32_000, ..FOUR_5 },
    ANY,
];

/// The family of a model.
pub fn family(model: &str) -> Family {
    FAMILIES.into_iter().find(|family| model.starts_with(family.prefix)).unwrap_or(ANY)
}

/// The models listed: id and name, newest first.
const MODELS: [(&str, &str, &str); 8] = [
    ("claude-opus-5-5", "Claude Opus 5.5", "opus"),
    ("claude-haiku-5-5", "Claude Haiku 5.5", "haiku"),
    ("claude-sonnet-5", "Claude Sonnet 5", "sonnet"),
    ("claude-opus-5", "Claude Opus 5", "opus"),
    ("claude-opus-4-7", "Claude Opus 4.7", "opus"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "haiku"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "sonnet"),
];

pub fn list(parts: &Parts) -> Answer {
    let limit = limit(parts)?;
    let place = |id: &str| {
        let found = MODELS.iter().position(|(known, ..)| *known == id);
        found.ok_or_else(|| ApiError::not_found(format!("model: {id}")))
    };
    let (mut from, mut to) = (0, MODELS.len());
    let mut has_more = false;
    if let Some(id) = query(parts, "before_id") {
        to = place(&id)?;
        from = to.saturating_sub(limit);
        has_more = from > 0;
    } else {
        if let Some(id) = query(parts, "after_id") {
            from = place(&id)? + 1;
        }
        if from + limit < to {
            to = from + limit;
            has_more = true;
        }
    }
    let data = MODELS[from..to].iter().map(|(id, name, line)| object(id, name, line)).collect();
    Ok(http::json(hyper::StatusCode::OK, &super::list_page(data, has_more)))
}

pub fn retrieve(id: &str) -> Answer {
    let found = MODELS.iter().find(|(known, ..)| *known == id);
    let (id, name, line) = found.ok_or_else(|| ApiError::not_found(format!("model: {id}")))?;
    Ok(http::json(hyper::StatusCode::OK, &object(id, name, line)))
}

fn object(id: &str, name: &str, line: &str) -> Value {
    let family = family(id);
    let can = |supported: bool| json!({"supported": supported});
    let thinking = |kind: &str| can(!family.refused_thinking.contains(&kind));
    json!({
        "type": "model",
        "id": id,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": null,
        "retires_at": null,
        "line": line,
        "max_input_tokens": 200_000,
        "max_tokens": family.max_tokens,
        "capabilities": {
            "batch": can(true),
            "citations": can(true),
            "code_execution": can(true),
            "context_management": {
                "supported": true,
                "clear_thinking_20251015": can(true),
                "clear_tool_uses_20250919": can(true),
                "compact_20260112": can(true),
            },
            "effort": {
                "supported": true,
                "low": can(true), "medium": can(true), "high": can(true), "xhigh": can(true), "max": can(true),
            },
            "image_input": can(true),
            "pdf_input": can(true),
            "server_tools": {"supported": true, "code_execution": can(true), "web_search": can(true)},
            "structured_outputs": can(true),
            "thinking": {
                "supported": true,
                "types": {
                    "adaptive": thinking("adaptive"),
                    "between_tools": can(true),
                    "disabled": thinking("disabled"),
                    "enabled": thinking("enabled"),
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts() {
        assert!(family("claude-opus-5-5").refuses_forced_tools);
        assert!(!family("claude-opus-5").refuses_forced_tools);
        assert!(family("claude-opus-4-7-20260101").refuses_sampling);
        assert_eq!(family("claude-haiku-4-5").max_tokens, 64_000);
        assert_eq!(family("claude-3-5-sonnet-latest").max_tokens, u64::MAX);
    }
}
