//! HTTP as plain data: what a provider asks the transport to send, and what came back.

use crate::ca_bundle::CaBundle;
use crate::proxy::Route;
use crate::redact::Redactor;
use bytes::Bytes;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

/// Whom to talk to, and how: what every request of a client has in common.
#[derive(Clone)]
pub struct Endpoint {
    pub provider: &'static str,
    /// Without a trailing slash, and without a query.
    pub base_url: String,
    /// Goes with every request; may be empty, and may hold a credential.
    pub query: String,
    pub connect: Connect,
    pub headers: Vec<Header>,
    /// Seconds of silence after which a request counts as lost.
    pub timeout: Duration,
    pub max_retries: u32,
    /// Our own delays are multiplied by it: 1, or less where a test at a server on this machine asks for it.
    pub time_scale: f64,
    /// Knows every credential that is sent.
    pub redactor: Redactor,
    /// The most bytes of an answer, after decompression.
    pub max_response_bytes: u64,
    /// How long a single call may take with its retries.
    pub deadline: Option<Duration>,
}

/// The way to a server. What is equal here shares its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    pub route: Route,
    /// Whom to trust; None: what this machine trusts.
    pub ca_bundle: Option<Arc<CaBundle>>,
}

#[derive(Clone)]
pub struct Header {
    pub name: String,
    pub value: String,
    /// A credential: kept out of every message.
    pub secret: bool,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.secret { "***" } else { &self.value };
        write!(f, "{}: {value}", self.name)
    }
}

impl Endpoint {
    /// `text` with every credential of this endpoint blacked out: servers like to quote keys.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    pub fn url(&self, path: &str) -> String {
        let path = with_query(path, &self.query);
        if path.starts_with('/') {
            return format!("{}{path}", self.origin());
        }
        format!("{}/{path}", self.base_url)
    }

    /// The scheme and host of the base URL: all of it that is safe to show.
    pub fn origin(&self) -> String {
        url::Url::parse(&self.base_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} at {})", self.provider, self.origin())
    }
}

/// `path` with the parameters of `query` that it does not have already.
pub fn with_query(path: &str, query: &str) -> String {
    let name = |pair: &str| pair.split('=').next().unwrap_or(pair).to_owned();
    let (_, own) = path.split_once('?').unwrap_or((path, ""));
    let known: Vec<String> = own.split('&').map(name).collect();
    let mut joined = path.to_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !known.contains(&name(pair))) {
        joined.push(if joined.contains('?') { '&' } else { '?' });
        joined.push_str(pair);
    }
    joined
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request below a client's base URL.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    /// Below the base URL; or with a leading `/`, below the base URL's host. Percent-encoded, with its query.
    pub path: String,
    /// On top of the client's own headers.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    Empty,
    Json(Bytes),
    /// A part of a file between two pieces of text, streamed from the disk.
    File {
        content_type: String,
        head: Bytes,
        file: Arc<File>,
        offset: u64,
        length: u64,
        tail: Bytes,
    },
}

impl Request {
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path, Body::Empty)
    }

    pub fn post(path: impl Into<String>, body: Body) -> Self {
        Self::new(Method::Post, path, body)
    }

    fn new(method: Method, path: impl Into<String>, body: Body) -> Self {
        Self { method, path: path.into(), headers: vec![("accept", "application/json".into())], body }
    }
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Bytes,
}

impl Response {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The reply's headers; names compare without case.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One path segment, percent-encoded, so that an id can never reach another endpoint.
pub fn segment(id: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    match id {
        // A dot segment would be resolved away by any URL library.
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        _ => utf8_percent_encode(id, KEPT).to_string(),
    }
}
