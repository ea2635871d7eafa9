//! Build, send, read: the steps of one call, the same for every provider.

use crate::answer::AnswerSchema;
use crate::error::{ApiError, ApiErrorKind, Error, Result};
use crate::exchange::{Headers, Request, Response};
use crate::generation::{Generation, GenerationConfig, Prompt};
use crate::json;
use crate::providers::settings::Settings;
use crate::providers::{self, Ask, AskedSchema, Notice, Prepared, Provider, Reading};
use crate::retry::{self, Advice};
use crate::transport::{Endpoint, Transport};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// One provider, reached at one address, asking one model. Holds no connection.
pub struct Client {
    pub endpoint: Endpoint,
    pub provider: Box<dyn Provider>,
    pub model: String,
}

/// Everything about a call but its prompt, ready to be used for many.
pub struct Call {
    pub prepared: Prepared,
    pub schema: Option<Arc<AnswerSchema>>,
}

impl Client {
    pub fn open(provider: &str, model: &str, settings: Settings) -> Result<Self> {
        if model.trim().is_empty() {
            return Err(Error::configuration("model is empty; name the model to ask"));
        }
        let (endpoint, provider) = providers::open(provider, settings)?;
        Ok(Self { endpoint, provider, model: model.to_owned() })
    }

    pub fn prepare(
        &self,
        config: &GenerationConfig,
        batch_system: Option<&str>,
        schema: Option<Arc<AnswerSchema>>,
    ) -> Result<Call> {
        let compiled = schema.as_ref().map(|schema| schema.compile(self.provider.dialect())).transpose()?;
        let asked = schema.as_ref().zip(compiled.as_ref());
        let prepared = self.provider.prepare(&Ask {
            model: &self.model,
            config,
            batch_system,
            schema: asked.map(|(schema, compiled)| AskedSchema { compiled, name: &schema.name }),
        })?;
        Ok(Call { prepared, schema })
    }

    /// The body of the request for `prompt`.
    pub fn body(&self, call: &Call, prompt: &Prompt) -> Result<Map<String, Value>> {
        self.provider.body(&call.prepared, prompt)
    }

    /// One answer, now.
    pub async fn generate(&self, transport: &Transport, call: &Call, prompt: &Prompt) -> Result<Generation> {
        let request = self.provider.generate(self.body(call, prompt)?)?;
        let response = self.request(transport, &request).await?;
        let body = self.parse(&response)?;
        let mut generation = call.read(&*self.provider, &body).map_err(|error| self.complete(error, &response))?;
        generation.raw = response.body;
        Ok(generation)
    }

    /// Sends a request that may be sent again, as often as `retry.rs` says. Returns successes only.
    pub async fn request(&self, transport: &Transport, request: &Request) -> Result<Response> {
        let mut attempt = 0;
        loop {
            let failure = match self.request_once(transport, request).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let Some(wait) = self.wait_before_retry(&failure, attempt) else { return Err(failure.error) };
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends a request once. Returns successes only.
    pub async fn request_once(&self, transport: &Transport, request: &Request) -> Result<Response, Failure> {
        match transport.send(&self.endpoint, request).await {
            Ok(response) if response.is_success() => Ok(response),
            Ok(response) => Err(self.error_reply(&response)),
            Err(error) => Err(Failure { error, advice: Advice::default() }),
        }
    }

    /// How long to wait before try number `attempt` + 1; None: no more tries.
    pub fn wait_before_retry(&self, failure: &Failure, attempt: u32) -> Option<Duration> {
        let most = self.endpoint.max_retries;
        match &failure.error {
            Error::Api(error) => retry::after_reply(error.kind, failure.advice, attempt, most, fastrand::f64()),
            Error::Connection(_) => retry::after_silence(attempt, most, fastrand::f64()),
            _ => None,
        }
    }

    /// What an unsuccessful reply means.
    pub fn error_reply(&self, response: &Response) -> Failure {
        let advice = Advice::read(&response.headers, SystemTime::now());
        let mut error = self.provider.read_error(&self.redacted(response));
        error.retry_after = advice.wait;
        Failure { error: Error::Api(Box::new(error)), advice }
    }

    /// A reply without the keys that servers like to quote, wherever they do: nothing that is read from it can hold one.
    fn redacted(&self, response: &Response) -> Response {
        let redact = |text: &str| self.endpoint.redact(text);
        let headers = response.headers.0.iter().map(|(name, value)| (name.clone(), redact(value))).collect();
        let body = redact(&String::from_utf8_lossy(&response.body)).into();
        Response { status: response.status, headers: Headers(headers), body }
    }

    /// The JSON of a successful reply.
    pub fn parse(&self, response: &Response) -> Result<Value> {
        json::parse(&response.body).map_err(|error| {
            let text = String::from_utf8_lossy(&response.body);
            let found = match text.trim() {
                "" => "an empty body".to_owned(),
                text => format!("'{}'", text.chars().take(200).collect::<String>()),
            };
            self.no_answer(
                response,
                format!("the server answered {} with no JSON ({error}) but {found}", response.status),
            )
        })
    }

    /// The error for a success that makes no sense.
    pub fn no_answer(&self, response: &Response, message: String) -> Error {
        let error = ApiError {
            kind: ApiErrorKind::Other,
            provider: self.endpoint.provider,
            status: Some(response.status),
            code: None,
            message: format!("{message}. Check base_url, and proxies on the way."),
            request_id: None,
            retry_after: None,
            body: None,
        };
        self.complete(Error::Api(Box::new(error)), response)
    }

    /// Adds what only the reply knows to an error that was found in its body.
    fn complete(&self, mut error: Error, response: &Response) -> Error {
        let response = self.redacted(response);
        let body = String::from_utf8_lossy(&response.body);
        match &mut error {
            Error::Api(error) => {
                error.message = self.endpoint.redact(&error.message);
                error.code = error.code.take().map(|code| self.endpoint.redact(&code));
                let request_id = || response.headers.get("x-request-id").map(str::to_owned);
                error.request_id = error.request_id.take().or_else(request_id);
                error.body = Some(body.chars().take(4000).collect());
            }
            Error::Output(error) => error.response = Some(body.into_owned()),
            _ => {}
        }
        error
    }
}

impl Call {
    /// Reads an answer and holds it against the schema.
    pub fn read(&self, provider: &dyn Provider, body: &Value) -> Result<Generation> {
        let mut generation = provider.read(body, self.reading())?;
        self.check(&mut generation)?;
        Ok(generation)
    }

    pub fn check(&self, generation: &mut Generation) -> Result<()> {
        match (&self.schema, &self.reading().schema) {
            (Some(schema), Some(reading)) => schema.check(generation, reading),
            _ => Ok(()),
        }
    }

    pub fn reading(&self) -> &Reading {
        &self.prepared.reading
    }

    pub fn notices(&self) -> &[Notice] {
        &self.prepared.notices
    }
}

/// A request that did not succeed, and what the server says about another try.
pub struct Failure {
    pub error: Error,
    pub advice: Advice,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}
