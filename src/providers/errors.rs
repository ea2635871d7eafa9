//! What error replies have in common, on all providers and the servers that imitate them.

use crate::error::{ApiError, ApiErrorKind, kind_of_status, quote, quote_up_to};
use crate::exchange::Response;
use crate::json;
use serde_json::Value;

/// The most characters of a server's own message, and of its code.
const MAX_MESSAGE: usize = 500;
const MAX_CODE: usize = 100;

/// An error reply, as far as any HTTP API's can be read. The provider's own file refines it.
pub fn read(provider: &'static str, response: &Response) -> (ApiError, Value) {
    // A long one is not read to its end.
    let parsed = json::parse(&response.body).ok().or_else(|| json::parse_beginning(&response.body));
    let mut body = parsed.unwrap_or(Value::Null);
    if let Value::Array(list) = &mut body {
        // Google wraps an error into a list now and then.
        if list.len() == 1 && list[0].is_object() {
            body = list.remove(0);
        }
    }
    let text = String::from_utf8_lossy(&response.body);
    let mut error = from_body(provider, response.status, &body, &text);
    error.request_id =
        ["x-request-id", "request-id"].iter().find_map(|name| response.headers.get(name)).map(str::to_owned);
    if error.is_redirect() {
        let target = quote(response.headers.get("location").unwrap_or("nowhere"));
        error.message = format!(
            "the server redirects to {target}; redirects are not followed. base_url is likely wrong: set it to the final address"
        );
    }
    (error, body)
}

/// The error in a reply's body: `{"error": {...}}` from the providers; `{"error": "..."}`, `{"message": ...}` or FastAPI's
/// `{"detail": ...}` from others; failing all, the text itself.
pub fn from_body(provider: &'static str, status: u16, body: &Value, text: &str) -> ApiError {
    let error = inner(body);
    let said = word(&error["message"])
        .or_else(|| word(&body["error"]))
        .or_else(|| word(&body["message"]))
        .or_else(|| detail(&body["detail"]))
        .or_else(|| body.as_str().and_then(|_| word(body)));
    ApiError {
        kind: kind_of_status(status),
        provider: provider.into(),
        status: Some(status),
        code: code(&error["code"]),
        message: said.map_or_else(|| excerpt(text), |said| message(&said)),
        request_id: None,
        retry_after: None,
        body: Some(text.chars().take(4000).collect()),
    }
}

/// An error found inside a reply that said 200.
pub fn in_reply(provider: &'static str, message: impl Into<String>) -> ApiError {
    ApiError {
        kind: ApiErrorKind::Other,
        provider: provider.into(),
        status: Some(200),
        code: None,
        message: self::message(&message.into()),
        request_id: None,
        retry_after: None,
        body: None,
    }
}

/// Where a reply that said 200, and holds no answer, describes an error instead: the object around its `error`, or the error
/// itself where it stands alone. None if it describes none.
pub fn find(body: &Value) -> Option<&Value> {
    let first = |list: &Value| list.as_array().and_then(|list| list.first()).is_some_and(is_error);
    match body {
        // Google wraps a reply into a list now and then.
        Value::Array(list) if list.len() == 1 => return list[0].is_object().then(|| find(&list[0])).flatten(),
        Value::Object(_) => {}
        _ => return None,
    }
    let (error, errors, choice) = (&body["error"], &body["errors"], &body["choices"][0]);
    if first(error) {
        return Some(&error[0]);
    }
    if is_error(error) {
        return Some(body);
    }
    // Gateways: an error in the place of a choice of a chat completion, or a list of them.
    if is_error(&choice["error"]) {
        return Some(choice);
    }
    if first(errors) {
        return Some(&errors[0]);
    }
    // What stands alone must say that it is one, or have the code of one.
    let says_so = body["type"] == "error" || body["object"] == "error";
    let has_message = word(&body["message"]).is_some() || detail(&body["detail"]).is_some();
    (says_so || (has_message && kind(body).is_some())).then_some(body)
}

