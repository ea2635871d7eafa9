//! The providers' limits on the size of a schema, counted on what is sent.
//!
//! Nothing is counted twice that is sent once: a definition counts where it stands, not where it is referred to.

use super::SchemaError;
use super::keywords::allows;
use super::refs::{self, join};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// OpenAI's guide to structured outputs, for strict mode.
const MAX_LEVELS: usize = 10;
const MAX_PROPERTIES: usize = 5_000;
const MAX_ENUM_VALUES: usize = 1_000;
const MAX_NAME_CHARACTERS: usize = 120_000;
/// From so many values on, the characters of one `enum` of strings are limited too.
const MAX_SMALL_ENUM: usize = 250;
const MAX_ENUM_CHARACTERS: usize = 15_000;
/// Anthropic's guide to structured outputs, for a request.
const MAX_OPTIONAL: usize = 24;
const MAX_UNIONS: usize = 16;

/// A limit that what is sent does not keep to, and where it passes it.
pub struct OverLimit {
    path: String,
    message: String,
}

impl OverLimit {
    /// The same, by its place in the schema from which this one was made.
    pub fn in_schema_of(self, caller: &Value, wrapped: bool) -> SchemaError {
        let path = match self.path.strip_prefix("/properties/value") {
            Some(inner) if wrapped => inner,
            _ => &self.path,
        };
        SchemaError { path: caller_place(caller, path), message: self.message }
    }
}

/// The limit of OpenAI's strict mode that a schema does not keep to.
pub fn openai(schema: &Value) -> Option<OverLimit> {
    let mut count = Count::default();
    refs::walk(schema, "", &mut |path, node| count.add(path, node));
    count.over.or_else(|| too_deep(schema, "", 0))
}

#[derive(Default)]
struct Count {
    properties: usize,
    enum_values: usize,
    characters: usize,
    over: Option<OverLimit>,
}

impl Count {
    fn add(&mut self, path: &str, node: &Map<String, Value>) {
        let names = |key: &str| node.get(key).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for name in names("properties") {
            self.properties += 1;
            self.refuse_over(self.properties, MAX_PROPERTIES, &join(&join(path, "properties"), name), "properties");
        }
        for (key, name) in
            ["properties", "$defs", "definitions"].iter().flat_map(|key| names(key).map(move |n| (key, n)))
        {
            self.add_characters(&name.as_str().into(), &join(&join(path, key), name));
        }
        if let Some(constant) = node.get("const") {
            self.add_characters(constant, &join(path, "const"));
        }
        let Some(values) = node.get("enum").and_then(Value::as_array) else { return };
        let at = join(path, "enum");
        self.enum_values += values.len();
        self.refuse_over(self.enum_values, MAX_ENUM_VALUES, &at, "enum values");
        values.iter().for_each(|value| self.add_characters(value, &at));
        if values.len() > MAX_SMALL_ENUM && values.iter().any(Value::is_string) {
            let characters = values.iter().filter(|value| value.is_string()).map(characters).sum();
            let what = format!("characters in one enum of {} values", values.len());
            self.refuse_over(characters, MAX_ENUM_CHARACTERS, &at, &what);
        }
    }

    fn add_characters(&mut self, value: &Value, at: &str) {
        self.characters += characters(value);
        let what = "characters in names of properties and definitions, enum and const values";
        self.refuse_over(self.characters, MAX_NAME_CHARACTERS, at, what);
    }

    fn refuse_over(&mut self, count: usize, limit: usize, path: &str, what: &str) {
        if count > limit && self.over.is_none() {
            self.over = Some(over_strict_limit(path, limit, what));
        }
    }
}

fn over_strict_limit(path: &str, limit: usize, what: &str) -> OverLimit {
    let message = format!(
        "here the schema goes beyond {limit} {what}, the limit of OpenAI's strict mode: make the schema smaller, or give \
         strict=False, for which the limit does not hold"
    );
    OverLimit { path: path.to_owned(), message }
}

fn characters(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().len(), |text| text.chars().count())
}

