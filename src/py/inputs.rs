//! What the caller asks. The inputs of a batch: any iterable, pulled a thousand at a time with the GIL and written without it.

use super::errors::{configuration, to_py};
use super::json::{lone_surrogate, to_json, to_text};
use super::series::{Place, Series, read_all};
use super::text::Text;
use crate::batch::ids::RowIds;
use crate::batch::immediate::Prompts;
use crate::batch::plan::{Plan, Written};
use crate::client::Client;
use crate::disk;
use crate::generation::{CONVERSATIONS, Prompt, messages};
use crate::providers::{BatchApi, Form};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use serde_json::Value;

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

/// The inputs of a batch, read once.
pub struct Inputs<'py> {
    series: Series<'py>,
    /// Conversations that stand in for the inputs, and how many they were.
    conversations: Option<(usize, std::vec::IntoIter<Vec<Value>>)>,
}

const PLACE: Place = Place { name: "inputs", items: "prompts" };

impl<'py> Inputs<'py> {
    pub fn new(inputs: &Bound<'py, PyAny>, conversations: Option<Vec<Vec<Value>>>) -> PyResult<Self> {
        let conversations = conversations.map(|list| (list.len(), list.into_iter()));
        Ok(Self { series: Series::new(inputs, PLACE)?, conversations })
    }

    /// What the prompts are called in messages.
    pub fn source(&self) -> &'static str {
        if self.conversations.is_some() { CONVERSATIONS } else { "inputs" }
    }

    /// Writes one row for each of them, in the first of `forms` that holds them.
    pub fn write(
        mut self,
        py: Python<'py>,
        client: &Client,
        forms: Vec<Form>,
        custom_ids: Option<RowIds>,
    ) -> PyResult<Written> {
        let with_file = |form| disk::temporary("the requests").map(|file| (form, file));
        let forms: Vec<_> = forms.into_iter().map(with_file).collect::<crate::Result<_>>().map_err(to_py)?;
        let mut plan = Plan::new(client, self.source(), forms, custom_ids).map_err(to_py)?;
        while let Some((first, chunk)) = self.next_chunk()? {
            py.detach(|| {
                each(chunk, first, |input| match input {
                    Ready::Text(text) => plan.push_text(text),
                    Ready::Messages(messages) => plan.push_messages(messages),
                })
            })?;
            py.check_signals()?;
        }
        py.detach(|| plan.finish()).map_err(to_py)
    }

    /// Writes them to a file, to be answered here. `check` gets each prompt and its index, and gives back what is to be
    /// written.
    pub fn spool(
        mut self,
        py: Python<'py>,
        check: impl Fn(Prompt, u64) -> crate::Result<Prompt> + Sync,
    ) -> PyResult<Prompts> {
        let mut prompts = Prompts::new().map_err(to_py)?;
        while let Some((first, chunk)) = self.next_chunk()? {
            py.detach(|| {
                each(chunk, first, |input| {
                    let prompt = match input {
                        Ready::Text(text) => Prompt::Text(text.to_owned()),
                        Ready::Messages(messages) => Prompt::Messages(messages),
                    };
                    prompts.push(&check(prompt, prompts.count)?)
                })
            })?;
            py.check_signals()?;
        }
        prompts.finish().map_err(to_py)
    }

    /// Up to a thousand inputs and the index of the first; None after the last.
    fn next_chunk(&mut self) -> PyResult<Option<(usize, Vec<Input>)>> {
        let first = self.series.count();
        let mut chunk = pull(&mut self.series)?;
        let count = self.series.count();
        if let Some((expected, conversations)) = &mut self.conversations {
            let wanted = chunk.len();
            chunk = conversations.by_ref().take(wanted).map(Input::Messages).collect();
            if chunk.len() < wanted {
                return Err(wrong_number(*expected, format!("at least {count}")));
            }
            if wanted == 0 && *expected != count {
                return Err(wrong_number(*expected, count.to_string()));
            }
        }
        Ok(if chunk.is_empty() { None } else { Some((first, chunk)) })
    }
}

