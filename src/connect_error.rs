//! Why a request did not reach a server, or its answer not us, in words that say what to do. Nothing here shows a header or more
//! of a URL than its host: the rest may hold a key.

use crate::exchange::Endpoint;
use crate::proxy::{Proxy, Route};
use rustls::CertificateError;
use std::error::Error;

/// Why there is no connection.
pub fn cannot_connect(endpoint: &Endpoint, error: &(dyn Error + 'static)) -> String {
    let cause = chain(error);
    let is_tls = find::<rustls::Error>(error);
    match &endpoint.connect.route {
        // A tunnel goes through the proxy; what is wrong with the certificate behind it is the server's.
        Route::Proxy(proxy) if is_tls.is_none() || is_the_proxys(endpoint, proxy, &cause) => {
            let why = is_tls.map_or_else(|| no_tunnel(&cause), |error| tls(endpoint, &proxy.name, error));
            format!(
                "cannot connect through the proxy {proxy}: {why}. Check {}, or name the server in NO_PROXY to go without it.",
                proxy.variable
            )
        }
        _ => match is_tls {
            Some(error) => {
                format!("cannot connect to {}: {}.", endpoint.origin(), tls(endpoint, &endpoint.origin(), error))
            }
            None => format!("cannot connect to {}: {cause}. Check base_url and the network.", endpoint.origin()),
        },
    }
}

/// Why the answer is not whole.
pub fn broke(endpoint: &Endpoint, error: &(dyn Error + 'static)) -> String {
    let through = match &endpoint.connect.route {
        Route::Proxy(proxy) => format!(", through the proxy {proxy}"),
        _ => String::new(),
    };
    format!("the connection broke before the whole answer was here{through}: {}", chain(error))
}

/// What a proxy's 407 means.
pub fn not_let_through(proxy: &Proxy) -> String {
    format!(
        "the proxy {proxy} did not let the request through: HTTP 407: {CREDENTIALS}. Check {}, or name the server in NO_PROXY \
         to go without it.",
        proxy.variable
    )
}

const CREDENTIALS: &str =
    "it asks for a user name and a password, or does not take those given (http://user:password@host:port)";

/// Whether an error of TLS came before there was a way to the server.
fn is_the_proxys(endpoint: &Endpoint, proxy: &Proxy, cause: &str) -> bool {
    proxy.url.starts_with("https:") && (cause.contains("tunnel error") || endpoint.base_url.starts_with("http:"))
}

/// What a proxy has against it.
fn no_tunnel(cause: &str) -> String {
    if cause.contains("proxy authorization required") {
        return format!("HTTP 407: {CREDENTIALS}");
    }
    if cause.contains("tunnel error: unsuccessful") {
        return "it refused to open a tunnel to the server, or is not an HTTP proxy".into();
    }
    cause.to_owned()
}

/// Why the server at `place` cannot be trusted, or cannot speak TLS; completes "cannot connect to ...: ".
fn tls(endpoint: &Endpoint, place: &str, error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => {
                format!("what answers there does not speak TLS ({error}); the URL may have to begin with http://")
            }
            other => format!("TLS failed: {other}"),
        };
    };
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {place} has expired, or the clock of this machine is wrong ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {place} is not valid yet, or the clock of this machine is wrong ({error})")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate of {place} is for another host; use a name that it holds ({error})")
        }
        CertificateError::Revoked => format!("the certificate of {place} was revoked by its authority ({error})"),
        _ => untrusted(endpoint, place, error),
    }
}

fn untrusted(endpoint: &Endpoint, place: &str, error: &rustls::Error) -> String {
    // The name is all that there is of it here: webpki is a dependency of rustls alone.
    if error.to_string().contains("CaUsedAsEndEntity") {
        return format!(
            "the certificate of {place} is that of an authority (CA:TRUE), which cannot be a server's own ({error}); make the \
             server one with basicConstraints CA:FALSE, which may be signed by itself"
        );
    }
    match &endpoint.connect.ca_bundle {
        Some(bundle) => format!(
            "the certificate of {place} is not signed by an authority in ca_bundle '{}' ({error}); put the certificate of its \
             authority there",
            bundle.path
        ),
        None => format!(
            "the certificate of {place} is not signed by an authority that this machine trusts ({error}); if the authority is \
             private, give a file with its certificate as the option ca_bundle, or in the environment's SSL_CERT_FILE"
        ),
    }
}

/// The first error of a type among an error's causes; `io::Error` hides the one that it wraps.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(wrapped) = wrapped {
            next = Some(wrapped);
        } else {
            next = error.source();
        }
    }
    None
}

/// An error and its causes, which is where the interesting part is.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
