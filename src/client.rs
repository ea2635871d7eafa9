//! Build, send, read: the steps of one call, the same for every provider.

use crate::answer::AnswerSchema;
use crate::ca_bundle::CaBundle;
use crate::error::{ApiError, ApiErrorKind, Error, Result};
use crate::exchange::{Endpoint, Headers, Request, Response};
use crate::generation::{Generation, GenerationConfig, Prompt};
use crate::json;
use crate::providers::settings::Settings;
use crate::providers::{self, Ask, Job, Notice, Prepared, Provider, Reading};
use crate::proxy::Route;
use crate::retry::{self, Advice};
use crate::transport::Transport;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// One provider, reached at one address, asking one model. Holds no connection.
pub struct Client {
    pub endpoint: Endpoint,
    pub provider: Box<dyn Provider>,
    pub model: String,
    /// The server has shown that it knows schemas in the older form only.
    wants_fallback: AtomicBool,
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
        let ca_bundle = settings.text("ca_bundle", "")?;
        let (mut endpoint, provider) = providers::open(provider, settings)?;
        endpoint.connect.ca_bundle = ca_bundle.map(|path| CaBundle::load(&path).map(Arc::new)).transpose()?;
        Ok(Self { endpoint, provider, model: model.to_owned(), wants_fallback: AtomicBool::new(false) })
    }

    /// A single call, or many immediate ones.
    pub fn prepare(
        &self,
        config: &GenerationConfig,
        batch_system: Option<&str>,
        schema: Option<Arc<AnswerSchema>>,
    ) -> Result<Call> {
        let prepared = self.provider.prepare(&self.ask(config, batch_system, schema.as_deref()))?;
        Ok(Call { prepared, schema })
    }

    /// What is asked of this client's model.
    pub fn ask<'a>(
        &'a self,
        config: &'a GenerationConfig,
        batch_system: Option<&'a str>,
        schema: Option<&'a AnswerSchema>,
    ) -> Ask<'a> {
        Ask { model: &self.model, config, batch_system, schema }
    }

    /// Refuses a prompt that the provider would refuse; `place` is where it stands among the caller's arguments.
    pub fn check_text(&self, text: &str, place: impl FnOnce() -> String) -> Result<()> {
        self.provider.check_text(text).map_err(|error| error.about(&place()))
    }

    /// Refuses the prompt of `inputs[index]` if the provider would.
    pub fn check_input(&self, call: &Call, prompt: &Prompt, index: u64) -> Result<()> {
        match prompt {
            Prompt::Text(text) => self.check_text(text, || format!("inputs[{index}]")),
            // What is wrong with a conversation is found while its request is built.
            Prompt::Messages(_) => {
                let body = self.provider.body(&call.prepared, prompt);
                body.map(drop).map_err(|error| error.about(&format!("inputs[{index}]:")))
            }
        }
    }

    /// One answer, now. If the server does not know how the call asks for a schema, the call's fallback is tried, and where
    /// the server takes that, later calls go straight to theirs.
    pub async fn generate(&self, transport: &Transport, call: &Call, prompt: &Prompt) -> Result<Generation> {
        let Some(fallback) = &call.prepared.fallback else {
            return self.generate_as(transport, call, &call.prepared, prompt).await;
        };
        if !self.wants_fallback.load(Ordering::Relaxed) {
            let result = self.generate_as(transport, call, &call.prepared, prompt).await;
            if !matches!(&result, Err(Error::Api(error)) if self.provider.wants_fallback(error)) {
                return result;
            }
        }
        let result = self.generate_as(transport, call, fallback, prompt).await;
        if matches!(result, Ok(_) | Err(Error::Output(_))) {
            self.wants_fallback.store(true, Ordering::Relaxed);
        }
        result
    }

    async fn generate_as(
        &self,
        transport: &Transport,
        call: &Call,
        prepared: &Prepared,
        prompt: &Prompt,
    ) -> Result<Generation> {
        let body = self.provider.body(prepared, prompt)?;
        let response = self.request(transport, &self.provider.generate(prepared, body)).await?;
        let mut generation = self.understand(call, prepared, &response).map_err(|error| {
            // What an error quotes is taken from a reply without keys: half of one would not be known again.
            let safe = self.redacted(&response);
            self.complete(self.understand(call, prepared, &safe).err().unwrap_or(error), &safe)
        })?;
        generation.raw = response.body;
        Ok(generation)
    }

    fn understand(&self, call: &Call, prepared: &Prepared, response: &Response) -> Result<Generation> {
        let mut generation = self.provider.read(&self.parse(response)?, &prepared.reading)?;
        call.check(&mut generation, &prepared.reading)?;
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
        let mut advice = Advice::read(&response.headers, SystemTime::now());
        let mut error = self.provider.read_error(&self.redacted(response));
        // A provider may say it in the body.
        advice.wait = advice.wait.or(error.retry_after);
        error.retry_after = advice.wait;
        if matches!(&self.endpoint.connect.route, Route::Proxy(proxy) if proxy.reads_requests) && !is_json(response) {
            error.message.push_str(&format!(". It may come from {}", self.on_the_way()));
        }
        Failure { error: Error::Api(Box::new(error)), advice }
    }

    /// A reply without the keys that servers like to quote, wherever they do: nothing that is read from it can hold one.
    fn redacted(&self, response: &Response) -> Response {
        let redact = |text: &str| self.endpoint.redact(text);
        let headers = response.headers.0.iter().map(|(name, value)| (name.clone(), redact(value))).collect();
        let body = redact(&String::from_utf8_lossy(&response.body)).into();
        Response { status: response.status, headers: Headers(headers), body }
    }

    /// Blacks out every credential that an error quotes.
    pub fn redact(&self, error: &mut Error) {
        let redact = |text: &mut String| *text = self.endpoint.redact(text);
        match error {
            Error::Api(error) => {
                redact(&mut error.message);
                [&mut error.code, &mut error.request_id, &mut error.body].into_iter().flatten().for_each(redact);
            }
            Error::Output(error) => {
                redact(&mut error.message);
                [&mut error.text, &mut error.response].into_iter().flatten().for_each(redact);
            }
            Error::Batch { batch_id, message, .. } => [batch_id, message].into_iter().for_each(redact),
            // Nothing in these comes from a server, or it is redacted where it comes from.
            Error::Configuration(_)
            | Error::Schema { .. }
            | Error::Connection(_)
            | Error::Engine(_)
            | Error::Disk(_) => {}
        }
    }

    /// The JSON of a successful reply.
    pub fn parse(&self, response: &Response) -> Result<Value> {
        json::parse(&response.body).map_err(|error| {
            let text = self.endpoint.redact(&String::from_utf8_lossy(&response.body));
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
            provider: self.endpoint.provider.into(),
            status: Some(response.status),
            code: None,
            message: format!("{message}. Check base_url, and {}.", self.on_the_way()),
            request_id: None,
            retry_after: None,
            body: None,
        };
        self.complete(Error::Api(Box::new(error)), response)
    }

    /// Who may have answered in the server's place.
    fn on_the_way(&self) -> String {
        match &self.endpoint.connect.route {
            Route::Proxy(proxy) => format!("the proxy {proxy} on the way"),
            _ => "proxies on the way".into(),
        }
    }

    /// Adds what only the reply knows to an error that was found in its body.
    fn complete(&self, mut error: Error, response: &Response) -> Error {
        let response = self.redacted(response);
        let body = String::from_utf8_lossy(&response.body);
        match &mut error {
            Error::Api(error) => {
                let mut names = ["x-request-id", "request-id"].into_iter();
                let request_id = || names.find_map(|name| response.headers.get(name)).map(str::to_owned);
                error.request_id = error.request_id.take().or_else(request_id);
                error.body = Some(body.chars().take(4000).collect());
            }
            Error::Output(error) => error.response = Some(body.into_owned()),
            _ => {}
        }
        self.redact(&mut error);
        error
    }
}

impl Call {
    /// Holds an answer against the schema.
    pub fn check(&self, generation: &mut Generation, reading: &Reading) -> Result<()> {
        match (&self.schema, &reading.schema) {
            (Some(schema), Some(reading)) => schema
                .check(generation, reading)
                .map_err(|error| error.came_with(Some(generation.finish_reason.clone()), generation.usage)),
            _ => Ok(()),
        }
    }

    /// The same call as a job knows it: with the stop strings that the job keeps.
    pub fn reading_of(&self, job: &Job) -> Self {
        let mut call = Self { prepared: self.prepared.clone(), schema: self.schema.clone() };
        if call.prepared.reading.stop.is_empty() && call.schema.is_none() {
            call.prepared.reading.stop = job.stop.clone();
        }
        call
    }

    pub fn reading(&self) -> &Reading {
        &self.prepared.reading
    }

    pub fn notices(&self) -> &[Notice] {
        &self.prepared.notices
    }
}

fn is_json(response: &Response) -> bool {
    json::parse(&response.body).is_ok()
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
