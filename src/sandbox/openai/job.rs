//! The life of a batch job: validating, running, writing its files. The clock is virtual, the work is real: the lines are
//! read from disk, and the results written there, on a thread that may block. In memory there are only a row's place and fate.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::batches::{Batch, ENDPOINT, Status, Usage};
use super::files::DEFAULT_LIFE;
use super::validate::{self, SchemaCache};
use super::{ApiError, responses};
use crate::sandbox::faults::Kind;
use crate::sandbox::store::StoredFile;
use crate::sandbox::{Shared, lock};

/// Virtual seconds of each stage.
const VALIDATING: f64 = 20.0;
pub const RUNNING: f64 = 60.0;
const FINALIZING: f64 = 5.0;
const CANCELLING: f64 = 10.0;

/// OpenAI batch guide: 50,000 requests in a file.
const ROW_LIMIT: usize = 50_000;
/// So many bad lines are reported.
const ERROR_LIMIT: usize = 100;

/// One line of the input: where it is, and whether its request succeeds.
struct Row {
    offset: u64,
    length: usize,
    index: usize,
    succeeds: bool,
}

/// An input that passed validation, in the order in which its rows run.
struct Plan {
    input: File,
    model: String,
    rows: Vec<Row>,
}

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Completed,
    Expired,
    Cancelled,
}

/// Runs a job from its creation to its end.
pub async fn run(shared: Arc<Shared>, batch: Arc<Batch>) {
    let plan = blocking(&shared, &batch, |shared, batch| validated(shared, batch)).await;
    wait_or_cancel(&shared, &batch, batch.created_at + VALIDATING).await;
    let plan = match plan.and_then(|plan| refused_later(&batch, plan)) {
        Ok(plan) => plan,
        Err(errors) => return fail(&shared, &batch, errors),
    };
    let total = plan.rows.len();
    let started = shared.clock.now();
    {
        let mut progress = lock(&batch.progress);
        progress.model = Some(plan.model.clone());
        progress.rows = plan.rows.iter().map(|row| row.succeeds).collect();
        progress.advance(Status::InProgress, started);
    }
    wait_or_cancel(&shared, &batch, started + RUNNING).await;
    let (end, ran) = settle(&shared, &batch, total);
    let begun = shared.clock.now();
    let written = blocking(&shared, &batch, move |shared, batch| {
        write(shared, batch, plan, ran, end)
    })
    .await;
    match written {
        Err(errors) => fail(&shared, &batch, errors),
        Ok((files, usage)) => {
            let pause = if end == End::Cancelled {
                CANCELLING
            } else {
                FINALIZING
            };
            let rest = shared.clock.real_time(shared.clock.now(), begun + pause);
            tokio::time::sleep(rest).await;
            let mut progress = lock(&batch.progress);
            (progress.files, progress.usage) = (files, usage);
            let status = match end {
                End::Completed => Status::Completed,
                End::Expired => Status::Expired,
                End::Cancelled => Status::Cancelled,
            };
            progress.advance(status, shared.clock.now());
        }
    }
}

/// Runs blocking work on its own thread; its errors become the batch's.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    batch: &Arc<Batch>,
    work: impl FnOnce(&Shared, &Batch) -> Result<T, Vec<Value>> + Send + 'static,
) -> Result<T, Vec<Value>> {
    let (shared, batch) = (shared.clone(), batch.clone());
    let done = tokio::task::spawn_blocking(move || work(&shared, &batch)).await;
    done.unwrap_or_else(|error| {
        Err(vec![whole_file(
            "server_error",
            format!("The job broke: {error}"),
            Value::Null,
        )])
    })
}

/// Waits until `then` on the virtual clock, or until the batch is cancelled.
async fn wait_or_cancel(shared: &Shared, batch: &Batch, then: f64) {
    let rest = shared.clock.real_time(shared.clock.now(), then);
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        // The permit stays for the next wait, which must not last either.
        () = batch.cancel.notified() => batch.cancel.notify_one(),
    }
}

/// How the job ends and how many rows it has run by then.
fn settle(shared: &Shared, batch: &Batch, total: usize) -> (End, usize) {
    let now = shared.clock.now();
    let mut progress = lock(&batch.progress);
    let (end, ran) = if progress.since(Status::Cancelling).is_some() {
        (End::Cancelled, progress.ran_at(now).min(total))
    } else if batch.faults.has(Kind::CancelHalf) {
        progress.advance(Status::Cancelling, now);
        (End::Cancelled, total / 2)
    } else if batch.faults.has(Kind::ExpireHalf) {
        (End::Expired, total / 2)
    } else {
        progress.advance(Status::Finalizing, now);
        (End::Completed, total)
    };
    progress.ran = Some(ran);
    (end, ran)
}

