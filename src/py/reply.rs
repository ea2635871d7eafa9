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
    /// An answer: of a local engine, whose `raw` is what else is given here, or one that was pickled.
    #[new]
    #[pyo3(signature = (text, finish_reason, usage, model, id=None, raw=None))]
    fn new(
        text: String,
        finish_reason: &str,
        usage: Option<&Usage>,
        model: Option<String>,
        id: Option<String>,
        raw: Option<Vec<u8>>,
    ) -> Self {
        let usage = usage.map(|usage| usage.0);
        let raw = raw.map(Bytes::from).unwrap_or_else(|| {
            let counts = usage.map(
                |usage| serde_json::json!({"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}),
            );
            serde_json::json!({"text": text, "finish_reason": finish_reason, "usage": counts, "model": model})
                .to_string()
                .into()
        });
        let generation = Generation::new(text, FinishReason::named(finish_reason));
        Self { generation: Generation { usage, model, id, raw, ..generation } }
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

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let fields = (self.text(), self.finish_reason(), self.usage(), self.model(), self.id(), self.raw(py));
        Ok((py.get_type::<Self>().into_any(), fields.into_pyobject(py)?.into_any()))
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
