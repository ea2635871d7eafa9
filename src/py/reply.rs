//! What comes back from a single call.

use crate::generation::{FinishReason, Generation};
use crate::json;
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::borrow::Cow;

/// What came back from a single call.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct Reply {
    pub generation: Generation,
}

#[pymethods]
impl Reply {
    /// The answer of a local engine. Its `raw` is what is given here.
    #[new]
    fn new(text: String, finish_reason: &str, usage: &Usage, model: &str) -> Self {
        let raw = serde_json::json!({
            "text": text,
            "finish_reason": finish_reason,
            "usage": {"input_tokens": usage.0.input_tokens, "output_tokens": usage.0.output_tokens},
            "model": model,
        });
        let generation = generation(text, finish_reason, usage, model);
        Self { generation: Generation { raw: raw.to_string().into(), ..generation } }
    }

    /// The text; with a schema, the JSON text of the value.
    #[getter]
    fn text(&self) -> &str {
        &self.generation.text
    }

    /// Other texts of the reply, to be tried where this one does not fit.
    #[getter]
    fn alternatives(&self) -> Vec<String> {
        self.generation.alternatives.clone()
    }

    #[getter]
    fn finish_reason(&self) -> &str {
        self.generation.finish_reason.name()
    }

    #[getter]
    fn usage(&self) -> Option<Usage> {
        self.generation.usage.map(Usage)
    }

    #[getter]
    fn model(&self) -> Option<&str> {
        self.generation.model.as_deref()
    }

    #[getter]
    fn id(&self) -> Option<&str> {
        self.generation.id.as_deref()
    }

    /// The reply's body as it came.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.generation.raw)
    }

    /// The reply's body as JSON that any parser takes.
    fn repaired(&self) -> String {
        let text = String::from_utf8_lossy(&self.generation.raw);
        json::strict(&text).map(Cow::into_owned).unwrap_or_else(|_| text.clone().into_owned())
    }
}

/// An answer of a local engine.
pub fn generation(text: String, finish_reason: &str, usage: &Usage, model: &str) -> Generation {
    let finish_reason = match finish_reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        other => FinishReason::Other(other.to_owned()),
    };
    Generation {
        text,
        alternatives: Vec::new(),
        refusal: None,
        finish_reason,
        usage: Some(usage.0),
        model: Some(model.to_owned()),
        id: None,
        raw: Bytes::new(),
    }
}

/// Tokens, with one meaning on every provider: input includes what was cached, output includes reasoning.
#[pyclass(frozen, eq, module = "llmbackend")]
#[derive(PartialEq)]
pub struct Usage(pub crate::generation::Usage);

#[pymethods]
impl Usage {
    #[new]
    #[pyo3(signature = (input_tokens=0, output_tokens=0, cached_tokens=0, reasoning_tokens=0))]
    fn new(input_tokens: u64, output_tokens: u64, cached_tokens: u64, reasoning_tokens: u64) -> Self {
        Self(crate::generation::Usage { input_tokens, cached_tokens, output_tokens, reasoning_tokens })
    }

    /// Tokens of the prompt, cached ones included.
    #[getter]
    fn input_tokens(&self) -> u64 {
        self.0.input_tokens
    }

    /// The part of the input that was read from the provider's cache.
    #[getter]
    fn cached_tokens(&self) -> u64 {
        self.0.cached_tokens
    }

    /// Tokens of the answer, reasoning included.
    #[getter]
    fn output_tokens(&self) -> u64 {
        self.0.output_tokens
    }

    /// The part of the output that was reasoning.
    #[getter]
    fn reasoning_tokens(&self) -> u64 {
        self.0.reasoning_tokens
    }

    /// Input and output.
    #[getter]
    fn total_tokens(&self) -> u64 {
        self.0.total_tokens()
    }

    fn __add__(&self, other: &Self) -> Self {
        let mut sum = self.0;
        sum += other.0;
        Self(sum)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (u64, u64, u64, u64)) {
        let usage = &self.0;
        let fields = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens);
        (py.get_type::<Self>().into_any(), fields)
    }

    fn __repr__(&self) -> String {
        let usage = &self.0;
        format!(
            "Usage(input_tokens={}, output_tokens={}, cached_tokens={}, reasoning_tokens={})",
            usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens
        )
    }
}
