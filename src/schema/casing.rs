//! Words of an `enum` or a `const` in another casing than the schema's. Anthropic does not promise the casing ("match
//! without case and map back", its guide to structured outputs).

use super::{keywords, refs};
use serde_json::{Map, Value};

/// Steps before giving up on an answer: unions inside unions could be tried in too many ways.
const MOST_STEPS: u32 = 100_000;
/// How deep to go: a reference may lead back to where it stands.
const MOST_DEPTH: u32 = 512;

/// Whether a schema names any words at all.
pub fn has_words(schema: &Value) -> bool {
    let mut found = false;
    refs::walk(schema, "", &mut |_, node| found |= words(node).next().is_some());
    found
}

/// Gives each word in `answer` the casing of `schema`, where that leaves no doubt; whether anything changed. What fits as it
/// stands stays as it is.
pub fn restore(answer: &mut Value, schema: &Value) -> bool {
    Restorer { root: schema, steps_left: MOST_STEPS, depth: 0 }.restore(answer, schema)
}

/// The strings that `enum` and `const` allow.
fn words(node: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let listed = node.get("enum").and_then(Value::as_array).into_iter().flatten();
    listed.chain(node.get("const")).filter_map(Value::as_str)
}

fn list<'a>(node: &'a Map<String, Value>, keyword: &str) -> impl Iterator<Item = &'a Value> {
    node.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

struct Restorer<'a> {
    root: &'a Value,
    steps_left: u32,
    depth: u32,
}

impl<'a> Restorer<'a> {
    fn target(&self, node: &Map<String, Value>) -> Option<&'a Value> {
        let reference = node.get("$ref")?.as_str()?;
        refs::resolve(self.root, reference, "").ok().map(|(_, target)| target)
    }

    /// One step deeper, within the limits; outside them, nothing is restored and nothing fits.
    fn deeper(&mut self, step: impl FnOnce(&mut Self) -> bool) -> bool {
        if self.steps_left == 0 || self.depth == MOST_DEPTH {
            return false;
        }
        self.steps_left -= 1;
        self.depth += 1;
        let result = step(self);
        self.depth -= 1;
        result
    }

    fn restore(&mut self, value: &mut Value, schema: &Value) -> bool {
        let Some(node) = schema.as_object() else { return false };
        self.deeper(|restorer| restorer.restore_node(value, node))
    }

    fn restore_node(&mut self, value: &mut Value, node: &Map<String, Value>) -> bool {
        let mut changed = match self.target(node) {
            Some(target) => self.restore(value, target),
            None => false,
        };
        for part in list(node, "allOf") {
            changed |= self.restore(value, part);
        }
        for keyword in ["anyOf", "oneOf"] {
            changed |= self.restore_in_union(value, list(node, keyword));
        }
        match value {
            Value::String(text) => changed |= restore_word(text, node),
            Value::Array(items) => {
                let prefix = list(node, "prefixItems").map(Some).chain(std::iter::repeat(None));
                for (item, own) in items.iter_mut().zip(prefix) {
                    if let Some(schema) = own.or(node.get("items")) {
                        changed |= self.restore(item, schema);
                    }
                }
            }
            Value::Object(fields) => {
                let properties = node.get("properties").and_then(Value::as_object);
                for (name, field) in fields {
                    let own = properties.and_then(|properties| properties.get(name));
                    if let Some(schema) = own.or(node.get("additionalProperties")) {
                        changed |= self.restore(field, schema);
                    }
                }
            }
            _ => {}
        }
        changed
    }

    /// In the first branch that the answer fits, as it is or else restored.
    fn restore_in_union<'s>(&mut self, value: &mut Value, branches: impl Iterator<Item = &'s Value>) -> bool {
        let branches: Vec<&Value> = branches.collect();
        if branches.iter().any(|branch| self.fits(value, branch)) {
            return false;
        }
        for branch in branches {
            let mut restored = value.clone();
            if self.restore(&mut restored, branch) && self.fits(&restored, branch) {
                *value = restored;
                return true;
            }
        }
        false
    }

    /// Whether an answer fits a branch, as far as it takes to tell the branches of a union apart.
    fn fits(&mut self, value: &Value, schema: &Value) -> bool {
        let Some(node) = schema.as_object() else { return schema != &Value::Bool(false) };
        has_type(value, node.get("type")) && self.deeper(|restorer| restorer.fits_node(value, node))
    }

    fn fits_node(&mut self, value: &Value, node: &Map<String, Value>) -> bool {
        let is_listed = node.get("enum").and_then(Value::as_array).is_none_or(|allowed| allowed.contains(value));
        let is_constant = node.get("const").is_none_or(|constant| constant == value);
        if !is_listed || !is_constant || self.target(node).is_some_and(|target| !self.fits(value, target)) {
            return false;
        }
        let any = |restorer: &mut Self, keyword| {
            node.get(keyword).is_none() || list(node, keyword).any(|branch| restorer.fits(value, branch))
        };
        if !list(node, "allOf").all(|part| self.fits(value, part)) || !any(self, "anyOf") || !any(self, "oneOf") {
            return false;
        }
        match value {
            Value::Array(items) => {
                node.get("items").is_none_or(|schema| items.iter().all(|item| self.fits(item, schema)))
            }
            Value::Object(fields) => {
                let has = |name: &Value| name.as_str().is_none_or(|name| fields.contains_key(name));
                let properties = node.get("properties").and_then(Value::as_object).into_iter().flatten();
                list(node, "required").all(has)
                    && properties
                        .filter_map(|(name, schema)| Some((fields.get(name)?, schema)))
                        .all(|(field, schema)| self.fits(field, schema))
            }
            _ => true,
        }
    }
}

