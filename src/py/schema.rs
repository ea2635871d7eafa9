//! A schema that answers are asked to fit.

use super::errors::to_py;
use super::json::{to_map, to_text};
use crate::answer::AnswerSchema;
use crate::providers;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde_json::Value;
use std::sync::Arc;

/// A JSON Schema, ready to be compiled to each provider's dialect.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct Schema {
    pub core: Arc<AnswerSchema>,
}

#[pymethods]
impl Schema {
    #[new]
    fn new(schema: &Bound<'_, PyDict>, name: &Bound<'_, PyString>, strict: bool, validate: bool) -> PyResult<Self> {
        let schema = Value::Object(to_map(schema, "schema")?);
        let core = AnswerSchema::new(schema, &to_text(name, "name")?, strict, validate).map_err(to_py)?;
        Ok(Self { core: Arc::new(core) })
    }

    /// What a provider cannot enforce and only our validation does: (path, keyword, reason).
    fn report(&self, provider: &str) -> PyResult<Vec<(String, String, String)>> {
        let dialect = providers::dialect(provider).map_err(to_py)?;
        let compiled = self.core.compile(dialect, true).map_err(to_py)?;
        Ok(compiled.unenforced.into_iter().map(|entry| (entry.path, entry.keyword, entry.reason)).collect())
    }
}
