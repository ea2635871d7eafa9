//! The address of a server, as a caller writes it: checked, and what can be told from it.

use url::{Host, Url};

/// Below which address all requests of a client go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Without a query and trailing slashes.
    pub url: String,
    /// What every request says after its path, such as Azure's `api-version=...`.
    pub query: Option<String>,
}

impl BaseUrl {
    /// Reads `text`; or says what is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A URL parser drops these, and then some other address is asked.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("has a blank, a line break or another control character inside; copy it again".into());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("must begin with http:// or https://".into());
        }
        // By the rules for browsers, what follows too many slashes is a host as well.
        let named = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        if named.is_empty() || named.starts_with(':') {
            return Err(format!("names no host after {scheme}://"));
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        if url.host_str().is_none_or(|host| host.trim_matches('.').is_empty()) {
            return Err(format!("names no host after {scheme}://"));
        }
        if url.fragment().is_some() {
            return Err("has a fragment (#), which no request can carry; leave it out".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password; use api_key or headers".into());
        }
        let path_end = text.find('?').unwrap_or(text.len());
        let query = url.query().filter(|query| !query.is_empty()).map(str::to_owned);
        Ok(Self { url: text[..path_end].trim_end_matches('/').to_owned(), query })
    }

    /// Takes the last segment of the path off if `matches` says so; returns it.
    pub fn take_last_segment(&mut self, matches: impl Fn(&str) -> bool) -> Option<String> {
        let (rest, last) = self.url.rsplit_once('/')?;
        // The slashes of the scheme are not the path's.
        if rest.ends_with('/') || !matches(last) {
            return None;
        }
        let (rest, last) = (rest.trim_end_matches('/').to_owned(), last.to_owned());
        self.url = rest;
        Some(last)
    }

    /// Whether this is the provider `host` itself, a regional host of it, or a stand-in that is mounted under its name.
    pub fn is_host(&self, host: &str) -> bool {
        let is_its_name =
            |name: &str| name == host || name.strip_suffix(host).is_some_and(|region| region.ends_with('.'));
        Url::parse(&self.url).is_ok_and(|url| {
            let mount = url.path_segments().and_then(|mut segments| segments.next());
            url.host_str().is_some_and(is_its_name) || mount.is_some_and(is_its_name)
        })
    }

    /// Whether the host is one below `domain`.
    pub fn is_below(&self, domain: &str) -> bool {
        let is_below = |host: &str| host.strip_suffix(domain).is_some_and(|name| name.len() > 1 && name.ends_with('.'));
        Url::parse(&self.url).is_ok_and(|url| url.host_str().is_some_and(is_below))
    }

    /// Whether it leads to this machine itself.
    pub fn is_loopback(&self) -> bool {
        Url::parse(&self.url).is_ok_and(|url| match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        })
    }

    /// The scheme and the host: all of it that is safe to show.
    pub fn origin(&self) -> String {
        Url::parse(&self.url).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// The URL of `path` (with its own query) below this one; with a leading `/`, below its host.
    pub fn join(&self, path: &str) -> String {
        let url = match path.starts_with('/') {
            true => format!("{}{path}", self.origin()),
            false => format!("{}/{path}", self.url),
        };
        match &self.query {
            None => url,
            Some(query) => format!("{url}{}{query}", if path.contains('?') { '&' } else { '?' }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        BaseUrl::parse(text).unwrap()
    }

    #[test]
    fn an_address_is_cleaned_or_refused() {
        assert_eq!(base("http://h/v1//"), BaseUrl { url: "http://h/v1".into(), query: None });
        assert_eq!(base("HTTPS://h").url, "HTTPS://h");
        for (bad, why) in [
            ("h/v1", "begin with http"),
            ("ftp://h", "begin with http"),
            ("http:/h/v1", "begin with http"),
            ("http:h/v1", "begin with http"),
            ("http://", "no host"),
            ("http:///v1", "no host"),
            ("http:////h/v1", "no host"),
            ("http://:80/v1", "no host"),
            ("http://?x=1", "no host"),
            ("http://\\h", "no host"),
            ("http://./v1", "no host"),
            ("http://h:99999/", "not a URL"),
            ("http://[::1/v1", "not a URL"),
            ("http://h/#a", "fragment"),
            ("http://u:p@h/v1", "password"),
            ("http://h/v1\nx", "line break"),
            ("http://h/\tv1", "control"),
            ("http://h /v1", "blank"),
            ("http://h/v1\u{0}", "control"),
            ("http://h\u{a0}/v1", "blank"),
        ] {
            let error = BaseUrl::parse(bad).unwrap_err();
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_query_is_kept_on_every_request() {
        let azure = base("https://x.openai.azure.com/openai/v1/?api-version=2026-01-01&a=%20b");
        assert_eq!(azure.url, "https://x.openai.azure.com/openai/v1");
        let query = "api-version=2026-01-01&a=%20b";
        assert_eq!(azure.join("responses"), format!("https://x.openai.azure.com/openai/v1/responses?{query}"));
        assert_eq!(
            azure.join("batches?limit=9"),
            format!("https://x.openai.azure.com/openai/v1/batches?limit=9&{query}")
        );
        assert_eq!(azure.join("/up?id=1"), format!("https://x.openai.azure.com/up?id=1&{query}"));
        assert_eq!(base("http://h/v1?").query, None);
        assert_eq!(base("http://h/v1").join("a"), "http://h/v1/a");
    }

    #[test]
    fn a_provider_itself_is_told_by_host_or_mount() {
        let mounted = "http://127.0.0.1:1/api.openai.com/v1";
        for url in ["https://api.openai.com/v1", "https://eu.api.openai.com/v1?a=b", mounted] {
            assert!(base(url).is_host("api.openai.com"), "{url}");
        }
        for url in ["http://localhost:8000/v1", "https://api.openai.com.evil.org/v1", "https://notapi.openai.com/v1"] {
            assert!(!base(url).is_host("api.openai.com"), "{url}");
        }
        assert!(base("https://x.openai.azure.com/openai/v1").is_below("openai.azure.com"));
        for url in ["https://openai.azure.com", "https://xopenai.azure.com", "https://x.openai.azure.com.evil.org"] {
            assert!(!base(url).is_below("openai.azure.com"), "{url}");
        }
    }

    #[test]
    fn only_a_segment_of_the_path_is_taken_off() {
        let mut with_version = base("http://h/a/v1beta?x=1");
        assert_eq!(with_version.take_last_segment(|last| last == "v1beta").as_deref(), Some("v1beta"));
        assert_eq!(with_version, BaseUrl { url: "http://h/a".into(), query: Some("x=1".into()) });
        assert_eq!(base("http://v1").take_last_segment(|last| last == "v1"), None);
        assert_eq!(base("http://h/v1x").take_last_segment(|last| last == "v1"), None);
    }
}