fn restore_word(text: &mut String, node: &Map<String, Value>) -> bool {
    if words(node).any(|word| word == text) {
        return false;
    }
    let folded = text.to_lowercase();
    let mut alike = words(node).filter(|word| word.to_lowercase() == folded);
    match (alike.next(), alike.next()) {
        (Some(word), None) => {
            *text = word.to_owned();
            true
        }
        _ => false,
    }
}

fn has_type(value: &Value, wanted: Option<&Value>) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => keywords::has_type(value, &"integer".into()),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    match wanted {
        None => true,
        Some(Value::Array(names)) => names.iter().any(is),
        Some(name) => is(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn becomes(schema: Value, answer: Value, expected: Value) {
        let mut restored = answer.clone();
        assert_eq!(restore(&mut restored, &schema), answer != expected);
        assert_eq!(restored, expected);
    }

    #[test]
    fn words_get_the_schemas_casing() {
        let mood = json!({"enum": ["Positive", "ÉTÉ", 3]});
        becomes(mood.clone(), json!("positive"), json!("Positive"));
        becomes(mood.clone(), json!("été"), json!("ÉTÉ"));
        becomes(mood, json!("other"), json!("other"));
        becomes(json!({"const": "Yes"}), json!("YES"), json!("Yes"));
        becomes(json!({"type": "string"}), json!("YES"), json!("YES"));
    }

    #[test]
    fn doubt_changes_nothing() {
        becomes(json!({"enum": ["a", "A"]}), json!("a"), json!("a"));
        becomes(json!({"enum": ["ab", "AB"]}), json!("Ab"), json!("Ab"));
        becomes(json!({"anyOf": [{"enum": ["Low"]}, {"type": "string"}]}), json!("low"), json!("low"));
    }

    #[test]
    fn words_are_found_wherever_a_schema_can_hide_them() {
        let schema = json!({
            "$defs": {"Mood": {"enum": ["Good", "Bad"]}},
            "properties": {
                "m": {"$ref": "#/$defs/Mood"},
                "all": {"allOf": [{"$ref": "#/$defs/Mood"}]},
                "list": {"items": {"$ref": "#/$defs/Mood"}},
                "pair": {"prefixItems": [{"const": "X"}], "items": {"const": "Y"}},
                "maybe": {"anyOf": [{"$ref": "#/$defs/Mood"}, {"type": "null"}]},
            },
            "additionalProperties": {"const": "Z"},
        });
        let answer =
            json!({"m": "GOOD", "all": "bad", "list": ["good", "Bad"], "pair": ["x", "y"], "maybe": "bad", "o": "z"});
        let expected =
            json!({"m": "Good", "all": "Bad", "list": ["Good", "Bad"], "pair": ["X", "Y"], "maybe": "Bad", "o": "Z"});
        becomes(schema.clone(), answer, expected);
        becomes(schema.clone(), json!({"maybe": null}), json!({"maybe": null}));
        assert!(has_words(&schema) && !has_words(&json!({"properties": {"enum": {"type": "string"}}})));
    }

    #[test]
    fn the_branch_of_a_union_is_told_by_its_words() {
        let pet = |kind: &str, field: &str| {
            json!({"type": "object", "properties": {"kind": {"const": kind}, field: {"enum": ["A", "b"]}},
                   "required": ["kind", field]})
        };
        let schema = json!({"type": "array", "items": {"oneOf": [pet("Cat", "x"), pet("Dog", "y")]}});
        let answer = json!([{"kind": "DOG", "y": "B"}, {"kind": "cat", "x": "a"}, {"kind": "Dog", "y": "b"}]);
        let expected = json!([{"kind": "Dog", "y": "b"}, {"kind": "Cat", "x": "A"}, {"kind": "Dog", "y": "b"}]);
        becomes(schema.clone(), answer, expected);
        becomes(schema, json!([{"kind": "fish"}]), json!([{"kind": "fish"}]));
    }

    #[test]
    fn recursion_ends() {
        let schema = json!({
            "$defs": {"N": {"type": "object", "properties": {"k": {"const": "K"}, "a": {"$ref": "#/$defs/N"},
                      "u": {"anyOf": [{"$ref": "#/$defs/N"}, {"allOf": [{"$ref": "#/$defs/N"}]}]}}, "required": ["k"]}},
            "$ref": "#/$defs/N",
        });
        becomes(schema.clone(), json!({"k": "k", "a": {"k": "k"}}), json!({"k": "K", "a": {"k": "K"}}));
        let mut deep = json!({"k": "no"});
        for _ in 0..60 {
            deep = json!({"k": "no", "u": deep});
        }
        assert!(!restore(&mut deep, &schema));
        let loops = json!({"allOf": [{"$ref": "#"}]});
        assert!(!restore(&mut json!("x"), &loops));
    }
}
