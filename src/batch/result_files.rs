//! The result files of a job, read as one: an offset counts through all of them.

use crate::error::{Error, Result};
use crate::jsonl;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Files of rows, one after the other.
#[derive(Debug, Default)]
pub struct ResultFiles {
    /// Each with the offset at which it begins.
    files: Vec<(u64, Arc<File>)>,
    length: u64,
}

/// A file that could not be read, or not to its end.
#[derive(Debug, Clone)]
pub struct Unread {
    /// What it is, and its id.
    pub name: String,
    /// What happened.
    pub reason: String,
    /// It was read, and holds only blank lines: of no interest where no input is without a row.
    pub is_blank: bool,
}

impl ResultFiles {
    /// A single file, which may grow.
    pub fn of_one(file: Arc<File>) -> Self {
        Self { files: vec![(0, file)], length: 0 }
    }

    /// Adds a file; the offset at which it begins.
    pub fn push(&mut self, file: Arc<File>) -> Result<u64> {
        let start = self.length;
        self.length += file.metadata().map_err(|error| Error::disk("Reading results", &error))?.len();
        // Rows of the next file do not begin where this one's last row ends.
        self.length += 1;
        self.files.push((start, file));
        Ok(start)
    }

    /// Bytes in all, about.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The line that begins at `offset`; see [`jsonl::line_at`].
    pub fn line_at<'b>(
        &self,
        offset: u64,
        guess: usize,
        longest: u64,
        buffer: &'b mut Vec<u8>,
    ) -> io::Result<Option<&'b [u8]>> {
        let after = self.files.partition_point(|(start, _)| *start <= offset);
        match after.checked_sub(1).and_then(|at| self.files.get(at)) {
            Some((start, file)) => jsonl::line_at(file, offset - start, guess, longest, buffer),
            None => Ok(Some(&[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn offsets_count_through_all_files() {
        let mut files = ResultFiles::default();
        let mut starts = Vec::new();
        // One without a last newline, one that is empty.
        for text in ["a\nbc", "", "d\ne\n"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            starts.push(files.push(Arc::new(file)).unwrap());
        }
        let mut buffer = Vec::new();
        let mut line = |file: usize, offset: u64| {
            String::from_utf8(files.line_at(starts[file] + offset, 0, 9, &mut buffer).unwrap().unwrap().to_vec())
                .unwrap()
        };
        assert_eq!([line(0, 0), line(0, 2), line(2, 0), line(2, 2)], ["a", "bc", "d", "e"]);
        assert!(ResultFiles::default().line_at(0, 0, 9, &mut Vec::new()).unwrap().unwrap().is_empty());
    }
}
