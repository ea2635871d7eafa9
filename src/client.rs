//! Build, send, read: the steps of one call, the same for every provider.

use crate::answer::AnswerSchema;
use crate::blocking::aside;
use crate::bounds::{BodyBuffer, Expected, LARGE};
use crate::ca_bundle::CaBundle;
use crate::conversation;
use crate::deadline::Deadline;
use crate::error::{ApiError, ApiErrorKind, Error, Result, quote};
use crate::exchange::{Endpoint, Headers, Request, Response};
use crate::generation::{Generation, GenerationConfig, Prompt};
use crate::json;
use crate::providers::settings::Settings;
use crate::providers::{self, Ask, Job, Notice, Prepared, Provider, Reading};
use crate::proxy::Route;
use crate::retry::{self, Advice};
use crate::transport::Transport;
use crate::tries::{Failure, Tries, advise};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One provider, reached at one address, asking one model. Holds no connection. A clone is the same client.
#[derive(Clone)]
pub struct Client {
    pub endpoint: Arc<Endpoint>,
    pub provider: Arc<dyn Provider>,
    pub model: String,
    /// The server has shown that it knows schemas in the older form only.
    wants_fallback: Arc<AtomicBool>,
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
        let (endpoint, provider) = (Arc::new(endpoint), provider.into());
        Ok(Self { endpoint, provider, model: model.to_owned(), wants_fallback: Arc::default() })
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

    /// As [`Client::check_text`], for each text of a conversation.
    pub fn check_turns(&self, turns: &[Value], place: impl Fn() -> String) -> Result<()> {
        conversation::check_texts(turns, place, |text| self.provider.check_text(text))
    }

    /// Refuses the prompt at `index` of a batch's `source` if the provider would.
    pub fn check_input(&self, call: &Call, prompt: &Prompt, source: &str, index: u64) -> Result<()> {
        match prompt {
            Prompt::Text(text) => self.check_text(text, || format!("{source}[{index}]")),
            // What else is wrong with a conversation is found while its request is built.
            Prompt::Messages(turns) => {
                self.check_turns(turns, || format!("{source}[{index}]"))?;
                let body = self.provider.body(&call.prepared, prompt);
                body.map(drop).map_err(|error| error.about(&format!("{source}[{index}]:")))
            }
        }
    }

    /// One answer, now. If the server does not know how the call asks for a schema, the call's fallback is tried, and where
    /// the server takes that, later calls go straight to theirs. The client's deadline bounds it all.
    pub async fn generate(&self, transport: &Transport, call: &Call, prompt: &Prompt) -> Result<Generation> {
        let mut deadline = Deadline::of(&self.endpoint);
        let Some(fallback) = &call.prepared.fallback else {
            return self.generate_as(transport, call, &call.prepared, prompt, &mut deadline).await;
        };
        if !self.wants_fallback.load(Ordering::Relaxed) {
            let result = self.generate_as(transport, call, &call.prepared, prompt, &mut deadline).await;
            if !matches!(&result, Err(Error::Api(error)) if self.provider.wants_fallback(error)) {
                return result;
            }
        }
        let result = self.generate_as(transport, call, fallback, prompt, &mut deadline).await;
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
        deadline: &mut Deadline,
    ) -> Result<Generation> {
        let request = self.provider.generate(prepared, self.provider.body(prepared, prompt)?);
        let mut tries = Tries::default();
        loop {
            let failure = match deadline.bound(self.request_once(transport, &request, Expected::Answer)).await {
                // What has arrived is paid for, however late it is.
                Some(Ok(response)) => match self.answer(call, prepared, response).await {
                    Ok(generation) => return Ok(generation),
                    Err(failure) => Some(failure),
                },
                Some(Err(failure)) => Some(failure),
                None => None,
            };
            tries.wait(self, failure, deadline).await?;
        }
    }

    /// The answer in a successful reply; of a large one it is read on a thread of its own.
    async fn answer(&self, call: &Call, prepared: &Prepared, response: Response) -> Result<Generation, Failure> {
        if response.body.len() <= LARGE && !call.is_costly_to_check() {
            return self.answer_in(call, &prepared.reading, response);
        }
        let reading = prepared.reading.clone();
        let call = Call { prepared: Prepared::default(), schema: call.schema.clone() };
        let client = self.clone();
        let done = aside(move || Ok(client.answer_in(&call, &reading, response))).await;
        done.unwrap_or_else(|error| Err(error.into()))
    }

