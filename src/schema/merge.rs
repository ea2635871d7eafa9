//! Two schemas that must both hold, as one; and two that can never hold together.

use super::refs;
use serde_json::{Map, Value};

/// Keywords that describe and never decide whether a value is valid.
pub const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "discriminator",
    "$comment",
    "$schema",
    "$id",
];

pub fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.contains(&key) || key.starts_with("x-")
}

/// One node that says what `a` and `b` say together: `a`'s keys first, `a`'s annotations before `b`'s.
/// `None` where that takes more than putting keywords side by side.
pub fn conjunction(a: &Map<String, Value>, b: &Map<String, Value>) -> Option<Map<String, Value>> {
    if !openness_agrees(a, b) || !openness_agrees(b, a) {
        return None;
    }
    let mut merged = a.clone();
    for (key, theirs) in b {
        let value = match merged.get(key) {
            None => theirs.clone(),
            Some(ours) if ours == theirs || is_annotation(key) => continue,
            Some(ours) => combine(key, ours, theirs)?,
        };
        merged.insert(key.clone(), value);
    }
    Some(merged)
}

/// What `a` says of properties that it does not list must not touch those that `b` lists.
fn openness_agrees(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let names = |node: &Map<String, Value>| -> Vec<String> {
        node.get("properties").and_then(Value::as_object).map(|p| p.keys().cloned().collect()).unwrap_or_default()
    };
    let listed = names(a);
    let foreign = names(b).iter().any(|name| !listed.contains(name));
    let indifferent = |key: &str| matches!(a.get(key), None | Some(Value::Bool(true)));
    !foreign || (indifferent("additionalProperties") && !a.contains_key("patternProperties"))
}

