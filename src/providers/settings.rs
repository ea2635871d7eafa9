//! What a client's options and the environment say about a provider, checked.

use super::base_url::{BaseUrl, is_invisible};
use crate::bounds::{DEFAULT_MAX_ANSWER, MIN_MAX_ANSWER};
use crate::error::{Error, Result};
use crate::exchange::{Connect, Endpoint, Header};
use crate::proxy::{self, Route};
use crate::redact::Redactor;
use crate::suggest;
use serde_json::{Map, Value};
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
const DEFAULT_MAX_RETRIES: u32 = 2;
const TIME_SCALE: &str = "LLMBACKEND_TEST_TIMESCALE";
/// Options that every remote provider has.
const COMMON: &[&str] =
    &["api_key", "base_url", "timeout", "deadline", "max_retries", "max_response_bytes", "headers", "ca_bundle"];

/// The headers that say where a message ends and how it is written, beside all that begin with `proxy-`: one client speaks for
/// all requests, and cannot know (RFC 9110, 7.6.1, 8 and 14; RFC 9112, 6).
const FRAMING: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "http2-settings",
    "if-range",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What people put around a text in a shell, a file of variables or a letter.
const QUOTES: &[(char, char)] = &[
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('\u{201c}', '\u{201d}'),
    ('\u{2018}', '\u{2019}'),
    ('\u{201e}', '\u{201c}'),
    ('\u{201d}', '\u{201d}'),
    ('\u{2019}', '\u{2019}'),
    ('\u{ab}', '\u{bb}'),
];

/// `text` without the blanks and quotation marks around it, seen and unseen.
fn bare(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
    let unquoted = QUOTES.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    unquoted.map_or(text, bare)
}

/// Whether a header is the client's alone to write.
fn frames(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    FRAMING.contains(&name.as_str()) || name.starts_with("proxy-")
}

/// By RFC 9110: a name is a token; a value here is printable ASCII, blanks and tabs.
fn is_legal(header: &Header) -> bool {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let in_value = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    !header.name.is_empty() && header.name.bytes().all(in_name) && header.value.bytes().all(in_value)
}

/// Where a setting comes from: an option, a variable of the environment, or either; the other one is empty.
fn source(option: &str, variable: &str) -> String {
    match (option, variable) {
        ("", variable) => format!("the environment's {variable}"),
        (option, "") => format!("the option {option}"),
        (option, variable) => format!("the option {option} or in the environment's {variable}"),
    }
}

type Environment = Box<dyn Fn(&str) -> Option<String>>;

/// The options of a client and the environment it was made in. An explicit option wins; what is empty counts as absent.
pub struct Settings {
    options: Map<String, Value>,
    environment: Environment,
}

impl Settings {
    pub fn new(options: Map<String, Value>, environment: impl Fn(&str) -> Option<String> + 'static) -> Self {
        Self { options, environment: Box::new(environment) }
    }

