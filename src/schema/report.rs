//! What a provider does not enforce, collected while a schema is compiled.

use super::{Unenforced, keywords};
use serde_json::Value;
use std::collections::HashSet;

/// A list of [`Unenforced`] without repetitions, whose paths exist in the caller's schema.
pub struct Report<'a> {
    root: &'a Value,
    seen: HashSet<(String, String)>,
    entries: Vec<Unenforced>,
}

impl<'a> Report<'a> {
    pub fn new(root: &'a Value) -> Self {
        Self { root, seen: HashSet::new(), entries: Vec::new() }
    }

    pub fn add(&mut self, path: &str, keyword: &str, reason: impl Into<String>) {
        // A node merged out of several stands nowhere in the caller's schema: name what is around it.
        let mut path = path;
        while self.root.pointer(path).is_none() {
            path = path.rsplit_once('/').map_or("", |(outer, _)| outer);
        }
        if self.seen.insert((path.to_owned(), keyword.to_owned())) {
            self.entries.push(Unenforced { path: path.to_owned(), keyword: keyword.to_owned(), reason: reason.into() });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn into_entries(self) -> Vec<Unenforced> {
        self.entries
    }
}

/// Whether dropping this keyword lets values through that the caller forbids.
pub fn asserts(keyword: &str, value: &Value) -> bool {
    const ASSERTIONS: [&str; 37] = [
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "if",
        "items",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "patternProperties",
        "prefixItems",
        "propertyNames",
        "then",
    ];
    match keyword {
        "uniqueItems" => value == &Value::Bool(true),
        "unevaluatedItems" | "unevaluatedProperties" | "required" | "properties" | "type" => true,
        "minLength" | "minItems" | "minProperties" => value.as_u64() != Some(0),
        _ => ASSERTIONS.contains(&keyword) && !keywords::is_annotation(keyword),
    }
}

/// `{key: value, ...}` after the description, so that the model at least reads what the provider does not enforce.
/// Values are JSON, spaced as Python's `json.dumps` does.
pub fn describe(description: Option<&str>, left: &[(String, Value)]) -> String {
    let hints: Vec<String> = left.iter().map(|(key, value)| format!("{key}: {}", spaced(value))).collect();
    let before = description.map(|d| format!("{d}\n\n")).unwrap_or_default();
    format!("{before}{{{}}}", hints.join(", "))
}

fn spaced(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), spaced(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
