//! The Python module `llmbackend._core`.
mod sandbox;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::sandbox::Sandbox;
}
