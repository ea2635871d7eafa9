//! Temporary files: without a name, so that nothing is left behind, however the process ends. TMPDIR says where.

use crate::error::{Error, Result};
use std::fs::File;

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
