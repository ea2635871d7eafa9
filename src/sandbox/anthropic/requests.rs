//! The body of a batch, which may be 256 MB: written to disk as it comes, then read from there one request at a time into a
//! file of rows. In memory there are only the ids and the places of the rows.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::error::ApiError;
use super::values;
use crate::sandbox::http;
use crate::sandbox::rows::LineFile;
use crate::sandbox::store;

/// Message Batches guide: 100,000 requests or 256 MB, whichever comes first.
const REQUEST_LIMIT: usize = 100_000;
const BYTE_LIMIT: u64 = 256_000_000;

/// One request of a batch: where its row stands, and which of the batch it is.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub offset: u64,
    pub length: usize,
    pub index: usize,
}

/// Writes a body to `path`.
pub async fn receive(mut body: Incoming, path: &Path) -> Result<(), ApiError> {
    let mut file = BufWriter::with_capacity(256 * 1024, tokio::fs::File::from_std(store::create(path)?));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(ApiError::invalid("The request body ended before its announced length."));
        };
        let data = frame.into_data().unwrap_or_default();
        length += data.len() as u64;
        if length > BYTE_LIMIT {
            http::drain(body).await;
            return Err(ApiError::too_large("Request exceeds the maximum size"));
        }
        file.write_all(&data).await?;
    }
    Ok(file.flush().await?)
}

/// Reads the body in `path` and writes its requests as rows to `into`. Blocks.
pub fn split(path: &Path, into: PathBuf) -> Result<Vec<Row>, ApiError> {
    let mut spool =
        Spool { lines: LineFile::new(into), rows: Vec::new(), ids: HashSet::new(), found: false, error: None };
    let mut reader = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 20, File::open(path)?));
    let read = reader.deserialize_any(Body(&mut spool)).and_then(|()| reader.end());
    if let Some(error) = spool.error {
        return Err(error);
    }
    read.map_err(|error| ApiError::invalid(format!("The request body is not valid JSON: {error}")))?;
    if !spool.found {
        return Err(ApiError::missing("requests"));
    }
    let count = spool.rows.len();
    if count == 0 {
        return Err(ApiError::at("requests", "List should have at least 1 item after validation, not 0"));
    }
    spool.lines.finish(true)?;
    Ok(spool.rows)
}

/// The rows so far, and the first thing that was wrong.
struct Spool {
    lines: LineFile,
    rows: Vec<Row>,
    ids: HashSet<String>,
    found: bool,
    error: Option<ApiError>,
}

impl Spool {
    /// Ends the reading.
    fn refuse<E: serde::de::Error>(&mut self, error: ApiError) -> E {
        self.error = Some(error);
        E::custom("refused")
    }

    fn row(&mut self, text: &RawValue) -> Result<(), ApiError> {
        let index = self.rows.len();
        if index == REQUEST_LIMIT {
            let message = format!("List should have at most {REQUEST_LIMIT} items after validation");
            return Err(ApiError::at("requests", message));
        }
        let path = format!("requests.{index}");
        // Read to check, without building `params`, which is left for the job.
        #[derive(Deserialize)]
        struct Request<'a> {
            custom_id: Option<Value>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(flatten)]
            extra: std::collections::HashMap<String, IgnoredAny>,
        }
        let request: Request<'_> = match serde_json::from_str(text.get()) {
            Ok(request) => request,
            Err(_) => return Err(ApiError::at(&path, "Input should be a valid dictionary")),
        };
        if let Some(key) = request.extra.keys().next() {
            return Err(ApiError::extra(&values::join(&path, key)));
        }
        let id_path = values::join(&path, "custom_id");
        let id = request.custom_id.ok_or_else(|| ApiError::missing(&id_path))?;
        let id = values::text(&id_path, &id)?;
        values::name(&id_path, id)?;
        if !self.ids.insert(id.to_owned()) {
            let message = format!("custom_id '{id}' is not unique; each request in a batch needs one of its own");
            return Err(ApiError::at(&id_path, message));
        }
        let params_path = values::join(&path, "params");
        let params = request.params.ok_or_else(|| ApiError::missing(&params_path))?;
        if !params.get().starts_with('{') {
            return Err(ApiError::at(&params_path, "Input should be a valid dictionary"));
        }
        let before = self.lines.bytes();
        let offset = if index == 0 { 0 } else { before + 1 };
        self.lines.line(text.get().as_bytes())?;
        self.rows.push(Row { offset, length: text.get().len(), index });
        Ok(())
    }
}

/// `{"requests": [...]}`.
struct Body<'a>(&'a mut Spool);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with requests")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key != "requests" {
                return Err(self.0.refuse(ApiError::extra(&key)));
            }
            self.0.found = true;
            map.next_value_seed(Requests(self.0))?;
        }
        Ok(())
    }
}

struct Requests<'a>(&'a mut Spool);

impl<'de> DeserializeSeed<'de> for Requests<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Requests<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of requests")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(text) = list.next_element::<Box<RawValue>>()? {
            self.0.row(&text).map_err(|error| self.0.refuse(error))?;
        }
        Ok(())
    }
}
