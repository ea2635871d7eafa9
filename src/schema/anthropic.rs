//! Anthropic's subset: closed objects, no recursion, no bounds; optional properties may stay optional.
//!
//! The official Python SDK's `transform_schema`, key order included: what the API does not enforce is told to the model in
//! the description. Where the SDK silently sends something else than was asked for (a dict becomes an empty object, `allOf`
//! of objects fits nothing), this is a [`SchemaError`] or is put right.

use super::merge::{self, ANNOTATIONS, distribute, flatten, implied_type, split_types};
use super::openai::check_keywords;
use super::refs::{self, join};
use super::report::{Report, asserts, describe};
use super::{Compiled, SchemaError, wrap};
use serde_json::{Map, Value, json};

type Node = Map<String, Value>;

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
const OBJECTS: merge::Objects = merge::Objects { all_required: false, closed: true };
/// Limits of one request over all its schemas (Anthropic's structured outputs guide).
const MOST_OPTIONAL: usize = 24;
const MOST_UNIONS: usize = 16;
const NODE_BUDGET: usize = 20_000;

pub fn compile(caller: &Value) -> Result<Compiled, SchemaError> {
    let root = refs::with_defs(caller);
    let references = refs::References::of(&root).map_err(|e| SchemaError::new(&callers(caller, &e.path), e.message))?;
    if let Some((place, target)) = references.recursive().next() {
        let message = format!(
            "Anthropic takes no recursive schema, and '#{target}' contains itself: write the levels out or use another provider"
        );
        return Err(SchemaError::new(&callers(caller, place), message));
    }
    let mut transform = Transform { root: &root, caller, report: Report::new(caller), nodes: 0 };
    let mut schema = transform.schema(&root, "")?;
    refs::follow_any_of(&mut schema);
    refs::References::of(&schema).map_err(|error| {
        SchemaError::new(
            &error.path,
            format!("{}; Anthropic's form of the schema has moved it: refer to '$defs'", error.message),
        )
    })?;
    let wrapped = !is_object_root(&schema);
    let schema = if wrapped { wrap(schema) } else { schema };
    count_limits(&schema, &mut transform.report);
    Ok(Compiled { schema, wrapped, strict: true, unenforced: transform.report.into_entries() })
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

fn count_limits(schema: &Value, report: &mut Report) {
    let (mut optional, mut unions) = (0, 0);
    refs::walk(schema, "", &mut |_, node| {
        let required = node.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        let properties = node.get("properties").and_then(Value::as_object).map_or(0, Map::len);
        optional += properties.saturating_sub(required);
        unions += usize::from(node.contains_key("anyOf"));
    });
    if optional > MOST_OPTIONAL {
        report.add("", "properties", format!("{optional} optional properties: Anthropic documents at most {MOST_OPTIONAL} a request and may refuse more"));
    }
    if unions > MOST_UNIONS {
        report.add(
            "",
            "anyOf",
            format!("{unions} unions: Anthropic documents at most {MOST_UNIONS} a request and may refuse more"),
        );
    }
}

/// The place in the caller's schema of a place in `root`, whose `definitions` are `$defs`.
pub fn callers(caller: &Value, path: &str) -> String {
    match path.strip_prefix("/$defs/") {
        Some(rest) if caller.pointer(path).is_none() => format!("/definitions/{rest}"),
        _ => path.to_owned(),
    }
}

/// A value that JSON Schema compares without looking inside.
fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

struct Transform<'a> {
    root: &'a Value,
    caller: &'a Value,
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
        if left.contains_key("allOf") && left.get("allOf").is_some_and(|all| self.merges(all)) {
            left = self.merge_all_of(left, path)?;
        }
        if let Some(reference) = refs::reference(&left, path)?.map(str::to_owned) {
            self.reference(&reference, &left, path, &mut out)?;
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
            Some("object") if !composed => self.object(&mut left, path, &mut out)?,
            Some("string") => keep_or_last(&mut left, &mut out, "format", |v| FORMATS.iter().any(|f| v == f)),
            Some("array") => self.array(&mut left, path, &mut out)?,
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
            branch
                .as_object()
                .is_some_and(|b| b.contains_key("$ref") || implied_type(b) == Some("object") || b.contains_key("allOf"))
        })
    }

    fn merge_all_of(&mut self, left: Node, path: &str) -> Result<Node, SchemaError> {
        match flatten(self.root, &left) {
            Some((merged, _)) => Ok(merged),
            None => self.fail(path, "the branches of 'allOf' do not merge into one schema: write it out as one"),
        }
    }

    /// A reference goes alone; a description may stay where the target has none of its own.
    fn reference(&mut self, reference: &str, node: &Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        let (_, target) = refs::resolve(self.root, reference, path)?;
        out.insert("$ref".to_owned(), reference.into());
        for (key, value) in node {
            if key == "description" && target.get("description").is_none() {
                out.insert(key.clone(), value.clone());
            } else if key != "$ref" && asserts(key, value) {
                self.unenforced(path, key, "Anthropic takes no keyword beside '$ref'");
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
            let Some(Value::Array(branches)) = left.shift_remove(key) else { return Ok(kind) };
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
