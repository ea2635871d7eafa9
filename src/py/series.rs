//! A series of texts, of whatever kind: a list, a generator, a column of a table, the lines of a file. What iterates as
//! something else (a table as the names of its columns, a mapping as its keys) is refused before anything is read of it.

use super::arrow::{self, Root};
use super::errors::{configuration, with_note};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFrozenSet, PyIterator, PyList, PyMapping, PyMemoryView, PySet, PyString, PyTuple,
};

/// Columns whose names an error shows.
const MAX_NAMES: usize = 5;

/// Where a series stands among the caller's arguments, and what it holds.
#[derive(Clone, Copy)]
pub struct Place {
    pub name: &'static str,
    pub items: &'static str,
}

/// A series, read once.
pub struct Series<'py> {
    iterator: Bound<'py, PyIterator>,
    place: Place,
    /// Its items are the lines of a file, with their ends.
    is_file: bool,
    count: usize,
}

impl<'py> Series<'py> {
    pub fn new(object: &Bound<'py, PyAny>, place: Place) -> PyResult<Self> {
        let is_plain = object.is_exact_instance_of::<PyList>() || object.is_exact_instance_of::<PyTuple>();
        if !is_plain {
            refuse(object, place)?;
        }
        let is_file = !is_plain && has_method(object, "readline")?;
        let iterator = object.try_iter().map_err(|error| {
            let class = object.get_type();
            let can_iterate = ["__iter__", "__getitem__"].iter().any(|name| class.hasattr(*name).unwrap_or(true));
            // What its own code raises is the caller's to catch.
            if can_iterate { raised(object.py(), error, place, 0) } else { not_a_series(object, place) }
        })?;
        Ok(Self { iterator, place, is_file, count: 0 })
    }

    /// The number of items that were read so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The next item; None after the last.
    pub fn next(&mut self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.iterator.py();
        match self.iterator.next() {
            None => Ok(None),
            Some(Err(error)) => Err(raised(py, error, self.place, self.count)),
            Some(Ok(item)) => {
                self.count += 1;
                if self.is_file { self.without_end(&item).map(Some) } else { Ok(Some(item)) }
            }
        }
    }

    /// A line of a file without its end, which belongs to the file and not to the text.
    fn without_end(&self, line: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(text) = line.cast::<PyString>() else { return Ok(line.clone()) };
        let mut text = text.clone();
        for end in ["\r\n", "\n", "\r"] {
            if text.call_method1("endswith", (end,))?.is_truthy()? {
                text = text.call_method1("removesuffix", (end,))?.cast_into()?;
                break;
            }
        }
        if text.len()? == 0 || text.call_method0("isspace")?.is_truthy()? {
            return Err(configuration(format!(
                "line {} of the file given as {} is blank; leave blank lines out, or give the texts as a list of {}",
                self.count, self.place.name, self.place.items
            )));
        }
        Ok(text.into_any())
    }
}

/// All items of `object`, found at `place`.
pub fn read_all<'py>(object: &Bound<'py, PyAny>, place: Place) -> PyResult<Bound<'py, PyList>> {
    let mut series = Series::new(object, place)?;
    let list = PyList::empty(object.py());
    while let Some(item) = series.next()? {
        list.append(item)?;
    }
    Ok(list)
}

