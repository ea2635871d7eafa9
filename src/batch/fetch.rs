//! The results of a job: its files, each on its own, and the order of the inputs.

use super::caveats::Caveats;
use super::collect::Results;
use super::download::{self, Broken};
use super::ids::RowIds;
use super::lifecycle::RESULTS_LAG_INTERVAL;
use super::order::{self, Found, Order};
use super::result_files::{ResultFiles, Unread};
use super::run::{Batch, lock};
use crate::blocking::aside;
use crate::error::{ApiError, ApiErrorKind, BatchErrorKind, ConnectionError, Error, Result, quote};
use crate::exchange::Request;
use crate::providers::{Job, ResultFile, State};
use crate::transport::Transport;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

/// Characters of a file that a message quotes.
const MAX_QUOTE: usize = 200;

/// What has been fetched of a batch.
#[derive(Default)]
pub struct Fetched {
    /// The results, once nothing more can come.
    results: Option<Arc<Results>>,
    /// The files that were read to their end, by name.
    files: HashMap<String, Arc<File>>,
}

/// The rows of a job, as far as they could be read.
struct Rows {
    files: ResultFiles,
    found: Found,
    unread: Vec<Unread>,
}

impl Batch {
    /// The results. Fails unless the state is terminal, and where nothing at all can be read. What could be read is fetched
    /// once; a file that could not is asked for again by the next call.
    pub async fn results(&self, transport: &Transport) -> Result<Arc<Results>> {
        if let Some(results) = lock(&self.fetched).results.clone() {
            return Ok(results);
        }
        let job = self.poll_for_results(transport).await?;
        if !job.state.is_terminal() {
            let message = format!("it is {} ('{}'); wait() until it is done", job.state.name(), quote(&job.raw_state));
            return Err(self.error(BatchErrorKind::NotCompleted, &message));
        }
        let inside = lock(&self.seen).rows.clone();
        if job.state == State::Failed && job.outputs.is_empty() && inside.is_none() {
            return Err(self.failure(&job));
        }
        let rows = match inside {
            Some(file) => self.rows_inside(file).await?,
            None => self.download_rows(transport, &job).await?,
        };
        let (order, false_count, is_settled) = match &self.ids {
            Some(ids) => (Order { ids: ids.clone(), is_guessed: false, count_is_known: true }, None, true),
            None => self.order_by_id(transport, &job, &rows).await?,
        };
        let shows_no_results = job.is_unready;
        let is_settled = is_settled && !shows_no_results;
        let caveats = Caveats { shows_no_results, false_count, unread: rows.unread, ..Caveats::default() };
        let is_whole = caveats.unread.is_empty();
        let reader = (self.client.clone(), Arc::new(self.call.reading_of(&job)));
        let (id, files, found) = (self.id.clone(), rows.files, rows.found);
        let mut results = aside(move || Results::new(id, files, order, &found, caveats, reader)).await?;
        if self.api().leaves_out_stopped_rows() {
            results = results.with_silent_rows(&job);
        }
        let results = Arc::new(results);
        if is_settled && (is_whole || results.is_complete()) {
            let mut fetched = lock(&self.fetched);
            fetched.files.clear();
            return Ok(fetched.results.get_or_insert(results).clone());
        }
        Ok(results)
    }

    /// The job; if it is completed and does not show its results yet, once it does, or has had time enough.
    async fn poll_for_results(&self, transport: &Transport) -> Result<Job> {
        let mut job = self.look(transport).await?;
        if job.is_unready && job.state.is_terminal() {
            // It had its time; but what an earlier call did not find may be there now.
            job = self.poll(transport).await?;
        }
        while let Some(left) = self.lag_left().filter(|_| !job.state.is_terminal()) {
            tokio::time::sleep(left.min(RESULTS_LAG_INTERVAL)).await;
            job = self.look(transport).await?;
        }
        Ok(job)
    }

    async fn rows_inside(&self, file: Arc<File>) -> Result<Rows> {
        let found = self.find_rows(&file).await?;
        Ok(Rows { files: ResultFiles::of_one(file), found, unread: Vec::new() })
    }

    async fn find_rows(&self, file: &Arc<File>) -> Result<Found> {
        let (client, file) = (self.client.clone(), file.clone());
        aside(move || order::find_rows(client.provider.batches(), &file)).await
    }

    /// Reads each file on its own. An error if that gives nothing at all, or the key is wrong.
    async fn download_rows(&self, transport: &Transport, job: &Job) -> Result<Rows> {
        let mut rows = Rows { files: ResultFiles::default(), found: Found::default(), unread: Vec::new() };
        let (mut any_whole, mut all_empty, mut first_error) = (false, true, None);
        for wanted in self.api().results(job) {
            let broken = match self.download(transport, &wanted).await {
                Ok((file, found)) => {
                    any_whole = true;
                    let start = rows.files.push(file)?;
                    rows.found.add(found, start);
                    continue;
                }
                Err(broken) => broken,
            };
            if is_fatal(&broken.error) {
                return Err(broken.error);
            }
            all_empty &= broken.is_blank || (broken.is_empty && broken.was_retried);
            let (name, reason) = (wanted.name.clone(), broken.error.to_string());
            rows.unread.push(Unread { name, reason, is_blank: broken.is_blank });
            if let Some(part) = broken.part {
                let part = Arc::new(part);
                // Its last line may be half a row: that is no line of a whole file.
                let found = Found { other_lines: 0, first_other: None, ..self.find_rows(&part).await? };
                // What a single try got may be more the next time: it alone is no result.
                any_whole |= broken.was_retried && !found.rows.is_empty();
                let start = rows.files.push(part)?;
                rows.found.add(found, start);
            }
            first_error.get_or_insert(with_file(broken.error, &wanted.name));
        }
        match first_error {
            Some(error) if !any_whole && job.state == State::Failed => Err(self.failure_beside(job, &error)),
            Some(error) if !any_whole && !all_empty => Err(error),
            _ => Ok(rows),
        }
    }

