//! References in the one spelling that every reader resolves alike.
//!
//! A name such as `a b` or `x/y` has to be escaped in a reference, and readers differ in what they undo: OpenAI's SDK looks
//! up the parts of a reference as they stand. So what is referred to gets a name that needs no escaping.

use super::refs;
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};

/// The same schema, its references spelled without needless percent-encoding: `#/%24defs/A` is `#/$defs/A`.
pub fn decode_references(schema: &Value) -> Value {
    let mut decoded = schema.clone();
    refs::walk_mut(&mut decoded, &mut |node| {
        let place = node.get("$ref").and_then(Value::as_str).and_then(|text| refs::lookup(schema, text));
        if let Some((place, _)) = place {
            node.insert("$ref".to_owned(), reference_to(&place).into());
        }
    });
    decoded
}

/// Renames the definitions whose references would have to be escaped, and moves whatever else is referred to in such a way to
/// `$defs`.
pub fn make_plain(schema: &mut Value) {
    for container in ["$defs", "definitions"] {
        rename_definitions(schema, container);
    }
    while let Some(place) = awkward_places(schema).into_iter().next() {
        move_to_definitions(schema, &place);
    }
}

/// The places that are referred to and whose pointers need escaping.
fn awkward_places(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    refs::walk(schema, "", &mut |_, node| {
        let place = node.get("$ref").and_then(Value::as_str).and_then(|reference| refs::lookup(schema, reference));
        found.extend(place.map(|(place, _)| place).filter(|place| !place.split('/').all(is_plain)));
    });
    found
}

fn rename_definitions(schema: &mut Value, container: &str) {
    let Some(mut definitions) = schema.get(container).and_then(Value::as_object).cloned() else { return };
    let prefix = format!("/{container}/");
    let mut renamed: HashMap<String, String> = HashMap::new();
    for place in awkward_places(schema) {
        let token = place.strip_prefix(&prefix).and_then(|rest| rest.split('/').next()).filter(|it| !is_plain(it));
        let Some(token) = token.filter(|token| !renamed.contains_key(*token)) else { continue };
        let name = unescape(token);
        let free = free_name(&definitions, &name);
        definitions = refs::renamed(&definitions, &name, &free);
        renamed.insert(token.to_owned(), free);
    }
    if renamed.is_empty() {
        return;
    }
    if let Value::Object(root) = schema {
        root.insert(container.to_owned(), definitions.into());
    }
    redirect(schema, |place| {
        let rest = place.strip_prefix(&prefix)?;
        let (token, inside) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Some(format!("{prefix}{}{inside}", renamed.get(token)?))
    });
}

fn move_to_definitions(schema: &mut Value, from: &str) {
    let name = {
        let taken = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        free_name(&taken, &unescape(from.rsplit('/').next().unwrap_or_default()))
    };
    let Some(place) = schema.pointer_mut(from) else { return };
    let moved = std::mem::replace(place, json!({"$ref": reference_to(from)}));
    if let Value::Object(root) = schema {
        if let Value::Object(definitions) = root.entry("$defs").or_insert_with(|| json!({})) {
            definitions.insert(name.clone(), moved);
        }
    }
    redirect(schema, |place| refs::encloses(from, place).then(|| format!("/$defs/{name}{}", &place[from.len()..])));
}

/// References to places for which `moved` has another one, as references to that.
fn redirect(schema: &mut Value, moved: impl Fn(&str) -> Option<String>) {
    refs::walk_mut(schema, &mut |node| {
        let place = node.get("$ref").and_then(Value::as_str).and_then(refs::pointer);
        if let Some(to) = place.and_then(|place| moved(&place)) {
            node.insert("$ref".to_owned(), reference_to(&to).into());
        }
    });
}

/// Whether a part of a pointer stands in a reference as it is: what RFC 3986 allows there, and no `~` of RFC 6901.
fn is_plain(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._!$&'()*+,;=:@".contains(&byte))
}

fn reference_to(place: &str) -> String {
    format!("#{}", place.replace('%', "%25"))
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A plain name like `name` that no definition has.
fn free_name(definitions: &Map<String, Value>, name: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mut free: String = name.chars().map(|c| if legal(c) { c } else { '_' }).collect();
    while free.is_empty() || definitions.contains_key(&free) {
        free.push('_');
    }
    free
}
