//! Text to large language models.
#[cfg(feature = "python")]
mod py;
#[cfg(feature = "sandbox")]
pub mod sandbox;