fn fail(shared: &Shared, batch: &Batch, errors: Vec<Value>) {
    let mut progress = lock(&batch.progress);
    let now = shared.clock.now();
    if progress.advance(Status::Failed, now) {
        progress.errors = errors;
    } else {
        progress.advance(Status::Cancelled, now);
    }
}

fn whole_file(code: &str, message: String, param: Value) -> Value {
    json!({"code": code, "line": null, "message": message, "param": param})
}

/// The ways in which a good file fails minutes later.
fn refused_later(batch: &Batch, plan: Plan) -> Result<Plan, Vec<Value>> {
    if batch.faults.has(Kind::TokenLimitExceeded) {
        let message = format!(
            "Enqueued token limit reached for {} in organization org-sandbox. Limit: 2,000,000 enqueued tokens. Please try again \
             once some in_progress batches have been completed.",
            plan.model
        );
        return Err(vec![whole_file(
            "token_limit_exceeded",
            message,
            Value::Null,
        )]);
    }
    if batch.faults.has(Kind::FailJob) {
        let message = "The batch could not be processed.".to_owned();
        return Err(vec![whole_file("server_error", message, Value::Null)]);
    }
    Ok(plan)
}

/// Reads the input once: every line checked, every row's fate decided.
fn validated(shared: &Shared, batch: &Batch) -> Result<Plan, Vec<Value>> {
    let broken = |error: io::Error| {
        vec![whole_file(
            "server_error",
            format!("Cannot read the input file: {error}"),
            Value::Null,
        )]
    };
    let id = &batch.input_file_id;
    let file = shared.store.get(id, shared.clock.now());
    let Some(file) = file.filter(|file| file.purpose == "batch") else {
        let message = format!(
            "Cannot find file {id}, or organization org-sandbox does not have access to it."
        );
        return Err(vec![whole_file(
            "file_not_found",
            message,
            json!("input_file_id"),
        )]);
    };
    let input = File::open(&file.path).map_err(broken)?;
    let mut reader = BufReader::with_capacity(1 << 20, input);
    let mut check = LineCheck::default();
    let mut rows: Vec<Row> = Vec::new();
    let mut errors = Vec::new();
    let (mut line, mut offset, mut count) = (Vec::new(), 0_u64, 0_usize);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(broken)?;
        if length == 0 || shared.stopping.load(Ordering::Relaxed) {
            break;
        }
        count += 1;
        if count <= ROW_LIMIT {
            match check.line(&line) {
                Ok(body_passes) => {
                    let succeeds = body_passes
                        && !batch.faults.has(Kind::FailedOnly)
                        && !is_third(batch, Kind::FailLines, count - 1);
                    rows.push(Row {
                        offset,
                        length,
                        index: count - 1,
                        succeeds,
                    });
                }
                Err(error) if errors.len() < ERROR_LIMIT => errors.push(error.at(count)),
                Err(_) => {}
            }
        }
        offset += length as u64;
    }
    if count > ROW_LIMIT {
        let message = format!(
            "This batch contains {count} requests, which exceeds the limit of {ROW_LIMIT} requests in a batch."
        );
        return Err(vec![whole_file("too_many_tasks", message, Value::Null)]);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if rows.is_empty() {
        return Err(vec![whole_file(
            "empty_file",
            "The batch file is empty.".to_owned(),
            Value::Null,
        )]);
    }
    if batch.faults.has(Kind::WrongFile)
        && rows.iter().all(|row| row.succeeds)
        && let Some(last) = rows.last_mut()
    {
        last.succeeds = false;
    }
    fastrand::Rng::with_seed(shared.seed).shuffle(&mut rows);
    Ok(Plan {
        input: reader.into_inner(),
        model: check.model.unwrap_or_default(),
        rows,
    })
}

/// Faults of some lines strike the 3rd, the 6th, and so on.
fn is_third(batch: &Batch, kind: Kind, index: usize) -> bool {
    batch.faults.has(kind) && index % 3 == 2
}

