//! Temporary files: private, and without a name, so that nothing is left behind, however the process ends. TMPDIR says where.

use crate::error::{Error, Result};
use std::fs::File;

/// A new temporary file; `purpose` completes "Making a file for ..." should that fail.
pub fn temporary(purpose: &str) -> Result<File> {
    tempfile::tempfile()
        .and_then(|file| make_private(&file).map(|()| file))
        .map_err(|error| Error::disk(&format!("Making a file for {purpose}"), &error))
}

/// Prompts and answers are nobody else's, whatever the umask.
fn make_private(_file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        _file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}
