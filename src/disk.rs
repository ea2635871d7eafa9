//! Temporary files: without a name, so that nothing is left behind, however the process ends. TMPDIR says where.

use crate::error::{Error, Result};
use std::fs::File;

/// A new temporary file; `purpose` completes "Making a file for ..." should that fail.
pub fn temporary(purpose: &str) -> Result<File> {
    tempfile::tempfile().map_err(|error| Error::disk(&format!("Making a file for {purpose}"), &error))
}
