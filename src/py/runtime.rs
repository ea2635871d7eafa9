//! The runtime and the connections of this process, and how Python waits for them.

use super::errors::to_py;
use crate::transport::Transport;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How often a waiting thread looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(100);

struct Shared {
    /// A forked child has none of the parent's threads: it must not touch its runtime, nor its sockets.
    pid: u32,
    runtime: Runtime,
    transport: Transport,
}

/// Only locked with the GIL held, and a fork needs the GIL: never locked in a child by a thread that is not there.
static SHARED: Mutex<Option<&'static Shared>> = Mutex::new(None);

fn shared(_: Python<'_>) -> PyResult<&'static Shared> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match *shared {
        Some(known) if known.pid == std::process::id() => Ok(known),
        _ => {
            let failed =
                |error: std::io::Error| PyRuntimeError::new_err(format!("no threads for network work: {error}"));
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
            let transport = {
                let _inside = runtime.enter();
                Transport::new().map_err(to_py)?
            };
            // Leaked on purpose: once a process, and a child must not drop what its parent made.
            let made = &*Box::leak(Box::new(Shared { pid: std::process::id(), runtime, transport }));
            *shared = Some(made);
            Ok(made)
        }
    }
}

/// A future that runs on the runtime while this thread waits for it.
struct Running<T> {
    answer: Receiver<T>,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Running<T> {
    fn start<F>(py: Python<'_>, make: impl FnOnce(Transport) -> F) -> PyResult<Self>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let shared = shared(py)?;
        let future = make(shared.transport.clone());
        let (sender, answer) = sync_channel(1);
        let task = shared.runtime.spawn(async move {
            // Nobody listens any more after Ctrl-C.
            let _ = sender.send(future.await);
        });
        Ok(Self { answer, task })
    }

    /// Waits for one slice, without the GIL; None: not yet.
    fn wait_slice(self, py: Python<'_>) -> PyResult<(Self, Option<T>)> {
        let (running, got) = py.detach(move || {
            let got = self.answer.recv_timeout(SLICE);
            (self, got)
        });
        match got {
            Ok(value) => Ok((running, Some(value))),
            Err(RecvTimeoutError::Timeout) => Ok((running, None)),
            Err(RecvTimeoutError::Disconnected) => {
                Err(PyRuntimeError::new_err("a task of llmbackend ended without an answer"))
            }
        }
    }
}

/// Runs a future to its end without the GIL. Ctrl-C aborts it.
pub fn wait<T, F>(py: Python<'_>, make: impl FnOnce(Transport) -> F) -> PyResult<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut running = Running::start(py, make)?;
    loop {
        let (still, value) = running.wait_slice(py)?;
        running = still;
        if let Some(value) = value {
            return Ok(value);
        }
        if let Err(interrupt) = py.check_signals() {
            running.task.abort();
            return Err(interrupt);
        }
    }
}

/// How something ended that must not be cut off half-way.
pub enum Ended<T> {
    InTime(T),
    /// Ctrl-C came; what the future said within the grace period, if it did.
    Interrupted(PyErr, Option<T>),
}

/// Resolves when Ctrl-C comes, or a signal's handler raises something else.
pub type Interrupt = oneshot::Receiver<()>;

/// As [`wait`], but after Ctrl-C the future gets `grace` to come to its end.
pub fn wait_with_grace<T, F>(
    py: Python<'_>,
    grace: Duration,
    make: impl FnOnce(Transport, Interrupt) -> F,
) -> PyResult<Ended<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (tell, interrupted) = oneshot::channel();
    let mut tell = Some(tell);
    let mut running = Running::start(py, |transport| make(transport, interrupted))?;
    let mut interrupt: Option<(PyErr, Instant)> = None;
    loop {
        let (still, value) = running.wait_slice(py)?;
        running = still;
        match (value, interrupt.take()) {
            (Some(value), None) => {
                // Ctrl-C may have come together with the answer: raised by Python a moment later, it would not tell of it.
                return Ok(match py.check_signals() {
                    Ok(()) => Ended::InTime(value),
                    Err(interrupt) => Ended::Interrupted(interrupt, Some(value)),
                });
            }
            (Some(value), Some((error, _))) => return Ok(Ended::Interrupted(error, Some(value))),
            (None, None) => {
                if let Err(error) = py.check_signals() {
                    interrupt = Some((error, Instant::now() + grace));
                    tell.take().map(|tell| tell.send(()));
                }
            }
            (None, Some((error, end))) if Instant::now() >= end || py.check_signals().is_err() => {
                running.task.abort();
                return Ok(Ended::Interrupted(error, None));
            }
            (None, waiting) => interrupt = waiting,
        }
    }
}
