//! Many prompts as one job: rows are written ([`plan`]), sent and made a job ([`run`], [`creation`]), polled
//! ([`lifecycle`]) and brought back into the order of the inputs ([`collect`]).

pub mod collect;
pub mod creation;
pub mod ids;
pub mod lifecycle;
pub mod plan;
pub mod run;
