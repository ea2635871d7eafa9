//! Anthropic's subset: closed objects, no recursion, no bounds; optional properties may stay optional.
//!
//! The official Python SDK's `transform_schema`, key order included: what the API does not enforce is told to the model in
//! the description. Where the SDK silently sends something else than was asked for (a dict becomes an empty object, `allOf`
//! of objects fits nothing), this is a [`SchemaError`] or is put right.

use super::keywords::{self, ANNOTATIONS, check_keywords, implied_type, split_types};
use super::merge::{self, distribute, flatten};
use super::refs::{self, callers, join};
use super::report::{Report, asserts, describe};
use super::{Compiled, SchemaError, limits, wrap};
use serde_json::{Map, Value, json};

type Node = Map<String, Value>;

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
const OBJECTS: merge::Objects = merge::Objects { all_required: false, closed: true };
const NODE_BUDGET: usize = 20_000;

/// What becomes of a reference with keywords beside it, which Anthropic does not take.
#[derive(Clone, Copy)]
enum Beside {
    /// It goes into an `anyOf`, with what describes this place beside that: nothing is lost, but it counts as a union.
    Around,
    /// Its target comes in: it counts as many optional properties as that has.
    Inline,
    /// It goes alone, and the report says what is lost.
    Alone,
}

/// The most faithful form that keeps to Anthropic's limits; if none does, the smallest.
pub fn compile(caller: &Value) -> Result<Compiled, SchemaError> {
    let root = refs::with_defs(caller);
    let references = refs::References::of(&root).map_err(|e| SchemaError::new(&callers(caller, &e.path), e.message))?;
    if let Some((place, target)) = references.recursive().next() {
        let message = format!(
            "Anthropic takes no recursive schema, and '#{target}' contains itself: write the levels out or use another provider"
        );
        return Err(SchemaError::new(&callers(caller, place), message));
    }
    let faithful = compile_as(caller, &root, Beside::Around)?;
    if faithful.over_limit.is_none() {
        return Ok(faithful);
    }
    match compile_as(caller, &root, Beside::Inline) {
        Ok(inlined) if inlined.over_limit.is_none() => Ok(inlined),
        _ => compile_as(caller, &root, Beside::Alone),
    }
}

fn compile_as(caller: &Value, root: &Value, beside: Beside) -> Result<Compiled, SchemaError> {
    let mut transform = Transform { root, caller, beside, report: Report::new(caller), nodes: 0 };
    let mut schema = transform.schema(root, "")?;
    refs::follow_any_of(&mut schema);
    refs::References::of(&schema).map_err(|error| {
        SchemaError::new(
            &error.path,
            format!("{}; Anthropic's form of the schema has moved it: refer to '$defs'", error.message),
        )
    })?;
    let wrapped = !is_object_root(&schema);
    let schema = if wrapped { wrap(schema) } else { schema };
    let over_limit = limits::anthropic(&schema).map(|it| it.in_schema_of(caller, wrapped));
    Ok(Compiled { schema, wrapped, strict: true, unenforced: transform.report.into_entries(), over_limit })
}

fn is_object_root(schema: &Value) -> bool {
    let target = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => refs::resolve(schema, reference, "").ok().map(|(_, target)| target),
        None => Some(schema),
    };
    target.is_some_and(|t| {
        t.get("type") == Some(&json!("object")) && t.get("anyOf").is_none() && t.get("allOf").is_none()
    })
}

/// A value that JSON Schema compares without looking inside.
fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

struct Transform<'a> {
    root: &'a Value,
    caller: &'a Value,
    beside: Beside,
    report: Report<'a>,
    nodes: usize,
}

