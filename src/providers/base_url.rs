//! Where a provider is reached: a base URL as people write it, checked.

use url::{Host, Url};

/// A base URL: scheme, host and path, and a query that goes with every request.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Without a trailing slash, and without the query.
    pub address: String,
    /// Without its question mark; empty if there is none.
    pub query: String,
}

impl BaseUrl {
    /// The provider's own.
    pub fn known(address: &str) -> Self {
        Self { address: address.to_owned(), query: String::new() }
    }

    /// Reads what a caller wrote; the error completes "base_url ...". `example` is what it should look like.
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        // An URL library would escape these, and send the request to another place than the one that was meant.
        if let Some(odd) = text.chars().find(|c| c.is_control() || c.is_whitespace() || is_invisible(*c) || *c == '\\')
        {
            let name = if odd == '\\' { "a backslash".into() } else { format!("the character U+{:04X}", odd as u32) };
            return Err(format!("holds {name}, which no URL has; copy it again"));
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); it looks like {example}"))?;
        // `http:///v1` and `http:v1` are read as `http://v1`.
        let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
        if !matches!(url.scheme(), "http" | "https") || authority.is_empty() || !has_name(&url) {
            return Err(format!("must begin with http:// or https:// and name a host, like {example}"));
        }
        if url.fragment().is_some() {
            return Err("has a fragment (#), which is not sent to a server; leave it out".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password; use api_key or headers".into());
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        Ok(Self { address: address.trim_end_matches('/').to_owned(), query: query.trim_matches('&').to_owned() })
    }

    /// Without the last segment of its path, if that `is` something that the client adds itself. Returns the segment.
    pub fn strip_segment(&mut self, is: impl Fn(&str) -> bool) -> Option<String> {
        let (rest, last) = self.address.rsplit_once('/')?;
        // The host is no segment of the path.
        if rest.ends_with(":/") || !is(last) {
            return None;
        }
        let last = last.to_owned();
        self.address = rest.trim_end_matches('/').to_owned();
        Some(last)
    }

    /// Whether this is the provider `host` itself, a regional host of it, or a stand-in that is mounted under its name.
    pub fn is_host(&self, host: &str) -> bool {
        let is_its_name = |name: &str| name == host || is_below(name, host);
        Url::parse(&self.address).is_ok_and(|url| {
            let mount = url.path_segments().and_then(|mut segments| segments.next());
            host_name(&url).is_some_and(|name| is_its_name(&name)) || mount.is_some_and(is_its_name)
        })
    }

    /// Whether the host is below `domain`.
    pub fn is_below(&self, domain: &str) -> bool {
        Url::parse(&self.address).is_ok_and(|url| host_name(&url).is_some_and(|name| is_below(&name, domain)))
    }

    /// The values in the query that may be credentials: all but those that say what is asked for, and of what.
    pub fn secrets(&self) -> Vec<String> {
        const PUBLIC: &[&str] =
            &["api-version", "api_version", "apiversion", "version", "alt", "deployment", "model", "region"];
        let is_public = |name: &str| PUBLIC.contains(&name.to_ascii_lowercase().as_str());
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.filter(|(name, _)| !is_public(name)).map(|(_, value)| value.into_owned()).collect()
    }
}

/// The host's name without the dot that may end a full one.
fn host_name(url: &Url) -> Option<String> {
    url.host_str().map(|name| name.trim_end_matches('.').to_owned())
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|region| region.ends_with('.'))
}

/// Whether each label of the host's name is there; the one behind a last dot may be missing.
fn has_name(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).split('.').all(|label| !label.is_empty()),
        host => host.is_some(),
    }
}