/// Objects and arrays inside each other. References are not followed, as OpenAI's own validator (of its Java SDK) does not: a
/// schema may be recursive.
fn too_deep(schema: &Value, path: &str, around: usize) -> Option<OverLimit> {
    let node = schema.as_object()?;
    let is_container = allows(node, "object") || allows(node, "array");
    let levels = around + usize::from(is_container);
    if levels > MAX_LEVELS {
        return Some(over_strict_limit(path, MAX_LEVELS, "levels of nesting (move inner parts to '$defs')"));
    }
    let mut found = None;
    refs::each_child(node, &mut |at, child| {
        let is_definition = at.starts_with("/$defs/") || at.starts_with("/definitions/");
        let around = if is_definition { 0 } else { levels };
        found = found.take().or_else(|| too_deep(child, &format!("{path}{at}"), around));
    });
    found
}

/// The limit of Anthropic's structured outputs that a schema does not keep to.
pub fn anthropic(schema: &Value) -> Option<OverLimit> {
    let (mut optional, mut unions, mut over) = (0, 0, None);
    refs::walk(schema, "", &mut |path, node| {
        let required = node.get("required").and_then(Value::as_array);
        for (name, property) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let is_required = required.is_some_and(|required| required.iter().any(|it| it == name));
            optional += usize::from(!is_required);
            unions += usize::from(is_union(schema, property, &mut HashSet::new()));
            let exceeded =
                [(optional, MAX_OPTIONAL, "optional properties"), (unions, MAX_UNIONS, "properties of a union type")]
                    .into_iter()
                    .find(|(count, limit, _)| count > limit);
            if let Some((_, limit, what)) = exceeded.filter(|_| over.is_none()) {
                let message = format!(
                    "here the schema goes beyond {limit} {what}, the limit of Anthropic's structured outputs: {}",
                    if limit == MAX_OPTIONAL {
                        "make some of them required"
                    } else {
                        "give some of them a single type"
                    }
                );
                over = Some(OverLimit { path: join(&join(path, "properties"), name), message });
            }
        }
    });
    over
}

/// Whether a property's values are of several types, in a list as well, but not where they are properties of its own.
fn is_union<'a>(root: &'a Value, schema: &'a Value, followed: &mut HashSet<&'a str>) -> bool {
    let Some(node) = schema.as_object() else { return false };
    let target = node.get("$ref").and_then(Value::as_str).filter(|reference| followed.insert(reference));
    let target = target.and_then(|reference| refs::lookup(root, reference)).map(|(_, target)| target);
    node.contains_key("anyOf")
        || [target, node.get("items")].into_iter().flatten().any(|it| is_union(root, it, followed))
}

/// The place in the caller's schema of a place in what was made of it: through references that were followed, branches that
/// were merged, and the keywords of older drafts.
fn caller_place(caller: &Value, path: &str) -> String {
    let tokens: Vec<String> = path.split('/').skip(1).map(|it| it.replace("~1", "/").replace("~0", "~")).collect();
    walk_to(caller, (caller, String::new()), &tokens, 0).0
}

/// How far `tokens` lead from a place: the place reached, and how many were used.
fn walk_to(root: &Value, from: (&Value, String), tokens: &[String], followed: usize) -> (String, usize) {
    let (node, place) = from;
    let Some((token, rest)) = tokens.split_first() else { return (place, 0) };
    let step = |next: &Value, place: String, rest: &[String], used: usize| {
        let (place, more) = walk_to(root, (next, place), rest, followed);
        (place, used + more)
    };
    let here = match node {
        Value::Array(list) => token.parse::<usize>().ok().and_then(|index| list.get(index)),
        _ => node.get(token),
    };
    if let Some(next) = here {
        return step(next, join(&place, token), rest, 1);
    }
    let older = match token.as_str() {
        "anyOf" => "oneOf",
        "$defs" => "definitions",
        _ => "",
    };
    if let Some(next) = node.get(older) {
        return step(next, join(&place, older), rest, 1);
    }
    let mut ways = Vec::new();
    if followed < 16 {
        let reference = node.get("$ref").and_then(Value::as_str).and_then(|reference| refs::lookup(root, reference));
        ways.extend(reference.map(|(target, next)| walk_to(root, (next, target), tokens, followed + 1)));
        for (index, branch) in node.get("allOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = join(&join(&place, "allOf"), &index.to_string());
            ways.push(walk_to(root, (branch, at), tokens, followed + 1));
        }
    }
    match ways.into_iter().filter(|(_, used)| *used > 0).max_by_key(|(_, used)| *used) {
        Some(farthest) => farthest,
        // A union that was made of a list of types, or around a reference, is the node itself.
        None if token == "anyOf" && rest.len() > 1 => step(node, place, &rest[1..], 2),
        None => (place, 0),
    }
}
