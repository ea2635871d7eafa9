//! Two schemas that must both hold, as one; and two that can never hold together.

use super::keywords::{compare, is_annotation, type_of, types};
use super::refs;
use serde_json::{Map, Value};

/// One node that says what `a` and `b` say together: `a`'s keys first, both descriptions, else `a`'s annotations before
/// `b`'s.
/// `None` where that takes more than putting keywords side by side.
pub fn conjunction(a: &Map<String, Value>, b: &Map<String, Value>) -> Option<Map<String, Value>> {
    if !openness_agrees(a, b) || !openness_agrees(b, a) {
        return None;
    }
    let mut merged = a.clone();
    for (key, theirs) in b {
        let value = match merged.get(key) {
            None => theirs.clone(),
            Some(ours) if key == "description" => both_descriptions(ours, theirs),
            Some(ours) if ours == theirs || is_annotation(key) => continue,
            Some(ours) => combine(key, ours, theirs)?,
        };
        merged.insert(key.clone(), value);
    }
    Some(merged)
}

/// Two descriptions of one thing: what is said of it in this place, then what is said of it everywhere.
pub fn both_descriptions(ours: &Value, theirs: &Value) -> Value {
    match (ours.as_str(), theirs.as_str()) {
        (Some(ours), Some(theirs)) if !ours.contains(theirs) => format!("{ours}\n\n{theirs}").into(),
        _ => ours.clone(),
    }
}

/// `allOf` of nothing but one reference, as older Pydantic writes a described field, as that reference.
pub fn lift_reference(node: &mut Map<String, Value>) {
    let only = match node.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(branch)]) if branch.len() == 1 => branch.get("$ref").cloned(),
        _ => None,
    };
    if let Some(reference) = only.filter(|_| !node.contains_key("$ref")) {
        *node = refs::renamed(node, "allOf", "$ref");
        node.insert("$ref".to_owned(), reference);
    }
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
            Some(if compare(a, b)?.is_ge() { a.clone() } else { b.clone() })
        }
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => {
            Some(if compare(a, b)?.is_le() { a.clone() } else { b.clone() })
        }
        "uniqueItems" => Some((a == &Value::Bool(true) || b == &Value::Bool(true)).into()),
        "additionalProperties" | "unevaluatedProperties" => match (a, b) {
            (Value::Bool(true), other) | (other, Value::Bool(true)) => Some(other.clone()),
            _ => None,
        },
        _ => None,
    }
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
