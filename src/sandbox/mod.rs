//! The sandbox: a loopback server that speaks the providers' wire formats, answers deterministically and misbehaves on demand.
//!
//! It needs no key and no network. It is a second implementation on purpose: nothing here uses the client's code, so that a
//! mistake in one of the two shows. A request passes `server` (connection, mount, request faults), then the provider's folder
//! (`openai`, `anthropic`, `gemini`), which uses the pure parts (`answer`, `faults`, `clock`) and the files on disk (`store`).

mod answer;
mod anthropic;
mod clock;
mod dice;
mod faults;
mod gemini;
mod http;
mod multipart;
mod openai;
mod pattern;
mod rows;
mod scalar;
mod server;
mod store;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

pub use faults::Fault;

/// How a sandbox runs. The default listens on a free port of 127.0.0.1, keeps its files in a temporary folder and runs its
/// clock 600 times as fast as a real one, so that a batch job takes about 0.15 s.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// Folder for uploads and results, made if missing and kept at the end. `None`: a temporary folder, removed at the end.
    pub directory: Option<PathBuf>,
    /// Virtual seconds per real second. Finite and above 0.
    pub speed: f64,
    /// The ways to misbehave.
    pub faults: Vec<Fault>,
    /// Decides the order of result lines.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            directory: None,
            speed: 600.0,
            faults: Vec::new(),
            seed: 0,
        }
    }
}

/// One request that the sandbox received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Path without the query, with the mount: `/api.openai.com/v1/batches`.
    pub path: String,
    /// Status of the reply; 0 when there was none (connection killed, reply lost or still to come).
    pub status: u16,
}

/// How many requests [`Sandbox::requests`] remembers; the oldest are forgotten first.
const LOG_LIMIT: usize = 100_000;

/// The providers served, as (name, mount, version path). The SDKs of the last two add the version themselves.
const MOUNTS: [(&str, &str, &str); 3] = [
    ("openai", "api.openai.com", "/v1"),
    ("anthropic", "api.anthropic.com", ""),
    ("gemini", "generativelanguage.googleapis.com", ""),
];

/// A running sandbox. It owns a thread and a tokio runtime of its own; dropping it stops both.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// A forked child has no server thread: waiting for it there would hang.
    process: u32,
}

/// What every connection and job of one sandbox shares.
#[derive(Debug)]
struct Shared {
    clock: clock::Clock,
    seed: u64,
    ids: Ids,
    faults: Mutex<faults::Faults>,
    log: Mutex<Log>,
    /// Long work off the async threads looks at this and gives up.
    stopping: AtomicBool,
    store: store::Store,
    openai: openai::OpenAi,
    anthropic: anthropic::Anthropic,
    gemini: gemini::Gemini,
}

