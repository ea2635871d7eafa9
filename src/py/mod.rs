//! The only folder that knows Python: the module `llmbackend._core`.

mod arrow;
mod batch;
mod client;
mod errors;
mod inputs;
mod json;
mod local;
mod reply;
mod runtime;
mod sandbox;
mod schema;
mod series;
mod text;

use pyo3::prelude::*;

/// The Rust core of llmbackend. Private: use the package.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::batch::{Batch, Results};
    #[pymodule_export]
    use super::client::{Client, provider_names, unknown_name};
    #[pymodule_export]
    use super::inputs::read_ids;
    #[pymodule_export]
    use super::local::{LocalBatch, local_prompt};
    #[pymodule_export]
    use super::reply::{Reply, Usage};
    #[pymodule_export]
    use super::sandbox::Sandbox;
    #[pymodule_export]
    use super::schema::Schema;

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        use pyo3::types::PyModuleMethods;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
