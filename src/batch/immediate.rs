//! A batch without a job: one call after another (or several at once), each outcome on the disk as soon as it is there.

use super::collect::{Outcome, Results, Status};
use crate::blocking::aside;
use crate::bounds::LARGE;
use crate::client::{Call, Client};
use crate::disk;
use crate::error::{ApiErrorKind, Error, Result};
use crate::generation::{Generation, Prompt};
use crate::transport::Transport;
use futures_util::StreamExt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};
use std::sync::{Arc, OnceLock};

/// Prompts on the disk, one JSON value a line, all of them checked.
pub struct Prompts {
    out: BufWriter<File>,
    pub count: u64,
}

impl Prompts {
    pub fn new() -> Result<Self> {
        Ok(Self { out: BufWriter::with_capacity(256 * 1024, disk::temporary("the prompts")?), count: 0 })
    }

    pub fn push(&mut self, prompt: &Prompt) -> Result<()> {
        self.count += 1;
        serde_json::to_writer(&mut self.out, prompt)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|error| Error::disk("Writing the prompts", &error))
    }

    /// Everything is on the disk, or it is known that it is not.
    pub fn finish(mut self) -> Result<Self> {
        self.out.flush().map_err(|error| Error::disk("Writing the prompts", &error))?;
        Ok(self)
    }

    pub fn read(self) -> Result<impl Iterator<Item = Prompt>> {
        let rewound = self.out.into_inner().map_err(|error| error.into_error()).and_then(|mut file| {
            file.rewind()?;
            Ok(file)
        });
        let file = rewound.map_err(|error| Error::disk("Reading the prompts back", &error))?;
        let lines = BufReader::new(file).split(b'\n');
        Ok(lines.map_while(|line| serde_json::from_slice(&line.ok()?).ok()))
    }
}

/// Answers all prompts, `concurrency` at a time, into the recorder `results`. A wrong key or an empty account ends it: as an
/// error while nothing is answered, else the rest is cancelled with that error. When `interrupt` resolves, the rest is
/// cancelled, too, and with it the calls that are under way.
pub async fn answer(
    client: &Client,
    transport: &Transport,
    call: &Call,
    prompts: Prompts,
    concurrency: usize,
    mut results: Results,
    interrupt: impl Future + Unpin,
) -> Result<Results> {
    let fatal: Arc<OnceLock<Error>> = Arc::default();
    let count = prompts.count;
    let calls = prompts.read()?.enumerate().map(|(index, prompt)| {
        let fatal = fatal.clone();
        async move {
            if let Some(error) = fatal.get() {
                return (index, Outcome { status: Status::Cancelled, result: Err(error.clone()) });
            }
            let result = client.generate(transport, call, &prompt).await;
            if let Some(error) = result.as_ref().err().filter(|error| is_fatal(error)) {
                let _ = fatal.set(error.clone());
            }
            (index, Outcome::of(result))
        }
    });
    let answers = futures_util::stream::iter(calls).buffer_unordered(concurrency.max(1));
    let mut answers = answers.take_until(interrupt);
    let (mut finished, mut any_answer) = (0, false);
    while let Some((index, outcome)) = answers.next().await {
        finished += 1;
        any_answer |= !matches!(&outcome.result, Err(error) if is_fatal(error));
        let saved;
        (results, saved) = record(results, index as u64, outcome).await?;
        if let Err(error) = saved {
            // What is on the disk is paid for, and stays.
            results.stop(error);
            return Ok(results);
        }
    }
    match fatal.get() {
        Some(error) if !any_answer => return Err(error.clone()),
        _ if answers.take_result().is_some() => {
            results.interrupt();
        }
        _ if finished < count => results.stop(Error::Disk("the prompts on the disk were cut short".into())),
        _ => {}
    }
    Ok(results)
}

/// Records an outcome: one that is large on a thread of its own.
async fn record(mut results: Results, index: u64, outcome: Outcome) -> Result<(Results, Result<()>)> {
    let is_large = outcome.size() > LARGE;
    let write = move || {
        let saved = results.record(index, &outcome);
        Ok((results, saved))
    };
    if is_large { aside(write).await } else { write() }
}

/// An error that every further call would meet.
fn is_fatal(error: &Error) -> bool {
    matches!(error.api_kind(), Some(ApiErrorKind::Authentication | ApiErrorKind::QuotaExceeded))
}

impl Outcome {
    /// What a call's result counts as.
    pub fn of(result: Result<Generation>) -> Self {
        Self { status: Status::of(&result), result }
    }
}
