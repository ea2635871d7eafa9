//! Inputs to rows within a provider's limits: each prompt is checked, given its id and written, in one pass. Where a
//! provider takes rows in several forms, all are written side by side until only one holds the batch.

use super::ids::{RowIds, default_id};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::generation::Prompt;
use crate::jsonl::Template;
use crate::providers::{Delivery, Form, Prepared, Rows};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Rows are gathered until this many bytes are worth a write.
const WRITE_SIZE: usize = 256 * 1024;

/// Writes the rows of one job.
pub struct Plan<'c> {
    client: &'c Client,
    /// Where the prompts come from, as the caller calls it.
    source: &'static str,
    /// The forms that still hold the batch, the preferred one first.
    drafts: Vec<Draft>,
    /// None: default ids.
    custom_ids: Option<RowIds>,
    rows: u64,
}

/// Rows that have been written.
#[derive(Debug)]
pub struct Written {
    pub delivery: Delivery,
    pub prepared: Prepared,
    pub rows: Rows,
    pub ids: RowIds,
}

impl<'c> Plan<'c> {
    /// Each form comes with an empty file to write its rows to.
    pub fn new(
        client: &'c Client,
        source: &'static str,
        forms: Vec<(Form, File)>,
        custom_ids: Option<RowIds>,
    ) -> Result<Self> {
        let drafts = forms.into_iter().map(|(form, out)| Draft::new(client, form, out)).collect::<Result<_>>()?;
        Ok(Self { client, source, drafts, custom_ids, rows: 0 })
    }

    /// Adds the row of a text.
    pub fn push_text(&mut self, prompt: &str) -> Result<()> {
        self.client.check_text(prompt, || format!("{}[{}]", self.source, self.rows))?;
        let id = self.next_id()?;
        self.each_draft(|draft| {
            draft.template.write(&id, prompt, &mut draft.buffer);
            Ok(())
        })
    }

    /// Adds the row of a conversation, which no template can hold.
    pub fn push_messages(&mut self, messages: Vec<Value>) -> Result<()> {
        self.client.check_turns(&messages, || format!("{}[{}]", self.source, self.rows))?;
        let id = self.next_id()?;
        let prompt = Prompt::Messages(messages);
        let (client, source, index) = (self.client, self.source, self.rows);
        self.each_draft(|draft| {
            let row =
                row(client, &draft.form, &id, &prompt).map_err(|error| error.about(&format!("{source}[{index}]:")))?;
            draft.buffer.extend_from_slice(row.as_bytes());
            Ok(())
        })
    }

    fn next_id(&self) -> Result<String> {
        let Some(ids) = &self.custom_ids else { return Ok(default_id(self.rows)) };
        if self.rows >= ids.len() {
            return Err(wrong_count(ids.len(), format!("at least {} inputs", self.rows + 1)));
        }
        Ok(self.client.provider.batches().wire_id(self.rows, &ids.name(self.rows)))
    }

    /// Adds the same row to each draft, and lets go of those that are full.
    fn each_draft(&mut self, mut write: impl FnMut(&mut Draft) -> Result<()>) -> Result<()> {
        self.rows += 1;
        let mut full = None;
        for draft in &mut self.drafts {
            let before = draft.buffer.len();
            write(draft)?;
            draft.buffer.push(draft.separator());
            draft.bytes += (draft.buffer.len() - before) as u64;
            if draft.is_full(self.rows) {
                full = Some(draft.full(self.rows));
            } else if draft.buffer.len() >= WRITE_SIZE {
                draft.flush()?;
            }
        }
        if let Some(error) = full {
            let rows = self.rows;
            self.drafts.retain(|draft| !draft.is_full(rows));
            if self.drafts.is_empty() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The rows in the preferred form of those that hold them.
    pub fn finish(mut self) -> Result<Written> {
        if let Some(ids) = self.custom_ids.as_ref().filter(|ids| ids.len() != self.rows) {
            return Err(wrong_count(ids.len(), format!("{} inputs", self.rows)));
        }
        let mut draft = self.drafts.swap_remove(0);
        draft.flush()?;
        let bytes = match draft.form.delivery {
            Delivery::Upload => draft.bytes,
            // The last comma separates nothing.
            Delivery::Inline => draft.bytes.saturating_sub(1),
        };
        Ok(Written {
            delivery: draft.form.delivery,
            prepared: draft.form.prepared,
            rows: Rows { file: Arc::new(draft.out), bytes, count: self.rows },
            ids: self.custom_ids.unwrap_or(RowIds::Default(self.rows)),
        })
    }
}

/// The rows in one form.
struct Draft {
    form: Form,
    template: Template,
    out: File,
    buffer: Vec<u8>,
    bytes: u64,
}

impl Draft {
    fn new(client: &Client, form: Form, out: File) -> Result<Self> {
        let template = Template::new(|id, prompt| row(client, &form, id, &Prompt::Text(prompt.to_owned())))?;
        Ok(Self { form, template, out, buffer: Vec::new(), bytes: 0 })
    }

    fn separator(&self) -> u8 {
        match self.form.delivery {
            Delivery::Upload => b'\n',
            Delivery::Inline => b',',
        }
    }

    fn is_full(&self, rows: u64) -> bool {
        rows > self.form.limits.rows || self.bytes > self.form.limits.bytes
    }

    fn full(&self, rows: u64) -> Error {
        let limits = self.form.limits;
        Error::configuration(if rows > limits.rows {
            format!(
                "a batch of this provider holds at most {} prompts, and there are more; submit several batches",
                limits.rows
            )
        } else {
            format!(
                "a batch of this provider holds at most {} bytes of requests, and {rows} prompts are more already; submit several \
                 batches",
                limits.bytes
            )
        })
    }

    fn flush(&mut self) -> Result<()> {
        let doing = format!("Writing {} bytes of requests", self.bytes);
        self.out.write_all(&self.buffer).map_err(|error| Error::disk(&doing, &error))?;
        self.buffer.clear();
        Ok(())
    }
}

/// One row, serialized.
fn row(client: &Client, form: &Form, id: &str, prompt: &Prompt) -> Result<String> {
    let body = client.provider.body(&form.prepared, prompt)?;
    Ok(Value::from(client.provider.batches().row(form.delivery, id, body)).to_string())
}

fn wrong_count(ids: u64, inputs: String) -> Error {
    Error::configuration(format!("batch_options[\"custom_ids\"] holds {ids} ids for {inputs}; give one for each"))
}
