//! The accept loop, the way from a path to a provider, and the faults that strike a request whatever its provider.

use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::faults::Kind;
use super::http::{self, Break, Reply};
use super::{MOUNTS, Shared, anthropic, gemini, lock, openai};

/// Serves until told to stop. Connections that are still open then end with the runtime.
pub async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, stop: oneshot::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    tokio::select! {
        () = accept(listener, shared) => {}
        _ = stop => {}
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, shared.clone()));
            }
            // Out of file descriptors, most likely: they come back as connections end.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { answer(shared, request).await }
    });
    // An error here is a client that went away, or a fault that closed the connection.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// One request. An error closes the connection without a reply.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Reply> {
    let number = lock(&shared.log).begin(request.method().as_str(), request.uri().path());
    let mut reply = strike(&shared, request).await?;
    // Anthropic's replies have theirs already: it stands in the body of an error, too.
    if !reply.headers().contains_key("request-id") {
        http::set_header(&mut reply, "x-request-id", &shared.ids.next("req_"));
    }
    lock(&shared.log).end(number, reply.status().as_u16());
    Ok(reply)
}

/// Answers a request, with the fault that strikes it, if any.
async fn strike(shared: &Arc<Shared>, request: Request<Incoming>) -> io::Result<Reply> {
    let path = request.uri().path().to_owned();
    let fault = lock(&shared.faults).take_request(request.method().as_str(), &path);
    match fault {
        None => Ok(route(shared, request).await),
        Some(Kind::KillConnection) => Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Kind::LostReply) => {
            route(shared, request).await;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Some(Kind::Stall) => std::future::pending().await,
        Some(Kind::StallBody) => Ok(http::cut(route(shared, request).await, Break::Stall)),
        Some(Kind::CutBody) => Ok(http::cut(route(shared, request).await, Break::Close)),
        Some(Kind::HtmlBody) => {
            http::drain(request.into_body()).await;
            let page = "<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body>A gateway's page.</body></html>\n";
            Ok(http::bytes(StatusCode::OK, "text/html; charset=utf-8", page))
        }
        Some(Kind::EmptyBody) => {
            http::drain(request.into_body()).await;
            Ok(http::bytes(StatusCode::OK, "application/json", ""))
        }
        Some(kind) => {
            http::drain(request.into_body()).await;
            // The form of an error is the provider's.
            Ok(match split_mount(&path).0 {
                ANTHROPIC => anthropic::fault(shared, kind),
                GEMINI => gemini::fault(kind),
                _ => openai::fault(kind),
            })
        }
    }
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let (mount, rest) = split_mount(&path);
    if mount == ANTHROPIC {
        return anthropic::route(shared, request, rest).await;
    }
    if is_openai(mount) {
        return openai::route(shared, request, rest).await;
    }
    if mount == GEMINI {
        return gemini::route(shared, request, rest).await;
    }
    http::drain(request.into_body()).await;
    if path == "/" {
        return http::bytes(StatusCode::OK, "text/plain; charset=utf-8", welcome());
    }
    let mounts: Vec<String> = MOUNTS.iter().map(|(_, mount, version)| format!("/{mount}{version}")).collect();
    let message = format!("Nothing is served at {path}; the sandbox serves {}.", mounts.join(", "));
    let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    http::json(StatusCode::NOT_FOUND, &error)
}

const ANTHROPIC: &str = "api.anthropic.com";
const GEMINI: &str = "generativelanguage.googleapis.com";

/// The first segment of a path, and the rest.
fn split_mount(path: &str) -> (&str, &str) {
    let path = path.trim_start_matches('/');
    path.split_once('/').unwrap_or((path, ""))
}

/// The host's own name, or a regional one (`eu.api.openai.com`).
fn is_openai(mount: &str) -> bool {
    mount == "api.openai.com" || mount.ends_with(".api.openai.com")
}

fn welcome() -> String {
    let mut text = String::from(
        "This is the llmbackend sandbox. It speaks the wire formats of the providers below, answers with an echo of the\n\
         prompt, and costs nothing. Any key will do.\n\n",
    );
    for (name, mount, version) in MOUNTS {
        text.push_str(&format!("{name}: base URL /{mount}{version}\n"));
    }
    text
}
