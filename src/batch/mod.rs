//! Many prompts as one job: rows are written ([`plan`]), sent and made a job ([`run`], [`creation`]), polled
//! ([`lifecycle`]) and brought back into the order of the inputs ([`collect`]); or without a job, one call after another
//! ([`immediate`]).

pub mod collect;
pub mod creation;
pub mod ids;
pub mod immediate;
pub mod lifecycle;
pub mod plan;
pub mod run;
