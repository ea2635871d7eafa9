//! Gemini's `responseSchema`: a schema object of OpenAPI 3.0, typed by a protocol buffer, where one unknown key is a 400.
//!
//! No references, so every target comes in; `nullable` for null; types in capitals, as the live API and the official SDK
//! write them. What this form has no words for is a [`SchemaError`], so that the caller can take another form.

use super::gemini::{FORMATS, NODE_BUDGET, OBJECTS, inclusive_bounds};
use super::keywords::{check_keywords, implied_type, is_annotation, split_types};
use super::merge::{self, conjunction, flatten};
use super::refs::{self, References, join};
use super::report::{Report, asserts, describe};
use super::{Compiled, SchemaError};
use serde_json::{Map, Value};

type Node = Map<String, Value>;

/// Fields that go over as they are (the `Schema` message of the Gemini API).
const FIELDS: [&str; 12] = [
    "title",
    "description",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "required",
];

pub fn compile(root: &Value) -> Result<Compiled, SchemaError> {
    if let Some((place, target)) = References::of(root)?.recursive().next() {
        return Err(SchemaError::new(
            place,
            format!("responseSchema takes no recursion, and '#{target}' contains itself"),
        ));
    }
    let mut writer = Writer { root, report: Report::new(root), nodes: 0 };
    let schema = writer.schema(root, "")?;
    Ok(Compiled { schema, wrapped: false, strict: true, unenforced: writer.report.into_entries(), over_limit: None })
}

struct Writer<'a> {
    root: &'a Value,
    report: Report<'a>,
    nodes: usize,
}

fn fail<T>(path: &str, what: &str) -> Result<T, SchemaError> {
    Err(SchemaError::new(path, format!("Gemini's responseSchema has no words for {what}: use responseJsonSchema")))
}

