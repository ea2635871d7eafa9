//! What the sandbox's model says: an echo, or a value that fits a schema and whose free strings echo the prompt. Pure.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::pattern;

/// Spreads the bits of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number that stands for a text (FNV-1a, spread).
pub fn hash(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// A stream of numbers that the seed decides.
#[derive(Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 {
            0
        } else {
            (self.next() % limit as u64) as usize
        }
    }

    /// A number in 0..1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Tokens of a text: one for four characters, and one for what is left.
pub fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4).max(1)
}

/// The first `limit` characters.
pub fn first_chars(text: &str, limit: usize) -> &str {
    text.char_indices()
        .nth(limit)
        .map_or(text, |(at, _)| &text[..at])
}

/// From this depth on lists get their least length and alternatives the branch that ends soonest.
const SHALLOW: u32 = 4;
/// A schema that demands endless depth ends here, with null.
const DEPTH_LIMIT: u32 = 64;
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
                .map(|name| {
                    (
                        name.clone(),
                        sampler.resolve(name).map_or(0, |node| sampler.height(node)),
                    )
                })
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
            return branches
                .iter()
                .map(|branch| self.height(branch))
                .min()
                .unwrap_or(0);
        }
        let below = |height: u32| height.saturating_add(1);
        let least_items = node.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if types(node).iter().any(|kind| *kind == "null") {
            return 0;
        }
        if types(node).contains(&"array") {
            return node
                .get("items")
                .filter(|_| least_items > 0)
                .map_or(0, |items| below(self.height(items)));
        }
        let Some(properties) = node.get("properties").and_then(Value::as_object) else {
            return 0;
        };
        let needed = properties
            .iter()
            .filter(|(name, _)| is_required(node, name));
        needed
            .map(|(_, property)| below(self.height(property)))
            .max()
            .unwrap_or(0)
    }

    fn value(&self, node: &Value, prompt: &str, dice: &mut Dice, depth: u32) -> Value {
        if depth > DEPTH_LIMIT {
            return Value::Null;
        }
        if let Some(target) = node
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| self.resolve(name))
        {
            return self.value(target, prompt, dice, depth + 1);
        }
        if let Some(constant) = node.get("const") {
            return constant.clone();
        }
        if let Some(values) = node
            .get("enum")
            .and_then(Value::as_array)
            .filter(|values| !values.is_empty())
        {
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
            "integer" => integer(node, dice),
            "number" => number(node, dice),
            "boolean" => Value::Bool(dice.below(2) == 1),
            "null" => Value::Null,
            _ => Value::String(string(node, prompt, dice)),
        }
    }

    fn branch<'a>(&self, branches: &'a [Value], dice: &mut Dice, depth: u32) -> &'a Value {
        let heights: Vec<u32> = branches.iter().map(|branch| self.height(branch)).collect();
        let lowest = heights.iter().min().copied().unwrap_or(0);
        let fits = |height: u32| {
            if depth < SHALLOW {
                height < ENDLESS || lowest == ENDLESS
            } else {
                height == lowest
            }
        };
        let open: Vec<&Value> = branches
            .iter()
            .zip(heights)
            .filter(|(_, height)| fits(*height))
            .map(|(node, _)| node)
            .collect();
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
            let named = part
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|name| self.resolve(name));
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
        for (name, property) in node
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if is_required(node, name) || depth < SHALLOW {
                out.insert(name.clone(), self.value(property, prompt, dice, depth + 1));
            }
        }
        if let Some(free) = node
            .get("additionalProperties")
            .filter(|free| free.is_object())
        {
            let least = node
                .get("minProperties")
                .and_then(Value::as_u64)
                .unwrap_or(u64::from(depth < SHALLOW));
            for number in (1..).take(least.min(100) as usize) {
                out.insert(
                    format!("key{number}"),
                    self.value(free, prompt, dice, depth + 1),
                );
            }
        }
        Value::Object(out)
    }

    fn array(&self, node: &Value, prompt: &str, dice: &mut Dice, depth: u32) -> Value {
        let bound = |key: &str| node.get(key).and_then(Value::as_u64);
        let least = bound("minItems").unwrap_or(0);
        let wanted = if depth < SHALLOW {
            least.max(1 + dice.below(2) as u64)
        } else {
            least
        };
        let length = wanted
            .min(bound("maxItems").unwrap_or(u64::MAX))
            .min(10_000);
        let prefix = node
            .get("prefixItems")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let rest = node.get("items").unwrap_or(&Value::Bool(true));
        let length = (length as usize).max(prefix.len());
        let items =
            (0..length).take_while(|place| *place < prefix.len() || rest != &Value::Bool(false));
        items
            .map(|place| self.value(prefix.get(place).unwrap_or(rest), prompt, dice, depth + 1))
            .collect()
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
    let list = node
        .get("anyOf")
        .or_else(|| node.get("oneOf"))?
        .as_array()?;
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

fn integer(node: &Value, dice: &mut Dice) -> Value {
    let limit = |key: &str| node.get(key).and_then(Value::as_f64);
    // i128 holds any bound that a JSON number can name exactly enough, and sums of such.
    let step = limit("multipleOf").map_or(1, |step| step.abs().round().max(1.0) as i128);
    let low = [
        limit("minimum").map(|low| low.ceil() as i128),
        limit("exclusiveMinimum").map(|low| low.floor() as i128 + 1),
    ];
    let high = [
        limit("maximum").map(|high| high.floor() as i128),
        limit("exclusiveMaximum").map(|high| high.ceil() as i128 - 1),
    ];
    let low = low.into_iter().flatten().max();
    let high = high.into_iter().flatten().min();
    let (low, high) = match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 100 * step),
        (None, Some(high)) => (high - 100 * step, high),
        (None, None) => (0, 100 * step),
    };
    let first = low.div_euclid(step) + i128::from(low.rem_euclid(step) != 0);
    let last = high.div_euclid(step).max(first);
    let span = usize::try_from(last - first).unwrap_or(usize::MAX - 1);
    let picked = (first + dice.below(span + 1) as i128) * step;
    match i64::try_from(picked) {
        Ok(picked) => picked.into(),
        Err(_) => Number::from_f64(picked as f64).map_or(Value::Null, Value::Number),
    }
}

