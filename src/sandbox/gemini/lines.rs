//! The rows of a batch: read once when the job is created, so that a row that cannot be read is a 400 of that call, and kept on
//! disk. In memory there are only a row's place and fate.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::messages::LINE;
use super::proto::{self, Names};
use super::validate::{self, SchemaCache};
use crate::sandbox::Shared;
use crate::sandbox::faults::{JobFaults, Kind};
use crate::sandbox::rows::{self, LineFile};

/// So many bad lines are reported.
const ERROR_LIMIT: usize = 20;

/// One row: where it is, and whether its request succeeds.
#[derive(Debug)]
pub struct Row {
    pub offset: u64,
    pub length: usize,
    pub index: usize,
    pub succeeds: bool,
}

/// The rows of a job, in the order in which they run.
#[derive(Debug)]
pub struct Plan {
    pub input: File,
    pub names: Names,
    pub rows: Vec<Row>,
}

impl Plan {
    /// One row, with camelCase names: its `request`, and its `key` or `metadata`.
    pub fn read(&mut self, place: usize) -> io::Result<Map<String, Value>> {
        let row = &self.rows[place];
        let line = rows::read(&mut self.input, row.offset, row.length)?;
        let read = proto::read(&LINE, Value::Object(line), self.names);
        read.map_err(|_| io::Error::other("a row changed on disk"))
    }

    fn shuffled(mut self, seed: u64) -> Plan {
        fastrand::Rng::with_seed(seed).shuffle(&mut self.rows);
        self
    }
}

/// The rows of a file that a client uploaded.
pub fn of_file(shared: &Shared, model: &str, faults: &JobFaults, path: &Path) -> Result<Plan, ApiError> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut cache = SchemaCache::default();
    let (mut rows, mut errors): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut line, mut offset, mut number) = (Vec::new(), 0_u64, 0_usize);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 || shared.stopping.load(Ordering::Relaxed) {
            break;
        }
        number += 1;
        match read_line(number, &line) {
            Ok(line) => {
                let index = rows.len();
                let succeeds = passes(model, &line, faults, index, &mut cache);
                rows.push(Row { offset, length, index, succeeds });
            }
            Err(error) if errors.len() < ERROR_LIMIT => errors.push(error),
            Err(_) => {}
        }
        offset += length as u64;
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors.join("\n")));
    }
    if rows.is_empty() {
        return Err(ApiError::invalid("The input file of a batch must have at least one request."));
    }
    Ok(Plan { input: reader.into_inner(), names: Names::Snake, rows }.shuffled(shared.seed))
}

fn read_line(number: usize, line: &[u8]) -> Result<Map<String, Value>, String> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| format!("Error on line {number}: invalid JSON, near column {}: {error}", error.column()))?;
    let line = proto::read(&LINE, value, Names::Snake).map_err(|wrong| proto::refused_line(number, &wrong))?;
    let Some(request) = line.get("request") else {
        return Err(format!("Error on line {number}: the field 'request' is missing"));
    };
    // The parser of batch files knows response_json_schema only (python-genai#1150).
    if request.pointer("/generationConfig/responseSchema").is_some() {
        return Err(format!("Error on line {number}: invalid JSON, no such field: 'response_schema'"));
    }
    Ok(line)
}

/// The rows that came with the call, which `proto` has read already; they are written to `path`.
pub fn of_list(
    shared: &Shared,
    model: &str,
    faults: &JobFaults,
    list: Vec<Value>,
    path: &Path,
) -> Result<Plan, ApiError> {
    if list.is_empty() {
        return Err(ApiError::invalid(
            "* BatchGenerateContentRequest.batch.input_config.requests: must not be empty\n",
        ));
    }
    let mut cache = SchemaCache::default();
    let mut file = LineFile::new(path.to_path_buf());
    let mut rows = Vec::with_capacity(list.len());
    for (index, row) in list.into_iter().enumerate() {
        let line = serde_json::to_vec(&row).map_err(io::Error::from)?;
        let offset = if index == 0 { 0 } else { file.bytes() + 1 };
        file.line(&line)?;
        let succeeds = row.as_object().is_some_and(|row| passes(model, row, faults, index, &mut cache));
        rows.push(Row { offset, length: line.len(), index, succeeds });
    }
    file.finish(true)?;
    Ok(Plan { input: File::open(path)?, names: Names::Both, rows }.shuffled(shared.seed))
}

/// Whether the request of a row will succeed: one that the API refuses fails alone.
fn passes(model: &str, row: &Map<String, Value>, faults: &JobFaults, index: usize, cache: &mut SchemaCache) -> bool {
    let empty = Map::new();
    let request = row.get("request").and_then(Value::as_object).unwrap_or(&empty);
    !faults.has(Kind::FailedOnly)
        && !faults.strikes_row(Kind::FailLines, index)
        && validate::check(model, request, cache).is_ok()
}
