//! Many prompts as one job: rows are written ([`plan`]), sent and made a job ([`submit`], [`creation`]), polled ([`run`],
//! [`lifecycle`]), downloaded ([`download`]) and brought back into the order of the inputs ([`order`], [`collect`]); or without a job, one call after another
//! ([`immediate`]).

pub mod collect;
pub mod creation;
pub mod download;
pub mod ids;
pub mod immediate;
pub mod lifecycle;
pub mod order;
pub mod plan;
pub mod run;
pub mod submit;
