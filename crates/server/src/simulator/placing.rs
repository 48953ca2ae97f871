//! Where calls begin and end in the books: inbound ones to an owned number, outbound ones that the REST interface asks
//! for. What happens in between is `call`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::call::{Command, Follower, Interrupt, Source};
use super::callbacks::{StatusReports, Via, remark};
use super::calls::{Call, Status};
use super::form::{Form, sid};
use super::ledger::Entry;
use super::state::{Shared, State};

/// How many commands may wait for a call.
const COMMANDS_MAX: usize = 16;

/// An inbound call to be placed.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pub(super) to: String,
    pub(super) from: String,
    pub(super) forwarded_from: Option<String>,
    pub(super) caller_name: Option<String>,
    pub(super) stir_verstat: Option<String>,
    pub(super) hangup_after: Option<Duration>,
    pub(super) give_up_after: Option<Duration>,
}

/// An outbound call that the REST interface asked for.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) call: Call,
    pub(super) source: Source,
    pub(super) fallback: Option<(String, Via)>,
    pub(super) reports: StatusReports,
    pub(super) timeout: Duration,
}

/// Places a call to a number that the account owns. None: nobody owns it.
pub(super) fn place_inbound(shared: &Arc<Shared>, inbound: Inbound) -> anyhow::Result<Option<String>> {
    let call_sid = sid("CA");
    let mut state = shared.lock();
    let Some(number) = state.numbers.by_e164(&inbound.to).cloned() else { return Ok(None) };
    let mut call = Call::new(call_sid.clone(), "inbound", &inbound.from, &inbound.to, shared.clock.now());
    call.status = Status::Ringing;
    call.number_sid = Some(number.sid.clone());
    call.forwarded_from = inbound.forwarded_from;
    call.caller_name = inbound.caller_name;
    let commands = begin(shared, &mut state, call)?;
    drop(state);

    let mut constant = Form::default();
    constant.push("CallToken", format!("{{\"parentCallInfoToken\":\"{}\"}}", sid("")));
    let verstat = inbound
        .stir_verstat
        .or_else(|| inbound.from.starts_with("+1").then(|| "TN-Validation-Passed-A".into()));
    if let Some(verstat) = verstat {
        constant.push("StirVerstat", verstat);
    }
    let url_of = |name: &str, method: &str| {
        let url = number.setting(name);
        (!url.is_empty()).then(|| (url.to_owned(), Via::read(Some(number.setting(method)))))
    };
    let reports = StatusReports::new(
        Some(number.setting("status_callback")),
        Via::read(Some(number.setting("status_callback_method"))),
        Vec::new(),
    );
    let mut follower = Follower::new(shared, &call_sid, commands, reports, constant);
    follower.fallback = url_of("voice_fallback_url", "voice_fallback_method");
    follower.hangup_after = inbound.hangup_after;
    if let Some(patience) = inbound.give_up_after {
        follower.hang_up_later(patience, true);
    }
    let elsewhere =
        !number.setting("trunk_sid").is_empty() || !number.setting("voice_application_sid").is_empty();
    let voice = if elsewhere { None } else { url_of("voice_url", "voice_method") };
    shared.tracker.spawn(async move {
        let source = if let Some((url, via)) = voice {
            Source::Url { operation: "callback.voice", url, via, extra: Form::default() }
        } else {
            let why = if elsewhere {
                "a trunk or an application has this number's voice"
            } else {
                "the number has no voice URL"
            };
            follower.shared.note(&follower.sid, "remark", remark(why));
            Source::Inline("<Response><Reject/></Response>".to_owned())
        };
        follower.live(source).await;
    });
    Ok(Some(call_sid))
}

/// Places an outbound call; its number rings, and what it does is decided by `destinations`.
pub(super) fn place_outbound(shared: &Arc<Shared>, outbound: Outbound) -> anyhow::Result<()> {
    let sid = outbound.call.sid.clone();
    let to = outbound.call.to.clone();
    let commands = begin(shared, &mut shared.lock(), outbound.call)?;
    let mut follower = Follower::new(shared, &sid, commands, outbound.reports, Form::default());
    follower.fallback = outbound.fallback;
    shared.tracker.spawn(async move {
        match follower.ring(&to, outbound.timeout).await {
            Ok(None) => follower.live(outbound.source).await,
            Ok(Some(unanswered)) => follower.finish(unanswered).await,
            Err(Interrupt::HangUp(_)) => follower.finish(Status::Canceled).await,
            // A call that rings has no document to leave; it ends.
            Err(Interrupt::Redirect(_)) => follower.finish(Status::Failed).await,
        }
    });
    Ok(())
}

/// Writes a call in the ledger and on the shelf, with a way to reach its task.
fn begin(shared: &Shared, state: &mut State, mut call: Call) -> anyhow::Result<mpsc::Receiver<Command>> {
    write_placed(shared, state, &call)?;
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    call.commands = Some(sender);
    state.calls.add(call);
    Ok(commands)
}

/// Writes in the ledger that a call begins.
pub(super) fn write_placed(shared: &Shared, state: &mut State, call: &Call) -> anyhow::Result<()> {
    let details = json!({
        "direction": call.direction,
        "from": call.from,
        "to": call.to,
        "parent_call_sid": call.parent_sid,
        "phone_number_sid": call.number_sid,
    });
    let request_id = call.request_id.clone();
    let entry = Entry { effect: "call_placed", sid: call.sid.clone(), request_id, details };
    state.ledger.write(shared.clock.now(), entry)
}

/// Sets a call's last status and writes it in the ledger.
pub(super) fn end(shared: &Shared, call_sid: &str, status: Status) {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let Some(call) = state.calls.by_sid_mut(call_sid) else { return };
    call.status = status;
    call.ended = Some(now);
    call.commands = None;
    call.note(now, "ended", json!({"status": status.name()}));
    let details = json!({
        "status": status.name(),
        "duration_s": call.duration_s(),
        "answered_at": call.answered.map(|at| at.to_string()),
    });
    let entry = Entry { effect: "call_ended", sid: call_sid.to_owned(), request_id: String::new(), details };
    if let Err(error) = state.ledger.write(now, entry) {
        tracing::error!("cannot note the end of call {call_sid}: {error:#}");
    }
}
