//! The only file that opens a socket to a provider: one request out, one reply in. No retries here, no provider
//! knowledge, and nothing from a header or a URL in an error's text, since these may hold a key.

use crate::bounds::BodyBuffer;
use crate::connect_error::{self, chain};
use crate::disk;
use crate::error::{ConnectionError, Error, Result};
use crate::exchange::{Body, Connect, Endpoint, Headers, Method, Request, Response};
use crate::jsonl::read_at;
use crate::proxy::Route;
use bytes::Bytes;
use futures_util::StreamExt;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const UPLOAD_CHUNK: usize = 256 * 1024;

/// So many ways to servers, each with its own proxy and trust, keep their connections.
const MAX_POOLS: usize = 16;

/// The connections of one process. Cheap to clone; must not outlive a fork (`py/runtime.rs` sees to that).
#[derive(Clone)]
pub struct Transport {
    /// A pool for each way to a server, the oldest first.
    pools: Arc<Mutex<Vec<(Connect, reqwest::Client)>>>,
}

impl Transport {
    /// Builds the connection pool for servers without a proxy; must be called inside a tokio runtime.
    pub fn new() -> Result<Self> {
        // Err only says that this process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let transport = Self { pools: Arc::default() };
        transport.pool(&Connect { route: Route::Direct, ca_bundle: None })?;
        Ok(transport)
    }

    /// The connections for one way to a server, made when it is first used.
    fn pool(&self, connect: &Connect) -> Result<reqwest::Client> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(known, _)| known == connect) {
            return Ok(pool.clone());
        }
        let pool = build_pool(connect)?;
        if pools.len() == MAX_POOLS {
            // Requests in flight hold it a while longer.
            pools.remove(0);
        }
        pools.push((connect.clone(), pool.clone()));
        Ok(pool)
    }

    /// Sends `request` and reads the reply: of a success what `buffer` takes, of an error the beginning.
    pub async fn send(&self, endpoint: &Endpoint, request: &Request, buffer: BodyBuffer<'_>) -> Result<Reply> {
        let watch = Watch::new(endpoint);
        let reply = self.open(endpoint, request, &watch).await?;
        let buffer = if reply.status().is_success() { buffer } else { BodyBuffer::of_error() };
        watch.read_body(reply, buffer).await
    }

    /// Sends `request` and saves the body of a success at the end of `file`, as it comes; if this fails half-way, what has
    /// arrived stays there, and a second call with the same `download` goes on from it. An error reply is returned whole.
    pub async fn download(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        file: &mut File,
        download: &mut Download,
    ) -> Result<Response> {
        let watch = Watch::new(endpoint);
        let mut request = request.clone();
        // Compressed bytes could not be counted, and a download could not go on where it broke.
        request.headers.push(("accept-encoding", "identity".into()));
        if download.resumable && download.received > 0 {
            request.headers.push(("range", format!("bytes={}-", download.received)));
        }
        let reply = self.open(endpoint, &request, &watch).await?;
        if !matches!(reply.status().as_u16(), 200 | 206) {
            return Ok(watch.read_body(reply, BodyBuffer::of_error()).await?.response);
        }
        let (status, headers) = (reply.status().as_u16(), headers(&reply));
        let goes_on = headers
            .get("content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {}-", download.received)));
        if status == 200 || !goes_on {
            download.restart(file)?;
            download.resumable = status == 200 && reply.content_length().is_some();
            if status == 206 {
                return Err(failure(
                    endpoint,
                    "the server sent another part of the file than was asked for".into(),
                    false,
                    true,
                ));
            }
        }
        // What a server compresses although it was not asked to has no length, and is unpacked on its way to the disk.
        if let Some(length) = reply.content_length() {
            disk::check_space(file, length)?;
        }
        let mut reply = reply;
        while let Some(piece) = watch.read(reply.chunk()).await? {
            watch.mark_active();
            // A decoder that always has more would never let other calls in.
            tokio::task::coop::consume_budget().await;
            file.write_all(&piece).map_err(|error| Error::disk("Saving a download", &error))?;
            download.received += piece.len() as u64;
        }
        Ok(Response { status, headers, body: Bytes::new() })
    }

    async fn open(&self, endpoint: &Endpoint, request: &Request, watch: &Watch<'_>) -> Result<reqwest::Response> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.pool(&endpoint.connect)?.request(method, endpoint.url(&request.path));
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder = match &request.body {
            Body::Empty if request.method == Method::Post => builder.header("content-length", "0"),
            Body::Empty => builder,
            Body::Json(bytes) => builder.header("content-type", "application/json").body(bytes.clone()),
            Body::File { content_type, head, file, offset, length, tail } => builder
                .header("content-type", content_type)
                .header("content-length", head.len() as u64 + length + tail.len() as u64)
                .body(watch.upload(head.clone(), file.clone(), *offset..offset + length, tail.clone())),
        };
        // `headers` replaces what is there: the client's own headers come last and win.
        let reply = watch.read(builder.headers(header_map(endpoint)?).send()).await?;
        match &endpoint.connect.route {
            // The proxy's own answer: no server has seen the request.
            Route::Proxy(proxy) if proxy.reads_requests && reply.status().as_u16() == 407 => {
                Err(failure(endpoint, connect_error::not_let_through(proxy), false, false))
            }
            _ => Ok(reply),
        }
    }
}

