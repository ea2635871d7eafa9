//! What a client's options and the environment say about a provider, checked.

use crate::bounds::{DEFAULT_MAX_ANSWER, MIN_MAX_ANSWER};
use crate::error::{Error, Result};
use crate::exchange::{Endpoint, Header};
use crate::suggest;
use serde_json::{Map, Value};
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
const DEFAULT_MAX_RETRIES: u32 = 2;
/// Options that every remote provider has.
const COMMON: &[&str] = &["api_key", "base_url", "timeout", "deadline", "max_retries", "max_response_bytes", "headers"];

/// Whether a base URL is the provider `host` itself, a regional host of it, or a stand-in that is mounted under its name.
pub fn is_host(base_url: &str, host: &str) -> bool {
    let is_its_name = |name: &str| name == host || name.strip_suffix(host).is_some_and(|region| region.ends_with('.'));
    url::Url::parse(base_url).is_ok_and(|url| {
        let mount = url.path_segments().and_then(|mut segments| segments.next());
        url.host_str().is_some_and(is_its_name) || mount.is_some_and(is_its_name)
    })
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
            Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Some(_) => return Err(Error::configuration(format!("{} must be a str", source(name, "")))),
        };
        Ok(given.or_else(|| self.variable(variable)))
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A credential: as [`Settings::text`], and fit for a header.
    pub fn credential(&self, name: &str, variable: &str) -> Result<Option<String>> {
        let key = self.text(name, variable)?;
        match &key {
            Some(key) if !key.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Error::configuration(format!(
                "the key in {} has a blank or a character that is not printable ASCII inside; copy it again",
                source(name, variable)
            ))),
            _ => Ok(key),
        }
    }

    /// The base URL, without trailing slashes.
    pub fn base_url(&self, variable: &str, default: &str) -> Result<String> {
        let Some(text) = self.text("base_url", variable)? else { return Ok(default.to_owned()) };
        let wrong = |why: &str| Err(Error::configuration(format!("base_url (or {variable}) {why}")));
        match url::Url::parse(&text) {
            Err(error) => wrong(&format!("is no URL ({error}); it looks like {default}")),
            Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                wrong(&format!("must begin with http:// or https:// and name a host, like {default}"))
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                wrong("must end with its path: it has a query (?) or a fragment (#)")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                wrong("must not hold a user name or password; use api_key or headers")
            }
            Ok(_) => Ok(text.trim_end_matches('/').to_owned()),
        }
    }

    /// The endpoint, with the provider's `headers` under the caller's own.
    pub fn endpoint(&self, provider: &'static str, base_url: String, headers: Vec<Header>) -> Result<Endpoint> {
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
        Ok(Endpoint {
            provider,
            base_url,
            headers,
            timeout: self.seconds("timeout")?.unwrap_or(DEFAULT_TIMEOUT),
            max_retries: self.max_retries()?,
            max_response_bytes: self.max_response_bytes()?,
            deadline: self.seconds("deadline")?,
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
    fn a_base_url_is_cleaned_or_refused() {
        let base = |text: &str| settings(json!({"base_url": text})).base_url("URL", "https://default/v1");
        assert_eq!(base("http://h/v1//").unwrap(), "http://h/v1");
        assert_eq!(base(" ").unwrap(), "https://default/v1");
        for bad in ["h/v1", "ftp://h", "http://h/v1?x=1", "http://h/#a", "http://u:p@h/v1", "http://"] {
            assert!(base(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_provider_itself_is_told_by_host_or_mount() {
        let host = "api.openai.com";
        let mounted = "http://127.0.0.1:1/api.openai.com/v1";
        for url in ["https://api.openai.com/v1", "https://eu.api.openai.com/v1", mounted] {
            assert!(is_host(url, host), "{url}");
        }
        for url in ["http://localhost:8000/v1", "https://api.openai.com.evil.org/v1", "https://notapi.openai.com/v1"] {
            assert!(!is_host(url, host), "{url}");
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
            assert!(settings(bad).endpoint("p", String::new(), Vec::new()).is_err());
        }
    }

    #[test]
    fn times_and_sizes_are_taken_as_given() {
        let open = |options: Value| settings(options).endpoint("p", String::new(), Vec::new()).unwrap();
        let defaults = open(json!({"deadline": null, "max_response_bytes": null}));
        assert_eq!((defaults.deadline, defaults.max_response_bytes), (None, 256 * 1024 * 1024));
        let given = open(json!({"deadline": 0.25, "max_response_bytes": 1000}));
        assert_eq!((given.deadline, given.max_response_bytes), (Some(Duration::from_millis(250)), 1000));
        assert_eq!(open(json!({"deadline": 3})).deadline, Some(Duration::from_secs(3)));
    }
}