/// Refuses what is iterable but is not a series of texts.
fn refuse(object: &Bound<'_, PyAny>, place: Place) -> PyResult<()> {
    let Place { name, items } = place;
    let kind = object.get_type().name()?;
    if object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>()
        || object.is_instance_of::<PyMemoryView>()
        || is_character_array(object)?
    {
        let (is, example) = if name == "inputs" { ("one", ", like [prompt]") } else { ("a", "") };
        return Err(configuration(format!("{name} is {is} {kind}; give a list (or any iterable) of {items}{example}")));
    }
    if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        return Err(configuration(format!(
            "{name} is a {kind}, which has no order for the results to be in; give a list of {items}"
        )));
    }
    if object.is_instance_of::<PyDict>() || object.cast::<PyMapping>().is_ok() {
        return Err(mapping(place, &kind));
    }
    match dimensions(object)? {
        Some(1) => return Ok(()),
        Some(_) => return Err(table(object, place, &kind)?),
        None => {}
    }
    if object.hasattr("__dataframe__")? {
        return Err(table(object, place, &kind)?);
    }
    match arrow::root(object).map_err(|error| {
        let note = format!("llmbackend: raised by the Arrow export of {name}, a {kind}; nothing was sent");
        with_note(object.py(), error, &note)
    })? {
        Some(Root::Table) => return Err(table(object, place, &kind)?),
        Some(Root::Column) if has_method(object, "to_pylist")? => {
            return Err(configuration(format!(
                "{name} is a {kind}, which iterates scalars of its own and not str; give {name}.to_pylist()"
            )));
        }
        _ => {}
    }
    // By these two `dict()` knows a mapping.
    if has_method(object, "keys")? && object.hasattr("__getitem__")? {
        return Err(mapping(place, &kind));
    }
    Ok(())
}

fn mapping(Place { name, items }: Place, kind: &Bound<'_, PyString>) -> PyErr {
    let keys = match name {
        "inputs" => ", and its keys as batch_options[\"custom_ids\"]",
        _ => "",
    };
    configuration(format!("{name} is a {kind}, which iterates its keys; give its values as a list of {items}{keys}"))
}

fn table(object: &Bound<'_, PyAny>, Place { name, items }: Place, kind: &Bound<'_, PyString>) -> PyResult<PyErr> {
    let names = column_names(object);
    let list = if has_method(object, "to_pylist")? { ".to_pylist()" } else { "" };
    Ok(configuration(match names.first() {
        Some(first) => format!(
            "{name} is a {kind}, a table with the columns {}, and not a series of {items}; give one column, like \
             {name}[{first}]{list}",
            names.join(", ")
        ),
        None => format!(
            "{name} is a {kind}, a table (or an array that has not one dimension), and not a series of {items}; give one \
             column of it as a list"
        ),
    }))
}

/// The names of the first columns of a table, quoted, where it tells.
fn column_names(object: &Bound<'_, PyAny>) -> Vec<String> {
    let quoted = |name: Bound<'_, PyAny>| name.cast::<PyString>().ok()?.repr().ok().map(|name| name.to_string());
    ["column_names", "columns"]
        .iter()
        .filter_map(|attribute| object.getattr(*attribute).ok()?.try_iter().ok())
        .map(|names| names.take(MAX_NAMES).map_while(|name| quoted(name.ok()?)).collect::<Vec<_>>())
        .find(|names| !names.is_empty())
        .unwrap_or_default()
}

/// How many dimensions an array or a table says that it has: the length of its `shape`.
fn dimensions(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let shape = object.getattr_opt("shape")?;
    Ok(shape.and_then(|shape| shape.cast_into::<PyTuple>().ok()).map(|shape| shape.len()))
}

/// `array.array` of characters, which iterates them.
fn is_character_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let code = if object.get_type().name()? == "array" { object.getattr_opt("typecode")? } else { None };
    Ok(code.is_some_and(|code| code.extract::<char>().is_ok_and(|code| matches!(code, 'u' | 'w'))))
}

/// Some columns answer to the labels of their rows as attributes, too.
fn has_method(object: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    Ok(object.getattr_opt(name)?.is_some_and(|attribute| attribute.is_callable()))
}

fn not_a_series(object: &Bound<'_, PyAny>, Place { name, items }: Place) -> PyErr {
    match object.get_type().name() {
        Ok(kind) => configuration(format!("{name} is a {kind}; give a list (or any iterable) of {items}")),
        Err(error) => error,
    }
}

/// The caller's own code failed: its exception is what it was, with a note beside it.
fn raised(py: Python<'_>, error: PyErr, Place { name, items }: Place, count: usize) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error; // KeyboardInterrupt and its like are not about the inputs.
    }
    with_note(py, error, &format!("llmbackend: raised by {name} after {count} {items}; nothing was sent"))
}
