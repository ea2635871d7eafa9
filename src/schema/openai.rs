//! OpenAI's strict subset: closed objects, every property required, no composition but `anyOf`.
//!
//! The steps and the order of keys are those of the official Python SDK (`to_strict_json_schema`); what it gets wrong
//! (`oneOf`, chains of references, keywords that the API refuses) is put right here. Closing objects and requiring every
//! property only narrows the schema. Where narrowing cannot help, the caller's own schema goes out with `strict: false`.

use super::merge::{self, conjunction, flatten, implied_type, is_annotation};
use super::refs::{self, MAX_DEPTH, encloses, join};
use super::report::{Report, asserts};
use super::{Compiled, SchemaError, wrap};
use serde_json::{Map, Value, json};

type Node = Map<String, Value>;
/// A node and the places whose content went into it.
type Merged = (Node, Vec<String>);

/// What strict mode takes (OpenAI's structured outputs guide; `title`, `description` and `const` as its SDK sends them).
const ACCEPTED: [&str; 22] = [
    "$ref",
    "$defs",
    "definitions",
    "type",
    "title",
    "description",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "pattern",
    "format",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
];
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
/// What strict mode has no narrower words for.
const INEXPRESSIBLE: [&str; 11] = [
    "patternProperties",
    "prefixItems",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "$dynamicRef",
    "$recursiveRef",
];
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
const OBJECTS: merge::Objects = merge::Objects { all_required: true, closed: true };
/// Inlining references may multiply a schema; past this many nodes references stay and lose their siblings instead.
const NODE_BUDGET: usize = 20_000;

pub fn compile(root: &Value) -> Result<Compiled, SchemaError> {
    refs::References::of(root)?;
    let mut strict = Strict {
        root,
        dropped: Report::new(root),
        blockers: Report::new(root),
        inlining: Vec::new(),
        depth: 0,
        nodes: 0,
    };
    let mut schema = strict.normalize(root, "")?;
    refs::follow_any_of(&mut schema);
    if let Some(Value::String(text)) = schema.get("$ref") {
        refs::resolve(&schema, text, "")?;
    }
    refs::walk(&schema, "", &mut |path, node| {
        if let Some(Value::String(text)) = node.get("$ref") {
            if refs::lookup(&schema, text).is_none() {
                strict.blockers.add(path, "$ref", loose_reason("it refers to a place that strict mode rewrites"));
            }
        }
    });
    if !strict.blockers.is_empty() {
        let (schema, wrapped) = loose(root)?;
        return Ok(Compiled { schema, wrapped, strict: false, unenforced: strict.blockers.into_entries() });
    }
    let wrapped = !is_object_root(&schema);
    let schema = if wrapped { wrap(schema) } else { schema };
    Ok(Compiled { schema, wrapped, strict: true, unenforced: strict.dropped.into_entries() })
}

/// The caller's schema with `strict: false`, all of which the provider takes as a hint.
pub fn compile_loosely(root: &Value) -> Result<Compiled, SchemaError> {
    refs::References::of(root)?;
    let (schema, wrapped) = loose(root)?;
    let mut report = Report::new(root);
    report.add("", "strict", "the caller asked for strict: false, so only local validation enforces the schema");
    Ok(Compiled { schema, wrapped, strict: false, unenforced: report.into_entries() })
}

fn is_object_root(schema: &Value) -> bool {
    schema.get("type") == Some(&json!("object")) && schema.get("anyOf").is_none()
}

fn loose_reason(why: &str) -> String {
    format!(
        "{why}; the schema is sent with strict: false, so OpenAI takes all of it as a hint and only local validation enforces it"
    )
}

