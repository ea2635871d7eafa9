//! LLMBackend: send text to large language models, one prompt or ten million.
//!
//! The map, in the order in which a prompt passes the modules (see ARCHITECTURE.md):
//!
//! | module | | |
//! |---|---|---|
//! | [`generation`] | pure | what is asked and what came back |
//! | `conversation` | pure | the texts of a conversation, checked like prompts |
//! | [`schema`] | pure | JSON Schema to each provider's dialect, and validation of answers |
//! | [`providers`] | pure | one place a provider: builds requests, reads replies |
//! | [`exchange`] | pure | HTTP as plain data |
//! | `proxy` | pure | the way to a server |
//! | [`redact`] | pure | credentials out of text |
//! | [`jsonl`] | pure | rows out, rows in |
//! | [`json`] | pure | reading what servers call JSON |
//! | `candidates` | pure | which texts of an answer in several messages may be the one that was asked for |
//! | [`answer`] | pure | whether a structured answer fits what was asked for |
//! | [`bounds`] | pure | how much of a reply is read |
//! | `inline` | pure | result rows inside a job's state, taken out while it arrives |
//! | [`retry`] | pure | again? after how long? |
//! | [`batch`] | both | many prompts as one job: plan, creation, lifecycle, collect (pure), submit, run, download (IO) |
//! | [`error`] | pure | everything that can go wrong |
//! | `ca_bundle` | IO | certificates of private authorities |
//! | `connect_error` | pure | why there is no connection, in words |
//! | `disk` | IO | temporary files |
//! | `blocking` | IO | long work, on a thread of its own |
//! | `deadline` | IO | the time that a call may take |
//! | [`transport`] | IO | the only file that opens a socket to a provider |
//! | [`tries`] | IO | the tries of a request, one after the other |
//! | [`client`] | IO | build, send, read |
//! | `sandbox` | IO | a loopback server that speaks the providers' wire formats |
//! | `py` | | the only folder that knows Python |

pub mod answer;
pub mod batch;
mod blocking;
pub mod bounds;
mod ca_bundle;
mod candidates;
pub mod client;
mod connect_error;
mod conversation;
mod deadline;
mod disk;
pub mod error;
pub mod exchange;
pub mod generation;
mod inline;
pub mod json;
pub mod jsonl;
pub mod providers;
mod proxy;
#[cfg(feature = "python")]
mod py;
pub mod redact;
pub mod retry;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod schema;
mod suggest;
pub mod transport;
pub mod tries;

pub use error::{Error, Result};
