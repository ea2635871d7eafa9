//! OpenAI's strict subset: closed objects, every property required, no composition but `anyOf`.
//!
//! The steps and the order of keys are those of the official Python SDK (`to_strict_json_schema`); what it gets wrong
//! (`oneOf`, chains of references, keywords that the API refuses) is put right here. Closing objects and requiring every
//! property only narrows the schema. Where narrowing cannot help, the caller's own schema goes out with `strict: false`.

use super::openai_strict::{Strict, loose_reason};
use super::refs;
use super::report::Report;
use super::{Compiled, SchemaError, limits, wrap};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

/// As the SDK does it, references with keywords beside them inlined; unless that goes beyond OpenAI's limits.
pub fn compile(root: &Value) -> Result<Compiled, SchemaError> {
    refs::References::of(root)?;
    refuse_double_choice(root)?;
    let inlined = compile_as(root, false)?;
    if inlined.over_limit.is_none() {
        return Ok(inlined);
    }
    let smaller = compile_as(root, true)?;
    Ok(if smaller.strict { smaller } else { inlined })
}

fn compile_as(root: &Value, keeps_references: bool) -> Result<Compiled, SchemaError> {
    let mut strict = Strict::new(root, keeps_references);
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
    if !has_finite_answer(&schema) {
        strict.block("", "required", "it contains itself, and with every property required no answer would ever end");
    }
    if !strict.blockers.is_empty() {
        let (schema, wrapped) = loose(root)?;
        return Ok(Compiled {
            schema,
            wrapped,
            strict: false,
            unenforced: strict.blockers.into_entries(),
            over_limit: None,
        });
    }
    // A definition that is nothing but `allOf` of itself has become a reference to itself.
    refs::References::of(&schema)?;
    let wrapped = !is_object_root(&schema);
    let schema = if wrapped { wrap(schema) } else { schema };
    let over_limit = limits::openai(&schema).map(|it| it.in_schema_of(root, wrapped));
    Ok(Compiled { schema, wrapped, strict: true, unenforced: strict.dropped.into_entries(), over_limit })
}

/// `oneOf` is sent as `anyOf`, which leaves no place for a second one.
fn refuse_double_choice(root: &Value) -> Result<(), SchemaError> {
    let mut found = None;
    refs::walk(root, "", &mut |path, node| {
        if node.contains_key("oneOf") && node.contains_key("anyOf") {
            found.get_or_insert_with(|| path.to_owned());
        }
    });
    match found {
        None => Ok(()),
        Some(path) => {
            let message =
                "'oneOf' beside 'anyOf' cannot be sent, OpenAI knows only 'anyOf': write the combinations out";
            Err(SchemaError::new(&path, message))
        }
    }
}

/// The caller's schema with `strict: false`, all of which the provider takes as a hint.
pub fn compile_loosely(root: &Value) -> Result<Compiled, SchemaError> {
    refs::References::of(root)?;
    let (schema, wrapped) = loose(root)?;
    let mut report = Report::new(root);
    report.add("", "strict", "the caller asked for strict: false, so only local validation enforces the schema");
    Ok(Compiled { schema, wrapped, strict: false, unenforced: report.into_entries(), over_limit: None })
}

fn is_object_root(schema: &Value) -> bool {
    schema.get("type") == Some(&json!("object")) && schema.get("anyOf").is_none()
}

/// Whether some answer to a strict schema ends: a recursion needs a way out, such as null or an empty list.
fn has_finite_answer(root: &Value) -> bool {
    let mut targets: HashMap<String, &Value> = HashMap::new();
    refs::walk(root, "", &mut |path, node| {
        if let Some(Ok((pointer, target))) =
            node.get("$ref").and_then(Value::as_str).map(|r| refs::resolve(root, r, path))
        {
            targets.insert(pointer, target);
        }
    });
    let mut ending: HashSet<String> = HashSet::new();
    loop {
        let more: Vec<String> = targets
            .iter()
            .filter(|(pointer, target)| !ending.contains(*pointer) && ends(root, target, &ending))
            .map(|(pointer, _)| pointer.clone())
            .collect();
        if more.is_empty() {
            return ends(root, root, &ending);
        }
        ending.extend(more);
    }
}

fn ends(root: &Value, schema: &Value, ending: &HashSet<String>) -> bool {
    let Some(node) = schema.as_object() else {
        return true;
    };
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        return refs::resolve(root, reference, "").is_ok_and(|(pointer, _)| ending.contains(&pointer));
    }
    if let Some(branches) = node.get("anyOf").and_then(Value::as_array) {
        return branches.iter().any(|branch| ends(root, branch, ending));
    }
    match node.get("type").and_then(Value::as_str) {
        Some("object") => {
            let properties = node.get("properties").and_then(Value::as_object);
            properties.into_iter().flat_map(Map::values).all(|schema| ends(root, schema, ending))
        }
        Some("array") if node.get("minItems").and_then(Value::as_u64).unwrap_or(0) > 0 => {
            node.get("items").is_none_or(|items| ends(root, items, ending))
        }
        _ => true,
    }
}

/// The caller's schema as it is, but for what even `strict: false` wants: `anyOf` for `oneOf`, an object at the root.
fn loose(root: &Value) -> Result<(Value, bool), SchemaError> {
    let mut schema = match root {
        Value::Object(node) => {
            let mut node = node.clone();
            let mut followed = HashSet::from([String::new()]);
            while let Some(reference) = refs::reference(&node, "")? {
                let (pointer, target) = refs::resolve(root, reference, "")?;
                node.shift_remove("$ref");
                if !followed.insert(pointer) {
                    break;
                }
                for (key, value) in target.as_object().into_iter().flatten() {
                    let choice = matches!(key.as_str(), "oneOf" | "anyOf");
                    if choice && (node.contains_key("oneOf") || node.contains_key("anyOf")) {
                        continue;
                    }
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
