//! `_core.Sandbox`: the sandbox as a Python object. Arguments are checked here, the reasons given as `ValueError`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::sandbox::{Fault, Options, Sandbox as Server};

/// A running sandbox; `close` stops it.
#[pyclass(frozen, module = "llmbackend._core")]
pub struct Sandbox {
    server: Mutex<Option<Server>>,
}

impl Sandbox {
    fn lock(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, look: impl FnOnce(&Server) -> T) -> PyResult<T> {
        let server = self.lock();
        let server = server.as_ref();
        server.map(look).ok_or_else(|| PyRuntimeError::new_err("the sandbox is closed"))
    }
}

#[pymethods]
impl Sandbox {
    /// Starts a sandbox. `ValueError`: a bad host, speed or fault; `OSError`: the port is taken, or the folder unusable.
    #[new]
    #[pyo3(signature = (host, port, directory, speed, faults, seed))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: u16,
        directory: Option<PathBuf>,
        speed: f64,
        faults: Vec<String>,
        seed: u64,
    ) -> PyResult<Sandbox> {
        let host: IpAddr = host.parse().map_err(|_| {
            PyValueError::new_err(format!("host must be an IP address such as \"127.0.0.1\", not {host:?}"))
        })?;
        if !(speed.is_finite() && speed > 0.0) {
            let message = format!("speed must be a finite number above 0, not {speed}");
            return Err(PyValueError::new_err(message));
        }
        let faults = faults.iter().map(|text| parse(text)).collect::<PyResult<_>>()?;
        let options = Options { host, port, directory, speed, faults, seed };
        let server = py.detach(|| Server::start(options))?;
        Ok(Sandbox { server: Mutex::new(Some(server)) })
    }

    /// The base URL of a provider.
    fn url(&self, provider: &str) -> PyResult<String> {
        self.with(|server| server.url(provider))?.map_err(PyValueError::new_err)
    }

    /// Adds a fault, written `NAME[:TIMES][@METHOD /path-part]`.
    fn fault(&self, text: &str) -> PyResult<()> {
        let fault = parse(text)?;
        self.with(|server| server.add_fault(fault))
    }

    fn clear_faults(&self) -> PyResult<()> {
        self.with(Server::clear_faults)
    }

    /// (method, path, status) of the requests so far.
    fn requests(&self) -> PyResult<Vec<(String, String, u16)>> {
        let log = self.with(Server::requests)?;
        Ok(log.into_iter().map(|entry| (entry.method, entry.path, entry.status)).collect())
    }

    /// Stops the server. A second call does nothing.
    fn close(&self, py: Python<'_>) {
        let server = self.lock().take();
        py.detach(|| drop(server));
    }
}

impl Drop for Sandbox {
    /// Python may drop the object while it holds the GIL; the server's threads never want the GIL, so waiting is safe.
    fn drop(&mut self) {
        drop(self.lock().take());
    }
}

fn parse(text: &str) -> PyResult<Fault> {
    Fault::parse(text).map_err(PyValueError::new_err)
}