/// What copying brings along unseen: byte order marks, blanks without width, marks of direction.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::with_query;

    fn parse(text: &str) -> Result<(String, String), String> {
        BaseUrl::parse(text, "https://default/v1").map(|base| (base.address, base.query))
    }

    #[test]
    fn a_base_url_is_cleaned_or_refused() {
        let good = |address: &str, query: &str| Ok((address.to_owned(), query.to_owned()));
        assert_eq!(parse("http://h/v1//"), good("http://h/v1", ""));
        assert_eq!(parse("HTTPS://h:8443"), good("HTTPS://h:8443", ""));
        assert_eq!(parse("http://[::1]:80/v1"), good("http://[::1]:80/v1", ""));
        assert_eq!(parse("http://h./v1"), good("http://h./v1", ""));
        assert_eq!(
            parse("https://h/openai/v1/?api-version=2024-10-21&"),
            good("https://h/openai/v1", "api-version=2024-10-21")
        );
        assert_eq!(parse("http://h?a=1&b=/c?d"), good("http://h", "a=1&b=/c?d"));
        assert_eq!(parse("http://h/v1?"), good("http://h/v1", ""));
        for (bad, why) in [
            ("h/v1", "is not a URL"),
            ("h.example:80/v1", "must begin with http://"),
            ("ftp://h", "must begin with http://"),
            ("http://", "is not a URL"),
            ("http:///v1", "name a host"),
            ("http:/v1", "name a host"),
            ("http:h/v1", "name a host"),
            ("https:////h/v1", "name a host"),
            ("http://:80", "is not a URL"),
            ("http://?x", "is not a URL"),
            ("http://.", "name a host"),
            ("http://..", "name a host"),
            ("http://a..b/v1", "name a host"),
            ("http://.h/v1", "name a host"),
            ("http://h/#a", "fragment"),
            ("http://h/v1?a=1#", "fragment"),
            ("http://u:p@h/v1", "user name"),
            ("http://u@h/v1", "user name"),
            ("http://h/v1\r\nx: y", "U+000D"),
            ("http://h/v1\n", "U+000A"),
            ("http://h/\tv1", "U+0009"),
            ("http://h/v\x001", "U+0000"),
            ("http://h/v1?a=\u{7f}", "U+007F"),
            ("http://h /v1", "U+0020"),
            ("http://h/v1?a=b c", "U+0020"),
            ("http://h/v1\u{a0}x", "U+00A0"),
            ("http://h/v1\u{200b}/", "U+200B"),
            ("\u{feff}http://h/v1", "U+FEFF"),
            ("http:\\\\h\\v1", "a backslash"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_provider_itself_is_told_by_host_or_mount() {
        let is_host = |url: &str| BaseUrl::known(url).is_host("api.openai.com");
        let mounted = "http://127.0.0.1:1/api.openai.com/v1";
        for url in ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", "https://API.OpenAI.com./v1", mounted]
        {
            assert!(is_host(url), "{url}");
        }
        for url in ["http://localhost:8000/v1", "https://api.openai.com.evil.org/v1", "https://notapi.openai.com/v1"] {
            assert!(!is_host(url), "{url}");
        }
        let is_azure = |url: &str| BaseUrl::known(url).is_below("openai.azure.com");
        assert!(is_azure("https://mine.openai.azure.com/openai/v1") && is_azure("https://MINE.OPENAI.AZURE.COM"));
        for url in
            ["https://openai.azure.com", "https://openai.azure.com.evil.org", "https://h/mine.openai.azure.com/v1"]
        {
            assert!(!is_azure(url), "{url}");
        }
    }

    #[test]
    fn a_segment_is_stripped_where_it_is_one() {
        let strip = |address: &str| {
            let mut base = BaseUrl::known(address);
            let stripped = base.strip_segment(|last| last == "v1");
            (base.address, stripped.is_some())
        };
        assert_eq!(strip("https://h/p/v1"), ("https://h/p".into(), true));
        assert_eq!(strip("https://h//v1"), ("https://h".into(), true));
        assert_eq!(strip("https://v1"), ("https://v1".into(), false));
        assert_eq!(strip("https://h/v1beta"), ("https://h/v1beta".into(), false));
    }

    #[test]
    fn a_query_goes_with_every_request_and_a_request_s_own_wins() {
        let join = |path: &str, query: &str| with_query(path, query);
        assert_eq!(join("responses", ""), "responses");
        assert_eq!(join("responses", "api-version=1"), "responses?api-version=1");
        assert_eq!(
            join("batches?after=b&limit=100", "api-version=1&limit=5"),
            "batches?after=b&limit=100&api-version=1"
        );
        assert_eq!(join("/up?upload_id=U&key=K", "key=K"), "/up?upload_id=U&key=K");
        assert_eq!(join("f:download?alt=media", "key=a%26b&flag"), "f:download?alt=media&key=a%26b&flag");
    }

    #[test]
    fn what_is_secret_in_a_query() {
        let base = BaseUrl::parse("https://h/v1?api-version=2024-10-21&key=a%2Fb&Sig=c+d&model=m", "").unwrap();
        assert_eq!(base.secrets(), ["a/b", "c d"]);
    }
}