fn combine(key: &str, a: &Value, b: &Value) -> Option<Value> {
    match key {
        "required" => {
            let mut all = a.as_array()?.clone();
            all.extend(b.as_array()?.iter().filter(|name| !a.as_array().is_some_and(|a| a.contains(name))).cloned());
            Some(all.into())
        }
        "properties" | "$defs" | "definitions" => {
            let mut all = a.as_object()?.clone();
            for (name, theirs) in b.as_object()? {
                let value = match all.get(name) {
                    None => theirs.clone(),
                    Some(ours) if ours == theirs => continue,
                    // Two definitions of one name are two things, not one that must satisfy both.
                    Some(_) if key != "properties" => return None,
                    Some(ours) => conjunction(ours.as_object()?, theirs.as_object()?)?.into(),
                };
                all.insert(name.clone(), value);
            }
            Some(all.into())
        }
        "type" => {
            let both: Vec<Value> =
                types(a).filter_map(|x| types(b).find_map(|y| narrower(x, y))).map(Value::from).collect();
            match both.len() {
                0 => None,
                1 => both.into_iter().next(),
                _ => Some(both.into()),
            }
        }
        "enum" => {
            let b = b.as_array()?;
            let both: Vec<Value> = a.as_array()?.iter().filter(|v| b.contains(v)).cloned().collect();
            (!both.is_empty()).then(|| both.into())
        }
        "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties" => {
            Some(if a.as_f64()? >= b.as_f64()? { a.clone() } else { b.clone() })
        }
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => {
            Some(if a.as_f64()? <= b.as_f64()? { a.clone() } else { b.clone() })
        }
        "uniqueItems" => Some((a == &Value::Bool(true) || b == &Value::Bool(true)).into()),
        "additionalProperties" | "unevaluatedProperties" => match (a, b) {
            (Value::Bool(true), other) | (other, Value::Bool(true)) => Some(other.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn types(value: &Value) -> impl Iterator<Item = &str> {
    let one = value.as_str().into_iter();
    one.chain(value.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn narrower<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    match (a, b) {
        _ if a == b => Some(a),
        ("integer", "number") | ("number", "integer") => Some("integer"),
        _ => None,
    }
}

/// `node` with its reference and all its `allOf` branches merged in, still as the caller wrote them, and the places whose
/// content came in. `None` where [`conjunction`] gives up or the references do not end.
pub fn flatten(root: &Value, node: &Map<String, Value>) -> Option<(Map<String, Value>, Vec<String>)> {
    let mut followed = Vec::new();
    let merged = flatten_within(root, node, 16, &mut followed)?;
    Some((merged, followed))
}

fn flatten_within(
    root: &Value,
    node: &Map<String, Value>,
    depth: usize,
    followed: &mut Vec<String>,
) -> Option<Map<String, Value>> {
    // Both limits end what a few definitions that name each other twice would otherwise multiply.
    let depth = depth.checked_sub(1)?;
    let mut merged = node.clone();
    let reference = merged.shift_remove("$ref");
    let branches = merged.shift_remove("allOf");
    if let Some(reference) = reference {
        let (place, target) = refs::lookup(root, reference.as_str()?)?;
        followed.push(place);
        if followed.len() > 256 {
            return None;
        }
        merged = conjunction(&merged, &flatten_within(root, target.as_object()?, depth, followed)?)?;
    }
    for branch in branches.iter().flat_map(|b| b.as_array().into_iter().flatten()) {
        merged = conjunction(&merged, &flatten_within(root, branch.as_object()?, depth, followed)?)?;
    }
    Some(merged)
}

/// What a dialect makes of the objects that it sends.
#[derive(Clone, Copy)]
pub struct Objects {
    /// The answer holds every listed property.
    pub all_required: bool,
    /// The answer holds no property that is not listed.
    pub closed: bool,
}

/// Whether an answer to one of `branches` can never fit another one too, so that "any of" says the same as "one of".
pub fn exclusive(root: &Value, branches: &[Value], objects: Objects) -> bool {
    let flat: Option<Vec<_>> = branches.iter().map(|b| Some(flatten(root, b.as_object()?)?.0)).collect();
    let Some(flat) = flat else { return false };
    let pairs = flat.iter().enumerate().flat_map(|(i, a)| flat[..i].iter().map(move |b| (a, b)));
    pairs
        .into_iter()
        .all(|(a, b)| differ(a, b).unwrap_or_else(|| object_misfits(a, b, objects) && object_misfits(b, a, objects)))
}

/// Whether two nodes differ in their values or types; `None` if that tells nothing, as both want objects.
fn differ(a: &Map<String, Value>, b: &Map<String, Value>) -> Option<bool> {
    if let (Some(x), Some(y)) = (literals(a), literals(b)) {
        return Some(!x.iter().any(|v| y.contains(v)));
    }
    let (x, y) = (possible_types(a), possible_types(b));
    if x == ["object"] && y == ["object"] {
        return None;
    }
    let overlap = x.iter().any(|t| y.iter().any(|u| narrower(t, u).is_some()));
    Some(!x.is_empty() && !y.is_empty() && !overlap)
}

/// Whether no object that answers `sent` fits `other` as the caller wrote it: a tag has another value, or a property that
/// `other` requires cannot be there.
fn object_misfits(sent: &Map<String, Value>, other: &Map<String, Value>, objects: Objects) -> bool {
    let requires = |node: &Map<String, Value>, name: &str| {
        node.get("required").and_then(Value::as_array).is_some_and(|list| list.iter().any(|v| v == name))
    };
    let properties =
        |node: &Map<String, Value>| node.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let (ours, theirs) = (properties(sent), properties(other));
    let mut names = theirs.keys().chain(ours.keys());
    names.any(|name| {
        let missing = objects.closed && requires(other, name) && !ours.contains_key(name);
        let values = |map: &Map<String, Value>| map.get(name).and_then(Value::as_object).and_then(literals);
        let certain = ours.contains_key(name) && (objects.all_required || requires(sent, name));
        let tagged = matches!((values(&ours), values(&theirs)), (Some(x), Some(y)) if !x.iter().any(|v| y.contains(v)));
        missing || (certain && tagged)
    })
}

fn literals(node: &Map<String, Value>) -> Option<Vec<Value>> {
    let constant = node.get("const").map(|v| vec![v.clone()]);
    constant.or_else(|| node.get("enum").and_then(Value::as_array).cloned())
}

/// The types that a node allows, as far as it says so; empty if it does not.
fn possible_types(node: &Map<String, Value>) -> Vec<String> {
    if let Some(kind) = node.get("type") {
        return types(kind).map(str::to_owned).collect();
    }
    if let Some(values) = literals(node) {
        return values.iter().map(|v| type_of(v).to_owned()).collect();
    }
    Vec::new()
}

/// The JSON Schema type of a value.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type that a node without `type` must mean: the one that its keywords speak of. Keywords of other types do not
/// bind other values, so this narrows. `None` for a node that allows anything.
pub fn implied_type(node: &Map<String, Value>) -> Option<&'static str> {
    let any = |keys: &[&str]| keys.iter().any(|k| node.contains_key(*k));
    if any(&["properties", "additionalProperties", "patternProperties", "required", "propertyNames"]) {
        Some("object")
    } else if any(&["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"]) {
        Some("array")
    } else if any(&["pattern", "format", "minLength", "maxLength", "contentEncoding"]) {
        Some("string")
    } else if any(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        Some("number")
    } else {
        None
    }
}

/// The keywords that bind only values of one type.
fn keywords_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" => {
            &["pattern", "format", "minLength", "maxLength", "contentEncoding", "contentMediaType", "contentSchema"]
        }
        "number" | "integer" => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
        "array" => &[
            "items",
            "prefixItems",
            "additionalItems",
            "unevaluatedItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ],
        "object" => &[
            "properties",
            "required",
            "additionalProperties",
            "unevaluatedProperties",
            "patternProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
            "dependentRequired",
            "dependentSchemas",
            "dependencies",
        ],
        _ => &[],
    }
}

/// `type: [a, b]` as `anyOf`, each branch with the keywords of its type; the rest stays beside it. `None` if the node has
/// no such list, or an `anyOf` of its own. A list of one type becomes that type.
pub fn split_types(node: &Map<String, Value>) -> Option<Map<String, Value>> {
    let kinds: Vec<&str> = node.get("type")?.as_array()?.iter().filter_map(Value::as_str).collect();
    if let [only] = kinds[..] {
        let mut node = node.clone();
        node.insert("type".to_owned(), only.into());
        return Some(node);
    }
    if node.contains_key("anyOf") {
        return None;
    }
    let branch = |kind: &&str| {
        let mut branch = Map::from_iter([("type".to_owned(), Value::from(*kind))]);
        let own = node.iter().filter(|(key, _)| keywords_of(kind).contains(&key.as_str()));
        branch.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(branch)
    };
    let branches: Value = kinds.iter().map(branch).collect();
    let claimed = |key: &str| kinds.iter().any(|kind| keywords_of(kind).contains(&key));
    let mut split = Map::new();
    for (key, value) in node.iter().filter(|(key, _)| !claimed(key)) {
        if key == "type" {
            split.insert("anyOf".to_owned(), branches.clone());
        } else {
            split.insert(key.clone(), value.clone());
        }
    }
    Some(split)
}

/// Properties beside `anyOf`, merged into each of its branches: closing an object apart from its alternatives would leave
/// nothing that fits both. `None` where they do not merge.
pub fn distribute(root: &Value, node: &Map<String, Value>) -> Option<Map<String, Value>> {
    let aside = |key: &str| is_annotation(key) || matches!(key, "$defs" | "definitions" | "anyOf");
    let base: Map<String, Value> =
        node.iter().filter(|(key, _)| !aside(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let branches: Option<Vec<Value>> = node
        .get("anyOf")?
        .as_array()?
        .iter()
        .map(|branch| Some(conjunction(&base, &flatten(root, branch.as_object()?)?.0)?.into()))
        .collect();
    let mut spread: Map<String, Value> =
        node.iter().filter(|(key, _)| aside(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    spread.insert("anyOf".to_owned(), branches?.into());
    Some(spread)
}
