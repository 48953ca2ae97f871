//! Lives a call: fetches the TwiML that the callbacks answer and follows it verb by verb, as the carrier would, until
//! somebody hangs up or the document ends. Calls begin in `placing`; dialling is `dial`, media streams are `stream`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::callbacks::{self, Callback, Failure, Reply, StatusReports, Via, call_params, remark};
use super::calls::Status;
use super::destinations::Behaviour;
use super::form::Form;
use super::placing::end;
use super::state::Shared;
use super::twiml::{self, Document, Element};

/// How many documents one call may follow: a redirect that turns in a circle ends here.
const DOCUMENTS_MAX: usize = 50;
/// How long a call may last, divided by the time scale like every delay of the carrier.
const CALL_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// How long speaking one character takes.
const SPEECH_PER_CHARACTER: Duration = Duration::from_millis(60);
/// How long anything that is played lasts; nothing is decoded here.
const PLAY_LENGTH: Duration = Duration::from_secs(1);
/// What callers hear when a document cannot be had and there is no other.
const APPLICATION_ERROR: &str = "We are sorry, an application error has occurred. Goodbye.";

/// What can be done to a call that lives.
#[derive(Debug)]
pub(crate) enum Command {
    HangUp(Party),
    Redirect(Source),
    Dtmf(String),
}

/// Who hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    Caller,
    Api,
    Simulator,
}

/// Where a document comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// To be fetched. The parameters are added to those that every request has.
    Url { operation: &'static str, url: String, via: Via, extra: Form },
    /// Given.
    Inline(String),
}

/// What stops a verb before its end.
#[derive(Debug)]
pub(super) enum Interrupt {
    HangUp(Party),
    Redirect(Source),
}

/// What comes after a verb.
#[derive(Debug)]
pub(super) enum Flow {
    Next,
    Goto(Source),
    End(Status),
}

/// The task that lives one call.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) sid: String,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) answered: bool,
    /// Ends with the call: one-way streams watch it.
    pub(super) over: CancellationToken,
    pub(super) fallback: Option<(String, Via)>,
    reports: StatusReports,
    /// Sent with every request of this call.
    constant: Form,
    pub(super) hangup_after: Option<Duration>,
    /// Set once the fallback has been asked; it is not asked twice.
    falling_back: bool,
    /// The callback that told of the call's end to a verb that was under way.
    notified: Option<JoinHandle<Result<Reply, Failure>>>,
    /// Where the document that is being followed came from.
    base: Option<String>,
}

