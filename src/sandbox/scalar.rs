//! Numbers and strings that fit a schema. Pure.

use serde_json::{Number, Value};

use super::answer::first_chars;
use super::dice::{Dice, mix};
use super::pattern;

/// An integer within the bounds of the schema.
pub fn integer(node: &Value, dice: &mut Dice) -> Value {
    let limit = |key: &str| node.get(key).and_then(Value::as_f64);
    // i128 holds any bound that a JSON number can name exactly enough, and sums of such.
    let step = limit("multipleOf").map_or(1, |step| step.abs().round().max(1.0) as i128);
    let low =
        [limit("minimum").map(|low| low.ceil() as i128), limit("exclusiveMinimum").map(|low| low.floor() as i128 + 1)];
    let high = [
        limit("maximum").map(|high| high.floor() as i128),
        limit("exclusiveMaximum").map(|high| high.ceil() as i128 - 1),
    ];
    let low = low.into_iter().flatten().max();
    let high = high.into_iter().flatten().min();
    let (low, high) = match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 100 * step),
        (None, Some(high)) => (high - 100 * step, high),
        (None, None) => (0, 100 * step),
    };
    let first = low.div_euclid(step) + i128::from(low.rem_euclid(step) != 0);
    let last = high.div_euclid(step).max(first);
    let span = usize::try_from(last - first).unwrap_or(usize::MAX - 1);
    let picked = (first + dice.below(span + 1) as i128) * step;
    match i64::try_from(picked) {
        Ok(picked) => picked.into(),
        Err(_) => Number::from_f64(picked as f64).map_or(Value::Null, Value::Number),
    }
}

/// A number within the bounds of the schema.
pub fn number(node: &Value, dice: &mut Dice) -> Value {
    let limit = |key: &str| node.get(key).and_then(Value::as_f64);
    if limit("multipleOf").is_some_and(|step| step.fract() == 0.0) {
        return integer(node, dice);
    }
    let over = limit("exclusiveMinimum").or(limit("minimum"));
    let under = limit("exclusiveMaximum").or(limit("maximum"));
    let (low, high) = match (over, under) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 100.0),
        (None, Some(high)) => (high - 100.0, high),
        (None, None) => (0.0, 100.0),
    };
    let mut picked = low + dice.fraction() * (high - low);
    let rounded = (picked * 100.0).round() / 100.0;
    if rounded > low && rounded < high {
        picked = rounded;
    }
    if picked == low && limit("exclusiveMinimum").is_some() {
        picked = low + (high - low) / 2.0;
    }
    if let Some(step) = limit("multipleOf").filter(|step| *step > 0.0) {
        let place = (picked / step).floor();
        let place = if place * step < low { place + 1.0 } else { place };
        // Dividing by the reciprocal keeps 0.1 * 3 at 0.3.
        picked = place / (1.0 / step).round().max(1.0);
    }
    Number::from_f64(picked).map_or(Value::Null, Value::Number)
}

/// A string: of the format, or of the pattern, or else the prompt, cut and filled to the lengths of the schema.
pub fn string(node: &Value, prompt: &str, dice: &mut Dice) -> String {
    if let Some(text) = node.get("format").and_then(Value::as_str).and_then(|format| formatted(format, dice)) {
        return text;
    }
    if let Some(text) = node.get("pattern").and_then(Value::as_str).and_then(|pattern| pattern::sample(pattern, dice)) {
        return text;
    }
    let bound = |key: &str| node.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let mut text = first_chars(prompt, bound("maxLength").unwrap_or(usize::MAX)).to_owned();
    let missing = bound("minLength").unwrap_or(0).saturating_sub(text.chars().count());
    text.push_str(&".".repeat(missing.min(1_000_000)));
    text
}

fn formatted(format: &str, dice: &mut Dice) -> Option<String> {
    let n = dice.below(1 << 24);
    let date = format!("20{:02}-{:02}-{:02}", n % 30, n / 30 % 12 + 1, n / 360 % 28 + 1);
    let time = format!("{:02}:{:02}:{:02}Z", n % 24, n / 24 % 60, n / 1440 % 60);
    Some(match format {
        "date-time" => format!("{date}T{time}"),
        "date" => date,
        "time" => time,
        "duration" => format!("P{}DT{}H", n % 30 + 1, n % 23 + 1),
        "email" | "idn-email" => format!("user{n}@example.com"),
        "hostname" | "idn-hostname" => format!("host{n}.example.com"),
        "ipv4" => format!("192.0.2.{}", n % 254 + 1),
        "ipv6" => format!("2001:db8::{:x}", n % 0xffff + 1),
        "uuid" => format!("{n:08x}-0000-4000-8000-{:012x}", mix(n as u64) & 0xffff_ffff_ffff),
        "uri" | "iri" | "url" => format!("https://example.com/{n}"),
        "uri-reference" => format!("/{n}"),
        _ => return None,
    })
}
