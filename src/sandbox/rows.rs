//! Rows of batch jobs on disk: read by their place, written one by one.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::store;

/// The JSON object that stands at `offset`.
pub fn read(input: &mut File, offset: u64, length: usize) -> io::Result<Map<String, Value>> {
    let mut bytes = vec![0; length];
    input.seek(SeekFrom::Start(offset))?;
    input.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A file of lines, made with its first one.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
    bytes: u64,
}

impl LineFile {
    pub fn new(path: PathBuf) -> LineFile {
        LineFile { path, writer: None, bytes: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far: where the next line will begin, once its predecessor has its line end.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a line, given without its end.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => {
                writer.write_all(b"\n")?;
                self.bytes += 1;
                writer
            }
            none => none.insert(BufWriter::with_capacity(1 << 20, store::create(&self.path)?)),
        };
        self.bytes += line.len() as u64;
        writer.write_all(line)
    }

    /// Writes what is left, and returns the size in bytes. `None`: there was no line, and there is no file.
    pub fn finish(self, final_newline: bool) -> io::Result<Option<u64>> {
        let Some(mut writer) = self.writer else {
            return Ok(None);
        };
        let mut bytes = self.bytes;
        if final_newline {
            writer.write_all(b"\n")?;
            bytes += 1;
        }
        writer.flush()?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LineFile::new(folder.path().join("none")).finish(true).unwrap(), None);
        let mut file = LineFile::new(folder.path().join("rows"));
        file.line(b"{\"a\":1}").unwrap();
        file.line(b"{\"b\":2}").unwrap();
        assert_eq!((file.bytes(), file.finish(false).unwrap()), (15, Some(15)));
        let mut input = File::open(folder.path().join("rows")).unwrap();
        assert_eq!(read(&mut input, 8, 7).unwrap()["b"], 2);
    }
}
