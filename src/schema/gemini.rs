//! Gemini's `responseJsonSchema`: JSON Schema nearly as it is; keywords that the list does not hold are described in words.
//!
//! The list is Google's own ("Structured output": supported keywords). The root may be of any type. Recursion is allowed
//! inside properties that are not required, so a required one is made optional and the report says so.

use super::merge::{self, conjunction, flatten, implied_type, is_annotation, split_types, type_of};
use super::openai::check_keywords;
use super::refs::{self, References, join};
use super::report::{Report, asserts, describe};
use super::{Compiled, SchemaError, anthropic::callers};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

type Node = Map<String, Value>;

const SUPPORTED: [&str; 20] = [
    "$id",
    "$defs",
    "$ref",
    "$anchor",
    "type",
    "format",
    "description",
    "enum",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "properties",
    "additionalProperties",
    "required",
    "propertyOrdering",
    "definitions",
];
/// The string formats of Google's guide; others go to the description.
pub const FORMATS: [&str; 3] = ["date-time", "date", "time"];
pub const OBJECTS: merge::Objects = merge::Objects { all_required: false, closed: false };
/// Inlining may multiply a schema; past this many nodes references lose their siblings instead.
pub const NODE_BUDGET: usize = 20_000;

pub fn compile(caller: &Value) -> Result<Compiled, SchemaError> {
    let root = refs::with_defs(caller);
    let references = References::of(&root).map_err(|e| SchemaError::new(&callers(caller, &e.path), e.message))?;
    let mut optional = HashSet::new();
    for (place, target) in references.recursive() {
        let Some((owner, name)) = refs::property_around(place) else {
            let message = format!(
                "Gemini takes recursion only inside a property, and '#{target}' contains itself outside of one"
            );
            return Err(SchemaError::new(&callers(caller, place), message));
        };
        optional.insert((owner, name));
    }
    let mut writer =
        Writer { root: &root, caller, references: &references, optional, report: Report::new(caller), nodes: 0 };
    let mut schema = writer.schema(&root, "")?;
    refs::follow_any_of(&mut schema);
    References::of(&schema).map_err(|error| {
        SchemaError::new("", format!("{}; Gemini's form of the schema has moved it: refer to '$defs'", error.message))
    })?;
    Ok(Compiled { schema, wrapped: false, strict: true, unenforced: writer.report.into_entries() })
}

struct Writer<'a> {
    root: &'a Value,
    caller: &'a Value,
    references: &'a References,
    /// Properties with recursion in them: owner and name.
    optional: HashSet<(String, String)>,
    report: Report<'a>,
    nodes: usize,
}