impl Sandbox {
    /// Starts a sandbox and returns once it listens. Errors: the port is taken, the folder cannot be made, or `speed` is
    /// not a finite number above 0 (`InvalidInput`).
    pub fn start(options: Options) -> io::Result<Sandbox> {
        let Options { host, port, directory, speed, faults, seed } = options;
        if !(speed.is_finite() && speed > 0.0) {
            let message = format!("speed must be a finite number above 0, not {speed}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (temporary, directory) = match directory {
            Some(directory) => (None, directory),
            None => {
                let mut builder = tempfile::Builder::new();
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
                let folder = builder.prefix("llmbackend-sandbox-").tempdir()?;
                store::make_private(folder.path())?;
                let path = folder.path().to_path_buf();
                (Some(folder), path)
            }
        };
        let shared = Arc::new(Shared {
            clock: clock::Clock::start(speed),
            seed,
            ids: Ids::new(),
            faults: Mutex::new(faults::Faults::new(faults)),
            log: Mutex::new(Log::default()),
            stopping: AtomicBool::new(false),
            store: store::Store::new(&directory)?,
            openai: openai::OpenAi::default(),
            anthropic: anthropic::Anthropic::default(),
            gemini: gemini::Gemini::default(),
        });
        // Bound here and not on the thread, so that a taken port is an error of this call.
        let listener = std::net::TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("llmbackend-sandbox")
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("llmbackend-sandbox".into()).spawn(move || {
            runtime.block_on(server::serve(listener, served.clone(), stopped));
            served.stopping.store(true, Ordering::Relaxed);
            runtime.shutdown_timeout(Duration::from_millis(500));
            drop(temporary);
        })?;
        Ok(Sandbox { addr, shared, stop: Some(stop), thread: Some(thread), process: std::process::id() })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL of one provider, as its SDK wants it: `http://127.0.0.1:PORT/api.openai.com/v1`. Error: a provider
    /// that the sandbox does not serve; it names those that it does.
    pub fn url(&self, provider: &str) -> Result<String, String> {
        let found = MOUNTS.iter().find(|(name, ..)| *name == provider);
        let Some((_, mount, version)) = found else {
            let names: Vec<&str> = MOUNTS.iter().map(|(name, ..)| *name).collect();
            return Err(format!(
                "the sandbox does not serve the provider {provider:?}; it serves {}",
                names.join(", ")
            ));
        };
        Ok(format!("http://{}/{mount}{version}", self.addr))
    }

    /// Adds a fault to those in force.
    pub fn add_fault(&self, fault: Fault) {
        lock(&self.shared.faults).add(fault);
    }

    /// Removes all faults. Jobs that already caught one keep it.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// The requests so far (the newest 100,000), in the order in which they came.
    pub fn requests(&self) -> Vec<Logged> {
        lock(&self.shared.log).entries.iter().cloned().collect()
    }

    /// Stops the server: open connections are closed, jobs end, a temporary folder is removed.
    pub fn stop(self) {}
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The requests, oldest first; `first` is the number of the oldest one kept.
#[derive(Debug, Default)]
struct Log {
    entries: VecDeque<Logged>,
    first: usize,
}

impl Log {
    /// Notes a request and returns its number.
    fn begin(&mut self, method: &str, path: &str) -> usize {
        if self.entries.len() == LOG_LIMIT {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(Logged { method: method.to_owned(), path: path.to_owned(), status: 0 });
        self.first + self.entries.len() - 1
    }

    /// Notes the status of the reply to request `number`.
    fn end(&mut self, number: usize, status: u16) {
        let place = number.checked_sub(self.first);
        if let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) {
            entry.status = status;
        }
    }
}

/// Ids that differ within a sandbox and, by a random start, between sandboxes: a client may remember ids of an earlier one.
#[derive(Debug)]
struct Ids {
    start: u64,
    count: AtomicU64,
}

impl Ids {
    fn new() -> Ids {
        Ids { start: fastrand::u64(..), count: AtomicU64::new(0) }
    }

    /// The prefix and 32 hexadecimal digits.
    fn next(&self, prefix: &str) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let high = dice::mix(self.start.wrapping_add(count));
        let low = dice::mix(high ^ count);
        format!("{prefix}{high:016x}{low:016x}")
    }
}

/// Locks, also after a panic on another thread: what these locks guard is whole at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn ask(sandbox: &Sandbox, request: &str) -> String {
        let mut stream = TcpStream::connect(sandbox.addr()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn answers_logs_and_stops() {
        let sandbox = Sandbox::start(Options::default()).unwrap();
        assert!(sandbox.addr().ip().is_loopback());
        let body = r#"{"model":"any","input":"Hello"}"#;
        let head =
            "POST /api.openai.com/v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nConnection: close\r\n";
        let length = body.len();
        let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        let reply = ask(&sandbox, &request);
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains(r#""text":"Hello""#), "{reply}");
        sandbox.add_fault(Fault::parse("kill_connection:1").unwrap());
        assert_eq!(ask(&sandbox, &request), "");
        let statuses: Vec<u16> = sandbox.requests().iter().map(|logged| logged.status).collect();
        assert_eq!(statuses, [200, 0]);
        let addr = sandbox.addr();
        sandbox.stop();
        assert!(TcpStream::connect(addr).is_err());
    }

    #[test]
    fn refuses_bad_options() {
        let options = Options { speed: f64::NAN, ..Options::default() };
        assert_eq!(Sandbox::start(options).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let sandbox = Sandbox::start(Options::default()).unwrap();
        assert!(sandbox.url("openia").unwrap_err().contains("openai"));
        let taken = Options { port: sandbox.addr().port(), ..Options::default() };
        assert!(Sandbox::start(taken).is_err());
    }
}
