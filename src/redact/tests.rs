//! Random credentials in random encodings, and what is not a credential.

use super::*;

fn redactor(headers: &[&str]) -> Redactor {
    let mut redactor = Redactor::default();
    headers.iter().for_each(|value| redactor.add_header(value));
    redactor
}

/// Base64 of both alphabets, by the definition (RFC 4648), as a second implementation.
fn to_base64(bytes: &[u8], is_url_safe: bool, is_padded: bool) -> String {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').collect();
    let last = if is_url_safe { *b"-_" } else { *b"+/" };
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digit = |bits: &[u8]| (0..6).fold(0, |value, at| value << 1 | bits.get(at).copied().unwrap_or(0) as usize);
    let mut text: String = bits
        .chunks(6)
        .map(|bits| char::from(*alphabet.get(digit(bits)).unwrap_or_else(|| &last[digit(bits) - 62])))
        .collect();
    while is_padded && text.len() % 4 != 0 {
        text.push('=');
    }
    text
}

fn hex(value: u32, width: usize, random: &mut fastrand::Rng) -> String {
    if random.bool() { format!("{value:0width$x}") } else { format!("{value:0width$X}") }
}

fn json(c: char, random: &mut fastrand::Rng) -> String {
    match (c, random.u8(0..4)) {
        ('"' | '\\', 0..2) => format!("\\{c}"),
        ('/', 0) => "\\/".into(),
        ('"' | '\\', _) | (_, 2) => format!("\\u{}", hex(c as u32, 4, random)),
        _ => c.into(),
    }
}

fn percent(c: char, random: &mut fastrand::Rng) -> String {
    let must = !(c.is_ascii_alphanumeric() || "-._~".contains(c));
    match c {
        ' ' if random.bool() => "+".into(),
        _ if must || random.u8(0..4) == 0 => format!("%{}", hex(c as u32, 2, random)),
        _ => c.into(),
    }
}

fn html(c: char, random: &mut fastrand::Rng) -> String {
    let must = "&<>\"'".contains(c);
    let name = ENTITY_NAMES.iter().find(|(known, _)| *known == c).map(|(_, name)| name);
    match (name, random.u8(0..6)) {
        (Some(name), 0 | 1) => format!("&{name};"),
        (_, 2) => format!("&#x{};", hex(c as u32, 1, random)),
        (_, 3) => format!("&#{};", c as u32),
        _ if must => format!("&#{};", c as u32),
        _ => c.into(),
    }
}

const ENTITY_NAMES: &[(char, &str)] = &[
    ('&', "amp"),
    ('<', "lt"),
    ('>', "gt"),
    ('"', "quot"),
    ('=', "equals"),
    ('/', "sol"),
    ('+', "plus"),
    ('_', "lowbar"),
];

fn encode(text: &str, random: &mut fastrand::Rng) -> String {
    let one = match random.u8(0..4) {
        0 => json,
        1 => percent,
        2 => html,
        _ => {
            let length = random.usize(0..7);
            let before: String = (0..length).map(|_| random.alphanumeric()).collect();
            return to_base64(format!("{before}:{text}").as_bytes(), random.bool(), random.bool());
        }
    };
    text.chars().map(|c| one(c, random)).collect()
}

#[test]
fn no_encoding_of_a_key_gets_through() {
    for seed in 0..4000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let characters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~+/=/+=!$&'()*,;:@%";
        let secret: String =
            (0..random.usize(8..60)).map(|_| char::from(*random.choice(characters).unwrap())).collect();
        let mut quoted = secret.clone();
        for _ in 0..random.usize(0..4) {
            quoted = encode(&quoted, &mut random);
        }
        let text = format!("Incorrect key: <{quoted}> given");
        let safe = redactor(&[&format!("Bearer {secret}")]).redact(&text);
        let (before, after) =
            safe.split_once("***").unwrap_or_else(|| panic!("seed {seed}: {secret} in {text}: {safe}"));
        assert!(before.starts_with("Incorrect key: <"), "seed {seed}: {secret}: {safe}");
        assert!(after.ends_with("> given"), "seed {seed}: {secret} in {text}: {safe}");
        // Nothing of it stays but what its encoding put around it.
        let rest = before.trim_start_matches("Incorrect key: <").to_owned() + after.trim_end_matches("> given");
        assert!(
            rest.len() <= 200 && !secret.split('=').any(|part| part.len() > 5 && rest.contains(part)),
            "seed {seed}: {secret} in {text}: {safe}"
        );
    }
}

const KEY: &str = "sk-proj-Ab/c+12=3_secret==";