/// What came back.
pub struct Reply {
    pub response: Response,
    /// It is longer than what may be read of it.
    pub is_cut: bool,
}

fn build_pool(connect: &Connect) -> Result<reqwest::Client> {
    let no_client =
        |error: reqwest::Error| Error::configuration(format!("no HTTP client can be built: {}", chain(&error)));
    let builder = || -> Result<reqwest::ClientBuilder> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("llmbackend/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(60))
            // A redirect turns a POST into a GET and may lead a credential elsewhere: it is reported instead.
            .redirect(reqwest::redirect::Policy::none())
            // Ours to decide, request by request (retry.rs).
            .retry(reqwest::retry::never());
        Ok(match &connect.route {
            Route::System if cfg!(any(target_os = "macos", windows)) => builder,
            Route::System | Route::Direct => builder.no_proxy(),
            Route::Proxy(proxy) => builder.no_proxy().proxy(reqwest::Proxy::all(&proxy.url).map_err(no_client)?),
        })
    };
    let roots = |certificates: &[&[u8]]| {
        let certificates = certificates.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok());
        builder().map(|builder| builder.tls_certs_only(certificates))
    };
    if let Some(bundle) = &connect.ca_bundle {
        let certificates: Vec<&[u8]> = bundle.certificates.iter().map(Vec::as_slice).collect();
        return roots(&certificates)?.build().map_err(no_client);
    }
    builder()?.build().or_else(|_| {
        // A machine without CA files.
        let bundled: Vec<&[u8]> = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| &**der).collect();
        roots(&bundled)?.build().map_err(no_client)
    })
}

/// How far the download of a file has come.
#[derive(Default)]
pub struct Download {
    pub received: u64,
    /// The length is known, so the bytes are those that the server counts.
    resumable: bool,
}

impl Download {
    fn restart(&mut self, file: &mut File) -> Result<()> {
        self.received = 0;
        file.set_len(0).and_then(|()| file.rewind()).map_err(|error| Error::disk("Saving a download", &error))
    }
}

fn failure(endpoint: &Endpoint, message: String, timed_out: bool, sent: bool) -> Error {
    let (provider, message) = (endpoint.provider.into(), endpoint.redact(&message));
    Error::Connection(ConnectionError { provider, message, timed_out, sent })
}

fn header_map(endpoint: &Endpoint) -> Result<reqwest::header::HeaderMap> {
    let mut map = reqwest::header::HeaderMap::with_capacity(endpoint.headers.len());
    for header in &endpoint.headers {
        let illegal = || {
            Error::configuration(format!("the header '{}' has a name or a value that HTTP does not allow", header.name))
        };
        let name = reqwest::header::HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| illegal())?;
        let mut value = reqwest::header::HeaderValue::from_str(&header.value).map_err(|_| illegal())?;
        value.set_sensitive(header.secret);
        map.insert(name, value);
    }
    Ok(map)
}

fn headers(reply: &reqwest::Response) -> Headers {
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Headers(reply.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect())
}