/// Why a line fails its whole batch.
struct BadLine {
    code: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl BadLine {
    fn at(&self, line: usize) -> Value {
        json!({"code": self.code, "line": line, "message": self.message, "param": self.param})
    }
}

/// What one line is checked against: the lines before it.
#[derive(Default)]
struct LineCheck {
    ids: HashSet<String>,
    model: Option<String>,
    cache: SchemaCache,
}

impl LineCheck {
    /// Whether the request in this line will succeed: one that the API refuses fails alone, a bad line fails the batch.
    fn line(&mut self, line: &[u8]) -> Result<bool, BadLine> {
        let bad = |code, param, message: String| BadLine {
            code,
            message,
            param,
        };
        let missing = |param: &'static str| {
            let name = param.rsplit('.').next().unwrap_or(param);
            bad(
                "missing_required_parameter",
                Some(param),
                format!("Missing required parameter: '{name}'."),
            )
        };
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else {
            return Err(bad(
                "invalid_json_line",
                None,
                "This line is not parseable as valid JSON.".into(),
            ));
        };
        let text = |key: &str| {
            line.get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let custom_id = text("custom_id").ok_or_else(|| missing("custom_id"))?;
        if !self.ids.insert(custom_id.to_owned()) {
            let message = "The custom_id for this request is a duplicate of another request. The custom_id parameter must be unique \
                           for each request in a batch.";
            return Err(bad(
                "duplicate_custom_id",
                Some("custom_id"),
                message.into(),
            ));
        }
        let method = text("method").ok_or_else(|| missing("method"))?;
        if method != "POST" {
            return Err(bad(
                "invalid_method",
                Some("method"),
                format!("Invalid value: '{method}'. Supported values are: 'POST'."),
            ));
        }
        let url = text("url").ok_or_else(|| missing("url"))?;
        if url != ENDPOINT {
            let message = format!(
                "The URL provided for this request does not match the batch endpoint: '{url}' is not '{ENDPOINT}'."
            );
            return Err(bad("url_mismatch", Some("url"), message));
        }
        let body = line
            .get("body")
            .and_then(Value::as_object)
            .ok_or_else(|| missing("body"))?;
        let model = body
            .get("model")
            .and_then(Value::as_str)
            .filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| missing("body.model"))?;
        if !body.contains_key("input") && !body.contains_key("prompt") {
            return Err(missing("body.input"));
        }
        let first = self.model.get_or_insert_with(|| model.to_owned());
        if first != model {
            let message = format!(
                "The model '{model}' does not match the model of the batch, '{first}'. All requests must use one model."
            );
            return Err(bad("model_mismatch", Some("body.model"), message));
        }
        Ok(validate::check(body, &mut self.cache).is_ok())
    }
}

type Written = ([Option<String>; 2], Usage);

/// Runs the first `ran` rows and writes the output and the error file.
fn write(
    shared: &Shared,
    batch: &Batch,
    mut plan: Plan,
    ran: usize,
    end: End,
) -> Result<Written, Vec<Value>> {
    let broken = |error: io::Error| {
        let message = format!("The sandbox could not write the results: {error}");
        vec![whole_file("server_error", message, Value::Null)]
    };
    let mut out = Results::new(shared, batch, plan.rows.len());
    for (place, row) in plan.rows.iter().enumerate() {
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(vec![whole_file(
                "server_error",
                "The sandbox stopped.".into(),
                Value::Null,
            )]);
        }
        let line = read_row(&mut plan.input, row).map_err(broken)?;
        let unrun = (place >= ran).then_some(end);
        out.row(row, &line, unrun).map_err(broken)?;
    }
    out.finish().map_err(broken)
}

fn read_row(input: &mut File, row: &Row) -> io::Result<Map<String, Value>> {
    let mut bytes = vec![0; row.length];
    input.seek(SeekFrom::Start(row.offset))?;
    input.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The two result files of a job, and what they cost.
struct Results<'a> {
    shared: &'a Shared,
    batch: &'a Batch,
    total: usize,
    output: ResultFile,
    errors: ResultFile,
    usage: Usage,
    cache: SchemaCache,
    /// For the fault that swaps a success and a failure: whether each was swapped.
    swapped: (bool, bool),
}