impl Writer<'_> {
    fn unenforced(&mut self, path: &str, keyword: &str, reason: &str) {
        self.report.add(&callers(self.caller, path), keyword, reason);
    }

    fn schema(&mut self, schema: &Value, path: &str) -> Result<Value, SchemaError> {
        self.nodes += 1;
        if self.nodes > 10 * NODE_BUDGET {
            let message = "the schema grows without end when its references are followed: simplify its definitions";
            return Err(SchemaError::new(&callers(self.caller, path), message));
        }
        match schema {
            Value::Object(node) => self.node(node, path).map(Value::Object),
            Value::Bool(_) => Ok(schema.clone()),
            _ => Err(SchemaError::new(&callers(self.caller, path), "a schema must be an object (or true, or false)")),
        }
    }

    fn node(&mut self, node: &Node, path: &str) -> Result<Node, SchemaError> {
        check_keywords(node, path)?;
        let mut node = node.clone();
        node.retain(|key, _| key == "description" || !(is_annotation(key) && key != "$id"));
        let mut node = self.merge_all_of(node, path);
        node = self.beside_reference(node, path)?;
        if node.contains_key("oneOf") {
            node = self.any_of_one_of(node, path);
        }
        let mut hints = Vec::new();
        self.literals(&mut node, path, &mut hints);
        if several_types(&node) {
            node = split_types(&node).unwrap_or(node);
        }
        inclusive_bounds(&mut node, |key| {
            self.report.add(&callers(self.caller, path), key, "Gemini knows only the inclusive bound")
        });
        tuple_items(&mut node);
        self.relax_required(&mut node, path);
        if node.contains_key("patternProperties") {
            // Listed beside it, `additionalProperties` would forbid what the patterns allow.
            node.shift_remove("additionalProperties");
        }
        self.children(&mut node, path)?;
        self.hint_at_rest(&mut node, path, hints);
        Ok(node)
    }

    /// All of `allOf` in one node; what does not merge is left to our validation.
    fn merge_all_of(&mut self, node: Node, path: &str) -> Node {
        if !node.contains_key("allOf") {
            return node;
        }
        if let Some((merged, followed)) = flatten(self.root, &node) {
            if self.nodes < NODE_BUDGET && !followed.iter().any(|place| self.references.is_recursive(place)) {
                return merged.into_iter().filter(|(key, _)| key == "description" || !is_annotation(key)).collect();
            }
        }
        self.unenforced(path, "allOf", "its branches do not merge into one schema, and Gemini has no 'allOf'");
        let mut rest = node;
        rest.shift_remove("allOf");
        rest
    }

    /// Beside `$ref` Gemini takes only `$` keywords: the target comes in, or, where it is recursive, the siblings go.
    fn beside_reference(&mut self, node: Node, path: &str) -> Result<Node, SchemaError> {
        let Some(reference) = refs::reference(&node, path)?.map(str::to_owned) else { return Ok(node) };
        if node.keys().all(|key| key.starts_with('$')) {
            return Ok(node);
        }
        let (pointer, target) = refs::resolve(self.root, &reference, path)?;
        if self.nodes < NODE_BUDGET && !self.references.is_recursive(&pointer) {
            let mut own = node.clone();
            own.shift_remove("$ref");
            if let Some(merged) = target.as_object().and_then(|target| conjunction(&own, target)) {
                let merged =
                    merged.into_iter().filter(|(key, _)| key == "description" || !is_annotation(key)).collect();
                return self.beside_reference(merged, path);
            }
        }
        for (key, value) in node.iter().filter(|(key, value)| !key.starts_with('$') && asserts(key, value)) {
            self.unenforced(path, key, &format!("Gemini takes no keyword beside '$ref', so {value} is left out"));
        }
        Ok(node.into_iter().filter(|(key, _)| key.starts_with('$')).collect())
    }

    fn any_of_one_of(&mut self, mut node: Node, path: &str) -> Node {
        let branches = node.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
        if node.contains_key("anyOf") {
            self.unenforced(path, "oneOf", "Gemini reads 'oneOf' as 'anyOf', and there is one already");
            node.shift_remove("oneOf");
            return node;
        }
        if !merge::exclusive(self.root, &branches, OBJECTS) {
            self.unenforced(path, "oneOf", "sent as 'anyOf': Gemini does not check that only one branch fits");
        }
        refs::renamed(&node, "oneOf", "anyOf")
    }

    /// `enum` takes strings and numbers. Other values become types, and branches where they are mixed.
    fn literals(&mut self, node: &mut Node, path: &str, hints: &mut Vec<(String, Value)>) {
        let key = if node.contains_key("const") { "const" } else { "enum" };
        let values = match node.get(key) {
            Some(Value::Array(values)) if key == "enum" => values.clone(),
            Some(value) if key == "const" => vec![value.clone()],
            _ => return,
        };
        if values.is_empty() || values.iter().any(|v| v.is_array() || v.is_object()) || node.contains_key("anyOf") {
            self.unenforced(path, key, "Gemini's 'enum' takes strings and numbers");
            hints.extend(node.shift_remove(key).map(|value| (key.to_owned(), value)));
            return;
        }
        let mut branches: Vec<Node> = Vec::new();
        let of = |wanted: fn(&Value) -> bool| -> Vec<Value> { values.iter().filter(|v| wanted(v)).cloned().collect() };
        let numbers = of(Value::is_number);
        for chosen in [of(Value::is_string), numbers].into_iter().filter(|chosen| !chosen.is_empty()) {
            let kind = if chosen.iter().any(|v| type_of(v) == "number") { "number" } else { type_of(&chosen[0]) };
            branches.push(Node::from_iter([("type".to_owned(), kind.into()), ("enum".to_owned(), chosen.into())]));
        }
        for kind in ["boolean", "null"] {
            let chosen = values.iter().filter(|v| type_of(v) == kind).count();
            if chosen > 0 {
                branches.push(Node::from_iter([("type".to_owned(), kind.into())]));
            }
            if kind == "boolean" && chosen == 1 {
                self.unenforced(path, key, "Gemini's 'enum' takes strings and numbers, so either boolean may come");
            }
        }
        let at = if node.contains_key("type") { "type" } else { key };
        let one = branches.len() == 1;
        let mut out = Node::new();
        for (name, value) in std::mem::take(node) {
            match (name == at, one) {
                (true, true) => out.extend(branches[0].clone()),
                (true, false) => {
                    out.insert("anyOf".to_owned(), branches.iter().cloned().map(Value::Object).collect());
                }
                _ if name == "type" || name == "enum" || name == "const" => {}
                _ => {
                    out.insert(name, value);
                }
            }
        }
        *node = out;
    }

    fn relax_required(&mut self, node: &mut Node, path: &str) {
        let Some(Value::Array(required)) = node.get("required").cloned() else { return };
        let (relaxed, kept): (Vec<Value>, Vec<Value>) = required.into_iter().partition(|name| {
            name.as_str().is_some_and(|name| self.optional.contains(&(path.to_owned(), name.to_owned())))
        });
        if !relaxed.is_empty() {
            let names = Value::from(relaxed.clone());
            let reason =
                format!("{names}: recursive, which Gemini takes only in optional properties, so they may be missing");
            self.unenforced(path, "required", &reason);
        }
        if kept.is_empty() && !relaxed.is_empty() {
            node.shift_remove("required");
        } else {
            node.insert("required".to_owned(), kept.into());
        }
    }

    fn children(&mut self, node: &mut Node, path: &str) -> Result<(), SchemaError> {
        for (key, value) in node.iter_mut() {
            let at = join(path, key);
            match (key.as_str(), value) {
                ("$defs" | "definitions" | "properties", Value::Object(named)) => {
                    for (name, schema) in named.iter_mut() {
                        *schema = self.schema(schema, &join(&at, name))?;
                    }
                }
                ("anyOf" | "prefixItems", Value::Array(list)) => {
                    for (i, schema) in list.iter_mut().enumerate() {
                        *schema = self.schema(schema, &join(&at, &i.to_string()))?;
                    }
                }
                ("items" | "additionalProperties", schema) => *schema = self.schema(schema, &at)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hint_at_rest(&mut self, node: &mut Node, path: &str, mut hints: Vec<(String, Value)>) {
        let supported = |key: &str, value: &Value| match key {
            "format" => FORMATS.iter().any(|f| value == f),
            _ => SUPPORTED.contains(&key),
        };
        for (key, value) in std::mem::take(node) {
            if supported(&key, &value) {
                node.insert(key, value);
                continue;
            }
            if asserts(&key, &value) {
                self.unenforced(
                    path,
                    &key,
                    &format!("Gemini does not enforce '{key}'; it is told to the model in the description"),
                );
                hints.push((key, value));
            }
        }
        if !hints.is_empty() && !node.contains_key("$ref") {
            let text = describe(node.get("description").and_then(Value::as_str), &hints);
            node.insert("description".to_owned(), text.into());
        }
    }
}

/// Whether `type` lists more than one type beside null, which Gemini's lists do not.
fn several_types(node: &Node) -> bool {
    let kinds = node.get("type").and_then(Value::as_array);
    kinds.is_some_and(|kinds| kinds.len() == 1 || kinds.iter().filter(|kind| *kind != "null").count() > 1)
}

/// Tuples in the words of older drafts, in those of 2020-12.
fn tuple_items(node: &mut Node) {
    if node.get("items").is_some_and(Value::is_array) && !node.contains_key("prefixItems") {
        let rest = node.shift_remove("additionalItems");
        *node = refs::renamed(node, "items", "prefixItems");
        if let Some(rest) = rest {
            node.insert("items".to_owned(), rest);
        }
    }
}

/// `exclusiveMinimum: n` as `minimum`: `n + 1` for integers, `n` for numbers, which `inexact` is told of. The narrower of
/// two bounds stays.
pub fn inclusive_bounds(node: &mut Node, mut inexact: impl FnMut(&str)) {
    let kind = node.get("type").and_then(Value::as_str).or_else(|| implied_type(node)).map(str::to_owned);
    for (exclusive, inclusive, step) in [("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)] {
        let Some(Value::Number(bound)) = node.get(exclusive).cloned() else { continue };
        let whole = bound.as_i64().and_then(|n| n.checked_add(step)).filter(|_| kind.as_deref() == Some("integer"));
        let moved = match whole {
            Some(n) => json!(n),
            None => {
                inexact(exclusive);
                Value::Number(bound)
            }
        };
        let narrower = |other: &Value| match (other.as_f64(), moved.as_f64()) {
            (Some(other), Some(moved)) if step > 0 => other >= moved,
            (Some(other), Some(moved)) => other <= moved,
            _ => false,
        };
        if node.get(inclusive).is_some_and(narrower) {
            node.shift_remove(exclusive);
        } else {
            node.shift_remove(inclusive);
            *node = refs::renamed(node, exclusive, inclusive);
            node.insert(inclusive.to_owned(), moved);
        }
    }
}