/// Guards one request against silence. Bytes that go out count as life too: a slow upload is not a silent server.
struct Watch<'e> {
    endpoint: &'e Endpoint,
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    last_sign: Arc<AtomicU64>,
}

impl<'e> Watch<'e> {
    fn new(endpoint: &'e Endpoint) -> Self {
        Self { endpoint, started: Instant::now(), last_sign: Arc::default() }
    }

    /// Reads a body as far as `buffer` takes it.
    async fn read_body(&self, mut reply: reqwest::Response, mut buffer: BodyBuffer<'_>) -> Result<Reply> {
        let (status, headers) = (reply.status().as_u16(), headers(&reply));
        self.mark_active();
        let (mut is_cut, mut unmarked) = (false, 0);
        loop {
            let piece = match self.read(reply.chunk()).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                // What an error reply says is a help, its status is what counts.
                Err(_) if reply.status().is_client_error() || reply.status().is_server_error() => break,
                Err(error) => return Err(error),
            };
            unmarked += piece.len();
            if unmarked >= buffer.min_progress {
                self.mark_active();
                unmarked = 0;
            }
            is_cut = !buffer.take(&piece)?;
            if is_cut {
                break;
            }
            // A decoder that always has more would never let other calls in.
            tokio::task::coop::consume_budget().await;
        }
        Ok(Reply { response: Response { status, headers, body: buffer.finish().into() }, is_cut })
    }

    /// Restarts the timeout.
    fn mark_active(&self) {
        self.last_sign.store(self.now(), Ordering::Relaxed);
    }

    /// Awaits the next thing from the server, for at most the timeout after the last sign of life.
    async fn read<T>(&self, next: impl Future<Output = reqwest::Result<T>>) -> Result<T> {
        let mut next = std::pin::pin!(next);
        // Most of a small reply is there at once, and needs no clock.
        let at_once = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        if let Poll::Ready(result) = at_once {
            return result.map_err(|error| self.explain(error));
        }
        loop {
            let quiet = Duration::from_millis(self.now().saturating_sub(self.last_sign.load(Ordering::Relaxed)));
            let Some(left) = self.endpoint.timeout.checked_sub(quiet).filter(|left| !left.is_zero()) else {
                let message = format!(
                    "no answer within {} s. The server may be busy; a larger `timeout` waits longer.",
                    self.endpoint.timeout.as_secs_f64()
                );
                return Err(failure(self.endpoint, message, true, true));
            };
            if let Ok(result) = tokio::time::timeout(left, &mut next).await {
                return result.map_err(|error| self.explain(error));
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn explain(&self, error: reqwest::Error) -> Error {
        let sent = !(error.is_connect() || error.is_builder());
        let timed_out = error.is_timeout();
        let error = error.without_url();
        let explain = if sent { connect_error::broke } else { connect_error::cannot_connect };
        let message = explain(self.endpoint, &error);
        failure(self.endpoint, message, timed_out, sent)
    }

    /// The body of an upload, read from the disk piece by piece, so that a retry starts afresh.
    fn upload(&self, head: Bytes, file: Arc<File>, part: std::ops::Range<u64>, tail: Bytes) -> reqwest::Body {
        let (started, last_sign) = (self.started, self.last_sign.clone());
        let pieces = futures_util::stream::try_unfold(part.start, move |at| {
            last_sign.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
            let piece = (at < part.end).then(|| read_piece(&file, at, part.end));
            std::future::ready(
                piece.transpose().map(|piece| piece.map(|piece| (piece.clone(), at + piece.len() as u64))),
            )
        });
        let once = |bytes: Bytes| futures_util::stream::once(std::future::ready(Ok::<_, std::io::Error>(bytes)));
        reqwest::Body::wrap_stream(once(head).chain(pieces).chain(once(tail)))
    }
}

fn read_piece(file: &File, at: u64, end: u64) -> std::io::Result<Bytes> {
    let mut piece = vec![0; UPLOAD_CHUNK.min((end - at) as usize)];
    let read = read_at(file, &mut piece, at)?;
    if read == 0 {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the prepared file is shorter than it was"));
    }
    piece.truncate(read);
    Ok(piece.into())
}
