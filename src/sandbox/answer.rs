//! What the sandbox's model says: an echo, or a value that fits a schema and whose free strings echo the prompt. Pure.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::dice::{Dice, hash};
use super::scalar;

/// Tokens of a text: one for four characters, and one for what is left.
pub fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4).max(1)
}

/// The first `limit` characters.
pub fn first_chars(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).map_or(text, |(at, _)| &text[..at])
}

/// From this depth on lists get their least length and alternatives the branch that ends soonest.
const SHALLOW: u32 = 4;

/// A schema that demands endless depth ends here, with null.
const DEPTH_LIMIT: u32 = 64;

/// And so does one that demands a value of endless size.
const SIZE_LIMIT: u32 = 50_000;
const ENDLESS: u32 = u32::MAX;

/// Makes values that fit one schema.
#[derive(Debug)]
pub struct Sampler {
    schema: Value,
    /// The least depth of a value behind each `$ref`.
    heights: HashMap<String, u32>,
}

impl Sampler {
    pub fn new(schema: Value) -> Sampler {
        let mut heights = HashMap::new();
        collect_refs(&schema, &mut heights);
        let mut sampler = Sampler { schema, heights };
        // Each round settles at least the definitions that rest on settled ones.
        for _ in 0..=sampler.heights.len() {
            let settled: HashMap<String, u32> = sampler
                .heights
                .keys()
                .map(|name| (name.clone(), sampler.resolve(name).map_or(0, |node| sampler.height(node))))
                .collect();
            if settled == sampler.heights {
                break;
            }
            sampler.heights = settled;
        }
        sampler
    }

    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// A value that fits the schema; the same prompt gives the same value.
    pub fn sample(&self, prompt: &str) -> Value {
        let mut dice = Dice::new(hash(prompt));
        self.value(&self.schema, prompt, &mut dice, 0)
    }

    fn resolve(&self, reference: &str) -> Option<&Value> {
        self.schema.pointer(reference.strip_prefix('#')?)
    }

    /// The least depth of a value that fits `node`.
    fn height(&self, node: &Value) -> u32 {
        if let Some(name) = node.get("$ref").and_then(Value::as_str) {
            return self.heights.get(name).copied().unwrap_or(0);
        }
        if node.get("const").is_some() || node.get("enum").is_some() {
            return 0;
        }
        if let Some(branches) = alternatives(node) {
            return branches.iter().map(|branch| self.height(branch)).min().unwrap_or(0);
        }
        let below = |height: u32| height.saturating_add(1);
        let least_items = node.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if types(node).contains(&"null") {
            return 0;
        }
        if types(node).contains(&"array") {
            return node.get("items").filter(|_| least_items > 0).map_or(0, |items| below(self.height(items)));
        }
        let Some(properties) = node.get("properties").and_then(Value::as_object) else {
            return 0;
        };
        let needed = properties.iter().filter(|(name, _)| is_required(node, name));
        needed.map(|(_, property)| below(self.height(property))).max().unwrap_or(0)
    }

    fn value(&self, node: &Value, prompt: &str, dice: &mut Dice, depth: u32) -> Value {
        if depth > DEPTH_LIMIT || dice.step() > SIZE_LIMIT {
            return Value::Null;
        }
        if let Some(target) = node.get("$ref").and_then(Value::as_str).and_then(|name| self.resolve(name)) {
            return self.value(target, prompt, dice, depth + 1);
        }
        if let Some(constant) = node.get("const") {
            return constant.clone();
        }
        if let Some(values) = node.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty()) {
            return values[dice.below(values.len())].clone();
        }
        if let Some(branches) = alternatives(node) {
            return self.value(self.branch(branches, dice, depth), prompt, dice, depth);
        }
        if let Some(parts) = node.get("allOf").and_then(Value::as_array) {
            return self.value(&self.merged(node, parts), prompt, dice, depth + 1);
        }
        match kind(node, dice, depth) {
            "object" => self.object(node, prompt, dice, depth),
            "array" => self.array(node, prompt, dice, depth),
            "integer" => scalar::integer(node, dice),
            "number" => scalar::number(node, dice),
            "boolean" => Value::Bool(dice.below(2) == 1),
            "null" => Value::Null,
            _ => Value::String(scalar::string(node, prompt, dice)),
        }
    }

    fn branch<'a>(&self, branches: &'a [Value], dice: &mut Dice, depth: u32) -> &'a Value {
        let heights: Vec<u32> = branches.iter().map(|branch| self.height(branch)).collect();
        let lowest = heights.iter().min().copied().unwrap_or(0);
        let fits = |height: u32| {
            if depth < SHALLOW { height < ENDLESS || lowest == ENDLESS } else { height == lowest }
        };
        let open: Vec<&Value> =
            branches.iter().zip(heights).filter(|(_, height)| fits(*height)).map(|(node, _)| node).collect();
        open[dice.below(open.len())]
    }

    /// The parts of an `allOf` laid over each other: enough for schemas that split an object in several.
    fn merged(&self, node: &Value, parts: &[Value]) -> Value {
        let mut merged = node.clone();
        let Some(target) = merged.as_object_mut() else {
            return merged;
        };
        target.remove("allOf");
        for part in parts {
            let named = part.get("$ref").and_then(Value::as_str).and_then(|name| self.resolve(name));
            for (key, value) in named.unwrap_or(part).as_object().into_iter().flatten() {
                match (target.get_mut(key), value) {
                    (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
                    (Some(Value::Array(old)), Value::Array(new)) if key == "required" => {
                        old.extend(new.iter().cloned())
                    }
                    _ => drop(target.insert(key.clone(), value.clone())),
                }
            }
        }
        merged
    }

    fn object(&self, node: &Value, prompt: &str, dice: &mut Dice, depth: u32) -> Value {
        let mut out = Map::new();
        for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if is_required(node, name) || depth < SHALLOW {
                out.insert(name.clone(), self.value(property, prompt, dice, depth + 1));
            }
        }
        if let Some(free) = node.get("additionalProperties").filter(|free| free.is_object()) {
            let least = node.get("minProperties").and_then(Value::as_u64).unwrap_or(u64::from(depth < SHALLOW));
            for number in (1..).take(least.min(100) as usize) {
                out.insert(format!("key{number}"), self.value(free, prompt, dice, depth + 1));
            }
        }
        Value::Object(out)
    }

    fn array(&self, node: &Value, prompt: &str, dice: &mut Dice, depth: u32) -> Value {
        let bound = |key: &str| node.get(key).and_then(Value::as_u64);
        let least = bound("minItems").unwrap_or(0);
        let wanted = if depth < SHALLOW { least.max(1 + dice.below(2) as u64) } else { least };
        let length = wanted.min(bound("maxItems").unwrap_or(u64::MAX)).min(10_000);
        let prefix = node.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let rest = node.get("items").unwrap_or(&Value::Bool(true));
        let length = (length as usize).max(prefix.len());
        let items = (0..length).take_while(|place| *place < prefix.len() || rest != &Value::Bool(false));
        items.map(|place| self.value(prefix.get(place).unwrap_or(rest), prompt, dice, depth + 1)).collect()
    }
}

