//! Credentials out of text. A server may quote one in any encoding (JSON escapes, percent, HTML, base64, one inside the other)
//! or only its beginning: the text is decoded step by step, each decoded byte remembers where it stood, and what a credential
//! decodes from is replaced. Linear in the text, in constant memory.

mod decode;

use decode::{Escapes, Stream};
use memchr::memmem::Finder;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;

/// What is shorter is not a secret, but a word ("EMPTY", "1") that honest messages hold too. In bytes.
const MIN_SECRET: usize = 8;
/// A password is a secret even where it is as short as people make them. In bytes.
const MIN_PASSWORD: usize = 6;
/// So many bytes of a key, beyond its public prefix (`sk-proj-`), give it away.
const MIN_QUOTED: usize = 4;
/// What may be a public prefix of a key, or a word, is at most so long. In bytes.
const MAX_PUBLIC: usize = 16;
/// Of what a text decodes to, in one order of its encodings and in another, at most so many are looked at.
const MAX_STREAMS: usize = 64;
/// Base64 inside base64 inside base64.
const MAX_NESTING: usize = 3;
/// A long text is read in windows, which overlap by more than an encoded key takes. In bytes.
const WINDOW: usize = 1 << 20;
const OVERLAP: usize = 1 << 16;

/// Blacks out the credentials that it was made with.
#[derive(Clone, Default)]
pub struct Redactor {
    patterns: Vec<Pattern>,
    /// Fewer digits of base64 hold none of them.
    min_digits: usize,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(***)")
    }
}

/// A credential as it may stand in a decoded text.
#[derive(Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// The shortest beginning that counts where the text is cut off behind it.
    cut: Finder<'static>,
    /// The shortest beginning that counts anywhere.
    min_quoted: usize,
}

impl Redactor {
    /// Of an HTTP header: its value, what stands in it behind a scheme or a name (`Bearer KEY`, `session=KEY; path=/`), and
    /// the password in it, if that is the scheme.
    pub fn add_header(&mut self, value: &str) {
        self.add(value, MIN_SECRET);
        self.add(value.rsplit(' ').next().unwrap_or(value), MIN_SECRET);
        for part in value.split([';', ',']) {
            self.add(part.rsplit(' ').next().unwrap_or(part), MIN_SECRET);
            if let Some((_, value)) = part.split_once('=') {
                self.add(value.trim().trim_matches('"'), MIN_SECRET);
            }
        }
        if let Some((scheme, token)) = value.trim().split_once(' ') {
            if scheme.eq_ignore_ascii_case("basic") {
                let pair = String::from_utf8(decode::base64(token.trim().as_bytes())).unwrap_or_default();
                self.add_password(&pair);
                self.add_password(pair.split_once(':').map_or("", |(_, password)| password));
            }
        }
    }

    /// Of a URL's query: the value of a parameter.
    pub fn add_value(&mut self, value: &str) {
        self.add(value, MIN_SECRET);
    }

    pub fn add_password(&mut self, password: &str) {
        self.add(password, MIN_PASSWORD);
    }

    fn add(&mut self, secret: &str, shortest: usize) {
        // A key that looks like an escape itself is decoded together with the text around it.
        let mut decoded = Vec::new();
        for_each_decoded(Stream::of(secret.as_bytes()), |stream, _| decoded.push(plus_as_blank(&stream.bytes)));
        for bytes in decoded {
            if bytes.len() >= shortest && self.patterns.iter().all(|known| known.bytes != bytes) {
                let public = public_prefix(&bytes);
                let long_enough = |length: usize| length.max(MIN_SECRET).min(bytes.len());
                let cut = Finder::new(&bytes[..long_enough(public + 1)]).into_owned();
                self.patterns.push(Pattern { cut, min_quoted: long_enough(public + MIN_QUOTED), bytes });
            }
        }
        let needles = self.patterns.iter().map(|pattern| pattern.cut.needle().len());
        self.min_digits = needles.min().map_or(0, |bytes| (bytes * 4).div_ceil(3));
    }

