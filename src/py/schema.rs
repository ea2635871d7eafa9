//! A schema that answers are asked to fit.

use super::errors::to_py;
use super::json::{to_map, to_text};
use crate::answer::AnswerSchema;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde_json::Value;
use std::sync::Arc;

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
}