fn collect_refs(node: &Value, found: &mut HashMap<String, u32>) {
    match node {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                found.insert(name.to_owned(), ENDLESS);
            }
            map.values().for_each(|value| collect_refs(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_refs(value, found)),
        _ => {}
    }
}

fn alternatives(node: &Value) -> Option<&[Value]> {
    let list = node.get("anyOf").or_else(|| node.get("oneOf"))?.as_array()?;
    (!list.is_empty()).then_some(list)
}

fn is_required(node: &Value, name: &str) -> bool {
    let required = node.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|known| known == name))
}

fn types(node: &Value) -> Vec<&str> {
    match node.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn kind<'a>(node: &'a Value, dice: &mut Dice, depth: u32) -> &'a str {
    let kinds = types(node);
    match kinds.as_slice() {
        [] if node.get("properties").is_some() => "object",
        [] if node.get("items").is_some() => "array",
        [] => "string",
        [kind] => kind,
        several if depth >= SHALLOW && several.contains(&"null") => "null",
        several => several[dice.below(several.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_fit() {
        let schemas = [
            json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 30}, "b": {"type": "string", "maxLength": 3}},
                   "required": ["a", "b"], "additionalProperties": false}),
            json!({"type": "integer", "exclusiveMinimum": 3, "maximum": 12, "multipleOf": 4}),
            json!({"type": "integer", "minimum": -9_223_372_036_854_775_808_i64, "maximum": u64::MAX}),
            json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001}),
            json!({"type": "number", "minimum": 0.05, "maximum": 1, "multipleOf": 0.1}),
            json!({"type": ["string", "null"], "pattern": "^x{2,}$"}),
            json!({"type": "array", "items": {"enum": [1, "two", null]}, "minItems": 5, "maxItems": 5}),
            json!({"anyOf": [{"const": 7}, {"type": "boolean"}, {"type": "string", "format": "uuid"}]}),
            json!({"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}], "type": "object",
                   "$defs": {"A": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}}),
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3}),
            json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false}),
            json!({"$ref": "#/$defs/Tree", "$defs": {"Tree": {"type": "object", "required": ["v", "kids", "next"],
                   "properties": {"v": {"type": "string", "format": "date"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                                  "next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}}}}}),
        ];
        for schema in schemas {
            let validator = jsonschema::validator_for(&schema).unwrap();
            let sampler = Sampler::new(schema.clone());
            for number in 0..100 {
                let value = sampler.sample(&format!("Prompt {number}"));
                assert!(validator.is_valid(&value), "{schema}: {value}");
            }
        }
    }

    #[test]
    fn the_same_prompt_gives_the_same_value_and_echoes() {
        let sampler =
            Sampler::new(json!({"type": "object", "properties": {"t": {"type": "string"}, "n": {"type": "integer"}}}));
        assert_eq!(sampler.sample("Hé"), sampler.sample("Hé"));
        assert_eq!(sampler.sample("Hé")["t"], "Hé");
    }

    #[test]
    fn endless_schemas_end() {
        let endless = json!({"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]});
        assert!(Sampler::new(endless).sample("x").is_object());
        let twice = json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]});
        assert!(Sampler::new(twice).sample("x").is_object());
        assert!(
            Sampler::new(json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}})).sample("x").is_null()
        );
    }
}
