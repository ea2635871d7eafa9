//! Finding one's way in a JSON Schema: JSON pointers, `$ref`, and the places where a schema can hold another one.
//!
//! Only those places are ever walked. The values under `enum`, `const`, `default` and `examples` are data, and the keys
//! under `properties` are names, however much they look like keywords.

use super::SchemaError;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

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
    path.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

/// Passes a resolved reference on, if the references that follow from it, keywords beside them or not, come to an end.
fn end_of_chain(root: &Value, found: (String, &Value), at: &str) -> Result<String, SchemaError> {
    let (place, mut target) = found;
    let mut seen = HashSet::from([place.clone()]);
    while let Some(Value::String(next)) = target.get("$ref") {
        let (pointer, further) = resolve(root, next, at)?;
        if !seen.insert(pointer) {
            return Err(SchemaError::new(
                at,
                format!("the reference to '#{place}' leads only back to itself: give one of the definitions a content"),
            ));
        }
        target = further;
    }
    Ok(place)
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

/// `definitions` at the root, the older drafts' word, as `$defs`, and the references to it. A name that both have is left.
pub fn with_defs(root: &Value) -> Value {
    let mut root = root.clone();
    let Value::Object(node) = &mut root else {
        return root;
    };
    let Some(Value::Object(old)) = node.get("definitions").cloned() else {
        return root;
    };
    let taken = node.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    if old.keys().any(|name| taken.contains_key(name)) {
        return root;
    }
    if taken.is_empty() {
        node.shift_remove("$defs");
        *node = renamed(node, "definitions", "$defs");
    } else {
        node.shift_remove("definitions");
        node.insert("$defs".to_owned(), taken.into_iter().chain(old).collect());
    }
    walk_mut(&mut root, &mut |node| {
        if let Some(Value::String(text)) = node.get_mut("$ref") {
            if let Some(name) = text.strip_prefix("#/definitions/") {
                *text = format!("#/$defs/{name}");
            }
        }
    });
    root
}

/// The place in the caller's schema of a place in `root`, whose `definitions` are `$defs`.
pub fn callers(caller: &Value, path: &str) -> String {
    match path.strip_prefix("/$defs/") {
        Some(rest) if caller.pointer(path).is_none() => format!("/definitions/{rest}"),
        _ => path.to_owned(),
    }
}

/// `node` with one key renamed in its place.
pub fn renamed(node: &Map<String, Value>, from: &str, to: &str) -> Map<String, Value> {
    node.iter().map(|(k, v)| (if k == from { to.to_owned() } else { k.clone() }, v.clone())).collect()
}

/// Mends references that led through a `oneOf` which has become an `anyOf`.
pub fn follow_any_of(schema: &mut Value) {
    let whole = schema.clone();
    walk_mut(schema, &mut |node| {
        if let Some(Value::String(text)) = node.get_mut("$ref") {
            if lookup(&whole, text).is_none() {
                *text = text.replace("/oneOf/", "/anyOf/");
            }
        }
    });
}

/// Whether a place lies inside a property of its definition.
pub fn inside_property(place: &str) -> bool {
    let tokens: Vec<&str> = place.split('/').skip(1).collect();
    let mut inside = false;
    let mut i = 0;
    while i < tokens.len() {
        let named = NAMED.contains(&tokens[i]) && i + 1 < tokens.len();
        if named {
            inside = tokens[i] == "properties" || (inside && !tokens[i].starts_with("$"));
        }
        let indexed = LIST.contains(&tokens[i]) && tokens.get(i + 1).is_some_and(|t| t.parse::<usize>().is_ok());
        i += if named || indexed { 2 } else { 1 };
    }
    inside
}

/// Every reference of a schema: where it stands and where it leads.
pub struct References {
    edges: Vec<(String, String)>,
    /// For each target, the targets of the references inside it.
    onward: HashMap<String, Vec<String>>,
}

impl References {
    /// # Errors
    /// See [`resolve`].
    pub fn of(root: &Value) -> Result<Self, SchemaError> {
        let mut edges = Vec::new();
        let mut failed = None;
        walk(root, "", &mut |path, node| match reference(node, path) {
            Ok(Some(text)) => match resolve(root, text, path).and_then(|found| end_of_chain(root, found, path)) {
                Ok(target) => edges.push((path.to_owned(), target)),
                Err(error) => failed = failed.take().or(Some(error)),
            },
            Ok(None) => {}
            Err(error) => failed = failed.take().or(Some(error)),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self::from_edges(edges)),
        }
    }

    fn from_edges(edges: Vec<(String, String)>) -> Self {
        let mut onward: HashMap<String, Vec<String>> =
            edges.iter().map(|(_, target)| (target.clone(), Vec::new())).collect();
        for (place, target) in &edges {
            // Everything around the place that is a target itself: walk outwards.
            let mut around = Some(place.as_str());
            while let Some(at) = around {
                if let Some(targets) = onward.get_mut(at).filter(|targets| !targets.contains(target)) {
                    targets.push(target.clone());
                }
                around = at.rsplit_once('/').map(|(outer, _)| outer);
            }
        }
        Self { edges, onward }
    }

    /// All targets that references inside `pointer` lead to, at any remove.
    fn reachable<'a>(&'a self, pointer: &str) -> HashSet<&'a str> {
        let inside = |at: &str| -> Vec<&'a str> {
            match self.onward.get(at) {
                Some(targets) => targets.iter().map(String::as_str).collect(),
                None => self.edges.iter().filter(|(p, _)| encloses(at, p)).map(|(_, t)| t.as_str()).collect(),
            }
        };
        let mut open = inside(pointer);
        let mut seen = HashSet::new();
        while let Some(at) = open.pop() {
            if seen.insert(at) {
                open.extend(inside(at));
            }
        }
        seen
    }

    /// Whether references inside `pointer` lead to `target`, or to something around it.
    pub fn leads(&self, pointer: &str, target: &str) -> bool {
        self.reachable(pointer).iter().any(|found| encloses(found, target))
    }

    /// Whether the schema at `pointer` contains itself.
    pub fn is_recursive(&self, pointer: &str) -> bool {
        self.leads(pointer, pointer)
    }

    /// The references that lead back to a schema around themselves: place and target.
    pub fn recursive(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut known: HashMap<&str, HashSet<&str>> = HashMap::new();
        self.edges.iter().filter_map(move |(place, target)| {
            let beyond = known.entry(target).or_insert_with(|| self.reachable(target));
            let back = encloses(target, place) || beyond.iter().any(|t| encloses(t, place));
            back.then_some((place.as_str(), target.as_str()))
        })
    }
}