fn number(node: &Value, dice: &mut Dice) -> Value {
    let limit = |key: &str| node.get(key).and_then(Value::as_f64);
    if limit("multipleOf").is_some_and(|step| step.fract() == 0.0) {
        return integer(node, dice);
    }
    let over = limit("exclusiveMinimum").or(limit("minimum"));
    let under = limit("exclusiveMaximum").or(limit("maximum"));
    let (low, high) = match (over, under) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 100.0),
        (None, Some(high)) => (high - 100.0, high),
        (None, None) => (0.0, 100.0),
    };
    let mut picked = low + dice.fraction() * (high - low);
    let rounded = (picked * 100.0).round() / 100.0;
    if rounded > low && rounded < high {
        picked = rounded;
    }
    if picked == low && limit("exclusiveMinimum").is_some() {
        picked = low + (high - low) / 2.0;
    }
    if let Some(step) = limit("multipleOf").filter(|step| *step > 0.0) {
        let place = (picked / step).floor();
        let place = if place * step < low {
            place + 1.0
        } else {
            place
        };
        // Dividing by the reciprocal keeps 0.1 * 3 at 0.3.
        picked = place / (1.0 / step).round().max(1.0);
    }
    Number::from_f64(picked).map_or(Value::Null, Value::Number)
}

fn string(node: &Value, prompt: &str, dice: &mut Dice) -> String {
    if let Some(text) = node
        .get("format")
        .and_then(Value::as_str)
        .and_then(|format| formatted(format, dice))
    {
        return text;
    }
    if let Some(text) = node
        .get("pattern")
        .and_then(Value::as_str)
        .and_then(|pattern| pattern::sample(pattern, dice))
    {
        return text;
    }
    let bound = |key: &str| {
        node.get(key)
            .and_then(Value::as_u64)
            .and_then(|bound| usize::try_from(bound).ok())
    };
    let mut text = first_chars(prompt, bound("maxLength").unwrap_or(usize::MAX)).to_owned();
    let missing = bound("minLength")
        .unwrap_or(0)
        .saturating_sub(text.chars().count());
    text.push_str(&".".repeat(missing.min(1_000_000)));
    text
}

fn formatted(format: &str, dice: &mut Dice) -> Option<String> {
    let n = dice.below(1 << 24);
    let date = format!(
        "20{:02}-{:02}-{:02}",
        n % 30,
        n / 30 % 12 + 1,
        n / 360 % 28 + 1
    );
    let time = format!("{:02}:{:02}:{:02}Z", n % 24, n / 24 % 60, n / 1440 % 60);
    Some(match format {
        "date-time" => format!("{date}T{time}"),
        "date" => date,
        "time" => time,
        "duration" => format!("P{}DT{}H", n % 30 + 1, n % 23 + 1),
        "email" | "idn-email" => format!("user{n}@example.com"),
        "hostname" | "idn-hostname" => format!("host{n}.example.com"),
        "ipv4" => format!("192.0.2.{}", n % 254 + 1),
        "ipv6" => format!("2001:db8::{:x}", n % 0xffff + 1),
        "uuid" => format!(
            "{n:08x}-0000-4000-8000-{:012x}",
            mix(n as u64) & 0xffff_ffff_ffff
        ),
        "uri" | "iri" | "url" => format!("https://example.com/{n}"),
        "uri-reference" => format!("/{n}"),
        _ => return None,
    })
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
        let sampler = Sampler::new(
            json!({"type": "object", "properties": {"t": {"type": "string"}, "n": {"type": "integer"}}}),
        );
        assert_eq!(sampler.sample("Hé"), sampler.sample("Hé"));
        assert_eq!(sampler.sample("Hé")["t"], "Hé");
    }

    #[test]
    fn endless_schemas_end() {
        let endless =
            json!({"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]});
        assert!(Sampler::new(endless).sample("x").is_object());
        assert!(
            Sampler::new(json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}))
                .sample("x")
                .is_null()
        );
    }
}