impl Writer<'_> {
    fn schema(&mut self, schema: &Value, path: &str) -> Result<Value, SchemaError> {
        self.nodes += 1;
        if self.nodes > NODE_BUDGET {
            return fail(path, "so large a schema (every reference comes in)");
        }
        let Some(node) = schema.as_object() else {
            return fail(path, "a schema that allows anything or nothing");
        };
        check_keywords(node, path)?;
        let Some((node, _)) = flatten(self.root, node) else {
            return fail(path, "references or 'allOf' whose parts do not merge");
        };
        self.node(node, path).map(Value::Object)
    }

    fn node(&mut self, mut node: Node, path: &str) -> Result<Node, SchemaError> {
        if node.contains_key("oneOf") && !node.contains_key("anyOf") {
            let branches = node.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
            if !merge::exclusive(self.root, &branches, OBJECTS) {
                self.report.add(path, "oneOf", "sent as 'anyOf': Gemini does not check that only one branch fits");
            }
            node = refs::renamed(&node, "oneOf", "anyOf");
        }
        let mut nullable = literals(&mut node, path)?;
        if let Some(Value::Array(kinds)) = node.get_mut("type") {
            let before = kinds.len();
            if before > 1 {
                kinds.retain(|kind| kind != "null");
                nullable |= kinds.len() < before;
            }
        }
        node = split_types(&node).unwrap_or(node);
        if node.get("type").is_some_and(Value::is_array) {
            return fail(path, "a list of types beside 'anyOf'");
        }
        let (mut node, branches) = self.alternatives(node, path, &mut nullable)?;
        inclusive_bounds(&mut node, |key| self.report.add(path, key, "responseSchema knows only the inclusive bound"));
        let mut out = Node::new();
        if nullable {
            out.insert("nullable".to_owned(), true.into());
        }
        match branches {
            Some(branches) => {
                out.insert("anyOf".to_owned(), branches.into());
            }
            None => self.typed(&node, path, &mut out)?,
        }
        self.fields(node, path, &mut out);
        Ok(out)
    }

    /// Takes `anyOf` apart: null becomes `nullable`, a single alternative becomes the node itself.
    fn alternatives(
        &mut self,
        mut node: Node,
        path: &str,
        nullable: &mut bool,
    ) -> Result<(Node, Option<Vec<Value>>), SchemaError> {
        let Some(Value::Array(branches)) = node.shift_remove("anyOf") else {
            return Ok((node, None));
        };
        let mut kept = Vec::new();
        for (i, branch) in branches.iter().enumerate() {
            let at = join(&join(path, "anyOf"), &i.to_string());
            let Some((flat, _)) = branch.as_object().and_then(|b| flatten(self.root, b)) else {
                return fail(&at, "references or 'allOf' whose parts do not merge");
            };
            if flat.get("type") == Some(&"null".into()) {
                *nullable = true;
            } else {
                kept.push((at, flat));
            }
        }
        if let [(at, only)] = &kept[..] {
            let Some(merged) = conjunction(&node, only) else {
                return fail(path, "keywords beside 'anyOf'");
            };
            let done = self.alternatives_again(merged, at, nullable)?;
            return Ok(done);
        }
        if node
            .iter()
            .any(|(key, value)| key != "type" && key != "$defs" && key != "definitions" && asserts(key, value))
        {
            return fail(path, "constraints beside 'anyOf'");
        }
        node.shift_remove("type");
        if kept.is_empty() {
            node.insert("type".to_owned(), "null".into());
            return Ok((node, None));
        }
        let done: Result<Vec<Value>, SchemaError> =
            kept.into_iter().map(|(at, branch)| self.schema(&branch.into(), &at)).collect();
        Ok((node, Some(done?)))
    }

    /// The one alternative left may hold literals, types and alternatives of its own.
    fn alternatives_again(
        &mut self,
        mut node: Node,
        path: &str,
        nullable: &mut bool,
    ) -> Result<(Node, Option<Vec<Value>>), SchemaError> {
        *nullable |= literals(&mut node, path)?;
        node = split_types(&node).unwrap_or(node);
        if node.contains_key("oneOf") {
            return fail(path, "'oneOf' as the only alternative to null");
        }
        self.alternatives(node, path, nullable)
    }

    fn typed(&mut self, node: &Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        let kind = node.get("type").and_then(Value::as_str).or_else(|| implied_type(node));
        let Some(kind) = kind else {
            return fail(path, "a schema that allows anything");
        };
        out.insert("type".to_owned(), kind.to_uppercase().into());
        if let Some(values) = node.get("enum") {
            out.insert("enum".to_owned(), values.clone());
        }
        match kind {
            "object" => self.object(node, path, out),
            "array" => {
                if node.contains_key("prefixItems") || node.get("items").is_some_and(Value::is_array) {
                    return fail(path, "a tuple");
                }
                let Some(items) = node.get("items") else {
                    return fail(path, "an array of anything");
                };
                let done = self.schema(items, &join(path, "items"))?;
                out.insert("items".to_owned(), done);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn object(&mut self, node: &Node, path: &str, out: &mut Node) -> Result<(), SchemaError> {
        match node.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                self.report.add(path, "additionalProperties", "responseSchema cannot close an object");
            }
            Some(_) => return fail(path, "'additionalProperties'"),
            None => {}
        }
        if node.contains_key("patternProperties") {
            return fail(path, "'patternProperties'");
        }
        let properties = node.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty());
        let Some(properties) = properties else {
            return fail(path, "an object without 'properties'");
        };
        let listed = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
        if let Some(name) = node.get("required").and_then(Value::as_array).and_then(|r| r.iter().find(|n| !listed(n))) {
            return fail(path, &format!("{name} in 'required', which 'properties' does not describe"));
        }
        let at = join(path, "properties");
        let mut done = Node::new();
        for (name, schema) in properties {
            done.insert(name.clone(), self.schema(schema, &join(&at, name))?);
        }
        if done.len() > 1 {
            // Without it the answer's keys come in the order of the alphabet.
            out.insert("propertyOrdering".to_owned(), done.keys().map(|k| Value::from(k.as_str())).collect());
        }
        out.insert("properties".to_owned(), done.into());
        Ok(())
    }

    fn fields(&mut self, node: Node, path: &str, out: &mut Node) {
        const DONE: [&str; 8] = [
            "type",
            "enum",
            "properties",
            "items",
            "additionalProperties",
            "$defs",
            "definitions",
            "unevaluatedProperties",
        ];
        let mut hints = Vec::new();
        for (key, value) in node {
            let known = FIELDS.contains(&key.as_str()) || (key == "format" && FORMATS.iter().any(|f| &value == f));
            if known {
                out.insert(key, value);
            } else if asserts(&key, &value) && !DONE.contains(&key.as_str()) && !is_annotation(&key) {
                let reason = format!("Gemini does not enforce '{key}'; it is told to the model in the description");
                self.report.add(path, &key, reason);
                hints.push((key, value));
            }
        }
        if !hints.is_empty() {
            let text = describe(out.get("description").and_then(Value::as_str), &hints);
            out.insert("description".to_owned(), text.into());
        }
    }
}

/// `enum` of strings, with null as `nullable`; `const` as an `enum` of one. Tells whether null was among the values.
fn literals(node: &mut Node, path: &str) -> Result<bool, SchemaError> {
    let values = match (node.shift_remove("const"), node.get("enum")) {
        (Some(Value::Null), _) => {
            node.insert("type".to_owned(), "null".into());
            return Ok(false);
        }
        (Some(value), _) => vec![value],
        (None, Some(Value::Array(values))) => values.clone(),
        (None, _) => return Ok(false),
    };
    let (nulls, rest): (Vec<Value>, Vec<Value>) = values.into_iter().partition(Value::is_null);
    if rest.is_empty() || !rest.iter().all(Value::is_string) {
        return fail(path, "literals that are not strings");
    }
    node.insert("type".to_owned(), "string".into());
    node.insert("enum".to_owned(), rest.into());
    Ok(!nulls.is_empty())
}