impl<'a> Results<'a> {
    fn new(shared: &'a Shared, batch: &'a Batch, total: usize) -> Results<'a> {
        let file = || ResultFile {
            id: shared.ids.next("file-"),
            writer: None,
            bytes: 0,
        };
        let (output, errors) = (file(), file());
        Results {
            shared,
            batch,
            total,
            output,
            errors,
            usage: Usage::default(),
            cache: SchemaCache::default(),
            swapped: (false, false),
        }
    }

    /// Writes the result of one row; `unrun` says why it never ran.
    fn row(&mut self, row: &Row, line: &Map<String, Value>, unrun: Option<End>) -> io::Result<()> {
        if self.batch.faults.has(Kind::DropLine) && row.index == self.total / 2 {
            return Ok(());
        }
        let (response, error) = match unrun {
            Some(end) => (Value::Null, never_ran(end)),
            None => (self.response(row, line), Value::Null),
        };
        let custom_id = line.get("custom_id");
        let result = json!({"id": self.shared.ids.next("batch_req_"), "custom_id": custom_id, "response": response, "error": error});
        let result = result.to_string();
        let succeeded = unrun.is_none() && row.succeeds;
        let copies = if self.batch.faults.has(Kind::DuplicateLine) && row.index == self.total / 2 {
            2
        } else {
            1
        };
        let into_output = succeeded != self.swaps(succeeded, unrun.is_none());
        let (shared, file) = (
            self.shared,
            if into_output {
                &mut self.output
            } else {
                &mut self.errors
            },
        );
        (0..copies).try_for_each(|_| file.line(shared, &result))
    }

    fn swaps(&mut self, succeeded: bool, ran: bool) -> bool {
        if !self.batch.faults.has(Kind::WrongFile) || !ran {
            return false;
        }
        let done = if succeeded {
            &mut self.swapped.0
        } else {
            &mut self.swapped.1
        };
        !std::mem::replace(done, true)
    }

    fn response(&mut self, row: &Row, line: &Map<String, Value>) -> Value {
        let empty = Map::new();
        let body = line
            .get("body")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        let request_id = self.shared.ids.next("");
        let refused = |error: ApiError| json!({"status_code": error.status.as_u16(), "request_id": request_id, "body": error.body()});
        let mut ask = match validate::check(body, &mut self.cache) {
            Ok(ask) => ask,
            Err(error) => return refused(error),
        };
        if !row.succeeds {
            let message = "Invalid prompt: your prompt was flagged as potentially violating our usage policy.";
            return refused(ApiError::invalid("invalid_prompt", "", message));
        }
        let faults = &self.batch.faults;
        if faults.has(Kind::LineSeparator) {
            // Line ends to Unicode and to str.splitlines(), but not to JSON Lines.
            ask.prompt.push_str("\u{2028}|\u{85}");
        }
        let fault = match () {
            () if is_third(self.batch, Kind::RefuseLines, row.index) => Some(Kind::Refusal),
            () if is_third(self.batch, Kind::TruncateLines, row.index) => Some(Kind::Truncated),
            () => faults.answer,
        };
        let response = responses::compose(
            &self.shared.ids,
            self.shared.clock.now() as i64,
            &ask,
            body,
            fault,
        );
        let count = |path: &str| response.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        self.usage.input += count("/usage/input_tokens");
        self.usage.output += count("/usage/output_tokens");
        self.usage.reasoning += count("/usage/output_tokens_details/reasoning_tokens");
        json!({"status_code": 200, "request_id": request_id, "body": response})
    }

    /// Closes the files and puts them into the store; a file without lines is none.
    fn finish(self) -> io::Result<Written> {
        let (shared, batch) = (self.shared, self.batch);
        let output = self.output.finish(shared, batch, "output")?;
        let errors = self.errors.finish(shared, batch, "error")?;
        Ok(([output, errors], self.usage))
    }
}

fn never_ran(end: End) -> Value {
    match end {
        End::Cancelled => {
            json!({"code": "batch_cancelled", "message": "This request was not executed before the batch was cancelled."})
        }
        _ => json!({
            "code": "batch_expired",
            "message": "This request could not be executed before the completion window expired."
        }),
    }
}

/// A result file, made with its first line.
struct ResultFile {
    id: String,
    writer: Option<BufWriter<File>>,
    bytes: u64,
}

impl ResultFile {
    fn line(&mut self, shared: &Shared, line: &str) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => {
                writer.write_all(b"\n")?;
                self.bytes += 1;
                writer
            }
            none => none.insert(BufWriter::with_capacity(
                1 << 20,
                File::create(shared.store.path(&self.id))?,
            )),
        };
        self.bytes += line.len() as u64;
        writer.write_all(line.as_bytes())
    }

    fn finish(self, shared: &Shared, batch: &Batch, suffix: &str) -> io::Result<Option<String>> {
        let Some(mut writer) = self.writer else {
            return Ok(None);
        };
        let mut bytes = self.bytes;
        if !batch.faults.has(Kind::NoFinalNewline) {
            writer.write_all(b"\n")?;
            bytes += 1;
        }
        writer.flush()?;
        let created_at = shared.clock.now() as i64;
        let file = shared.store.put(StoredFile {
            path: shared.store.path(&self.id),
            filename: format!("{}_{suffix}.jsonl", batch.id),
            purpose: "batch_output".into(),
            bytes,
            created_at,
            expires_at: Some(created_at + batch.output_life.unwrap_or(DEFAULT_LIFE)),
            expires: batch.output_life.is_some(),
            id: self.id,
        });
        Ok(Some(file.id.clone()))
    }
}
