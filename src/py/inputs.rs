//! The inputs of a batch: any iterable, pulled a thousand at a time with the GIL and written without it.

use super::errors::{configuration, to_py};
use super::json::{lone_surrogate, to_json};
use super::text::Text;
use crate::batch::ids::RowIds;
use crate::batch::plan::{Plan, Written};
use crate::client::{Call, Client};
use crate::generation::messages;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFrozenSet, PyIterator, PyList, PySet, PyString, PyTuple};
use serde_json::Value;
use std::fs::File;

/// Inputs pulled under the GIL at once.
const CHUNK: usize = 1000;
/// Or, of long ones, so many characters: inputs that a generator makes must not pile up.
const CHUNK_SIZE: usize = 1 << 22;

enum Input {
    Text(Text),
    Messages(Vec<Value>),
}

impl Input {
    /// Characters, about.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Messages(turns) => turns.iter().map(|turn| turn["content"].as_str().map_or(100, str::len)).sum(),
        }
    }
}

/// Writes one row for each of `inputs` to a temporary file. `conversations` stand in for the inputs, one for each.
pub fn write(
    py: Python<'_>,
    client: &Client,
    call: &Call,
    inputs: &Bound<'_, PyAny>,
    conversations: Option<Vec<Vec<Value>>>,
    custom_ids: Option<RowIds>,
) -> PyResult<Written<File>> {
    let iterator = iterate(inputs)?;
    let file =
        tempfile::tempfile().map_err(|error| to_py(crate::Error::disk("Making a file for the requests", &error)))?;
    let mut plan = Plan::new(client, call, custom_ids, file).map_err(to_py)?;
    let expected = conversations.as_ref().map(Vec::len);
    let mut stand_ins = conversations.map(Vec::into_iter);
    let mut count = 0;
    loop {
        let mut chunk = pull(py, &iterator, count)?;
        if chunk.is_empty() {
            break;
        }
        let first = count;
        count += chunk.len();
        if let Some(conversations) = &mut stand_ins {
            chunk = conversations.by_ref().take(chunk.len()).map(Input::Messages).collect();
            if chunk.len() < count - first {
                return Err(wrong_number(expected, format!("at least {count}")));
            }
        }
        py.detach(|| push(&mut plan, client, call, chunk, first))?;
        py.check_signals()?;
    }
    if expected.is_some_and(|expected| expected != count) {
        return Err(wrong_number(expected, count.to_string()));
    }
    py.detach(|| plan.finish()).map_err(to_py)
}

fn wrong_number(conversations: Option<usize>, inputs: String) -> PyErr {
    let conversations = conversations.unwrap_or(0);
    configuration(format!(
        "config.extra[\"conversations\"] holds {conversations} conversations for {inputs} inputs; give one for each"
    ))
}

/// Refuses what is iterable but was not meant as a series of prompts.
fn iterate<'py>(inputs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let kind = inputs.get_type().name()?;
    if inputs.is_instance_of::<PyString>()
        || inputs.is_instance_of::<PyBytes>()
        || inputs.is_instance_of::<PyByteArray>()
    {
        return Err(configuration(format!(
            "inputs is one {kind}; give a list (or any iterable) of prompts, like [prompt]"
        )));
    }
    if inputs.is_instance_of::<PyDict>() {
        return Err(configuration(
            "inputs is a dict; give its values as the prompts, and its keys as batch_options[\"custom_ids\"]",
        ));
    }
    if inputs.is_instance_of::<PySet>() || inputs.is_instance_of::<PyFrozenSet>() {
        return Err(configuration(format!(
            "inputs is a {kind}, which has no order for the results to be in; give a list"
        )));
    }
    inputs.try_iter().map_err(|error| match error.is_instance_of::<PyTypeError>(inputs.py()) {
        true => caused(format!("inputs is a {kind}; give a list (or any iterable) of prompts"), error),
        false => raised(inputs.py(), error, 0),
    })
}

fn pull(py: Python<'_>, iterator: &Bound<'_, PyIterator>, first: usize) -> PyResult<Vec<Input>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut iterator = iterator.clone();
    let mut size = 0;
    while chunk.len() < CHUNK && size < CHUNK_SIZE {
        let index = first + chunk.len();
        match iterator.next() {
            None => break,
            Some(Ok(item)) => {
                let input = read(&item, index)?;
                size += input.size();
                chunk.push(input);
            }
            Some(Err(error)) => return Err(raised(py, error, index)),
        }
    }
    Ok(chunk)
}

fn read(item: &Bound<'_, PyAny>, index: usize) -> PyResult<Input> {
    if let Ok(text) = item.cast::<PyString>() {
        return Ok(Input::Text(Text::new(text)?));
    }
    let place = format!("inputs[{index}]");
    if item.is_instance_of::<PyList>() || item.is_instance_of::<PyTuple>() {
        return Ok(Input::Messages(messages(to_json(item, &place)?, &place).map_err(to_py)?));
    }
    Err(configuration(format!("{place} is a {}; a prompt is a str, or a list of messages", item.get_type().name()?)))
}

/// The caller's iterable failed. Nothing was sent.
fn raised(py: Python<'_>, error: PyErr, index: usize) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        return error; // KeyboardInterrupt and its like are not about the inputs.
    }
    caused(format!("inputs raised {error} after {index} prompts; nothing was sent"), error)
}

fn caused(message: String, cause: PyErr) -> PyErr {
    let error = configuration(message);
    Python::attach(|py| error.set_cause(py, Some(cause)));
    error
}

fn push(plan: &mut Plan<File>, client: &Client, call: &Call, chunk: Vec<Input>, first: usize) -> PyResult<()> {
    let mut scratch = String::new();
    for (i, input) in chunk.into_iter().enumerate() {
        match input {
            Input::Messages(messages) => plan.push_messages(client, call, messages).map_err(to_py)?,
            Input::Text(text) => {
                let prompt = text
                    .utf8(&mut scratch)
                    .map_err(|lone| lone_surrogate(&format!("inputs[{}]", first + i), lone.position))?;
                plan.push_text(prompt).map_err(to_py)?;
            }
        }
    }
    Ok(())
}
