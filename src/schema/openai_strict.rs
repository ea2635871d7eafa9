//! One walk over a schema that makes it strict, and the list of what stands in the way.
//!
//! The numbered steps are those of OpenAI's Python SDK, `to_strict_json_schema`, in its order.

use super::SchemaError;
use super::keywords::{allows, check_keywords, implied_type, is_annotation, looks_around};
use super::merge::{self, conjunction, flatten};
use super::refs::{self, MAX_DEPTH, encloses, join};
use super::report::{Report, asserts};
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
const OBJECTS: merge::Objects = merge::Objects { all_required: true, closed: true };
/// Inlining references may multiply a schema; past this many nodes references stay and lose their siblings instead.
const NODE_BUDGET: usize = 20_000;

pub struct Strict<'a> {
    root: &'a Value,
    pub dropped: Report<'a>,
    pub blockers: Report<'a>,
    /// References with keywords beside them stay references, below the root: that is smaller, and drops constraints.
    keeps_references: bool,
    /// The places from which references were followed to where we are.
    inlining: Vec<String>,
    depth: usize,
    nodes: usize,
}

pub fn loose_reason(why: &str) -> String {
    format!(
        "{why}; the schema is sent with strict: false, so OpenAI takes all of it as a hint and only local validation enforces it"
    )
}

impl<'a> Strict<'a> {
    pub fn new(root: &'a Value, keeps_references: bool) -> Self {
        let (dropped, blockers) = (Report::new(root), Report::new(root));
        Self { root, dropped, blockers, keeps_references, inlining: Vec::new(), depth: 0, nodes: 0 }
    }

    pub fn normalize(&mut self, schema: &Value, path: &str) -> Result<Value, SchemaError> {
        let node = match schema {
            Value::Object(node) => node,
            Value::Bool(_) => {
                self.block(path, "", "a boolean schema has no type");
                return Ok(schema.clone());
            }
            _ => {
                return Err(SchemaError::new(path, "a schema must be an object (or true, or false)"));
            }
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
        let mut node = if node.contains_key("oneOf") { self.any_of_one_of(node, path) } else { node.clone() };
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
                let own = node.get(key).filter(|_| key == "description");
                let value = own.map_or_else(|| value.clone(), |own| merge::both_descriptions(own, value));
                node.insert(key.clone(), value);
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
        let Some(reference) = refs::reference(&node, path)?.map(str::to_owned) else {
            return Ok(node);
        };
        let (pointer, target) = refs::resolve(self.root, &reference, path)?;
        if !self.may_inline(&pointer, path) {
            return Ok(self.around(&node, path));
        }
        self.inlining.push(path.to_owned());
        let done = self.normalize(target, &pointer);
        self.inlining.pop();
        let target = match done? {
            Value::Object(target) if !target.contains_key("$ref") => target,
            _ => return Ok(self.around(&node, path)),
        };
        node.shift_remove("$ref");
        for (key, value) in target {
            node.entry(key).or_insert(value);
        }
        Ok(node)
    }

    fn may_inline(&self, pointer: &str, path: &str) -> bool {
        let expanding = encloses(pointer, path) || self.inlining.iter().any(|place| encloses(pointer, place));
        !expanding && self.nodes < NODE_BUDGET && (!self.keeps_references || path.is_empty())
    }

    /// The reference in an `anyOf`, for strict mode takes no keyword beside it: what describes this place stays.
    fn around(&mut self, node: &Node, path: &str) -> Node {
        let describes = |key: &str| matches!(key, "title" | "description");
        let described = node.keys().any(|key| describes(key));
        let mut around = Node::new();
        for (key, value) in node {
            match key.as_str() {
                "$ref" if described => drop(around.insert("anyOf".to_owned(), json!([{"$ref": value}]))),
                "$ref" | "title" | "description" | "$defs" | "definitions" => {
                    around.insert(key.clone(), value.clone());
                }
                _ if asserts(key, value) => {
                    self.dropped.add(path, key, "OpenAI takes no keyword beside a '$ref' that stays one");
                }
                _ => {}
            }
        }
        around
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
        let Some(reference) = refs::reference(node, path)? else {
            return Ok(None);
        };
        let aside = |key: &str| is_annotation(key) || matches!(key, "$ref" | "$defs" | "definitions" | "allOf");
        if node.keys().all(|key| aside(key)) {
            return Ok(None);
        }
        let (pointer, target) = refs::resolve(self.root, reference, path)?;
        if !self.may_inline(&pointer, path) {
            return Ok(Some((self.around(node, path), vec![pointer])));
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

    fn any_of_one_of(&mut self, node: &Node, path: &str) -> Node {
        if node.contains_key("anyOf") {
            self.block(path, "oneOf", "a reference brings an 'anyOf' beside it");
            return node.clone();
        }
        let branches = node.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !merge::exclusive(self.root, branches, OBJECTS) {
            self.dropped.add(path, "oneOf", "sent as 'anyOf': OpenAI does not check that only one branch fits");
        }
        refs::renamed(node, "oneOf", "anyOf")
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
        let Some(Value::Object(properties)) = node.get("properties").cloned() else {
            return Ok(());
        };
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
                "format" if !FORMATS.iter().any(|f| value == f) => {
                    format!("OpenAI does not accept the format {value}")
                }
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

    pub fn block(&mut self, path: &str, keyword: &str, why: &str) {
        self.blockers.add(path, keyword, loose_reason(why));
    }
}

fn is_object(node: &Node) -> bool {
    allows(node, "object")
}
