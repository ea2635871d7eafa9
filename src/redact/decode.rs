//! The encodings in which a text may quote another one, undone, with the place in the source of each decoded byte.

use memchr::memchr;
use std::ops::Range;

/// Bytes, and for each the range of the source that it was decoded from.
pub struct Stream {
    pub bytes: Vec<u8>,
    /// None: the source itself.
    places: Option<Vec<(u32, u32)>>,
}

impl Stream {
    /// `source` as it is. Not longer than 4 GB.
    pub fn of(source: &[u8]) -> Self {
        Self { bytes: source.to_vec(), places: None }
    }

    /// Where in the source the bytes at `range` stand. Not empty.
    pub fn source(&self, range: Range<usize>) -> Range<usize> {
        match &self.places {
            None => range,
            Some(places) => places[range.start].0 as usize..places[range.end - 1].1 as usize,
        }
    }

    fn derived() -> Self {
        Self { bytes: Vec::new(), places: Some(Vec::new()) }
    }

    fn push(&mut self, byte: u8, source: Range<usize>) {
        self.bytes.push(byte);
        // A window of a text is far below 4 GB.
        self.places.get_or_insert_default().push((source.start as u32, source.end as u32));
    }

    fn copy(&mut self, from: &Self, range: Range<usize>) {
        for at in range {
            self.push(from.bytes[at], from.source(at..at + 1));
        }
    }
}

/// How a text is escaped: the byte that every escape begins with.
#[derive(Clone, Copy)]
pub enum Escapes {
    /// JSON, and the languages that print texts in much the same way.
    Backslash = b'\\' as isize,
    /// URLs and forms.
    Percent = b'%' as isize,
    /// HTML.
    Entity = b'&' as isize,
}

impl Escapes {
    pub const ALL: [Self; 3] = [Self::Backslash, Self::Percent, Self::Entity];

    /// `stream` with each escape of this kind resolved once; None if there is none.
    pub fn resolve(self, stream: &Stream) -> Option<Stream> {
        let bytes = &stream.bytes;
        let mut out = Stream::derived();
        let (mut copied, mut at) = (0, 0);
        while let Some(ahead) = memchr(self as u8, &bytes[at..]) {
            at += ahead;
            let Some((length, decoded)) = self.read(&bytes[at..]) else {
                at += 1;
                continue;
            };
            out.copy(stream, copied..at);
            let source = stream.source(at..at + length);
            match decoded {
                Decoded::Byte(byte) => out.push(byte, source),
                Decoded::Char(code) => {
                    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                    character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push(byte, source.clone()));
                }
            }
            at += length;
            copied = at;
        }
        if copied == 0 {
            return None;
        }
        out.copy(stream, copied..bytes.len());
        Some(out)
    }

    /// The escape that `bytes` begins with, and its length.
    fn read(self, bytes: &[u8]) -> Option<(usize, Decoded)> {
        match self {
            Self::Backslash => backslash(bytes),
            Self::Percent => percent(bytes),
            Self::Entity => entity(bytes),
        }
    }
}

enum Decoded {
    Byte(u8),
    Char(u32),
}

/// JSON's escapes, and those of the languages that print texts (`\x3d`, `\u{3d}`, `\U0000003d`, `\075`).
fn backslash(bytes: &[u8]) -> Option<(usize, Decoded)> {
    let letter = *bytes.get(1)?;
    let fixed = |digits: usize| number(bytes.get(2..2 + digits)?, 16).map(|code| (2 + digits, Decoded::Char(code)));
    let plain = |byte: u8| Some((2, Decoded::Byte(byte)));
    match letter {
        b'u' if bytes.get(2) == Some(&b'{') => {
            let digits = bytes[3..].iter().take(7).position(|byte| *byte == b'}')?;
            number(&bytes[3..3 + digits], 16).map(|code| (4 + digits, Decoded::Char(code)))
        }
        b'u' => fixed(4),
        b'U' => fixed(8),
        b'x' => fixed(2),
        b'0'..=b'3' => number(bytes.get(1..4)?, 8).map(|code| (4, Decoded::Char(code))),
        b'b' => plain(8),
        b'f' => plain(12),
        b'n' => plain(b'\n'),
        b'r' => plain(b'\r'),
        b't' => plain(b'\t'),
        // `\/` and `\"` of JSON, and what shells, regular expressions and Markdown protect.
        punctuation if punctuation.is_ascii_punctuation() => plain(punctuation),
        _ => None,
    }
}

fn percent(bytes: &[u8]) -> Option<(usize, Decoded)> {
    if matches!(bytes.get(1), Some(b'u' | b'U')) {
        return number(bytes.get(2..6)?, 16).map(|code| (6, Decoded::Char(code)));
    }
    number(bytes.get(1..3)?, 16).map(|code| (3, Decoded::Byte(code as u8)))
}

