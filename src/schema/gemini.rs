//! Gemini's `responseJsonSchema`: JSON Schema nearly as it is; keywords that the list does not hold are described in words.
//!
//! The list is Google's own ("Structured output": supported keywords). The root may be of any type. Recursion is allowed
//! inside properties that are not required, so a required one is made optional and the report says so.

use super::keywords::{self, check_keywords, implied_type, is_annotation, split_types, type_of};
use super::merge::{self, conjunction, flatten};
use super::refs::{self, References, callers, join};
use super::report::{Report, asserts, describe};
use super::{Compiled, SchemaError};
use serde_json::{Map, Number, Value, json};

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
    for (place, target) in references.recursive() {
        if !refs::inside_property(place) {
            let message = format!(
                "Gemini takes recursion only inside a property, and '#{target}' contains itself outside of one"
            );
            return Err(SchemaError::new(&callers(caller, place), message));
        }
    }
    let mut writer = Writer { root: &root, caller, references: &references, report: Report::new(caller), nodes: 0 };
    let mut schema = writer.schema(&root, "")?;
    refs::follow_any_of(&mut schema);
    References::of(&schema).map_err(|error| {
        SchemaError::new("", format!("{}; Gemini's form of the schema has moved it: refer to '$defs'", error.message))
    })?;
    Ok(Compiled { schema, wrapped: false, strict: true, unenforced: writer.report.into_entries(), over_limit: None })
}

struct Writer<'a> {
    root: &'a Value,
    caller: &'a Value,
    references: &'a References,
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
        merge::lift_reference(&mut node);
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

    /// Beside `$ref` Gemini takes only `$` keywords: the target comes in; where it is recursive, or has a description of its
    /// own that must not be lost, the reference goes into an `anyOf`, with what is said of this place beside it.
    fn beside_reference(&mut self, node: Node, path: &str) -> Result<Node, SchemaError> {
        let Some(reference) = refs::reference(&node, path)?.map(str::to_owned) else {
            return Ok(node);
        };
        if node.keys().all(|key| key.starts_with('$')) {
            return Ok(node);
        }
        let (pointer, target) = refs::resolve(self.root, &reference, path)?;
        let only_described = node.keys().all(|key| key.starts_with('$') || key == "description");
        let both_described = only_described && target.get("description").is_some_and(|it| it != &node["description"]);
        if self.nodes < NODE_BUDGET && !both_described && !self.references.is_recursive(&pointer) {
            let mut own = node.clone();
            own.shift_remove("$ref");
            if let Some(merged) = target.as_object().and_then(|target| conjunction(&own, target)) {
                let merged =
                    merged.into_iter().filter(|(key, _)| key == "description" || !is_annotation(key)).collect();
                return self.beside_reference(merged, path);
            }
        }
        let mut hints = Vec::new();
        let mut around = Node::new();
        for (key, value) in node {
            match key.as_str() {
                "$ref" => drop(around.insert("anyOf".to_owned(), json!([{"$ref": value}]))),
                "description" => drop(around.insert(key, value)),
                _ if key.starts_with('$') => drop(around.insert(key, value)),
                _ => {
                    if asserts(&key, &value) {
                        let reason =
                            format!("Gemini takes no keyword beside '$ref': {value} is told to the model in words");
                        self.unenforced(path, &key, &reason);
                    }
                    hints.push((key, value));
                }
            }
        }
        hint(&mut around, &hints);
        Ok(around)
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
        let listed = node.get("type").cloned();
        let also = node.get("enum").and_then(Value::as_array).cloned();
        let fits = |v: &Value| {
            listed.as_ref().is_none_or(|t| keywords::has_type(v, t)) && also.as_ref().is_none_or(|all| all.contains(v))
        };
        let values: Vec<Value> = values.into_iter().filter(fits).collect();
        if values.is_empty() || values.iter().any(|v| v.is_array() || v.is_object()) || node.contains_key("anyOf") {
            self.unenforced(path, key, "Gemini's 'enum' takes strings and numbers");
            for key in ["const", "enum"] {
                hints.extend(node.shift_remove(key).map(|value| (key.to_owned(), value)));
            }
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
        let Some(Value::Array(required)) = node.get("required").cloned() else {
            return;
        };
        let properties = node.get("properties").and_then(Value::as_object);
        let recursive = |name: &Value| {
            let schema = properties.zip(name.as_str()).and_then(|(properties, name)| properties.get(name));
            schema.is_some_and(|schema| self.leads_back(schema, path))
        };
        let (relaxed, kept): (Vec<Value>, Vec<Value>) = required.into_iter().partition(recursive);
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

    /// Whether a reference in `schema`, which stands in the definition around `path`, leads back to that definition.
    fn leads_back(&self, schema: &Value, path: &str) -> bool {
        let owner: String = match path.strip_prefix("/$defs/") {
            Some(rest) => format!("/$defs/{}", rest.split('/').next().unwrap_or_default()),
            None => String::new(),
        };
        let mut found = false;
        refs::walk(schema, "", &mut |_, node| {
            let Some(Value::String(reference)) = node.get("$ref") else {
                return;
            };
            if let Ok((target, _)) = refs::resolve(self.root, reference, path) {
                let definition = target.starts_with("/$defs/") && target.matches('/').count() == 2;
                // A target inside a definition is recursive by itself; of a definition only what leads back here counts.
                let here = !definition || target == owner || self.references.leads(&target, &owner);
                found |= here && self.references.is_recursive(&target);
            }
        });
        found
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
        hint(node, &hints);
    }
}

/// Puts into the description what the provider does not enforce.
fn hint(node: &mut Node, hints: &[(String, Value)]) {
    if !hints.is_empty() {
        let text = describe(node.get("description").and_then(Value::as_str), hints);
        node.insert("description".to_owned(), text.into());
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
        let Some(Value::Number(bound)) = node.get(exclusive).cloned() else {
            continue;
        };
        let bound = Value::Number(bound);
        let whole = keywords::integer(&bound).filter(|_| kind.as_deref() == Some("integer"));
        let moved = match whole.and_then(|n| n.checked_add(step)).and_then(Number::from_i128) {
            Some(n) => Value::Number(n),
            None => {
                inexact(exclusive);
                bound
            }
        };
        let narrower = |other: &Value| {
            keywords::compare(other, &moved).is_some_and(|order| if step > 0 { order.is_ge() } else { order.is_le() })
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
