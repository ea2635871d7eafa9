//! Many prompts as one job: rows are written ([`plan`]), sent and made a job ([`submit`], [`creation`]), polled ([`run`],
//! [`lifecycle`]), its result files fetched ([`fetch`], [`download`]) and brought back into the order of the inputs ([`order`],
//! [`assign`], [`collect`]); or without a job, one call after another ([`immediate`]).

pub mod assign;
pub mod caveats;
pub mod collect;
pub mod creation;
pub mod download;
pub mod fetch;
pub mod ids;
pub mod immediate;
pub mod lifecycle;
pub mod order;
pub mod plan;
pub mod result_files;
pub mod run;
pub mod submit;