/// A character reference of HTML; a number may lack its semicolon.
fn entity(bytes: &[u8]) -> Option<(usize, Decoded)> {
    if bytes.get(1) == Some(&b'#') {
        let is_hex = matches!(bytes.get(2), Some(b'x' | b'X'));
        let (start, radix) = if is_hex { (3, 16) } else { (2, 10) };
        let digits = bytes[start..].iter().take(8).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let code = number(&bytes[start..start + digits], radix)?;
        let semicolon = usize::from(bytes.get(start + digits) == Some(&b';'));
        return Some((start + digits + semicolon, Decoded::Char(code)));
    }
    let length = bytes.iter().take(16).position(|byte| *byte == b';')?;
    let name = &bytes[1..length];
    let (_, character) = ENTITIES.iter().find(|(known, _)| known.as_bytes() == name)?;
    Some((length + 1, Decoded::Byte(*character)))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    (!digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix)))
        .then(|| u32::from_str_radix(digits, radix).ok())?
}

/// HTML's names of the ASCII characters that a header can hold (HTML standard, named character references).
const ENTITIES: &[(&str, u8)] = &[
    ("amp", b'&'),
    ("AMP", b'&'),
    ("lt", b'<'),
    ("LT", b'<'),
    ("gt", b'>'),
    ("GT", b'>'),
    ("quot", b'"'),
    ("QUOT", b'"'),
    ("apos", b'\''),
    ("equals", b'='),
    ("sol", b'/'),
    ("plus", b'+'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("dollar", b'$'),
    ("excl", b'!'),
    ("lpar", b'('),
    ("rpar", b')'),
    ("ast", b'*'),
    ("midast", b'*'),
    ("comma", b','),
    ("period", b'.'),
    ("colon", b':'),
    ("semi", b';'),
    ("quest", b'?'),
    ("commat", b'@'),
    ("lsqb", b'['),
    ("lbrack", b'['),
    ("bsol", b'\\'),
    ("rsqb", b']'),
    ("rbrack", b']'),
    ("Hat", b'^'),
    ("lowbar", b'_'),
    ("UnderBar", b'_'),
    ("grave", b'`'),
    ("DiacriticalGrave", b'`'),
    ("lcub", b'{'),
    ("lbrace", b'{'),
    ("verbar", b'|'),
    ("vert", b'|'),
    ("VerticalLine", b'|'),
    ("rcub", b'}'),
    ("rbrace", b'}'),
    ("nbsp", b' '),
    ("Tab", b'\t'),
    ("NewLine", b'\n'),
];

/// The value of a digit of either alphabet of base64.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// The bytes of a base64 text, up to what is not base64.
pub fn base64(text: &[u8]) -> Vec<u8> {
    let digits: Vec<usize> = (0..text.len()).take_while(|at| sextet(text[*at]).is_some()).collect();
    decoded(&text_of(text, &digits)).map(|(byte, _)| byte).collect()
}

/// All that is base64 in a stream, decoded, with a zero byte behind each piece.
pub struct Base64 {
    pub all: Stream,
    /// The pieces that are text, and so may hold further encodings.
    pub texts: Stream,
}

/// Decodes the base64 in `stream`, but for the first `skipped` digits of each run: what stands before an encoded text may look
/// like base64, too. Runs of fewer than `min_digits` are left out.
pub fn base64_runs(stream: &Stream, skipped: usize, min_digits: usize) -> Base64 {
    let (mut all, mut texts) = (Stream::derived(), Stream::derived());
    for digits in runs(&stream.bytes) {
        let digits = digits.get(skipped..).filter(|digits| digits.len() >= min_digits).unwrap_or_default();
        let sextets = text_of(&stream.bytes, digits);
        let printable =
            decoded(&sextets).filter(|(byte, _)| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')).count();
        let is_text = printable * 4 >= decoded(&sextets).count() * 3;
        for (byte, at) in decoded(&sextets) {
            let (first, last) = (digits[at], digits[at + 1]);
            let source = stream.source(first..first + 1).start..stream.source(last..last + 1).end;
            all.push(byte, source.clone());
            if is_text {
                texts.push(byte, source);
            }
        }
        if !digits.is_empty() {
            let end = digits[0]..digits[0] + 1;
            all.push(0, stream.source(end.clone()));
            texts.push(0, stream.source(end));
        }
    }
    Base64 { all, texts }
}

/// The places of the digits of each run. A line break inside one is skipped: MIME breaks lines after 76 digits.
fn runs(bytes: &[u8]) -> impl Iterator<Item = Vec<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += bytes[at..].iter().position(|byte| sextet(*byte).is_some())?;
        let mut digits = Vec::new();
        while let Some(byte) = bytes.get(at).filter(|byte| sextet(**byte).is_some() || matches!(byte, b'\r' | b'\n')) {
            if sextet(*byte).is_some() {
                digits.push(at);
            }
            at += 1;
        }
        Some(digits)
    })
}

/// The values of the digits at the places `digits`.
fn text_of(bytes: &[u8], digits: &[usize]) -> Vec<u8> {
    digits.iter().filter_map(|at| sextet(bytes[*at])).collect()
}

/// The bytes that base64 digits stand for, each with the first of the two digits that it is made of.
fn decoded(sextets: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    sextets.windows(2).enumerate().filter(|(at, _)| at % 4 != 3).map(|(at, pair)| {
        let shift = 2 * (at % 4 + 1);
        (pair[0] << shift | pair[1] >> (6 - shift), at)
    })
}