/// What describes the error that stands in `body`, or is it.
pub fn inner(body: &Value) -> &Value {
    if body["error"].is_object() { &body["error"] } else { body }
}

/// The class of an error that comes without a status of HTTP, by its codes and types; None if they say nothing.
pub fn kind(body: &Value) -> Option<ApiErrorKind> {
    let fields = ["code", "type", "status", "status_code", "statusCode"];
    let places = [inner(body), body].into_iter().flat_map(|place| fields.map(|field| &place[field]));
    places.chain([&body["error"], body]).find_map(kind_of_code)
}

fn kind_of_code(code: &Value) -> Option<ApiErrorKind> {
    let number = match code {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => return None,
    };
    if let Some(status) = number {
        return (400.0..600.0).contains(&status).then(|| kind_of_status(status as u16));
    }
    // RateLimitError, rate_limit_exceeded, "rate limit".
    let letters = |c: char| c.is_ascii_alphanumeric().then_some(c.to_ascii_lowercase());
    let name: String = code.as_str()?.chars().take(MAX_CODE).filter_map(letters).collect();
    Some(match name.strip_suffix("error").unwrap_or(&name) {
        "ratelimit"
        | "ratelimitexceeded"
        | "ratelimited"
        | "ratelimitreached"
        | "toomanyrequests"
        | "resourceexhausted"
        | "throttled"
        | "throttling"
        | "throttlingexception"
        | "requests"
        | "tokens" => ApiErrorKind::RateLimit,
        "billing"
        | "insufficientquota"
        | "quotaexceeded"
        | "paymentrequired"
        | "insufficientcredits"
        | "insufficientfunds" => ApiErrorKind::QuotaExceeded,
        "server" | "internalserver" | "internal" | "api" | "overloaded" | "engineoverloaded" | "modeloverloaded"
        | "timeout" | "gatewaytimeout" | "requesttimeout" | "serviceunavailable" | "unavailable" | "badgateway"
        | "deadlineexceeded" | "aborted" | "dataloss" | "conflict" | "upstream" => ApiErrorKind::Server,
        "authentication"
        | "invalidapikey"
        | "incorrectapikey"
        | "invalidauthentication"
        | "unauthorized"
        | "unauthenticated" => ApiErrorKind::Authentication,
        "permission" | "permissiondenied" | "forbidden" | "accessdenied" => ApiErrorKind::PermissionDenied,
        name if name.ends_with("notfound") => ApiErrorKind::NotFound,
        "badrequest"
        | "requesttoolarge"
        | "unprocessableentity"
        | "failedprecondition"
        | "outofrange"
        | "contextlengthexceeded"
        | "unsupportedparameter"
        | "unknownparameter" => ApiErrorKind::InvalidRequest,
        name if name.starts_with("invalid") => ApiErrorKind::InvalidRequest,
        _ => return None,
    })
}

/// Whether an `error` field says that there is one: more than null, an empty form, or the code of a success.
pub fn is_error(error: &Value) -> bool {
    let says_something = |(name, value): (&String, &Value)| !(value.is_null() || (name == "code" && *value == 0));
    match error {
        Value::Object(fields) => fields.iter().any(says_something),
        Value::Array(list) => list.first().is_some_and(is_error),
        Value::Bool(is_one) => *is_one,
        other => word(other).is_some() && *other != 0,
    }
}

/// A text or a number, as text; None if empty.
pub fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) if !word.is_empty() => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A server's message as an error keeps it.
pub fn message(text: &str) -> String {
    quote_up_to(text, MAX_MESSAGE).into_owned()
}

/// A code as an error keeps it.
pub fn code(value: &Value) -> Option<String> {
    word(value).map(|code| quote_up_to(&code, MAX_CODE).into_owned())
}

/// FastAPI's detail: a text, or a list of `{"loc": ["body", "x"], "msg": ...}`.
fn detail(detail: &Value) -> Option<String> {
    match detail {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if !items.is_empty() => Some(items.iter().map(detail_item).collect::<Vec<_>>().join("; ")),
        _ => None,
    }
}

