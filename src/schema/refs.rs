//! Finding one's way in a JSON Schema: JSON pointers, `$ref`, and the places where a schema can hold another one.
//!
//! Only those places are ever walked. The values under `enum`, `const`, `default` and `examples` are data, and the keys
//! under `properties` are names, however much they look like keywords.

use super::SchemaError;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Keywords whose value is one schema. (`items` may also be a list: the tuple form of older drafts.)
const ONE: [&str; 12] = [
    "items",
    "additionalProperties",
    "additionalItems",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords whose value is a list of schemas.
const LIST: [&str; 5] = ["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value maps names to schemas.
const NAMED: [&str; 5] = ["$defs", "definitions", "properties", "patternProperties", "dependentSchemas"];

/// How deep a schema may nest, and how deep references may lead on: the limit of the JSON parsers on both ends.
pub const MAX_DEPTH: usize = 128;

/// `path` with one more token, escaped as RFC 6901 wants it.
pub fn join(path: &str, token: &str) -> String {
    format!("{path}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// Whether `pointer` names `path` itself or something around it.
pub fn encloses(pointer: &str, path: &str) -> bool {
    path.strip_prefix(pointer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Calls `visit` with every schema directly inside `node` and its pointer relative to `node`.
pub fn each_child<'a>(node: &'a Map<String, Value>, visit: &mut dyn FnMut(String, &'a Value)) {
    for (key, value) in node {
        let at = join("", key);
        match value {
            Value::Object(map) if NAMED.contains(&key.as_str()) => {
                map.iter().for_each(|(name, child)| visit(join(&at, name), child));
            }
            Value::Array(list) if LIST.contains(&key.as_str()) => {
                for (i, child) in list.iter().enumerate() {
                    visit(join(&at, &i.to_string()), child);
                }
            }
            Value::Object(_) | Value::Bool(_) if ONE.contains(&key.as_str()) => visit(at, value),
            _ => {}
        }
    }
}

/// Calls `visit` with every schema directly inside `node`.
pub fn each_child_mut(node: &mut Map<String, Value>, visit: &mut dyn FnMut(&mut Value)) {
    for (key, value) in node {
        match value {
            Value::Object(map) if NAMED.contains(&key.as_str()) => map.values_mut().for_each(&mut *visit),
            Value::Array(list) if LIST.contains(&key.as_str()) => list.iter_mut().for_each(&mut *visit),
            Value::Object(_) | Value::Bool(_) if ONE.contains(&key.as_str()) => visit(value),
            _ => {}
        }
    }
}

/// Calls `visit` with every schema in `schema`, itself first, and its pointer.
pub fn walk<'a>(schema: &'a Value, path: &str, visit: &mut dyn FnMut(&str, &'a Map<String, Value>)) {
    if let Value::Object(node) = schema {
        visit(path, node);
        each_child(node, &mut |at, child| walk(child, &format!("{path}{at}"), visit));
    }
}

/// Calls `visit` with every schema in `schema`, inner ones first.
pub fn walk_mut(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    if let Value::Object(node) = schema {
        each_child_mut(node, &mut |child| walk_mut(child, visit));
        visit(node);
    }
}

/// The JSON pointer that a local reference (`#`, `#/...`) stands for; `None` for any other reference.
pub fn pointer(reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return None;
    }
    Some(percent_decode_str(fragment).decode_utf8_lossy().into_owned())
}

/// Looks up a local reference. A name with a bare `%` in it is found as well as its encoded form.
pub fn lookup<'a>(root: &'a Value, reference: &str) -> Option<(String, &'a Value)> {
    let decoded = pointer(reference)?;
    if let Some(found) = root.pointer(&decoded) {
        return Some((decoded, found));
    }
    let literal = &reference[1..];
    root.pointer(literal).map(|found| (literal.to_owned(), found))
}

/// Follows a reference to the first schema that is more than a reference itself.
///
/// # Errors
/// For a reference that leaves the document, leads nowhere, or leads only to itself. `at` is where it stands.
pub fn resolve<'a>(root: &'a Value, reference: &str, at: &str) -> Result<(String, &'a Value), SchemaError> {
    let mut reference = reference;
    let mut seen: Vec<String> = Vec::new();
    loop {
        if pointer(reference).is_none() {
            return Err(SchemaError::new(
                at,
                format!(
                    "the reference {reference:?} leaves the schema; only references inside it ('#/$defs/Name') are followed, \
                     nothing is fetched: copy the target into '$defs'"
                ),
            ));
        }
        let Some((pointer, target)) = lookup(root, reference) else {
            return Err(SchemaError::new(
                at,
                format!("the reference {reference:?} points to nothing: add the definition or correct the name"),
            ));
        };
        if seen.contains(&pointer) {
            return Err(SchemaError::new(
                at,
                format!("the reference {reference:?} leads only back to itself: give one of the definitions a content"),
            ));
        }
        match target {
            Value::Object(node) if node.len() == 1 => match node.get("$ref") {
                Some(Value::String(next)) => {
                    seen.push(pointer);
                    reference = next;
                }
                _ => return Ok((pointer, target)),
            },
            _ => return Ok((pointer, target)),
        }
    }
}

/// The text of a node's `$ref`.
///
/// # Errors
/// If there is one that is not a string.
pub fn reference<'a>(node: &'a Map<String, Value>, path: &str) -> Result<Option<&'a str>, SchemaError> {
    match node.get("$ref") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(SchemaError::new(path, "'$ref' must be a string such as '#/$defs/Name'")),
    }
}

/// Refuses a value nested deeper than [`MAX_DEPTH`], so that every later recursion over it is safe.
///
/// # Errors
/// Names the outermost keys that lead there.
pub fn check_depth(schema: &Value) -> Result<(), SchemaError> {
    fn too_deep(value: &Value, depth: usize) -> bool {
        match value {
            Value::Array(_) | Value::Object(_) if depth == 0 => true,
            Value::Array(list) => list.iter().any(|v| too_deep(v, depth - 1)),
            Value::Object(map) => map.values().any(|v| too_deep(v, depth - 1)),
            _ => false,
        }
    }
    if too_deep(schema, MAX_DEPTH) {
        let message = format!("the schema nests deeper than {MAX_DEPTH} levels: move inner parts to '$defs'");
        return Err(SchemaError::new("", message));
    }
    Ok(())
}

/// Every reference of a schema: where it stands and where it leads.
pub struct References {
    edges: Vec<(String, String)>,
}

impl References {
    /// # Errors
    /// See [`resolve`].
    pub fn of(root: &Value) -> Result<Self, SchemaError> {
        let mut edges = Vec::new();
        let mut failed = None;
        walk(root, "", &mut |path, node| match reference(node, path) {
            Ok(Some(text)) => match resolve(root, text, path) {
                Ok((target, _)) => edges.push((path.to_owned(), target)),
                Err(error) => failed = failed.take().or(Some(error)),
            },
            Ok(None) => {}
            Err(error) => failed = failed.take().or(Some(error)),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self { edges }),
        }
    }

    /// Whether the schema at `from`, or anything it refers to, contains the place `to`.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        let mut open = vec![from];
        let mut seen: Vec<&str> = Vec::new();
        while let Some(at) = open.pop() {
            if encloses(at, to) {
                return true;
            }
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            open.extend(self.edges.iter().filter(|(place, _)| encloses(at, place)).map(|(_, target)| target.as_str()));
        }
        false
    }

    /// The references that lead back to a schema around themselves: the recursive ones.
    pub fn recursive(&self) -> impl Iterator<Item = &(String, String)> {
        self.edges.iter().filter(|(place, target)| self.reaches(target, place))
    }
}