impl Follower {
    pub(super) fn new(
        shared: &Arc<Shared>,
        sid: &str,
        commands: mpsc::Receiver<Command>,
        reports: StatusReports,
        constant: Form,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            sid: sid.to_owned(),
            commands,
            answered: false,
            over: CancellationToken::new(),
            fallback: None,
            reports,
            constant,
            hangup_after: None,
            falling_back: false,
            notified: None,
            base: None,
        }
    }

    pub(super) async fn live(mut self, first: Source) {
        let status = self.follow(first).await;
        self.finish(status).await;
    }

    /// Follows documents until the call ends.
    async fn follow(&mut self, first: Source) -> Status {
        let mut source = first;
        for _ in 0..DOCUMENTS_MAX {
            match self.document(&source).await {
                Ok(Flow::Goto(next)) | Err(Interrupt::Redirect(next)) => source = next,
                Ok(Flow::End(status)) => return status,
                Ok(Flow::Next) => {
                    self.answer();
                    return Status::Completed;
                }
                Err(Interrupt::HangUp(_)) if self.answered => return Status::Completed,
                Err(Interrupt::HangUp(Party::Caller)) => return Status::NoAnswer,
                Err(Interrupt::HangUp(Party::Api)) => return Status::Canceled,
                Err(Interrupt::HangUp(Party::Simulator)) => return Status::Failed,
            }
        }
        self.shared.note_error(
            &self.sid,
            12_200,
            &format!("more than {DOCUMENTS_MAX} documents in one call"),
        );
        Status::Failed
    }

    pub(super) async fn finish(mut self, status: Status) {
        self.over.cancel();
        end(&self.shared, &self.sid, status);
        self.reports.report(&self.shared, &self.sid, "completed", status.name());
        self.reports.finish(&self.shared, &self.sid).await;
        if let Some(notified) = self.notified.take() {
            let _ = notified.await;
        }
        if let Some(call) = self.shared.lock().calls.by_sid(&self.sid) {
            call.settled.send_replace(true);
        }
    }

    /// Fetches one document and follows it to its end.
    async fn document(&mut self, source: &Source) -> Result<Flow, Interrupt> {
        let document = match self.obtain(source).await? {
            Ok(document) => document,
            Err(failure) => return self.fail(source, failure).await,
        };
        for warning in &document.warnings {
            self.shared.note(&self.sid, "remark", remark(warning));
        }
        for (at, verb) in document.verbs.iter().enumerate() {
            match self.verb(verb, at == 0).await? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    async fn obtain(&mut self, source: &Source) -> Result<Result<Document, Failure>, Interrupt> {
        let text = match source {
            Source::Inline(text) => text.clone(),
            Source::Url { operation, url, via, extra } => {
                self.base = Some(url.clone());
                match self.request(operation, url, *via, extra).await? {
                    Ok(reply) => match twiml_of(reply) {
                        Ok(text) => text,
                        Err(failure) => return Ok(Err(failure)),
                    },
                    Err(failure) => return Ok(Err(failure)),
                }
            }
        };
        Ok(twiml::parse(&text).map_err(|message| Failure::new(12_100, message)))
    }

    /// The fallback URL is asked once in a call; without one the call is over, with an apology.
    async fn fail(&mut self, source: &Source, failure: Failure) -> Result<Flow, Interrupt> {
        self.shared.note_error(&self.sid, failure.code, &failure.message);
        let failed_url = match source {
            Source::Url { url, .. } => url.clone(),
            Source::Inline(_) => String::new(),
        };
        if let Some((url, via)) = self.fallback.clone()
            && !self.falling_back
        {
            self.falling_back = true;
            let mut extra = Form::default();
            extra.push("ErrorCode", failure.code.to_string());
            extra.push("ErrorUrl", failed_url);
            return Ok(Flow::Goto(Source::Url { operation: "callback.fallback", url, via, extra }));
        }
        self.say(APPLICATION_ERROR).await?;
        Ok(Flow::End(Status::Completed))
    }

    async fn verb(&mut self, verb: &Element, first: bool) -> Result<Flow, Interrupt> {
        self.shared.note(&self.sid, "verb", json!({"verb": verb.name, "text": verb.text()}));
        match verb.name.as_str() {
            "Say" => {
                for _ in 0..verb.seconds("loop", 1).clamp(1, 10) {
                    self.say(verb.text()).await?;
                }
            }
            "Play" => self.play(verb).await?,
            "Pause" => self.wait(Duration::from_secs(verb.seconds("length", 1))).await?,
            "Hangup" => {
                self.answer();
                return Ok(Flow::End(Status::Completed));
            }
            "Reject" if first && !self.answered => {
                let busy = verb.attribute("reason") == Some("busy");
                return Ok(Flow::End(if busy { Status::Busy } else { Status::NoAnswer }));
            }
            "Reject" => {
                self.shared.note(
                    &self.sid,
                    "remark",
                    remark("<Reject> counts only as the first verb of a ringing call"),
                );
                return Ok(Flow::End(Status::Completed));
            }
            "Redirect" => {
                let url = self.absolute(verb.text());
                let via = Via::read(verb.attribute("method"));
                return Ok(Flow::Goto(Source::Url {
                    operation: "callback.voice",
                    url,
                    via,
                    extra: Form::default(),
                }));
            }
            "Dial" => return self.dial(verb).await,
            "Connect" => return self.connect(verb).await,
            "Start" => self.start_streams(verb),
            // One-way streams end with the call at the latest; which one is meant is not followed.
            "Stop" => self.over.cancel(),
            other => unreachable!("the grammar lets only known verbs through, not {other}"),
        }
        Ok(Flow::Next)
    }

    async fn say(&mut self, text: &str) -> Result<(), Interrupt> {
        self.answer();
        if let Some(call) = self.shared.lock().calls.by_sid_mut(&self.sid) {
            call.spoken.push(text.to_owned());
        }
        let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        self.wait(SPEECH_PER_CHARACTER.saturating_mul(characters)).await
    }

    async fn play(&mut self, verb: &Element) -> Result<(), Interrupt> {
        self.answer();
        if !verb.text().is_empty() {
            let url = self.absolute(verb.text());
            if let Err(failure) = self.request("callback.play", &url, Via::Get, &Form::default()).await? {
                self.shared.note_error(&self.sid, failure.code, &failure.message);
                return Ok(());
            }
        }
        self.wait(PLAY_LENGTH).await
    }

    /// A URL of a document, which may be relative to the one that it was fetched from.
    pub(super) fn absolute(&self, url: &str) -> String {
        if url.contains("://") {
            // As written, for it is signed as written.
            return url.to_owned();
        }
        let base = self.base.as_deref().and_then(|base| url::Url::parse(base).ok());
        base.and_then(|base| base.join(url).ok()).map_or_else(|| url.to_owned(), String::from)
    }

    /// Picks up, if nobody has yet: from here on the call is billed.
    pub(super) fn answer(&mut self) {
        if self.answered {
            return;
        }
        self.answered = true;
        let now = self.shared.clock.now();
        if let Some(call) = self.shared.lock().calls.by_sid_mut(&self.sid) {
            call.status = Status::InProgress;
            call.answered = Some(now);
            call.note(now, "answered", json!({}));
        }
        self.reports.report(&self.shared, &self.sid, "answered", Status::InProgress.name());
        self.hang_up_later(self.hangup_after.unwrap_or(CALL_LIMIT), false);
    }

    /// Lets the caller hang up after a while; with `only_ringing`, not once somebody answered.
    pub(super) fn hang_up_later(&self, after: Duration, only_ringing: bool) {
        let (shared, sid, over) = (Arc::clone(&self.shared), self.sid.clone(), self.over.clone());
        let after = self.shared.scaled(after);
        self.shared.tracker.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(after) => {}
                () = over.cancelled() => return,
                () = shared.stop.cancelled() => return,
            }
            let state = shared.lock();
            if let Some(call) = state.calls.by_sid(&sid)
                && (call.status == Status::Ringing || !only_ringing)
                && let Some(commands) = &call.commands
            {
                // A full queue means that the call is being ended already.
                let _ = commands.try_send(Command::HangUp(Party::Caller));
            }
        });
    }

    /// Rings the number of an outbound call, and answers why nobody picked up; none: somebody did.
    pub(super) async fn ring(&mut self, to: &str, timeout: Duration) -> Result<Option<Status>, Interrupt> {
        let destination = self.shared.lock().destinations.at(to);
        self.reports.report(&self.shared, &self.sid, "initiated", "initiated");
        if destination.behaviour == Behaviour::Failed {
            return Ok(Some(Status::Failed));
        }
        let now = self.shared.clock.now();
        if let Some(call) = self.shared.lock().calls.by_sid_mut(&self.sid) {
            call.status = Status::Ringing;
            call.note(now, "ringing", json!({}));
        }
        self.reports.report(&self.shared, &self.sid, "ringing", Status::Ringing.name());
        let in_time = destination.behaviour != Behaviour::NoAnswer && destination.ring() <= timeout;
        self.wait(if in_time { destination.ring() } else { timeout }).await?;
        Ok(match destination.behaviour {
            Behaviour::Answer if in_time => {
                self.answer();
                None
            }
            Behaviour::Busy | Behaviour::Reject if in_time => Some(Status::Busy),
            _ => Some(Status::NoAnswer),
        })
    }

    /// The parameters of a request about this call as it stands now.
    pub(super) fn params(&self, extra: &Form) -> Form {
        let state = self.shared.lock();
        let mut form =
            state.calls.by_sid(&self.sid).map(|call| call_params(&self.shared, call)).unwrap_or_default();
        form.0.extend(self.constant.0.iter().chain(&extra.0).cloned());
        form
    }

    /// Sends a callback and waits for its answer, or for what interrupts it; the callback goes on by itself then.
    async fn request(
        &mut self,
        operation: &'static str,
        url: &str,
        via: Via,
        extra: &Form,
    ) -> Result<Result<Reply, Failure>, Interrupt> {
        let callback = Callback { operation, url: url.to_owned(), via, params: self.params(extra) };
        let sent = callbacks::send(&self.shared, &self.sid, callback);
        match self.until(sent).await? {
            Ok(outcome) => Ok(outcome),
            Err(_) => Ok(Err(Failure::new(11_205, "the request was abandoned"))),
        }
    }

    /// Sends a callback whose answer nobody will follow, because the call is over.
    pub(super) fn notify(&mut self, operation: &'static str, url: &str, via: Via, extra: &Form) {
        let mut params = self.params(extra);
        // The caller has gone, and the request says so; the call's own end comes behind it.
        if let Some(entry) = params.0.iter_mut().find(|(name, _)| name == "CallStatus") {
            let status = if self.answered { Status::Completed } else { Status::NoAnswer };
            status.name().clone_into(&mut entry.1);
        }
        let callback = Callback { operation, url: url.to_owned(), via, params };
        // Whoever waits for the call to be settled waits for it too; its outcome is in the timeline. A call ends once.
        self.notified = Some(callbacks::send(&self.shared, &self.sid, callback));
    }

    /// Lets carrier time pass.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<(), Interrupt> {
        let time = self.shared.scaled(time);
        self.until(tokio::time::sleep(time)).await
    }

    /// Waits for `what`, unless the call is hung up or redirected first.
    pub(super) async fn until<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    if let Some(interrupt) = self.interrupt(command) {
                        return Err(interrupt);
                    }
                }
                () = self.shared.stop.cancelled() => return Err(Interrupt::HangUp(Party::Simulator)),
                done = &mut what => return Ok(done),
            }
        }
    }

    /// What a command interrupts; a pressed key outside a stream interrupts nothing.
    pub(super) fn interrupt(&self, command: Option<Command>) -> Option<Interrupt> {
        match command {
            Some(Command::HangUp(by)) => {
                self.shared.note(&self.sid, "hung_up", json!({"by": format!("{by:?}").to_lowercase()}));
                Some(Interrupt::HangUp(by))
            }
            Some(Command::Redirect(source)) => {
                self.shared.note(&self.sid, "redirected", json!({}));
                Some(Interrupt::Redirect(source))
            }
            Some(Command::Dtmf(digits)) => {
                self.shared.note(
                    &self.sid,
                    "remark",
                    remark(&format!("nobody listens to the digits {digits}")),
                );
                None
            }
            None => Some(Interrupt::HangUp(Party::Simulator)),
        }
    }
}

/// The TwiML in an answer, by its content type: XML as it is, plain text to be said.
fn twiml_of(reply: Reply) -> Result<String, Failure> {
    let kind = reply.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "text/xml" | "application/xml" | "text/html" => Ok(reply.body),
        "text/plain" => {
            let text = reply.body.replace('&', "&amp;").replace('<', "&lt;");
            Ok(format!("<Response><Say>{text}</Say></Response>"))
        }
        other => Err(Failure::new(12_300, format!("the content type {other:?} cannot be followed"))),
    }
}
