//! Which proxy a server is reached through: what the environment's variables say, as curl, requests and httpx read them.

use crate::error::{Error, Result};
use core::net::IpAddr;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::{Host, Url};

/// Schemes of proxies, and the port where none is given.
const SCHEMES: &[(&str, u16)] = &[
    ("http", 80),
    ("https", 443),
    ("socks5h", 1080),
    ("socks5", 1080),
    ("socks", 1080),
    ("socks4a", 1080),
    ("socks4", 1080),
];

/// The way to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Route {
    /// Straight to it.
    Direct,
    /// The environment says nothing: as the settings of the system say, where it has such settings (macOS, Windows).
    #[default]
    System,
    Proxy(Proxy),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is, with the credentials, percent-encoded.
    pub url: String,
    /// Scheme, host and port: all of it that is safe to show.
    pub name: String,
    /// The variable of the environment that names it.
    pub variable: &'static str,
    /// It reads requests itself, and does not only pass bytes on: the way of plain HTTP.
    pub reads_requests: bool,
    password: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (from {})", self.name, self.variable)
    }
}

impl Proxy {
    /// What no message may show.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Reads the value of `variable`. No error shows it: it may hold a password.
    fn parse(value: &str, variable: &'static str, reads_requests: bool) -> Result<Self> {
        let wrong = |why: &str| Error::configuration(format!("the proxy in the environment's {variable} {why}"));
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let scheme = scheme.to_ascii_lowercase();
        let Some((_, port)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
            let known: Vec<&str> = SCHEMES.iter().map(|(name, _)| *name).collect();
            return Err(wrong(&format!("has the scheme '{scheme}', which is not one of {}", known.join(", "))));
        };
        // Read as a URL of a scheme whose hosts are checked; the port that is the default of that scheme must show.
        let url = Url::parse(&format!("ftp://{rest}")).ok().filter(|url| url.has_host());
        let url = url.filter(|url| url.query().is_none() && url.fragment().is_none());
        let illegal = value.chars().any(|c| c.is_whitespace() || c.is_control());
        let (Some(url), false) = (url, illegal) else {
            return Err(wrong(
                "is not a URL like http://user:password@host:port; percent-encode what is special in the password",
            ));
        };
        let default = if authority(rest).ends_with(":21") { 21 } else { *port };
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(default));
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decode(url.username()), decode(url.password().unwrap_or_default()));
        let has_credentials = !(user.is_empty() && password.is_empty());
        if has_credentials && scheme.starts_with("socks4") {
            return Err(wrong("has a user name, which SOCKS 4 does not check; use socks5:// or leave it out"));
        }
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let credentials =
            if has_credentials { format!("{}:{}@", encode(&user), encode(&password)) } else { String::new() };
        // Desktops that write `socks://` mean version 5, with names resolved by the proxy.
        let sent = if scheme == "socks" { "socks5h" } else { &scheme };
        Ok(Self {
            url: format!("{sent}://{credentials}{host}:{port}/"),
            name: format!("{scheme}://{host}:{port}"),
            variable,
            reads_requests: reads_requests && scheme.starts_with("http"),
            password,
        })
    }
}

fn authority(rest: &str) -> &str {
    rest.split('/').next().unwrap_or(rest)
}

/// The way to the server at `url`. Fails if the proxy that the environment names for it cannot be used: it is never bypassed.
pub fn route(url: &Url, environment: &dyn Fn(&str) -> Option<String>) -> Result<Route> {
    // What listens on this machine, no proxy reaches.
    if is_loopback(url) {
        return Ok(Route::Direct);
    }
    let is_http = url.scheme() == "http";
    // In a CGI program, HTTP_PROXY is a header of the request (CVE-2016-5385).
    let is_cgi = environment("REQUEST_METHOD").is_some();
    let http = if is_cgi { ["http_proxy", ""] } else { ["http_proxy", "HTTP_PROXY"] };
    let https = ["https_proxy", "HTTPS_PROXY"];
    let all = ["all_proxy", "ALL_PROXY"];
    let found = setting(environment, if is_http { http } else { https }).or_else(|| setting(environment, all));
    let Some((value, variable)) = found else {
        let other = setting(environment, if is_http { https } else { http });
        return Ok(if other.is_some() { Route::Direct } else { Route::System });
    };
    if setting(environment, ["no_proxy", "NO_PROXY"]).is_some_and(|(list, _)| is_excepted(url, &list)) {
        return Ok(Route::Direct);
    }
    Proxy::parse(&value, variable, is_http).map(Route::Proxy)
}