/// The caller's schema as it is, but for what even `strict: false` wants: `anyOf` for `oneOf`, an object at the root.
fn loose(root: &Value) -> Result<(Value, bool), SchemaError> {
    let mut schema = match root {
        Value::Object(node) => {
            let mut node = node.clone();
            if let Some(reference) = refs::reference(&node, "")? {
                let (_, target) = refs::resolve(root, reference, "")?;
                node.shift_remove("$ref");
                for (key, value) in target.as_object().into_iter().flatten() {
                    node.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            Value::Object(node)
        }
        other => other.clone(),
    };
    refs::walk_mut(&mut schema, &mut |node| {
        if node.contains_key("oneOf") && !node.contains_key("anyOf") {
            *node = refs::renamed(node, "oneOf", "anyOf");
            node.shift_remove("discriminator");
        }
    });
    refs::follow_any_of(&mut schema);
    if let Value::Object(node) = &mut schema {
        if !node.contains_key("type") && node.contains_key("properties") && !node.contains_key("anyOf") {
            node.insert("type".to_owned(), json!("object"));
        }
    }
    let wrapped = !is_object_root(&schema);
    Ok((if wrapped { wrap(schema) } else { schema }, wrapped))
}

struct Strict<'a> {
    root: &'a Value,
    dropped: Report<'a>,
    blockers: Report<'a>,
    /// The places from which references were followed to where we are.
    inlining: Vec<String>,
    depth: usize,
    nodes: usize,
}

impl Strict<'_> {
    fn normalize(&mut self, schema: &Value, path: &str) -> Result<Value, SchemaError> {
        let node = match schema {
            Value::Object(node) => node,
            Value::Bool(_) => {
                self.block(path, "", "a boolean schema has no type");
                return Ok(schema.clone());
            }
            _ => return Err(SchemaError::new(path, "a schema must be an object (or true, or false)")),
        };
        self.nodes += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH || self.nodes > 10 * NODE_BUDGET {
            return Err(SchemaError::new(
                path,
                "the schema grows without end when its references are followed: simplify its definitions",
            ));
        }
        let done = self.normalize_node(node, path);
        self.depth -= 1;
        done.map(Value::Object)
    }

    fn normalize_node(&mut self, node: &Node, path: &str) -> Result<Node, SchemaError> {
        check_keywords(node, path)?;
        let merged = match self.merge_all_of(node, path) {
            None => self.merge_reference(node, path)?,
            merged => merged,
        };
        if let Some((merged, followed)) = merged {
            let before = self.inlining.len();
            self.inlining.extend(followed);
            let done = self.normalize_node(&merged, path);
            self.inlining.truncate(before);
            return done;
        }
        let mut node = if node.contains_key("oneOf") { self.any_of_one_of(node, path)? } else { node.clone() };
        for key in ["$defs", "definitions"] {
            self.normalize_named(&mut node, key, path)?;
        }
        self.close(&mut node, path);
        if node.contains_key("properties") {
            self.require_all(&mut node, path)?;
        }
        if let Some(items @ (Value::Object(_) | Value::Bool(_))) = node.get("items").cloned().as_ref() {
            let done = self.normalize(items, &join(path, "items"))?;
            node.insert("items".to_owned(), done);
        }
        for key in ["anyOf", "allOf"] {
            if let Some(Value::Array(branches)) = node.get(key).cloned() {
                let at = join(path, key);
                let done: Result<Vec<Value>, _> =
                    branches.iter().enumerate().map(|(i, b)| self.normalize(b, &join(&at, &i.to_string()))).collect();
                node.insert(key.to_owned(), done?.into());
            }
        }
        if let Some(Value::Array(branches)) = node.shift_remove("allOf") {
            // Only a single branch that shares nothing with its node gets here: the rest is merged or blocked above.
            for (key, value) in branches.iter().filter_map(Value::as_object).flatten() {
                node.insert(key.clone(), value.clone());
            }
        }
        if node.get("default") == Some(&Value::Null) {
            node.shift_remove("default");
        }
        if node.contains_key("$ref") && node.len() > 1 {
            node = self.inline(node, path)?;
        }
        self.drop_unaccepted(&mut node, path);
        Ok(node)
    }

    /// Step 9 of the SDK: own keys first, then those of the target.
    fn inline(&mut self, mut node: Node, path: &str) -> Result<Node, SchemaError> {
        let Some(reference) = refs::reference(&node, path)?.map(str::to_owned) else { return Ok(node) };
        let (pointer, target) = refs::resolve(self.root, &reference, path)?;
        if !self.may_inline(&pointer, path) {
            return Ok(self.bare(&node, path));
        }
        self.inlining.push(path.to_owned());
        let done = self.normalize(target, &pointer);
        self.inlining.pop();
        let Value::Object(target) = done? else { return Ok(self.bare(&node, path)) };
        if target.contains_key("$ref") {
            return Ok(self.bare(&node, path));
        }
        node.shift_remove("$ref");
        for (key, value) in target {
            node.entry(key).or_insert(value);
        }
        Ok(node)
    }

    fn may_inline(&self, pointer: &str, path: &str) -> bool {
        let expanding = encloses(pointer, path) || self.inlining.iter().any(|place| encloses(pointer, place));
        !expanding && self.nodes < NODE_BUDGET
    }

    /// The reference alone: strict mode takes no keyword beside it.
    fn bare(&mut self, node: &Node, path: &str) -> Node {
        for (key, value) in node {
            if key != "$ref" && asserts(key, value) {
                self.dropped.add(path, key, "OpenAI takes no keyword beside a recursive '$ref'");
            }
        }
        node.iter()
            .filter(|(key, _)| matches!(key.as_str(), "$ref" | "$defs" | "definitions"))
            .map(clone_pair)
            .collect()
    }

    /// All of `allOf` in one node, unless a single branch can simply be copied over it.
    fn merge_all_of(&mut self, node: &Node, path: &str) -> Option<Merged> {
        let branches = node.get("allOf")?.as_array()?;
        let plain = |node: &Node| {
            node.keys().all(|k| is_annotation(k) || matches!(k.as_str(), "allOf" | "$defs" | "definitions"))
        };
        if branches.len() == 1 && plain(node) && branches[0].is_object() {
            return None;
        }
        match flatten(self.root, node) {
            Some((merged, followed)) if followed.iter().all(|place| self.may_inline(place, path)) => {
                Some((merged, followed))
            }
            _ => {
                self.block(path, "allOf", "its branches cannot be merged into one schema");
                let mut rest = node.clone();
                rest.shift_remove("allOf");
                Some((rest, Vec::new()))
            }
        }
    }

    /// A reference beside constraints: both must hold, so both become one node.
    fn merge_reference(&mut self, node: &Node, path: &str) -> Result<Option<Merged>, SchemaError> {
        let Some(reference) = refs::reference(node, path)? else { return Ok(None) };
        let aside = |key: &str| is_annotation(key) || matches!(key, "$ref" | "$defs" | "definitions" | "allOf");
        if node.keys().all(|key| aside(key)) {
            return Ok(None);
        }
        let (pointer, target) = refs::resolve(self.root, reference, path)?;
        if !self.may_inline(&pointer, path) {
            return Ok(Some((self.bare(node, path), vec![pointer])));
        }
        let mut own = node.clone();
        own.shift_remove("$ref");
        match target.as_object().and_then(|target| conjunction(&own, target)) {
            Some(merged) => Ok(Some((merged, vec![pointer]))),
            None => {
                self.block(path, "$ref", "its target and the keywords beside it cannot be merged into one schema");
                Ok(Some((own, vec![pointer])))
            }
        }
    }

    fn any_of_one_of(&mut self, node: &Node, path: &str) -> Result<Node, SchemaError> {
        if node.contains_key("anyOf") {
            let message =
                "'oneOf' beside 'anyOf' cannot be sent, OpenAI knows only 'anyOf': write the combinations out";
            return Err(SchemaError::new(path, message));
        }
        let branches = node.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !merge::exclusive(self.root, branches, OBJECTS) {
            self.dropped.add(path, "oneOf", "sent as 'anyOf': OpenAI does not check that only one branch fits");
        }
        Ok(refs::renamed(node, "oneOf", "anyOf"))
    }

    fn normalize_named(&mut self, node: &mut Node, key: &str, path: &str) -> Result<(), SchemaError> {
        if let Some(Value::Object(named)) = node.get_mut(key) {
            let at = join(path, key);
            for (name, schema) in named.iter_mut() {
                *schema = self.normalize(schema, &join(&at, name))?;
            }
        }
        Ok(())
    }

    /// Step 3 of the SDK, for every way of saying "object"; and a type for what only implies one.
    fn close(&mut self, node: &mut Node, path: &str) {
        let composed = node.contains_key("anyOf") || node.contains_key("allOf") || node.contains_key("$ref");
        if composed && !node.contains_key("properties") {
            let objects = is_object(node) && !node.contains_key("additionalProperties");
            if objects && self.branches_are_objects(node) {
                // The branches say it, each with its own properties; closed here, none of them would fit.
                node.shift_remove("type");
            } else if objects && node.contains_key("anyOf") {
                self.block(path, "anyOf", "an object beside it leaves its properties open");
            }
            return;
        }
        if composed && self.branches_are_objects(node) {
            self.block(path, "anyOf", "its branches and the properties beside it cannot be closed apart");
        }
        let literal = node.contains_key("enum") || node.contains_key("const");
        if !node.contains_key("type") && !literal {
            match implied_type(node) {
                Some(kind) => {
                    node.insert("type".to_owned(), kind.into());
                }
                None => self.block(path, "", "a schema without a type allows anything"),
            }
        }
        if is_object(node) && !node.contains_key("additionalProperties") {
            node.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        let untold = !node.contains_key("items") && !node.contains_key("prefixItems");
        if allows(node, "array") && untold && !literal {
            self.block(path, "items", "an array without 'items' allows anything in it");
        }
    }

    fn branches_are_objects(&self, node: &Node) -> bool {
        let branches = node.get("anyOf").and_then(Value::as_array);
        branches.is_some_and(|list| {
            list.iter().all(|branch| {
                let flat = branch.as_object().and_then(|b| flatten(self.root, b));
                flat.is_some_and(|(b, _)| b.get("type") == Some(&json!("object")) || b.contains_key("properties"))
            })
        })
    }

    /// Step 4 of the SDK. A property that must not exist is left out: the object is closed.
    fn require_all(&mut self, node: &mut Node, path: &str) -> Result<(), SchemaError> {
        let Some(Value::Object(properties)) = node.get("properties").cloned() else { return Ok(()) };
        let properties: Node = properties.into_iter().filter(|(_, schema)| schema != &Value::Bool(false)).collect();
        let open = node.get("additionalProperties") != Some(&Value::Bool(false)) || !self.closed_by_caller(path);
        let unlisted = |name: &&Value| name.as_str().is_some_and(|name| !properties.contains_key(name));
        if let Some(name) = node.get("required").and_then(Value::as_array).and_then(|r| r.iter().find(unlisted)) {
            if open {
                self.block(path, "required", &format!("it names {name}, which 'properties' does not describe"));
            }
        }
        node.insert("required".to_owned(), properties.keys().map(|k| Value::from(k.as_str())).collect());
        node.insert("properties".to_owned(), properties.into());
        self.normalize_named(node, "properties", path)
    }

    fn closed_by_caller(&self, path: &str) -> bool {
        self.root.pointer(path).and_then(|node| node.get("additionalProperties")) == Some(&Value::Bool(false))
    }

    fn drop_unaccepted(&mut self, node: &mut Node, path: &str) {
        if node.get("additionalProperties").is_some_and(|v| v != &Value::Bool(false)) {
            self.block(path, "additionalProperties", "strict mode wants closed objects");
        }
        if node.get("items").is_some_and(Value::is_array) {
            self.block(path, "items", "strict mode has no tuples");
        }
        if node.contains_key("required") && !node.contains_key("properties") {
            self.block(path, "required", "it names what 'properties' does not describe");
        }
        let keys: Vec<String> = node.keys().cloned().collect();
        for key in keys.iter().map(String::as_str) {
            let value = &node[key];
            let why = match key {
                _ if INEXPRESSIBLE.contains(&key) => {
                    self.block(path, key, "strict mode has no words for it");
                    continue;
                }
                "format" if !FORMATS.iter().any(|f| value == f) => format!("OpenAI does not accept the format {value}"),
                "pattern" if value.as_str().is_some_and(looks_around) => {
                    "OpenAI accepts no look-around and no backreference in a pattern".to_owned()
                }
                _ if ACCEPTED.contains(&key) => continue,
                _ => format!("OpenAI does not accept '{key}'"),
            };
            // Once an object is closed there is nothing left for `unevaluatedProperties` to forbid.
            let closed = key == "unevaluatedProperties" && node.contains_key("additionalProperties");
            if asserts(key, value) && !closed {
                self.dropped.add(path, key, why);
            }
            node.shift_remove(key);
        }
    }

    fn block(&mut self, path: &str, keyword: &str, why: &str) {
        self.blockers.add(path, keyword, loose_reason(why));
    }
}

fn clone_pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn is_object(node: &Node) -> bool {
    allows(node, "object")
}

fn allows(node: &Node, kind: &str) -> bool {
    match node.get("type") {
        Some(Value::String(text)) => text == kind,
        Some(Value::Array(list)) => list.iter().any(|t| t == kind),
        _ => false,
    }
}

/// Whether a regular expression looks around or back: `(?=`, `(?!`, `(?<=`, `(?<!`, `\1`. OpenAI answers 400, "regex
/// lookaround is not supported"; pydantic writes such a pattern for every Decimal.
fn looks_around(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if bytes.get(i + 1).is_some_and(|c| (b'1'..=b'9').contains(c)) => return true,
            b'\\' => i += 1,
            b'(' if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| bytes[i..].starts_with(look.as_bytes())) => {
                return true;
            }
            _ => {}
        }
        i += 1;
    }
    false
}

/// Refuses keywords whose value is of the wrong kind, before anything is built on them.
///
/// # Errors
/// Names the keyword.
pub fn check_keywords(node: &Node, path: &str) -> Result<(), SchemaError> {
    let wrong = |key: &str, want: &str| Err(SchemaError::new(&join(path, key), format!("'{key}' must be {want}")));
    for (key, value) in node {
        match key.as_str() {
            "properties" | "$defs" | "definitions" if !value.is_object() => return wrong(key, "an object of schemas"),
            "anyOf" | "oneOf" | "allOf" if value.as_array().is_none_or(|list| list.is_empty()) => {
                return wrong(key, "a list of at least one schema");
            }
            "enum" if !value.is_array() => return wrong(key, "a list of values"),
            "required" if !value.as_array().is_some_and(|list| list.iter().all(Value::is_string)) => {
                return wrong(key, "a list of property names");
            }
            "type" => {
                let known = |t: &Value| TYPES.iter().any(|known| t == known);
                if !(known(value) || value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(known))) {
                    return wrong(key, &format!("one of {} or a list of these, not {value}", TYPES.join(", ")));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