    /// A file that is read to its end, and has result rows in it.
    async fn download(&self, transport: &Transport, wanted: &ResultFile) -> Result<(Arc<File>, Found), Broken> {
        let known = lock(&self.fetched).files.get(&wanted.name).cloned();
        let file = match known {
            Some(file) => file,
            None => Arc::new(download::file(&self.client, transport, &wanted.places).await?),
        };
        let found = self.find_rows(&file).await?;
        if found.rows.is_empty() {
            return Err(Broken { is_blank: found.other_lines == 0, ..self.no_rows_in(&found).into() });
        }
        lock(&self.fetched).files.insert(wanted.name.clone(), file.clone());
        Ok((file, found))
    }

    /// The order of a batch that another process made; a count of its rows that cannot be true; and whether that is all that
    /// can ever be known.
    async fn order_by_id(&self, transport: &Transport, job: &Job, rows: &Rows) -> Result<(Order, Option<u64>, bool)> {
        let found = &rows.found;
        let known = |ids| Order { ids: Arc::new(ids), is_guessed: false, count_is_known: true };
        let counted = if job.counts.total > 0 { job.counts.total } else { job.counts.done };
        let total = order::believable(counted, found, self.api().max_rows());
        if let Some(ids) = total.and_then(|total| order::ids_from_results(found, total)) {
            return Ok((known(ids), None, true));
        }
        let mut is_settled = true;
        if let Some(request) = self.api().input(job) {
            match self.input_ids(transport, request).await {
                Ok(Some(ids)) if !ids.is_empty() || found.rows.is_empty() => return Ok((known(ids), None, true)),
                Ok(_) => is_settled = false,
                Err(broken) if is_fatal(&broken.error) => return Err(broken.error),
                // Expired, or not ours to read: the ids of the results are all there is.
                Err(broken) if download::is_out_of_reach(&broken.error) => {}
                Err(broken) if broken.is_empty && broken.was_retried => is_settled = false,
                // Default ids tell the order; only the count may be had more exactly later.
                Err(_) if found.has_default_ids() => is_settled = false,
                // Trouble that passes: a guess now would hide an order that can be known later.
                Err(broken) => return Err(broken.error),
            }
        }
        if total.is_none() && found.rows.is_empty() {
            let max_rows = self.api().max_rows();
            let message = format!(
                "the provider counts {counted} rows in it, and none came back. A job holds {max_rows} rows at most, and so \
                 many inputs are not made up from a count alone; get it from the process that submitted it"
            );
            return Err(self.error(BatchErrorKind::Other, &message));
        }
        let guess = order::ids_without_input(found, total.unwrap_or(0));
        let count_is_known = total.is_some_and(|total| total > 0 && total == guess.ids.len());
        let false_count = total.is_none().then_some(counted);
        Ok((Order { ids: Arc::new(guess.ids), is_guessed: guess.is_guess, count_is_known }, false_count, is_settled))
    }

    /// The ids of the rows that were sent; None if the file has none in it.
    async fn input_ids(&self, transport: &Transport, request: Request) -> Result<Option<RowIds>, Broken> {
        let input = download::file(&self.client, transport, &[request]).await?;
        let client = self.client.clone();
        Ok(aside(move || order::ids_from_input(client.provider.batches(), &input)).await?)
    }

    /// The error for a file in which no row was found.
    fn no_rows_in(&self, found: &Found) -> Error {
        let start = self.client.endpoint.redact(found.first_other.as_deref().unwrap_or_default());
        let start: String = start.trim().chars().take(MAX_QUOTE).collect();
        let message = match start.as_str() {
            "" => "it has nothing but blank lines in it".to_owned(),
            start => format!("no line of it is a result row; it begins with: {start}"),
        };
        Error::Api(Box::new(ApiError {
            kind: ApiErrorKind::Other,
            provider: self.client.endpoint.provider.into(),
            status: Some(200),
            code: None,
            message,
            request_id: None,
            retry_after: None,
            body: None,
        }))
    }

    /// Why a failed job has no results, of which it names files.
    fn failure_beside(&self, job: &Job, error: &Error) -> Error {
        let mut failure = self.failure(job);
        if let Error::Batch { message, .. } = &mut failure {
            message.push_str(&format!("; and of its results nothing could be read: {error}"));
        }
        failure
    }
}

/// What no other file makes up for: a wrong key reads none of them, and a disk keeps none.
fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Api(error) => error.kind == ApiErrorKind::Authentication,
        Error::Connection(_) => false,
        _ => true,
    }
}

/// The same error, with the file that it is about.
fn with_file(mut error: Error, name: &str) -> Error {
    if let Error::Connection(ConnectionError { message, .. }) = &mut error {
        *message = format!("the {name} could not be read: {message}");
    }
    if let Error::Api(error) = &mut error {
        error.message = format!("the {name} could not be read: {}", error.message);
    }
    error
}