/// The value of a variable, and its name. The one in lower case wins, also if it is empty, which turns the other one off.
fn setting(environment: &dyn Fn(&str) -> Option<String>, names: [&'static str; 2]) -> Option<(String, &'static str)> {
    let found = names.into_iter().find_map(|name| environment(name).map(|value| (value, name)));
    found.map(|(value, name)| (value.trim().to_owned(), name)).filter(|(value, _)| !value.is_empty())
}

pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether a list like NO_PROXY's names the server: `*`, a name (which means all below it, too), `.name`, `*.name`, an address,
/// a range of addresses (`10.0.0.0/8`, `10.*`), each with a port or without.
fn is_excepted(url: &Url, list: &str) -> bool {
    list.split(|c: char| c == ',' || c.is_whitespace()).any(|entry| is_named(url, entry))
}

fn is_named(url: &Url, entry: &str) -> bool {
    let (scheme, entry) = entry.split_once("://").unwrap_or(("all", entry));
    if !scheme.eq_ignore_ascii_case("all") && !scheme.eq_ignore_ascii_case(url.scheme()) {
        return false;
    }
    let entry = entry.trim_end_matches('/');
    let (host, port) = split_port(entry);
    if port.is_some_and(|port| url.port_or_known_default() != Some(port)) {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match url.host() {
        _ if host == "*" => true,
        Some(Host::Domain(name)) => is_name_in(name, host),
        Some(Host::Ipv4(address)) => is_address_in(address.into(), host),
        Some(Host::Ipv6(address)) => is_address_in(address.to_canonical(), host),
        None => false,
    }
}

/// An address of version 6 has colons of its own.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn is_name_in(name: &str, entry: &str) -> bool {
    let domain = entry.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    !domain.is_empty() && name.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_address_in(address: IpAddr, entry: &str) -> bool {
    if let Some(start) = entry.strip_suffix('*').filter(|start| start.ends_with('.')) {
        // As Windows writes ranges; an address of version 6 has no dots.
        return address.to_string().starts_with(start.split('*').next().unwrap_or(start));
    }
    let (network, bits) = entry.split_once('/').map_or((entry, None), |(network, bits)| (network, Some(bits)));
    let Ok(network) = network.parse::<IpAddr>().map(|network| network.to_canonical()) else { return false };
    if network.is_ipv4() != address.is_ipv4() {
        return false;
    }
    let width = if network.is_ipv4() { 32 } else { 128 };
    match bits.map(str::parse::<u32>) {
        None => network == address,
        Some(Ok(bits)) if bits <= width => {
            let shift = |address: IpAddr| number(address).checked_shr(width - bits).unwrap_or(0);
            shift(network) == shift(address)
        }
        Some(_) => false,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(url: &str, variables: &[(&str, &str)]) -> Result<Route> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let environment =
            move |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        route(&Url::parse(url).unwrap(), &environment)
    }

    /// The proxy's URL, or how else the way is.
    fn way(url: &str, variables: &[(&str, &str)]) -> String {
        match through(url, variables) {
            Ok(Route::Proxy(proxy)) => format!("{} {}", proxy.url, proxy.variable),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_of_a_proxy_is_used() {
        for (value, url) in [
            ("http://p:3128", "http://p:3128/"),
            ("p:3128", "http://p:3128/"),
            ("P.example", "http://p.example:80/"),
            ("192.0.2.1:21", "http://192.0.2.1:21/"),
            ("HTTPS://p", "https://p:443/"),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/"),
            ("socks://p:9", "socks5h://p:9/"),
            ("SOCKS://p", "socks5h://p:1080/"),
            ("socks5://p", "socks5://p:1080/"),
            ("socks5h://u:w@p:9/", "socks5h://u:w@p:9/"),
            ("socks4://p:9", "socks4://p:9/"),
            ("socks4a://p:9", "socks4a://p:9/"),
            (" http://u:p%40ss%2F@p:3128/ ", "http://u:p%40ss%2F@p:3128/"),
            ("u:pass-word@p:3128", "http://u:pass%2Dword@p:3128/"),
            ("http://u:p@ss@p:3128", "http://u:p%40ss@p:3128/"),
            ("http://u@p:3128", "http://u:@p:3128/"),
        ] {
            assert_eq!(way("http://llm.example/v1", &[("http_proxy", value)]), format!("{url} http_proxy"), "{value}");
            assert_eq!(way("https://llm.example/v1", &[("ALL_PROXY", value)]), format!("{url} ALL_PROXY"), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_not_shown() {
        for (value, why) in [
            ("ftp://u:hunter2@p:1", "HTTPS_PROXY has the scheme 'ftp', which is not one of http, https, socks5h"),
            ("quic://p", "has the scheme 'quic'"),
            ("socks6://p", "has the scheme 'socks6'"),
            ("http://", "is not a URL like"),
            ("://p:1", "has the scheme ''"),
            ("http://u:hunter2#@p:1", "percent-encode"),
            ("http://u:hun/ter2@p:1", "percent-encode"),
            ("http://p:99999", "is not a URL like"),
            ("http://p:port", "is not a URL like"),
            ("http://p one:1", "is not a URL like"),
            ("http://p?x=hunter2", "is not a URL like"),
            ("socks4://u:hunter2@p:1", "SOCKS 4"),
        ] {
            let error = through("https://llm.example/v1", &[("HTTPS_PROXY", value)]).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("HTTPS_PROXY") && !error.contains("hunter2"),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn the_variables_are_read_as_other_programs_read_them() {
        let (plain, tls) = ("http://llm.example/v1", "https://llm.example/v1");
        assert_eq!(way(plain, &[]), "System");
        assert_eq!(way(plain, &[("http_proxy", ""), ("ALL_PROXY", " ")]), "System");
        assert_eq!(way(plain, &[("https_proxy", "p:1")]), "Direct");
        assert_eq!(way(tls, &[("http_proxy", "p:1"), ("HTTPS_PROXY", "q:1")]), "http://q:1/ HTTPS_PROXY");
        assert_eq!(way(tls, &[("https_proxy", "p:1"), ("HTTPS_PROXY", "q:1")]), "http://p:1/ https_proxy");
        assert_eq!(
            way(tls, &[("https_proxy", ""), ("HTTPS_PROXY", "q:1"), ("ALL_PROXY", "r:1")]),
            "http://r:1/ ALL_PROXY"
        );
        assert_eq!(way(plain, &[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")]), "System");
        assert_eq!(way(plain, &[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")]), "http://p:1/ http_proxy");
        for url in [
            "http://localhost:1/",
            "http://127.0.0.9/",
            "http://[::1]/",
            "http://a.localhost./",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(way(url, &[("ALL_PROXY", "nonsense://")]), "Direct", "{url}");
        }
    }

    #[test]
    fn no_proxy_names_servers() {
        let excepted = |url: &str, list: &str| match through(url, &[("all_proxy", "p:1"), ("NO_PROXY", list)]).unwrap()
        {
            Route::Direct => true,
            Route::Proxy(_) => false,
            Route::System => panic!("{url}, {list}"),
        };
        let (named, addressed, six) =
            ("http://api.llm.example:8080/v1", "http://192.0.2.7:8080/v1", "https://[2001:db8::7]/v1");
        for (url, list) in [
            (named, "*"),
            (named, "llm.example"),
            (named, ".llm.example"),
            (named, "*.llm.example"),
            (named, "other, API.LLM.example."),
            (named, "api.llm.example:8080"),
            (named, "http://api.llm.example"),
            (named, "a b,example c"),
            (addressed, "*"),
            (addressed, "a.example,*"),
            (addressed, "*:8080"),
            (addressed, "192.0.2.7"),
            (addressed, "192.0.2.7:8080"),
            (addressed, "http://192.0.2.7:8080/"),
            (addressed, "192.0.2.0/24"),
            (addressed, "0.0.0.0/0"),
            (addressed, "192.0.2.0/29:8080"),
            (addressed, "192.0.*"),
            (addressed, "192.*.*.*"),
            (addressed, "::ffff:192.0.2.7"),
            (six, "*"),
            (six, "2001:db8::7"),
            (six, "[2001:db8::7]"),
            (six, "[2001:db8::7]:443"),
            (six, "2001:db8::/32"),
            ("http://[::ffff:192.0.2.7]/", "192.0.2.0/24"),
        ] {
            assert!(excepted(url, list), "{url}, {list}");
        }
        for (url, list) in [
            (named, ""),
            (named, "."),
            (named, "lm.example"),
            (named, "api.llm.example:443"),
            (named, "https://api.llm.example"),
            (named, "192.0.2.7"),
            (addressed, "192.0.2.70"),
            (addressed, "192.0.2.7:443"),
            (addressed, "192.0.3.0/24"),
            (addressed, "192.0.2.0/33"),
            (addressed, "2.7"),
            (addressed, "19*"),
            (addressed, "192.1.*"),
            (addressed, "2001:db8::/32"),
            (six, "2001:db9::/32"),
            (six, "[2001:db8::7]:80"),
        ] {
            assert!(!excepted(url, list), "{url}, {list}");
        }
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let Route::Proxy(proxy) = through("http://h/", &[("HTTP_PROXY", "socks://u:hunter2@P:1")]).unwrap() else {
            panic!()
        };
        assert_eq!(proxy.to_string(), "socks://p:1 (from HTTP_PROXY)");
        assert_eq!(format!("{proxy:?}"), "Proxy(socks://p:1 (from HTTP_PROXY))");
        assert_eq!((proxy.password(), proxy.reads_requests), ("hunter2", false));
    }
}
