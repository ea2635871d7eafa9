pub mod schema;
mod suggest;
pub mod transport;

pub use error::{Error, Result};
