//! Reading what servers call JSON. Strict first; if that fails, once more after mending what real servers get
//! wrong without meaning anything by it: a lone surrogate escape (an emoji cut in two by a token limit), `NaN` and
//! `Infinity` (Python's `json.dumps`), numbers beyond a double, bytes that are not UTF-8, line breaks inside strings.

use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;
use std::borrow::Cow;

/// The most memory that the value of one text may take, estimated: a megabyte of `[[],[],...` would take sixty of them.
const MAX_MEMORY: usize = 1 << 30;
/// A text of this length stays below that whatever it holds.
const ALWAYS_FITS: usize = 1 << 20;

/// The value in `bytes`, or why there is none.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    check_memory(bytes)?;
    serde_json::from_slice(bytes).or_else(|error| serde_json::from_slice(&mend(bytes)).map_err(|_| error))
}

/// `text` as JSON that any parser takes: itself, or mended; an error if that does not help.
pub fn strict(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    // Skipping is fast, but does not look at surrogates.
    let may_hold_surrogates = text.contains("\\ud") || text.contains("\\uD");
    let overflows = overflows(text.as_bytes());
    if !may_hold_surrogates && !overflows && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Ok(text.into());
    }
    check_memory(text.as_bytes())?;
    let error = match serde_json::from_str::<Value>(text) {
        Ok(_) if !overflows => return Ok(text.into()),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let mended = String::from_utf8(mend(text.as_bytes())).unwrap_or_default();
    match serde_json::from_str::<Value>(&mended) {
        Ok(_) => Ok(mended.into()),
        Err(again) => Err(error.unwrap_or(again)),
    }
}

/// Whether there may be a number like `1e999` in a text, which no double holds: three digits of an exponent.
fn overflows(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'e', b'E', text).any(|at| {
        let exponent = text[at + 1..].strip_prefix(b"+").unwrap_or(&text[at + 1..]);
        at > 0 && text[at - 1].is_ascii_digit() && exponent.iter().take_while(|byte| byte.is_ascii_digit()).count() > 2
    })
}

/// A count: protobuf's JSON writes 64-bit numbers as strings, other servers write floats. What is none of these, or below
/// zero, is 0; what is too large is the largest number.
pub fn count(value: &Value) -> u64 {
    match value {
        Value::String(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().unwrap_or(u64::MAX)
        }
        // A cast of a float saturates.
        number => number.as_u64().or_else(|| number.as_f64().map(|count| count as u64)).unwrap_or(0),
    }
}

/// The value that a text begins whose end is not there: what came of it, without what is only half there.
pub fn parse_beginning(bytes: &[u8]) -> Option<Value> {
    parse(&closed(bytes)?).ok()
}

/// A text that was cut, with its end in place of what is only half there; None if it is no object and no list.
pub fn closed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut open = Vec::new();
    // After the last whole entry, and how many brackets were open there.
    let mut whole = (0, 0);
    let (mut in_string, mut at) = (false, 0);
    let mut end = bytes.len();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                let length = if bytes.get(at + 1) == Some(&b'u') { 6 } else { 2 };
                // Half an escape.
                end = if at + length > bytes.len() { at } else { end };
                at += length - 1;
            }
            _ if in_string => {}
            bracket @ (b'{' | b'[') => {
                open.push(if bracket == b'{' { b'}' } else { b']' });
                whole = (at + 1, open.len());
            }
            b'}' | b']' => drop(open.pop()?),
            b',' => whole = (at, open.len()),
            _ => {}
        }
        at += 1;
    }
    let finished = |text: &[u8], open: &[u8]| [text, &open.iter().rev().copied().collect::<Vec<_>>()].concat();
    let quote: &[u8] = if in_string { b"\"" } else { b"" };
    let all = finished(&[&bytes[..end], quote].concat(), &open);
    if whole.1 == 0 || parse(&all).is_ok() {
        return (whole.1 > 0).then_some(all);
    }
    Some(finished(&bytes[..whole.0], &open[..whole.1.min(open.len())]))
}

/// Refuses a text whose value would take too much memory.
fn check_memory(bytes: &[u8]) -> Result<(), serde_json::Error> {
    if bytes.len() <= ALWAYS_FITS {
        return Ok(());
    }
    let (mut memory, mut rest) = (0, bytes);
    while let Some(at) = rest.iter().position(|byte| {
        memory += match byte {
            b'{' => 400,
            b'[' | b',' => 100,
            _ => 0,
        };
        *byte == b'"'
    }) {
        rest = &rest[at + 1..];
        while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
            let is_end = rest[at] == b'"';
            rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
            if is_end {
                break;
            }
        }
    }
    if memory <= MAX_MEMORY {
        return Ok(());
    }
    Err(serde_json::Error::custom(format!(
        "it has so many values that they would take more than {MAX_MEMORY} bytes (1 GiB) of memory"
    )))
}

