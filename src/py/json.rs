//! Python values to JSON, each mistake named by where it is.

use super::errors::configuration;
use super::text;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

const DEEPEST: usize = 100;

/// `value`, found at `place`, as JSON.
pub fn to_json(value: &Bound<'_, PyAny>, place: &str) -> PyResult<Value> {
    convert(value, place, 0)
}

fn convert(value: &Bound<'_, PyAny>, place: &str, depth: usize) -> PyResult<Value> {
    if depth > DEEPEST {
        return Err(configuration(format!("{place} is nested more than {DEEPEST} levels deep (or contains itself)")));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(flag.is_true().into());
    }
    if let Ok(string) = value.cast::<PyString>() {
        return Ok(Value::String(to_text(string, place)?));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return Ok(Value::Object(entries(dict, place, depth)?));
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return items(tuple, place, depth);
    }
    if let Ok(list) = value.cast::<PyList>() {
        let taken = list.to_tuple();
        let read = items(&taken, place, depth)?;
        return if list.len() == taken.len() { Ok(read) } else { Err(changed(place)) };
    }
    // numpy's own.
    if matches!(value.get_type().name()?.to_str(), Ok("bool" | "bool_")) {
        return Ok(value.is_truthy()?.into());
    }
    to_number(value, place).map(Value::Number)
}

fn items(tuple: &Bound<'_, PyTuple>, place: &str, depth: usize) -> PyResult<Value> {
    tuple.iter().enumerate().map(|(i, item)| convert(&item, &format!("{place}[{i}]"), depth + 1)).collect()
}

/// Converting a value may run code of the caller's, or another thread: what is iterated is a copy that only we know.
fn changed(place: &str) -> PyErr {
    configuration(format!("{place} changed its size while it was read; give a copy that nothing else changes"))
}

fn entries(dict: &Bound<'_, PyDict>, place: &str, depth: usize) -> PyResult<Map<String, Value>> {
    let taken = dict.copy()?;
    let mut map = Map::with_capacity(taken.len());
    for (key, value) in &taken {
        let Ok(key) = key.cast::<PyString>() else {
            return Err(configuration(format!("{place} has the key {}, which is no str", key.repr()?)));
        };
        let key = to_text(key, place)?;
        let inner = format!("{place}[\"{key}\"]");
        map.insert(key, convert(&value, &inner, depth + 1)?);
    }
    if dict.len() == taken.len() { Ok(map) } else { Err(changed(place)) }
}

/// `dict`, found at `place`, as JSON.
pub fn to_map(dict: &Bound<'_, PyDict>, place: &str) -> PyResult<Map<String, Value>> {
    entries(dict, place, 0)
}

/// A number that JSON can hold.
pub fn to_number(value: &Bound<'_, PyAny>, place: &str) -> PyResult<Number> {
    let from_float = |float: f64| {
        Number::from_f64(float).ok_or_else(|| configuration(format!("{place} is {float}, which JSON cannot hold")))
    };
    if value.is_instance_of::<PyFloat>() {
        return from_float(value.extract()?);
    }
    // Whatever counts as an int, numpy's included.
    let Ok(int) = value.call_method0("__index__") else {
        // And as a float, Decimal included. Arrays of one number do too, and are none.
        return match value.extract::<f64>() {
            Ok(float) if !value.hasattr("__len__")? => from_float(float),
            _ => {
                let kind = value.get_type().name()?;
                Err(configuration(format!("{place} is a {kind}, which is no JSON value")))
            }
        };
    };
    let int = int.cast_into::<PyInt>()?;
    if let Ok(int) = int.extract::<i64>() {
        return Ok(int.into());
    }
    // A larger one by its digits, of which Python writes 4,300 unless it is told otherwise.
    let digits = int.str().ok().and_then(|digits| digits.to_str().ok().and_then(|digits| digits.parse().ok()));
    digits.ok_or_else(|| configuration(format!("{place} is an int of more digits than Python writes out")))
}

/// The str, found at `place`, as a Rust String.
pub fn to_text(string: &Bound<'_, PyString>, place: &str) -> PyResult<String> {
    text::to_string(string)?.map_err(|lone| lone_surrogate(place, lone.position))
}

pub fn lone_surrogate(place: &str, position: usize) -> PyErr {
    configuration(format!(
        "{place} has a lone surrogate at character {position}, which UTF-8 cannot hold. It is half of a character, often left by \
         errors=\"surrogateescape\"; mend it with text.encode(\"utf-16\", \"surrogatepass\").decode(\"utf-16\", \"replace\")"
    ))
}
