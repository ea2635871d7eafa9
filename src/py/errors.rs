//! The core's errors as the Python classes of `llmbackend.errors`.

use super::reply::Usage;
use crate::error::{ApiErrorKind, BatchErrorKind, Error, OutputErrorKind, UnknownCreate};
use crate::generation::FinishReason;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDateTime, PyDict, PyTzInfo};

/// The exception for `error`.
pub fn to_py(error: Error) -> PyErr {
    Python::attach(|py| instance(py, error).map(PyErr::from_value).unwrap_or_else(|failure| failure))
}

/// The exception for `error`, not raised.
pub fn instance(py: Python<'_>, error: Error) -> PyResult<Bound<'_, PyAny>> {
    let fields = PyDict::new(py);
    let message = error.to_string();
    let mut cause = None;
    let class = match error {
        Error::Configuration(_) => "ConfigurationError",
        Error::Schema { path, .. } => {
            fields.set_item("path", path)?;
            "SchemaError"
        }
        Error::Api(error) => {
            fields.set_item("provider", error.provider)?;
            fields.set_item("status", error.status)?;
            fields.set_item("code", error.code)?;
            fields.set_item("message", error.message)?;
            fields.set_item("request_id", error.request_id)?;
            fields.set_item("retry_after", error.retry_after.map(|wait| wait.as_secs_f64()))?;
            fields.set_item("body", error.body)?;
            match error.kind {
                ApiErrorKind::Authentication => "AuthenticationError",
                ApiErrorKind::PermissionDenied => "PermissionDeniedError",
                ApiErrorKind::NotFound => "NotFoundError",
                ApiErrorKind::InvalidRequest => "InvalidRequestError",
                ApiErrorKind::RateLimit => "RateLimitError",
                ApiErrorKind::QuotaExceeded => "QuotaExceededError",
                ApiErrorKind::Server => "ServerError",
                ApiErrorKind::Other => "APIError",
            }
        }
        Error::Connection(error) if error.timed_out => "APITimeoutError",
        Error::Connection(_) => "APIConnectionError",
        Error::Output(error) => {
            fields.set_item("text", error.text)?;
            fields.set_item("finish_reason", error.finish_reason.as_ref().map(FinishReason::name))?;
            fields.set_item("usage", error.usage.map(Usage))?;
            fields.set_item("response", error.response)?;
            match error.kind {
                OutputErrorKind::NoText => "OutputError",
                OutputErrorKind::Refusal => "RefusalError",
                OutputErrorKind::ContentFilter => "ContentFilterError",
                OutputErrorKind::Truncated => "TruncatedError",
                OutputErrorKind::Invalid => "InvalidOutputError",
            }
        }
        Error::Batch { kind, batch_id, .. } => {
            fields.set_item("batch_id", batch_id)?;
            match kind {
                BatchErrorKind::NotCompleted => "BatchNotCompletedError",
                BatchErrorKind::Failed => "BatchFailedError",
                BatchErrorKind::TimedOut => "BatchTimeoutError",
                BatchErrorKind::Other => "BatchError",
            }
        }
        Error::UnknownCreate(error) => {
            let UnknownCreate { sent_at, candidates, cause: reason, .. } = *error;
            let utc = PyTzInfo::utc(py)?;
            fields.set_item("sent_at", PyDateTime::from_timestamp(py, sent_at.as_secs_f64(), Some(&utc))?)?;
            fields.set_item("candidates", candidates)?;
            cause = Some(reason);
            "UnknownCreateError"
        }
        Error::Engine(_) => "EngineError",
        Error::Disk(_) => "LLMBackendError",
    };
    let raised = named(py, class)?.call((message,), Some(&fields))?;
    if let Some(cause) = cause {
        raised.setattr("__cause__", instance(py, cause)?)?;
    }
    Ok(raised)
}

/// `error` with a note on it.
pub fn with_note(py: Python<'_>, error: PyErr, note: &str) -> PyErr {
    // An exception that takes no note is still the one to raise.
    let _ = named(py, "add_note").and_then(|add_note| add_note.call1((error.value(py), note)));
    error
}

/// A class or function of `llmbackend.errors`.
pub fn named<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("llmbackend.errors").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

pub fn configuration(message: impl Into<String>) -> PyErr {
    to_py(Error::configuration(message))
}