fn mend(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let bytes = text.strip_prefix('\u{feff}').unwrap_or(&text).as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        let taken = match byte {
            b'"' => mend_string(rest, &mut out),
            b'-' | b'0'..=b'9' | b'A'..=b'Z' => mend_bare_word(rest, &mut out),
            _ => {
                out.push(byte);
                1
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// Copies the string that `bytes` begins with, each lone surrogate replaced by U+FFFD; returns its length.
fn mend_string(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    out.push(b'"');
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                out.push(b'"');
                return at + 1;
            }
            b'\\' => {
                let length = match escaped_unit(&bytes[at..]) {
                    Some(0xD800..=0xDBFF) if matches!(escaped_unit(&bytes[at + 6..]), Some(0xDC00..=0xDFFF)) => 12,
                    Some(0xD800..=0xDFFF) => {
                        out.extend_from_slice(b"\\ufffd");
                        at += 6;
                        continue;
                    }
                    Some(_) => 6,
                    None => 2,
                };
                let end = (at + length).min(bytes.len());
                out.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            byte => {
                match byte {
                    // No JSON allows these unescaped, many writers do not care.
                    0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                    _ => out.push(byte),
                }
                at += 1;
            }
        }
    }
    at
}

/// The UTF-16 unit of a `\uXXXX` at the start of `bytes`.
fn escaped_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Copies a number or a bare word. An integer is exact, however long; of the others, what a double cannot hold becomes null.
fn mend_bare_word(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let length = bytes.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b))).unwrap_or(bytes.len());
    let word = &bytes[..length];
    let is_integer = word.strip_prefix(b"-").unwrap_or(word).iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
    match number.filter(|_| !is_integer) {
        Some(number) if !number.is_finite() => out.extend_from_slice(b"null"),
        _ => out.extend_from_slice(word),
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mends_what_carries_no_meaning() {
        let half_an_emoji = br#"{"text":"ab\ud83d","pair":"\ud83d\ude00","n":[NaN,-Infinity,1e999,-150.0,true]}"#;
        assert_eq!(
            parse(half_an_emoji).unwrap(),
            json!({"text": "ab\u{fffd}", "pair": "\u{1f600}", "n": [null, null, null, -150.0, true]})
        );
        assert_eq!(parse(b"{\"a\":\"b\nc\"}").unwrap(), json!({"a": "b\nc"}));
        assert_eq!(strict("[NaN, 1]").unwrap(), "[null, 1]");
        assert_eq!(strict("[1,  2]").unwrap(), "[1,  2]");
        assert_eq!(strict(r#"[1e999, -1E+400, 1e308, "1e999"]"#).unwrap(), r#"[null, null, 1e308, "1e999"]"#);
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\":\"\xff\"}").unwrap(), json!({"a": "\u{fffd}"}));
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let long = "9".repeat(400);
        for number in
            ["18446744073709551617", "-9223372036854775809", "1.50", "0.1000000000000000055511151231257827", &long]
        {
            assert_eq!(parse(number.as_bytes()).unwrap().to_string(), number);
            assert_eq!(strict(number).unwrap(), number);
            let mended = format!("[NaN,{number}]");
            assert_eq!(parse(mended.as_bytes()).unwrap()[1].to_string(), number);
            assert_eq!(strict(&mended).unwrap(), format!("[null,{number}]"));
        }
    }

    #[test]
    fn the_beginning_of_a_text_is_read_as_far_as_it_goes() {
        let text =
            r#"{"error": {"code": "c", "list": [1, {"a": "b"}], "message": "m\\n\\u00e9 "}}"#.replace("\\\\", "\\");
        let whole: Value = serde_json::from_str(&text).unwrap();
        for cut in 1..text.len() {
            let Some(value) = text.is_char_boundary(cut).then(|| parse_beginning(&text.as_bytes()[..cut])) else {
                continue;
            };
            let value = value.unwrap_or_else(|| panic!("{}", &text[..cut]));
            assert!(value["error"]["code"].is_null() || "c".starts_with(value["error"]["code"].as_str().unwrap()));
            if let Some(message) = value["error"]["message"].as_str() {
                assert!(whole["error"]["message"].as_str().unwrap().starts_with(message), "{message}");
            }
        }
        assert_eq!(
            parse_beginning(br#"{"error":{"code":"c","message":"m\u00"#),
            Some(json!({"error": {"code": "c", "message": "m"}}))
        );
        assert_eq!(parse_beginning(br#"{"a":[1,2],"b":tr"#), Some(json!({"a": [1, 2]})));
        assert_eq!(parse_beginning(b"[1, 2"), Some(json!([1, 2])));
        for text in ["", "<html>", "\"a", "}", "12", "{]", "[}"] {
            assert!(
                parse_beginning(text.as_bytes()).is_none_or(|value| value == json!({}) || value == json!([])),
                "{text}"
            );
        }
    }

    #[test]
    fn a_count_is_a_number_of_zero_or_more_however_it_is_written() {
        for (written, expected) in [
            ("7", 7),
            ("\"7\"", 7),
            ("7.0", 7),
            ("-1", 0),
            ("-1.5", 0),
            ("\"-1\"", 0),
            ("\"\"", 0),
            ("\"many\"", 0),
            ("null", 0),
            ("[7]", 0),
            ("{\"n\": 7}", 0),
            ("true", 0),
            ("NaN", 0),
            ("1e18", 1_000_000_000_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
            ("\"99999999999999999999\"", u64::MAX),
        ] {
            assert_eq!(count(&parse(written.as_bytes()).unwrap()), expected, "{written}");
        }
    }

    #[test]
    fn a_text_whose_value_would_fill_the_memory_is_refused() {
        for (unit, count) in [("[],", 6_000_000), (r#"{"a":{}},"#, 1_500_000), ("0,", 12_000_000)] {
            let text = format!("[{}0]", unit.repeat(count));
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("more than 1073741824 bytes"), "{error}");
        }
        // Not so a long string, whatever stands in it.
        let text = format!("[\"{}\"]", "{[,\\\"".repeat(4_000_000));
        assert_eq!(parse(text.as_bytes()).unwrap()[0].as_str().unwrap().len(), 16_000_000);
    }

    #[test]
    fn does_not_invent_json() {
        for text in ["", "{", "<html>", r#"{"a":"b"#, r#"{"a":\ud800}"#, "{\"a\":\"\\", "{'a':1}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
