//! Temporary files: private, and without a name, so that nothing is left behind, however the process ends. TMPDIR says where.

use crate::error::{Error, Result};
use crate::inline::RowSink;
use std::fs::File;
use std::io::{BufWriter, Write};

/// A new temporary file; `purpose` completes "Making a file for ..." should that fail.
pub fn temporary(purpose: &str) -> Result<File> {
    let make = || {
        let file = tempfile::tempfile()?;
        // It holds prompts and answers: nobody else's, whatever the umask is.
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(file)
    };
    make().map_err(|error: std::io::Error| Error::disk(&format!("Making a file for {purpose}"), &error))
}

/// Refuses a download of `need` bytes if the disk of `file` has fewer.
pub fn check_space(file: &File, need: u64) -> Result<()> {
    match free_space(file) {
        Some(free) if free < need => Err(Error::Disk(format!(
            "Saving a download needs {need} bytes in the temporary folder {}, which has {free} bytes of free space. Free some \
             space there, or point TMPDIR to a folder with more.",
            std::env::temp_dir().display()
        ))),
        _ => Ok(()),
    }
}

/// Bytes that may still be written; None where the system does not say.
#[cfg(unix)]
fn free_space(file: &File) -> Option<u64> {
    let disk = rustix::fs::fstatvfs(file).ok()?;
    // Zero of both: a file system that does not count.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// A write that fails says so soon enough.
#[cfg(not(unix))]
fn free_space(_file: &File) -> Option<u64> {
    None
}

/// The result rows that come inside a job's state, one a line in a temporary file.
#[derive(Default)]
pub struct RowSpool {
    current: Option<RowFile>,
    /// The longest list so far: a state may hold the same rows twice.
    best: Option<RowFile>,
}

struct RowFile {
    out: BufWriter<File>,
    rows: u64,
}

impl RowSpool {
    /// The file, if there were any rows.
    pub fn finish(self) -> Result<Option<File>> {
        let rows = self.best.filter(|best| best.rows > 0).map(|best| best.out.into_inner());
        rows.transpose().map_err(|error| failed(error.error()))
    }

    fn write_out(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.out.write_all(bytes).map_err(|error| failed(&error))
    }
}

impl RowSink for RowSpool {
    fn restart(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self) -> Result<()> {
        self.current = Some(RowFile { out: BufWriter::with_capacity(1 << 16, temporary("results")?), rows: 0 });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_out(bytes)
    }

    fn end_row(&mut self) -> Result<()> {
        self.write_out(b"\n")?;
        self.current.iter_mut().for_each(|current| current.rows += 1);
        Ok(())
    }

    fn end(&mut self, is_response: bool) -> Result<()> {
        let best = self.best.as_ref().map(|best| best.rows);
        let is_better = |rows: u64| best.is_none_or(|best| rows > best || (rows == best && is_response));
        if let Some(current) = self.current.take().filter(|current| is_better(current.rows)) {
            self.best = Some(current);
        }
        Ok(())
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::disk("Saving results", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn a_download_that_does_not_fit_names_the_folder_and_the_need() {
        let file = temporary("a test").unwrap();
        assert!(check_space(&file, 0).is_ok());
        if cfg!(unix) {
            let message = check_space(&file, u64::MAX).unwrap_err().to_string();
            let folder = std::env::temp_dir();
            assert!(message.contains(&format!("needs {} bytes", u64::MAX)), "{message}");
            assert!(message.contains(&format!("temporary folder {}", folder.display())), "{message}");
            assert!(message.contains("bytes of free space") && message.contains("TMPDIR"), "{message}");
        }
    }

    #[test]
    fn of_two_lists_of_rows_the_longer_one_is_kept() {
        let kept = |lists: &[(&[&str], bool)]| {
            let mut spool = RowSpool::default();
            for (rows, is_response) in lists {
                spool.begin().unwrap();
                for row in *rows {
                    spool.write(row.as_bytes()).unwrap();
                    spool.end_row().unwrap();
                }
                spool.end(*is_response).unwrap();
            }
            spool.finish().unwrap().map(|mut file| {
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                text
            })
        };
        assert_eq!(kept(&[]), None);
        assert_eq!(kept(&[(&[], true)]), None);
        assert_eq!(kept(&[(&["a", "b"], false), (&["c"], true)]).unwrap(), "a\nb\n");
        assert_eq!(kept(&[(&["a"], false), (&["c"], true)]).unwrap(), "c\n");
        assert_eq!(kept(&[(&["c"], true), (&["a"], false)]).unwrap(), "c\n");
    }
}
