//! The input file of a batch job: every line checked before anything runs. One bad line fails the whole batch.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::batches::{Batch, ENDPOINT};
use super::format::SchemaCache;
use super::job::whole_file;
use super::validate;
use crate::sandbox::Shared;
use crate::sandbox::faults::Kind;

/// OpenAI batch guide: 50,000 requests in a file.
const ROW_LIMIT: usize = 50_000;

/// So many bad lines are reported.
const ERROR_LIMIT: usize = 100;

/// One line of the input: where it is, and whether its request succeeds.
pub struct Row {
    pub offset: u64,
    pub length: usize,
    pub index: usize,
    pub succeeds: bool,
}

/// An input that passed validation, in the order in which its rows run.
pub struct Plan {
    pub input: File,
    pub model: String,
    pub rows: Vec<Row>,
}

/// Reads the input once: every line checked, every row's fate decided.
pub fn validated(shared: &Shared, batch: &Batch) -> Result<Plan, Vec<Value>> {
    let broken = |error: io::Error| {
        vec![whole_file("server_error", format!("Cannot read the input file: {error}"), Value::Null)]
    };
    let id = &batch.input_file_id;
    let file = shared.store.get(id, shared.clock.now());
    let Some(file) = file.filter(|file| file.purpose == "batch") else {
        let message = format!("Cannot find file {id}, or organization org-sandbox does not have access to it.");
        return Err(vec![whole_file("file_not_found", message, json!("input_file_id"))]);
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
                        && !batch.faults.strikes_row(Kind::FailLines, count - 1);
                    rows.push(Row { offset, length, index: count - 1, succeeds });
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
        return Err(vec![whole_file("empty_file", "The batch file is empty.".to_owned(), Value::Null)]);
    }
    if batch.faults.has(Kind::WrongFile)
        && rows.iter().all(|row| row.succeeds)
        && let Some(last) = rows.last_mut()
    {
        last.succeeds = false;
    }
    fastrand::Rng::with_seed(shared.seed).shuffle(&mut rows);
    Ok(Plan { input: reader.into_inner(), model: check.model.unwrap_or_default(), rows })
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
        let bad = |code, param, message: String| BadLine { code, message, param };
        let missing = |param: &'static str| {
            let name = param.rsplit('.').next().unwrap_or(param);
            bad("missing_required_parameter", Some(param), format!("Missing required parameter: '{name}'."))
        };
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else {
            return Err(bad("invalid_json_line", None, "This line is not parseable as valid JSON.".into()));
        };
        let text = |key: &str| line.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let custom_id = text("custom_id").ok_or_else(|| missing("custom_id"))?;
        if !self.ids.insert(custom_id.to_owned()) {
            let message = "The custom_id for this request is a duplicate of another request. The custom_id parameter must be unique \
                           for each request in a batch.";
            return Err(bad("duplicate_custom_id", Some("custom_id"), message.into()));
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
        let body = line.get("body").and_then(Value::as_object).ok_or_else(|| missing("body"))?;
        let model = body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
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