fn wrong_number(conversations: usize, inputs: String) -> PyErr {
    configuration(format!(
        "config.extra[\"conversations\"] holds {conversations} conversations for {inputs} inputs; give one for each"
    ))
}

/// The input of a single call.
pub fn prompt(input: &Bound<'_, PyAny>) -> PyResult<Prompt> {
    match read(input, || "input".to_owned())? {
        Input::Messages(messages) => Ok(Prompt::Messages(messages)),
        Input::Text(text) => match text.utf8(&mut String::new()) {
            Ok(text) => Ok(Prompt::Text(text.to_owned())),
            Err(lone) => Err(lone_surrogate("input", lone.position)),
        },
    }
}

/// `batch_options["custom_ids"]` as a list, of whatever kind it is.
#[pyfunction]
pub fn read_ids<'py>(ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    read_all(ids, Place { name: "batch_options[\"custom_ids\"]", items: "ids" })
}

/// `batch_options["custom_ids"]`, checked.
pub fn custom_ids(names: &[Bound<'_, PyString>], api: Option<&dyn BatchApi>) -> PyResult<RowIds> {
    let read = |(i, name): (usize, &Bound<'_, PyString>)| {
        to_text(name, &format!("batch_options[\"custom_ids\"][{i}]")).map(String::into_boxed_str)
    };
    let names = names.iter().enumerate().map(read).collect::<PyResult<_>>()?;
    RowIds::custom(names, api).map_err(to_py)
}

fn pull(series: &mut Series<'_>) -> PyResult<Vec<Input>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut size = 0;
    while chunk.len() < CHUNK && size < CHUNK_SIZE {
        let index = series.count();
        let Some(item) = series.next()? else { break };
        let input = read(&item, || format!("inputs[{index}]"))?;
        size += input.size();
        chunk.push(input);
    }
    Ok(chunk)
}

fn read(item: &Bound<'_, PyAny>, place: impl Fn() -> String) -> PyResult<Input> {
    if let Ok(text) = item.cast::<PyString>() {
        return Ok(Input::Text(Text::new(text)?));
    }
    let place = place();
    if item.is_instance_of::<PyList>() || item.is_instance_of::<PyTuple>() {
        return Ok(Input::Messages(messages(to_json(item, &place)?, &place).map_err(to_py)?));
    }
    let (kind, hint) = (item.get_type().name()?, hint(item)?);
    Err(configuration(format!("{place} is a {kind}; a prompt is a str, or a list of messages{hint}")))
}

/// What to do about an item that is no prompt, where that can be said.
fn hint(item: &Bound<'_, PyAny>) -> PyResult<&'static str> {
    // NaN is not itself, and pandas' NA does not even tell.
    Ok(if item.is_none() || item.ne(item).unwrap_or(false) || item.get_type().name()? == "NAType" {
        ". It is a missing value: leave it out, or put a text in its place"
    } else if item.is_instance_of::<PyBytes>() {
        ". Decode it, or open the file in text mode"
    } else if item.is_instance_of::<PyDict>() {
        ". A single message belongs into a list; of a table's row, give the text of one column"
    } else if item.hasattr("as_py")? {
        ". Give the list that to_pylist() makes of the array"
    } else {
        ""
    })
}

/// An input in a form that needs no Python.
enum Ready<'a> {
    Text(&'a str),
    Messages(Vec<Value>),
}

fn each(chunk: Vec<Input>, first: usize, mut push: impl FnMut(Ready<'_>) -> crate::Result<()>) -> PyResult<()> {
    let mut scratch = String::new();
    for (i, input) in chunk.into_iter().enumerate() {
        match input {
            Input::Messages(messages) => push(Ready::Messages(messages)).map_err(to_py)?,
            Input::Text(text) => {
                let prompt = text
                    .utf8(&mut scratch)
                    .map_err(|lone| lone_surrogate(&format!("inputs[{}]", first + i), lone.position))?;
                push(Ready::Text(prompt)).map_err(to_py)?;
            }
        }
    }
    Ok(())
}
