//! What a client's options and the environment say about a provider, checked.

use super::address::BaseUrl;
use crate::bounds::{DEFAULT_MAX_ANSWER, MIN_MAX_ANSWER};
use crate::error::{Error, Result};
use crate::exchange::{Endpoint, Header};
use crate::redact::Redactor;
use crate::suggest;
use serde_json::{Map, Value};
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
const DEFAULT_MAX_RETRIES: u32 = 2;
const TIME_SCALE: &str = "LLMBACKEND_TEST_TIMESCALE";
/// Headers that say where a message ends, or how its body is encoded: a wrong one breaks the request, or a download.
const FRAMING: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Options that every remote provider has.
const COMMON: &[&str] = &["api_key", "base_url", "timeout", "deadline", "max_retries", "max_response_bytes", "headers"];

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

/// `text` without blanks around it, and without the quotation marks that files of variables (`KEY="..."`) leave around a
/// value; None if nothing is left.
fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    let is_quoted = |mark: char| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark);
    let text = if ['"', '\''].into_iter().any(is_quoted) { text[1..text.len() - 1].trim() } else { text };
    (!text.is_empty()).then(|| text.to_owned())
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
            Some(Value::String(text)) => non_empty(text),
            Some(_) => return Err(Error::configuration(format!("{} must be a str", source(name, "")))),
        };
        Ok(given.or_else(|| self.variable(variable)))
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).as_deref().and_then(non_empty)
    }

    /// A credential: as [`Settings::text`], and fit for a header.
    pub fn credential(&self, name: &str, variable: &str) -> Result<Option<String>> {
        let key = self.text(name, variable)?;
        match &key {
            Some(key) if key.starts_with(['"', '\'', '`']) || key.ends_with(['"', '\'', '`']) => {
                Err(Error::configuration(format!(
                    "the key in {} begins or ends with a quotation mark, which is not a part of it; take it out",
                    source(name, variable)
                )))
            }
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Error::configuration(format!(
                "the key in {} has a blank or a character that is not printable ASCII inside; copy it again",
                source(name, variable)
            ))),
            _ => Ok(key),
        }
    }

    /// The base URL.
    pub fn base_url(&self, variable: &str, default: &str) -> Result<BaseUrl> {
        let text = self.text("base_url", variable)?.unwrap_or_else(|| default.to_owned());
        BaseUrl::parse(&text).map_err(|why| {
            Error::configuration(format!("base_url (or the environment's {variable}) {why}; it looks like {default}"))
        })
    }

    /// The endpoint, with the provider's `headers` under the caller's own.
    pub fn endpoint(&self, provider: &'static str, base_url: BaseUrl, headers: Vec<Header>) -> Result<Endpoint> {
        let mut headers = headers;
        for header in self.own_headers()? {
            headers.retain(|known| !known.name.eq_ignore_ascii_case(&header.name));
            headers.push(header);
        }
        if let Some(header) = headers.iter().find(|header| FRAMING.contains(&header.name.to_ascii_lowercase().as_str()))
        {
            return Err(Error::configuration(format!(
                "headers has '{}', which says how the body of a message is to be read, and is set for each request; leave it out",
                header.name
            )));
        }
        if let Some(header) = headers.iter().find(|header| !is_legal(header)) {
            return Err(Error::configuration(format!(
                "the header '{}' has a name or a value that HTTP does not allow",
                header.name
            )));
        }
        let mut redactor = Redactor::default();
        headers.iter().filter(|header| header.secret).for_each(|header| redactor.add_header(&header.value));
        Ok(Endpoint {
            provider,
            headers,
            timeout: self.seconds("timeout")?.unwrap_or(DEFAULT_TIMEOUT),
            max_retries: self.max_retries()?,
            max_response_bytes: self.max_response_bytes()?,
            deadline: self.seconds("deadline")?,
            time_scale: self.time_scale(&base_url)?,
            redactor,
            base_url,
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
    fn time_scale(&self, base_url: &BaseUrl) -> Result<f64> {
        let Some(text) = self.variable(TIME_SCALE).filter(|_| base_url.is_loopback()) else { return Ok(1.0) };
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
    fn a_base_url_that_is_wrong_is_named() {
        let base = |text: &str| settings(json!({"base_url": text})).base_url("URL", "https://default/v1");
        assert_eq!(base(" ").unwrap().url, "https://default/v1");
        assert_eq!(base("'http://h/v1/'").unwrap().url, "http://h/v1");
        let error = base("http:///v1").unwrap_err().to_string();
        assert!(error.contains("URL) names no host") && error.contains("looks like https://default/v1"), "{error}");
    }

    #[test]
    fn quotation_marks_around_a_key_are_not_sent() {
        let key = |text: &str| {
            let text = text.to_owned();
            Settings::new(Map::new(), move |_| Some(text.clone())).credential("", "KEY")
        };
        for quoted in ["\"sk-1\"", "'sk-1'", " \" sk-1 \"\n", "sk-1"] {
            assert_eq!(key(quoted).unwrap().unwrap(), "sk-1", "{quoted}");
        }
        for empty in ["\"\"", "''", "' '"] {
            assert_eq!(key(empty).unwrap(), None, "{empty}");
        }
        for bad in [
            "\"sk-1",
            "sk-1'",
            "'sk-1\"",
            "`sk-1`",
            "\u{201c}sk-1\u{201d}",
            "\"'sk-1'\"",
            "\u{feff}sk-1",
            "Bearer sk-1",
        ] {
            let error = key(bad).unwrap_err().to_string();
            assert!(error.contains("the environment's KEY") && !error.contains("sk-1"), "{bad}: {error}");
        }
        assert_eq!(settings(json!({"api_key": "'sk-2'"})).credential("api_key", "KEY").unwrap().unwrap(), "sk-2");
    }

    #[test]
    fn headers_that_frame_a_message_are_refused_by_name() {
        let base = || BaseUrl::parse("http://h").unwrap();
        for name in ["Content-Length", "transfer-encoding", "CONNECTION", "Accept-Encoding", "Content-Type", "expect"] {
            let error = settings(json!({"headers": {name: "5"}})).endpoint("p", base(), Vec::new()).unwrap_err();
            assert!(error.to_string().contains(&format!("headers has '{name}'")), "{error}");
        }
        for name in ["host", "user-agent", "x-content-length", "authorization", "accept"] {
            assert!(settings(json!({"headers": {name: "5"}})).endpoint("p", base(), Vec::new()).is_ok(), "{name}");
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
            assert!(settings(bad).endpoint("p", BaseUrl::parse("http://h").unwrap(), Vec::new()).is_err());
        }
    }

    #[test]
    fn times_and_sizes_are_taken_as_given() {
        let open =
            |options: Value| settings(options).endpoint("p", BaseUrl::parse("http://h").unwrap(), Vec::new()).unwrap();
        let defaults = open(json!({"deadline": null, "max_response_bytes": null}));
        assert_eq!((defaults.deadline, defaults.max_response_bytes), (None, 256 * 1024 * 1024));
        let given = open(json!({"deadline": 0.25, "max_response_bytes": 1000}));
        assert_eq!((given.deadline, given.max_response_bytes), (Some(Duration::from_millis(250)), 1000));
        assert_eq!(open(json!({"deadline": 3})).deadline, Some(Duration::from_secs(3)));
    }
}
