//! Inputs to rows within a provider's limits: each prompt is checked, given its id and written, in one pass.

use super::ids::{RowIds, default_id};
use crate::client::{Call, Client};
use crate::error::{Error, Result};
use crate::generation::Prompt;
use crate::jsonl::Template;
use crate::providers::Limits;
use serde_json::Value;
use std::io::Write;

/// Rows are gathered until this many bytes are worth a write.
const WRITE_SIZE: usize = 256 * 1024;

/// Writes the rows of one job to `out`.
pub struct Plan<W> {
    template: Template,
    limits: Limits,
    /// None: default ids.
    custom_ids: Option<RowIds>,
    out: W,
    buffer: Vec<u8>,
    rows: u64,
    bytes: u64,
}

/// Rows that have been written.
#[derive(Debug)]
pub struct Written<W> {
    pub out: W,
    pub ids: RowIds,
    pub bytes: u64,
}

impl<W: Write> Plan<W> {
    pub fn new(client: &Client, call: &Call, custom_ids: Option<RowIds>, out: W) -> Result<Self> {
        let template = Template::new(|id, prompt| row(client, call, id, &Prompt::Text(prompt.to_owned())))?;
        let limits = client.provider.batches().limits();
        Ok(Self { template, limits, custom_ids, out, buffer: Vec::new(), rows: 0, bytes: 0 })
    }

    /// Adds the row of a text.
    pub fn push_text(&mut self, prompt: &str) -> Result<()> {
        let before = self.buffer.len();
        match &self.custom_ids {
            None => self.template.write(&default_id(self.rows), prompt, &mut self.buffer),
            Some(ids) => {
                check_count(ids, self.rows + 1)?;
                self.template.write(&ids.name(self.rows), prompt, &mut self.buffer);
            }
        }
        self.count(before)
    }

    /// Adds the row of a conversation, which no template can hold.
    pub fn push_messages(&mut self, client: &Client, call: &Call, messages: Vec<Value>) -> Result<()> {
        let id = match &self.custom_ids {
            None => default_id(self.rows),
            Some(ids) => {
                check_count(ids, self.rows + 1)?;
                ids.name(self.rows)
            }
        };
        let before = self.buffer.len();
        self.buffer.extend_from_slice(row(client, call, &id, &Prompt::Messages(messages))?.as_bytes());
        self.buffer.push(b'\n');
        self.count(before)
    }

    fn count(&mut self, before: usize) -> Result<()> {
        self.rows += 1;
        self.bytes += (self.buffer.len() - before) as u64;
        if self.rows > self.limits.rows {
            return Err(Error::configuration(format!(
                "a batch of this provider holds at most {} prompts, and there are more; submit several batches",
                self.limits.rows
            )));
        }
        if self.bytes > self.limits.bytes {
            return Err(Error::configuration(format!(
                "a batch of this provider holds at most {} bytes of requests, and {} prompts are more already; submit several batches",
                self.limits.bytes, self.rows
            )));
        }
        if self.buffer.len() >= WRITE_SIZE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let doing = format!("Writing {} bytes of requests", self.bytes);
        self.out.write_all(&self.buffer).map_err(|error| Error::disk(&doing, &error))?;
        self.buffer.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<Written<W>> {
        self.flush()?;
        if let Some(ids) = &self.custom_ids {
            check_count(ids, self.rows)?;
            if ids.len() != self.rows {
                return Err(wrong_count(ids.len(), format!("{} inputs", self.rows)));
            }
        }
        let ids = self.custom_ids.unwrap_or(RowIds::Default(self.rows));
        Ok(Written { out: self.out, ids, bytes: self.bytes })
    }
}

/// One row, serialized.
fn row(client: &Client, call: &Call, id: &str, prompt: &Prompt) -> Result<String> {
    Ok(Value::from(client.provider.batches().row(id, client.body(call, prompt)?)).to_string())
}

fn check_count(ids: &RowIds, rows: u64) -> Result<()> {
    if rows > ids.len() { Err(wrong_count(ids.len(), format!("at least {rows} inputs"))) } else { Ok(()) }
}

fn wrong_count(ids: u64, inputs: String) -> Error {
    Error::configuration(format!("batch_options[\"custom_ids\"] holds {ids} ids for {inputs}; give one for each"))
}