impl Transform<'_> {
    fn schema(&mut self, schema: &Value, path: &str) -> Result<Value, SchemaError> {
        self.nodes += 1;
        if self.nodes > NODE_BUDGET {
            return self.fail(path, format!("the schema grows beyond {NODE_BUDGET} parts: simplify its definitions"));
        }
        match schema {
            Value::Object(node) => self.node(node, path).map(Value::Object),
            Value::Bool(_) => self.fail(path, "Anthropic takes no boolean schema: give it a type"),
            _ => self.fail(path, "a schema must be an object"),
        }
    }

    fn fail<T>(&self, path: &str, message: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError::new(&callers(self.caller, path), message))
    }

    fn unenforced(&mut self, path: &str, keyword: &str, reason: &str) {
        self.report.add(&callers(self.caller, path), keyword, reason);
    }

    fn node(&mut self, node: &Node, path: &str) -> Result<Node, SchemaError> {
        check_keywords(node, path)?;
        let mut left = node.clone();
        left.retain(|key, _| !matches!(key.as_str(), "$schema" | "$id"));
        let mut out = Node::new();
        if let Some(Value::Object(defs)) = left.shift_remove("$defs") {
            out.insert("$defs".to_owned(), self.named(&defs, &join(path, "$defs"))?);
        }
        if !path.is_empty() {
            merge::lift_reference(&mut left);
        }
        if left.contains_key("allOf") && left.get("allOf").is_some_and(|all| self.merges(all)) {
            left = self.merge_all_of(left, path)?;
        }
        if let Some(reference) = refs::reference(&left, path)?.map(str::to_owned) {
            self.reference(&reference, left, path, &mut out)?;
            return Ok(out);
        }
        let literal = self.literals(&mut left, &mut out);
        if !literal {
            left = split_types(&left).unwrap_or(left);
        }
        if left.contains_key("oneOf") && !left.contains_key("anyOf") {
            self.check_one_of(&left, path);
            left = refs::renamed(&left, "oneOf", "anyOf");
        }
        if left.contains_key("anyOf") && left.contains_key("properties") {
            match distribute(self.root, &left) {
                Some(spread) => left = spread,
                None => {
                    return self.fail(
                        path,
                        "properties beside 'anyOf' do not merge into its branches: write each branch out in full",
                    );
                }
            }
        }
        let kind = self.kind_or_composition(&mut left, path, literal, &mut out)?;
        for key in ["description", "title"] {
            if let Some(text) = left.shift_remove(key) {
                out.insert(key.to_owned(), text);
            }
        }
        let composed = out.contains_key("anyOf") || out.contains_key("allOf");
        match kind.as_deref() {
            Some("object") if !composed && !literal => self.object(&mut left, path, &mut out)?,
            None if literal && !composed => {
                keep_or_last(&mut left, &mut out, "format", |v| FORMATS.iter().any(|f| v == f))
            }
            Some("string") if !composed => {
                keep_or_last(&mut left, &mut out, "format", |v| FORMATS.iter().any(|f| v == f))
            }
            Some("array") if !literal && !composed => self.array(&mut left, path, &mut out)?,
            _ => {}
        }
        self.describe_rest(left, path, &mut out);
        Ok(out)
    }

    fn named(&mut self, schemas: &Node, path: &str) -> Result<Value, SchemaError> {
        let done: Result<Node, SchemaError> =
            schemas.iter().map(|(name, schema)| Ok((name.clone(), self.schema(schema, &join(path, name))?))).collect();
        done.map(Value::Object)
    }

    /// Whether branches of `allOf` must be merged: closed objects contradict each other, and the API takes no `$ref` there.
    fn merges(&self, all_of: &Value) -> bool {
        all_of.as_array().into_iter().flatten().any(|branch| {
            branch.as_object().is_some_and(|b| {
                let object = b.get("type").is_some_and(|kind| keywords::has_type(&json!({}), kind))
                    || implied_type(b) == Some("object");
                object
                    || ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| b.contains_key(*key))
                    || b.get("type").is_some_and(Value::is_array)
            })
        })
    }

    fn merge_all_of(&mut self, left: Node, path: &str) -> Result<Node, SchemaError> {
        match flatten(self.root, &left) {
            Some((merged, _)) => Ok(merged),
            None => self.fail(path, "the branches of 'allOf' do not merge into one schema: write it out as one"),
        }
    }

    /// A reference, and what stands beside it in words.
    fn reference(&mut self, reference: &str, mut node: Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        let (pointer, target) = refs::resolve(self.root, reference, path)?;
        node.shift_remove("$ref");
        // A root in an `anyOf` would be no object.
        let beside = if path.is_empty() { Beside::Inline } else { self.beside };
        if matches!(beside, Beside::Alone) {
            for (key, value) in &node {
                if matches!(key.as_str(), "description" | "title" | "default" | "examples") || asserts(key, value) {
                    let reason = "beside '$ref' it is not sent: with it the schema would be beyond Anthropic's limits";
                    self.unenforced(path, key, reason);
                }
            }
            node.clear();
        }
        let mut told = Node::new();
        for key in ["description", "title"] {
            told.extend(node.shift_remove(key).map(|text| (key.to_owned(), text)));
        }
        self.describe_rest(node, path, &mut told);
        if told.is_empty() {
            out.insert("$ref".to_owned(), reference.into());
        } else if matches!(beside, Beside::Around) {
            out.insert("anyOf".to_owned(), json!([{"$ref": reference}]));
            out.extend(told);
        } else if let Value::Object(inlined) = self.schema(target, &pointer)? {
            out.extend(inlined);
            for (key, ours) in told {
                let theirs = out.get(&key).filter(|_| key == "description");
                let both = theirs.map_or_else(|| ours.clone(), |theirs| merge::both_descriptions(&ours, theirs));
                out.insert(key, both);
            }
        }
        Ok(())
    }

    /// Moves scalar `enum` and `const` over. They make `type` superfluous.
    fn literals(&mut self, left: &mut Node, out: &mut Node) -> bool {
        let simple = |key: &str, value: &Value| match key {
            "enum" => value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_scalar)),
            _ => is_scalar(value),
        };
        for key in ["enum", "const"] {
            if left.get(key).is_some_and(|value| simple(key, value)) {
                if let Some(value) = left.shift_remove(key) {
                    out.insert(key.to_owned(), value);
                }
            }
        }
        out.contains_key("enum") || out.contains_key("const")
    }

    fn check_one_of(&mut self, node: &Node, path: &str) {
        let branches = node.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if !merge::exclusive(self.root, branches, OBJECTS) {
            self.unenforced(path, "oneOf", "sent as 'anyOf': Anthropic does not check that only one branch fits");
        }
    }

    /// The type, unless a composition or a literal stands for it. The first composition wins, the others are only checked here.
    fn kind_or_composition(
        &mut self,
        left: &mut Node,
        path: &str,
        literal: bool,
        out: &mut Node,
    ) -> Result<Option<String>, SchemaError> {
        let kind = match left.shift_remove("type") {
            Some(Value::String(kind)) => Some(kind),
            Some(list) if !literal => {
                self.unenforced(path, "type", &format!("Anthropic takes no list of types beside 'anyOf': {list}"));
                None
            }
            _ => None,
        };
        let composition = ["anyOf", "allOf"].into_iter().find(|key| left.contains_key(*key));
        if let Some(key) = composition {
            let Some(Value::Array(branches)) = left.shift_remove(key) else {
                return Ok(kind);
            };
            let at = join(path, key);
            let at = if self.root.pointer(&at).is_some() { at } else { join(path, "oneOf") };
            let done: Result<Vec<Value>, SchemaError> =
                branches.iter().enumerate().map(|(i, b)| self.schema(b, &join(&at, &i.to_string()))).collect();
            out.insert(key.to_owned(), done?.into());
            for other in ["oneOf", "allOf"] {
                if left.shift_remove(other).is_some() {
                    self.unenforced(
                        path,
                        other,
                        &format!("Anthropic takes one composition in a place, '{key}' was sent"),
                    );
                }
            }
            return Ok(kind);
        }
        if literal {
            return Ok(kind);
        }
        let Some(kind) = kind.or_else(|| implied_type(left).map(str::to_owned)) else {
            return self.fail(
                path,
                "Anthropic takes no schema that allows anything: give it a 'type', 'anyOf', 'enum' or 'const'",
            );
        };
        out.insert("type".to_owned(), kind.as_str().into());
        Ok(Some(kind))
    }

    fn object(&mut self, left: &mut Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        let listed = left.shift_remove("properties");
        let empty = listed.as_ref().and_then(Value::as_object).is_none_or(Map::is_empty);
        let open = left.shift_remove("additionalProperties");
        let is_map = match &open {
            Some(Value::Object(_)) => true,
            Some(Value::Bool(true)) => empty,
            _ => {
                empty
                    && ["patternProperties", "enum", "const", "propertyNames", "minProperties"]
                        .iter()
                        .any(|k| left.contains_key(*k))
            }
        };
        if is_map {
            return self.fail(
                path,
                "Anthropic takes only objects whose properties are all listed, no map: list the 'properties', or use a list of \
                 objects with a key and a value",
            );
        }
        if listed.is_none() {
            self.unenforced(
                path,
                "properties",
                "an object without 'properties' is closed: the model can only answer {}",
            );
        }
        let mut properties = match listed {
            Some(Value::Object(properties)) => properties,
            _ => Node::new(),
        };
        // A property that must not exist is one that a closed object does not list.
        properties.retain(|_, schema| schema != &Value::Bool(false));
        let required = left.shift_remove("required");
        let missing = |name: &&Value| name.as_str().is_some_and(|name| !properties.contains_key(name));
        if let Some(name) = required.as_ref().and_then(Value::as_array).and_then(|list| list.iter().find(missing)) {
            return self.fail(
                path,
                format!("'required' names {name}, which 'properties' does not describe: describe it there"),
            );
        }
        out.insert("properties".to_owned(), self.named(&properties, &join(path, "properties"))?);
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
        if let Some(required) = required {
            out.insert("required".to_owned(), required);
        }
        if left.get("unevaluatedProperties") == Some(&Value::Bool(false)) {
            left.shift_remove("unevaluatedProperties");
        }
        Ok(())
    }

    fn array(&mut self, left: &mut Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        if left.contains_key("prefixItems") || left.get("items").is_some_and(Value::is_array) {
            return self.fail(path, "Anthropic takes no tuple: use an object with a property for each part");
        }
        if let Some(items) = left.shift_remove("items") {
            out.insert("items".to_owned(), self.schema(&items, &join(path, "items"))?);
        }
        keep_or_last(left, out, "minItems", |v| matches!(v.as_u64(), Some(0 | 1)));
        Ok(())
    }

    /// What is left goes to the description, for the model to read, and to the report.
    fn describe_rest(&mut self, left: Node, path: &str, out: &mut Node) {
        if left.is_empty() {
            return;
        }
        for (key, value) in
            left.iter().filter(|(key, value)| asserts(key, value) && !ANNOTATIONS.contains(&key.as_str()))
        {
            let reason = format!("Anthropic does not enforce '{key}'; {value} is told to the model in the description");
            self.unenforced(path, key, &reason);
        }
        let left: Vec<(String, Value)> = left.into_iter().filter(|(key, _)| key != "definitions").collect();
        if left.is_empty() {
            return;
        }
        let description = out.get("description").and_then(Value::as_str);
        let text = describe(description, &left);
        out.insert("description".to_owned(), text.into());
    }
}

/// Moves `key` over if it is `fine`; else it becomes the last of what is left, as in the SDK.
fn keep_or_last(left: &mut Node, out: &mut Node, key: &str, fine: impl Fn(&Value) -> bool) {
    if let Some(value) = left.shift_remove(key) {
        let into = if fine(&value) { out } else { left };
        into.insert(key.to_owned(), value);
    }
}