fn detail_item(item: &Value) -> String {
    let Some(message) = item["msg"].as_str() else { return item.to_string() };
    let Some(place) = item["loc"].as_array() else { return message.to_owned() };
    let place: Vec<String> =
        place.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect();
    format!("{}: {message}", place.join("."))
}

fn excerpt(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "the reply has no body".into();
    }
    format!("the reply is no error message of this API, but: {}", text.chars().take(MAX_MESSAGE).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(body: Value) -> String {
        from_body("p", 400, &body, &body.to_string()).message
    }

    #[test]
    fn an_error_in_a_success_is_found_in_every_servers_words() {
        use ApiErrorKind::*;
        for (body, expected) in [
            (json!({"error": {"code": 429, "message": "m"}}), Some(RateLimit)),
            (json!({"error": {"code": "503", "message": "m"}}), Some(Server)),
            (json!({"error": {"type": "overloaded_error", "message": "m"}, "type": "error"}), Some(Server)),
            (json!({"error": {"code": null, "type": "tokens", "message": "m"}}), Some(RateLimit)),
            (json!({"error": {"status": "RESOURCE_EXHAUSTED", "message": "m"}}), Some(RateLimit)),
            (json!([{"error": {"code": 403, "message": "m"}}]), Some(PermissionDenied)),
            (json!({"choices": [{"error": {"code": 502, "message": "m"}, "finish_reason": "error"}]}), Some(Server)),
            (json!({"errors": [{"code": 401, "message": "m"}], "success": false}), Some(Authentication)),
            (json!({"error": [{"code": 404.0, "message": "m"}]}), Some(NotFound)),
            (json!({"object": "error", "type": "BadRequestError", "code": 400, "message": "m"}), Some(InvalidRequest)),
            (json!({"statusCode": 429, "error": "Too Many Requests", "message": "m"}), Some(RateLimit)),
            (json!({"error": "m", "code": "invalid_api_key"}), Some(Authentication)),
            (json!({"error": "rate_limit_exceeded", "message": "m"}), Some(RateLimit)),
            (json!({"code": "model_not_found", "message": "m"}), Some(NotFound)),
            (json!({"error": "m"}), None),
            (json!({"error": true, "message": "m", "status": 500}), Some(Server)),
            (json!({"error": {"message": "m", "code": 7}}), None),
        ] {
            let found = find(&body).unwrap_or_else(|| panic!("{body}"));
            assert_eq!((kind(found), from_body("p", 200, found, "").kind), (expected, Other), "{body}");
            assert!(
                ["m", "rate_limit_exceeded", "Too Many Requests"]
                    .contains(&from_body("p", 200, found, "").message.as_str())
            );
        }
        for none in [
            json!({}),
            json!([]),
            json!(null),
            json!("error"),
            json!({"error": null}),
            json!({"error": {}}),
            json!({"error": 0}),
            json!({"error": false}),
            json!({"errors": []}),
            json!({"message": "m"}),
            json!({"code": 200, "message": "m"}),
            json!({"code": 429}),
            json!([{"error": {"code": 429}}, {}]),
        ] {
            assert!(find(&none).is_none(), "{none}");
        }
    }

    #[test]
    fn every_dialect_gives_its_message() {
        assert_eq!(message(json!({"error": {"message": "m", "type": "t", "param": null, "code": null}})), "m");
        assert_eq!(message(json!({"error": "just text"})), "just text");
        assert_eq!(message(json!({"message": "top"})), "top");
        assert_eq!(message(json!({"detail": "d"})), "d");
        assert_eq!(message(json!({"detail": [{"loc": ["body", "x", 0], "msg": "bad"}]})), "body.x.0: bad");
        assert!(message(json!([1, 2])).ends_with("but: [1,2]"));
        assert_eq!(from_body("p", 500, &Value::Null, " ").message, "the reply has no body");
        assert_eq!(from_body("p", 400, &json!({"error": {"code": 400}}), "").code.as_deref(), Some("400"));
    }
}
