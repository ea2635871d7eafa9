//! A Python str read from its own buffer. `PyUnicode_AsUTF8` would leave a copy in every str that is not ASCII, for as
//! long as the caller keeps it.

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringData;

/// A str whose characters can be read without the GIL.
pub struct Text {
    /// Keeps the characters where they are: a str never changes and never moves.
    _owner: Py<PyString>,
    characters: Characters,
}

/// The three widths in which CPython stores a str (PEP 393).
enum Characters {
    One(&'static [u8]),
    Two(&'static [u16]),
    Four(&'static [u32]),
}

/// A str holds half of a surrogate pair, which no UTF-8 can.
#[derive(Debug, PartialEq)]
pub struct LoneSurrogate {
    /// Where, in characters.
    pub position: usize,
}

impl Text {
    pub fn new(text: &Bound<'_, PyString>) -> PyResult<Self> {
        // SAFETY: the str is complete, and `_owner` keeps it alive for as long as the slices below are used: they are
        // private to this struct, which lends them for no longer than it lives.
        let characters = unsafe {
            match text.data()? {
                PyStringData::Ucs1(data) => Characters::One(std::slice::from_raw_parts(data.as_ptr(), data.len())),
                PyStringData::Ucs2(data) => Characters::Two(std::slice::from_raw_parts(data.as_ptr(), data.len())),
                PyStringData::Ucs4(data) => Characters::Four(std::slice::from_raw_parts(data.as_ptr(), data.len())),
            }
        };
        Ok(Self { _owner: text.clone().unbind(), characters })
    }

    /// In characters.
    pub fn len(&self) -> usize {
        match &self.characters {
            Characters::One(units) => units.len(),
            Characters::Two(units) => units.len(),
            Characters::Four(units) => units.len(),
        }
    }

    /// The text as UTF-8: its own bytes if it is ASCII, else written into `scratch`.
    pub fn utf8<'a>(&'a self, scratch: &'a mut String) -> Result<&'a str, LoneSurrogate> {
        scratch.clear();
        match &self.characters {
            Characters::One(bytes) => match std::str::from_utf8(bytes) {
                Ok(ascii) if bytes.is_ascii() => return Ok(ascii),
                _ => scratch.extend(bytes.iter().map(|byte| char::from(*byte))),
            },
            Characters::Two(units) => extend(scratch, units.iter().map(|unit| u32::from(*unit)))?,
            Characters::Four(units) => extend(scratch, units.iter().copied())?,
        }
        Ok(scratch)
    }
}

fn extend(scratch: &mut String, points: impl ExactSizeIterator<Item = u32>) -> Result<(), LoneSurrogate> {
    scratch.reserve(points.len() * 2);
    for (position, point) in points.enumerate() {
        scratch.push(char::from_u32(point).ok_or(LoneSurrogate { position })?);
    }
    Ok(())
}

/// The str as a Rust String.
pub fn to_string(text: &Bound<'_, PyString>) -> PyResult<Result<String, LoneSurrogate>> {
    let mut scratch = String::new();
    Ok(Text::new(text)?.utf8(&mut scratch).map(str::to_owned))
}