#[test]
fn each_encoding_of_the_wire_is_known() {
    for quoted in [
        r"sk-proj-Ab\/c\u002b12\u003D3_secret\u003d=",
        r"sk\u002dproj\u002DAb/c+12=3\u005fsecret==",
        r"sk-proj-Ab\\\/c\\u002B12\\u003d3_secret==",
        r"sk-proj-Ab\x2fc\u{2b}12\0753_secret\U0000003d=",
        "sk-proj-Ab%2Fc%2b12%3D3_secret%3d%3D",
        "sk-proj-Ab%252Fc%25252B12%3D3_secret==",
        "sk-proj-Ab/c 12=3_secret==",
        "sk-proj-Ab%u002Fc+12=3%5Fsecret==",
        "sk-proj-Ab&#x2F;c&#43;12&equals;3&lowbar;secret&#61;&#x3D;",
        "sk-proj-Ab&amp;#x2F;c&plus;12&amp;equals;3_secret&#61=",
        r"sk-proj-Ab%5C%2Fc\u0026plus;12=3_secret==",
        "c2stcHJvai1BYi9jKzEyPTNfc2VjcmV0PT0=",
        "c2stcHJvai1BYi9jKzEyPTNfc2VjcmV0PT0",
        "QmVhcmVyIHNrLXByb2otQWIvYysxMj0zX3NlY3JldD09",
        "dXNlcjpzay1wcm9qLUFiL2MrMTI9M19zZWNyZXQ9PQ%3D%3D",
        "dTpzay1wcm9qLUFiL2MrMTI9M19z\\r\\nZWNyZXQ9PQ==",
        // Base64 of base64; of its JSON escapes.
        "YzJzdGNISnZhaTFCWWk5akt6RXlQVE5mYzJWamNtVjBQVDA9",
        "eyJrIjoic2stcHJvai1BYlwvY1x1MDAyYjEyPTNfc2VjcmV0PT0ifQ==",
    ] {
        let safe = redactor(&[&format!("Bearer {KEY}")]).redact(&format!("(key {quoted})"));
        let rest = safe.strip_prefix("(key ").and_then(|rest| rest.strip_suffix(')')).unwrap();
        // What stands around a key inside its base64 is not it.
        assert!(rest.contains("***") && rest.len() <= 16, "{quoted}: {safe}");
    }
}

#[test]
fn the_beginning_of_a_key_is_one_where_it_gives_the_key_away() {
    let redactor = redactor(&["Bearer sk-proj-Abc123def456ghi789"]);
    for (text, safe) in [
        ("bad key sk-proj-Abc1", "bad key ***"),
        ("bad key sk-proj-A", "bad key ***"),
        ("bad key sk-proj-Abc123de... is unknown", "bad key ***... is unknown"),
        ("bad key sk-proj-A\u{2026} is unknown", "bad key ***\u{2026} is unknown"),
        ("bad key sk-proj-Abc12, unknown", "bad key ***, unknown"),
        ("bad key sk-proj-A*** is unknown", "bad key ****** is unknown"),
        ("a key begins with sk-proj-, not with sk-", "a key begins with sk-proj-, not with sk-"),
        ("a key looks like sk-proj-...", "a key looks like sk-proj-..."),
        ("c2stcHJvai1BYmMxMjNkZWY", "***"),
    ] {
        assert_eq!(redactor.redact(text), safe, "{text}");
    }
}

#[test]
fn what_is_not_a_secret_stays() {
    let honest =
        r#"{"message":"EMPTY prompt \u003d 1 of 11; application/octet-stream &amp; 100%25 of aGVsbG8gd29ybGQ="}"#;
    for headers in [&["EMPTY"][..], &["1", "11"], &["application/json"], &["Bearer x"], &[]] {
        assert_eq!(redactor(headers).redact(honest), honest, "{headers:?}");
    }
    assert_eq!(redactor(&["Bearer abcdefgh1"]).redact("Bearer tokens: abcdef"), "Bearer tokens: abcdef");
}

#[test]
fn a_header_holds_more_than_one_secret() {
    let cookie = redactor(&["session=abcdef123456; path=/"]);
    assert_eq!(cookie.redact("no session abcdef123456"), "no session ***");
    let basic = redactor(&["Basic dXNlcjpodW50ZXIy"]);
    assert_eq!(basic.redact("user user, password hunter2"), "user user, password ***");
    assert_eq!(basic.redact("dXNlcjpodW50ZXIy"), "***");
}

#[test]
fn a_key_in_an_escape_leaves_the_json_around_it_valid() {
    let redactor = redactor(&[KEY]);
    let body = format!("{{\"a\":{},\"b\":[1]}}", serde_json::json!(serde_json::json!({ "key": KEY }).to_string()));
    let safe: serde_json::Value = serde_json::from_str(&redactor.redact(&body)).unwrap();
    assert_eq!(safe, serde_json::json!({"a": "{\"key\":\"***\"}", "b": [1]}));
}

#[test]
fn a_long_text_is_read_to_its_end() {
    let redactor = redactor(&[KEY]);
    for length in [WINDOW - 40, WINDOW - 5, WINDOW, 3 * WINDOW - 100_000] {
        let text = "é".repeat(length / 2) + "sk-proj-Ab%2Fc%2b12%3D3_secret%3d%3D" + &"\u{20ac}".repeat(100_000);
        assert_eq!(redactor.redact(&text), "é".repeat(length / 2) + "***" + &"\u{20ac}".repeat(100_000));
    }
}
