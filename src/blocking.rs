//! Long work, off the runtime's thread, which has everybody's calls to serve.

use crate::error::{Error, Result};

/// Does `work` on a thread of its own.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Disk(format!("reading a reply was broken off: {error}"))))
}