    /// Fails on an option that neither all providers nor this one (`own`) has.
    pub fn check_names(&self, provider: &str, own: &[&str]) -> Result<()> {
        let known: Vec<&str> = COMMON.iter().chain(own).copied().collect();
        match self.options.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::configuration(suggest::unknown(&format!("option for {provider}"), name, &known))),
            None => Ok(()),
        }
    }

    /// A text from the option `name`, else from the environment `variable`.
    pub fn text(&self, name: &str, variable: &str) -> Result<Option<String>> {
        let given = match self.options.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(bare(text).to_owned()).filter(|text| !text.is_empty()),
            Some(_) => return Err(Error::configuration(format!("{} must be a str", source(name, "")))),
        };
        Ok(given.or_else(|| self.variable(variable)))
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).map(|text| bare(&text).to_owned()).filter(|text| !text.is_empty())
    }

    /// A credential: as [`Settings::text`], and fit for a header.
    pub fn credential(&self, name: &str, variable: &str) -> Result<Option<String>> {
        let Some(key) = self.text(name, variable)? else { return Ok(None) };
        let wrong = |why: &str| Error::configuration(format!("the key in {} {why}", source(name, variable)));
        let is_quote = |c: char| QUOTES.iter().any(|(open, close)| c == *open || c == *close);
        if key.starts_with(is_quote) || key.ends_with(is_quote) {
            return Err(wrong("has a quotation mark at one end; copy it again"));
        }
        if key.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
            return Err(wrong("begins with 'Bearer', which is added where it belongs; give the key alone"));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("has a blank or a character that is not printable ASCII inside; copy it again"));
        }
        Ok(Some(key))
    }

    pub fn base_url(&self, variable: &str, default: &str) -> Result<BaseUrl> {
        let wrong = |why: String| Error::configuration(format!("base_url (or {variable}) {why}"));
        // Around a variable's value, the shell or a file leaves line breaks; in an option they are a mistake.
        let given = self.options.get("base_url").and_then(Value::as_str).unwrap_or_default().trim_matches(' ');
        if given.contains(char::is_control) && !given.trim().is_empty() {
            return Err(wrong("holds a line break, a tab or another control character; copy it again".into()));
        }
        match self.text("base_url", variable)? {
            Some(text) => BaseUrl::parse(&text, default).map_err(wrong),
            None => Ok(BaseUrl::known(default)),
        }
    }

    /// The endpoint, with the provider's `headers` under the caller's own.
    pub fn endpoint(&self, provider: &'static str, base: BaseUrl, headers: Vec<Header>) -> Result<Endpoint> {
        let mut headers = headers;
        for header in self.own_headers()? {
            headers.retain(|known| !known.name.eq_ignore_ascii_case(&header.name));
            headers.push(header);
        }
        if let Some(header) = headers.iter().find(|header| !is_legal(header)) {
            return Err(Error::configuration(format!(
                "the header '{}' has a name or a value that HTTP does not allow",
                header.name
            )));
        }
        let mut redactor = Redactor::default();
        headers.iter().filter(|header| header.secret).for_each(|header| redactor.add_header(&header.value));
        base.secrets().iter().for_each(|value| redactor.add_value(value));
        let url = url::Url::parse(&base.address)
            .map_err(|error| Error::configuration(format!("base_url is not a URL ({error})")))?;
        let route = proxy::route(&url, &self.environment)?;
        if let Route::Proxy(proxy) = &route {
            redactor.add_password(proxy.password());
        }
        Ok(Endpoint {
            provider,
            time_scale: self.time_scale(&url)?,
            base_url: base.address,
            query: base.query,
            connect: Connect { route, ca_bundle: None },
            headers,
            timeout: self.seconds("timeout")?.unwrap_or(DEFAULT_TIMEOUT),
            max_retries: self.max_retries()?,
            max_response_bytes: self.max_response_bytes()?,
            deadline: self.seconds("deadline")?,
            redactor,
        })
    }

    /// An option that is a time.
    fn seconds(&self, name: &str) -> Result<Option<Duration>> {
        match self.options.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|seconds| *seconds > 0.0)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(Some)
                .ok_or_else(|| {
                    Error::configuration(format!("{name} must be a positive number of seconds, not {value}"))
                }),
        }
    }

    /// What tests make our own delays shorter by, at servers on this machine alone.
    fn time_scale(&self, base_url: &url::Url) -> Result<f64> {
        let Some(text) = self.variable(TIME_SCALE).filter(|_| proxy::is_loopback(base_url)) else { return Ok(1.0) };
        text.parse().ok().filter(|scale| (0.0..=1.0).contains(scale)).ok_or_else(|| {
            Error::configuration(format!("the environment's {TIME_SCALE} is '{text}'; it must be a number from 0 to 1"))
        })
    }

    fn max_response_bytes(&self) -> Result<u64> {
        match self.options.get("max_response_bytes") {
            None | Some(Value::Null) => Ok(DEFAULT_MAX_ANSWER),
            Some(value) => value.as_u64().filter(|bytes| *bytes >= MIN_MAX_ANSWER).ok_or_else(|| {
                Error::configuration(format!(
                    "max_response_bytes must be an int of {MIN_MAX_ANSWER} or more, in bytes, not {value}"
                ))
            }),
        }
    }

    fn max_retries(&self) -> Result<u32> {
        match self.options.get("max_retries") {
            None | Some(Value::Null) => Ok(DEFAULT_MAX_RETRIES),
            Some(value) => value
                .as_u64()
                .and_then(|retries| u32::try_from(retries).ok())
                .ok_or_else(|| Error::configuration(format!("max_retries must be an int of 0 or more, not {value}"))),
        }
    }

    /// Whether the caller's own headers hold this one.
    pub fn has_header(&self, name: &str) -> bool {
        let headers = self.options.get("headers").and_then(Value::as_object);
        headers.is_some_and(|headers| headers.keys().any(|own| own.eq_ignore_ascii_case(name)))
    }

    fn own_headers(&self) -> Result<Vec<Header>> {
        let wrong = || Error::configuration("headers must be a dict of str to str");
        let headers = match self.options.get("headers") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(headers)) => headers,
            Some(_) => return Err(wrong()),
        };
        let header = |(name, value): (&String, &Value)| {
            if frames(name) {
                return Err(Error::configuration(format!(
                    "the header '{}' frames the message, which is the client's to do; leave it out",
                    name.trim()
                )));
            }
            let value = value.as_str().ok_or_else(wrong)?.to_owned();
            // Whatever the caller adds may be a credential.
            Ok(Header { name: name.clone(), value, secret: true })
        };
        headers.iter().map(header).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(options: Value) -> Settings {
        Settings::new(options.as_object().unwrap().clone(), |name| (name == "KEY").then(|| " from-env\n".into()))
    }

    #[test]
    fn options_win_over_the_environment_and_blanks_are_absent() {
        assert_eq!(settings(json!({"api_key": " a "})).credential("api_key", "KEY").unwrap().unwrap(), "a");
        assert_eq!(settings(json!({"api_key": " "})).credential("api_key", "KEY").unwrap().unwrap(), "from-env");
        assert_eq!(settings(json!({})).text("api_key", "OTHER").unwrap(), None);
        let error = settings(json!({"api_key": "se cret"})).credential("api_key", "KEY").unwrap_err().to_string();
        assert!(error.contains("blank") && !error.contains("cret\""), "{error}");
        assert!(error.contains("the option api_key or in the environment's KEY"), "{error}");
        let error = settings(json!({"auth_token": "a b"})).credential("auth_token", "").unwrap_err().to_string();
        assert!(error.contains("the key in the option auth_token has"), "{error}");
        let spoilt = Settings::new(Map::new(), |_| Some("a b".into()));
        let error = spoilt.credential("", "KEY").unwrap_err().to_string();
        assert!(error.contains("the key in the environment's KEY has"), "{error}");
    }

    #[test]
    fn a_base_url_is_an_option_or_a_variable() {
        let base = |text: &str| settings(json!({"base_url": text})).base_url("URL", "https://default/v1");
        assert_eq!(base(" http://h/v1// ").unwrap().address, "http://h/v1");
        for blank in ["", " ", "\n"] {
            assert_eq!(base(blank).unwrap().address, "https://default/v1");
        }
        for broken in ["http://h/v1\n", "\thttp://h/v1", "http://h/v1\r\nx: y", "http://h/\u{0}"] {
            let error = base(broken).err().unwrap().to_string();
            assert!(error.contains("base_url (or URL) holds a line break, a tab or another control"), "{error}");
        }
        let environment = Settings::new(Map::new(), |_| Some("\u{feff}\"http://h/v1?a=1\"\r\n".into()));
        assert!(environment.base_url("URL", "").unwrap() == BaseUrl::parse("http://h/v1?a=1", "").unwrap());
    }

    #[test]
    fn a_quoted_key_is_unquoted_or_refused() {
        let key = |text: &str| settings(json!({"api_key": text})).credential("api_key", "OTHER");
        for quoted in [
            "\"sk-1\"",
            "'sk-1'",
            "`sk-1`",
            " \"sk-1\"\n",
            "\u{201c}sk-1\u{201d}",
            "\u{2018}sk-1\u{2019}",
            "\u{201e}sk-1\u{201c}",
            "\u{ab}\u{a0}sk-1\u{a0}\u{bb}",
            "'\"sk-1\"'",
            "\u{feff}sk-1\u{200b}\r\n",
            "\u{a0}sk-1",
        ] {
            assert_eq!(key(quoted).unwrap().as_deref(), Some("sk-1"), "{quoted:?}");
        }
        assert_eq!(key("\"\"").unwrap(), None);
        for (wrong, why) in [
            ("\"sk-secret", "quotation mark at one end"),
            ("sk-secret'", "quotation mark at one end"),
            ("\u{201c}sk-secret", "quotation mark at one end"),
            ("Bearer sk-secret", "begins with 'Bearer'"),
            ("\"bearer sk-secret\"", "begins with 'Bearer'"),
            ("sk-\nsecret", "not printable ASCII"),
            ("sk-\u{a0}secret", "not printable ASCII"),
            ("sk-\u{200b}secret", "not printable ASCII"),
        ] {
            let error = key(wrong).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("the option api_key") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_header_that_frames_the_message_is_refused_by_name() {
        for name in ["content-length", "Transfer-Encoding", " CONNECTION ", "TE", "proxy-authorization", "Content-Type"]
        {
            let result =
                settings(json!({"headers": {name: "x"}})).endpoint("p", BaseUrl::known("http://h"), Vec::new());
            let error = result.unwrap_err().to_string();
            assert!(error.contains(&format!("the header '{}' frames the message", name.trim())), "{error}");
        }
        for name in ["accept", "x-content-length", "host", "user-agent", "x-range"] {
            assert!(
                settings(json!({"headers": {name: "x"}})).endpoint("p", BaseUrl::known("http://h"), Vec::new()).is_ok()
            );
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let error = settings(json!({"api_kye": "x"})).check_names("openai", &["project"]).unwrap_err().to_string();
        assert!(error.contains("'api_kye'") && error.contains("Did you mean 'api_key'?"), "{error}");
        for bad in [
            json!({"timeout": 0}),
            json!({"timeout": "1"}),
            json!({"max_retries": -1}),
            json!({"deadline": 0}),
            json!({"deadline": -1.5}),
            json!({"deadline": "5"}),
            json!({"deadline": true}),
            json!({"deadline": 1e300}),
            json!({"max_response_bytes": 999}),
            json!({"max_response_bytes": -1}),
            json!({"max_response_bytes": 1e9}),
            json!({"max_response_bytes": "1000000"}),
            json!({"max_response_bytes": true}),
            json!({"headers": {"a": 1}}),
            json!({"headers": {"a b": "c"}}),
            json!({"headers": {"a": "b\n"}}),
        ] {
            assert!(settings(bad).endpoint("p", BaseUrl::known("http://h"), Vec::new()).is_err());
        }
    }

    #[test]
    fn times_and_sizes_are_taken_as_given() {
        let open = |options: Value| settings(options).endpoint("p", BaseUrl::known("http://h"), Vec::new()).unwrap();
        let defaults = open(json!({"deadline": null, "max_response_bytes": null}));
        assert_eq!((defaults.deadline, defaults.max_response_bytes), (None, 256 * 1024 * 1024));
        let given = open(json!({"deadline": 0.25, "max_response_bytes": 1000}));
        assert_eq!((given.deadline, given.max_response_bytes), (Some(Duration::from_millis(250)), 1000));
        assert_eq!(open(json!({"deadline": 3})).deadline, Some(Duration::from_secs(3)));
    }
}