    /// An error in a successful reply is as good as an error reply; a reply that makes no sense, or whose answer is of no use,
    /// was paid for, and another one would be too.
    fn answer_in(&self, call: &Call, reading: &Reading, response: Response) -> Result<Generation, Failure> {
        let read = |response: &Response| self.understand(call, reading, &self.parse(response)?);
        let mut error = match read(&response) {
            Ok(mut generation) => {
                generation.raw = response.body;
                return Ok(generation);
            }
            Err(error) => error,
        };
        // What an error quotes is taken from a reply without keys: half of one would not be known again.
        let safe = self.redacted(&response);
        error = self.complete(read(&safe).err().unwrap_or(error), &safe);
        let mut advice = Advice::default();
        if let Error::Api(error) = &mut error
            && error.kind != ApiErrorKind::Other
        {
            advice = advise(&response.headers, error);
        }
        Err(Failure { error, advice })
    }

    fn understand(&self, call: &Call, reading: &Reading, body: &Value) -> Result<Generation> {
        let mut generation = self.provider.read(body, reading)?;
        call.check(&mut generation, reading)?;
        Ok(generation)
    }

    /// Sends a request that may be sent again, as often as `retry.rs` says. Returns successes only.
    pub async fn request(&self, transport: &Transport, request: &Request) -> Result<Response> {
        self.request_as(transport, request, Expected::State).await
    }

    /// As [`Client::request`], for a reply of this kind.
    pub async fn request_as(
        &self,
        transport: &Transport,
        request: &Request,
        expected: Expected<'_>,
    ) -> Result<Response> {
        self.request_within(transport, request, expected, &mut Deadline::never()).await
    }

    /// As [`Client::request_as`], within a deadline.
    async fn request_within(
        &self,
        transport: &Transport,
        request: &Request,
        mut expected: Expected<'_>,
        deadline: &mut Deadline,
    ) -> Result<Response> {
        let mut tries = Tries::default();
        loop {
            let failure = match deadline.bound(self.request_once(transport, request, expected.again())).await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(failure)) => Some(failure),
                None => None,
            };
            tries.wait(self, failure, deadline).await?;
        }
    }

    /// Sends a request once. Returns successes only.
    pub async fn request_once(
        &self,
        transport: &Transport,
        request: &Request,
        mut expected: Expected<'_>,
    ) -> Result<Response, Failure> {
        let max_answer = self.endpoint.max_response_bytes;
        let reply = transport.send(&self.endpoint, request, BodyBuffer::new(expected.again(), max_answer)).await;
        match reply.map(|reply| (reply.response, reply.is_cut)) {
            Ok((response, _)) if !response.is_success() => Err(self.read_error_reply(response).await),
            Ok((response, true)) => Err(self.no_answer(&response, expected.too_large(max_answer)).into()),
            Ok((response, false)) => Ok(response),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a reply with `read`: here if it is small, else on a thread of its own.
    pub async fn read_reply<T: Send + 'static>(
        &self,
        response: Response,
        read: impl FnOnce(&Self, Response) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if response.body.len() <= LARGE {
            return read(self, response);
        }
        let client = self.clone();
        aside(move || read(&client, response)).await
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
        let mut error = self.provider.read_error(&self.redacted(response));
        let advice = advise(&response.headers, &mut error);
        if matches!(&self.endpoint.connect.route, Route::Proxy(proxy) if proxy.reads_requests) && !is_json(response) {
            error.message.push_str(&format!(". It may come from {}", self.on_the_way()));
        }
        Failure { error: Error::Api(Box::new(error)), advice }
    }

    /// As [`Client::error_reply`]; a large one is read on a thread of its own.
    pub async fn read_error_reply(&self, response: Response) -> Failure {
        let read = |client: &Self, response: Response| Ok(client.error_reply(&response));
        self.read_reply(response, read).await.unwrap_or_else(Failure::from)
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
            | Error::UnknownCreate(_)
            | Error::Engine(_)
            | Error::Disk(_) => {}
        }
    }

    /// The JSON of a successful reply.
    pub fn parse(&self, response: &Response) -> Result<Value> {
        json::parse(&response.body).map_err(|error| {
            let text = self.endpoint.redact(&String::from_utf8_lossy(&beginning(response)));
            let found = match (response.headers.get("content-encoding"), text.trim()) {
                (_, "") => "an empty body".to_owned(),
                // What was asked for is decoded by now.
                (Some(encoding), _) => format!("a body in the encoding '{}'", self.endpoint.redact(encoding)),
                (None, text) => format!("'{}'", quote(text)),
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
        let mut response = response.clone();
        if !matches!(error, Error::Output(_)) {
            response.body = beginning(&response);
        }
        let response = self.redacted(&response);
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

/// Enough of a body for what an error shows of it.
fn beginning(response: &Response) -> Bytes {
    response.body.slice(..response.body.len().min(LARGE))
}

impl Call {
    /// Whether holding even a short answer against the schema may take long.
    fn is_costly_to_check(&self) -> bool {
        self.schema.as_ref().is_some_and(|schema| schema.is_costly)
    }

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