    /// `text` with `***` in the place of each credential.
    pub fn redact(&self, text: &str) -> String {
        if self.patterns.is_empty() {
            return text.to_owned();
        }
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let end = (start + WINDOW).min(text.len());
            let window = Stream::of(&text.as_bytes()[start..end]);
            self.scan(window, 0, &mut |range: Range<usize>| found.push(start + range.start..start + range.end));
            if end == text.len() {
                return replace(text, found);
            }
            start = end - OVERLAP;
        }
    }

    /// Searches in `stream` and in all that it decodes to.
    fn scan(&self, stream: Stream, nesting: usize, found: &mut dyn FnMut(Range<usize>)) {
        for_each_decoded(stream, |stream, is_plain| {
            self.search(stream, found);
            // Escapes hide base64 (`\/`, `%3D`), but nothing in base64 is an escape.
            for skipped in 0..if is_plain && nesting < MAX_NESTING { 4 } else { 0 } {
                let decoded = decode::base64_runs(stream, skipped, self.min_digits);
                self.search(&decoded.all, found);
                self.scan(decoded.texts, nesting + 1, found);
            }
        });
    }

    fn search(&self, stream: &Stream, found: &mut dyn FnMut(Range<usize>)) {
        let bytes = plus_as_blank(&stream.bytes);
        for pattern in &self.patterns {
            for at in pattern.cut.find_iter(&bytes) {
                let same = bytes[at..].iter().zip(&pattern.bytes).take_while(|(a, b)| a == b).count();
                if same >= pattern.min_quoted || is_cut(&bytes[at + same..]) {
                    found(stream.source(at..at + same));
                }
            }
        }
    }
}

/// Calls `f` with `stream` and with all that it decodes to, and whether no escape is left in it. Which encoding is around
/// which cannot be known: each order is tried.
fn for_each_decoded(stream: Stream, mut f: impl FnMut(&Stream, bool)) {
    let mut seen = HashSet::new();
    let mut waiting = VecDeque::from([stream]);
    while let Some(stream) = waiting.pop_front().filter(|_| seen.len() < MAX_STREAMS) {
        if !seen.insert(hash(&stream.bytes)) {
            continue;
        }
        let before = waiting.len();
        waiting.extend(Escapes::ALL.iter().filter_map(|escapes| escapes.resolve(&stream)));
        f(&stream, waiting.len() == before);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hasher::write(&mut hasher, bytes);
    std::hash::Hasher::finish(&hasher)
}

/// Form encoding writes a blank as a plus, and a careless decoder makes a blank of a key's own plus.
fn plus_as_blank(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
}

/// Whether a quotation breaks off here.
fn is_cut(rest: &[u8]) -> bool {
    rest.is_empty() || ["...", "\u{2026}", "**"].iter().any(|mark| rest.starts_with(mark.as_bytes()))
}

/// The length of what every key of its kind begins with: words in lower case, each with a separator behind it (`sk-proj-`), or
/// the name of a scheme (`Bearer `).
fn public_prefix(secret: &[u8]) -> usize {
    let mut length = 0;
    for word in secret.split_inclusive(|byte| b"-_./=: ".contains(byte)) {
        let (name, separator) = word.split_at(word.len() - 1);
        let letters = name.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let is_word = letters > 1 && name.len() <= letters + 2 && name[letters..].iter().all(u8::is_ascii_digit);
        let is_scheme = length == 0 && separator == b" " && name.iter().all(u8::is_ascii_alphabetic);
        let is_last = separator[0].is_ascii_alphanumeric();
        if is_last || !(is_word || is_scheme) || length + word.len() > MAX_PUBLIC {
            break;
        }
        length += word.len();
    }
    length
}

fn replace(text: &str, mut found: Vec<Range<usize>>) -> String {
    found.sort_by_key(|range| range.start);
    let mut out = Vec::with_capacity(text.len());
    let mut end = 0;
    for range in found {
        if range.start > end || out.is_empty() {
            out.extend_from_slice(&text.as_bytes()[end..range.start]);
            out.extend_from_slice(b"***");
        }
        end = end.max(range.end);
    }
    out.extend_from_slice(&text.as_bytes()[end..]);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
