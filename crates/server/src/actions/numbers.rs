//! Numbers: found, changed, assigned, released. Buying stands in `purchases`.
//!
//! The example that the other nouns follow: permission first, then one transaction that takes the workspace's lock, finds the row,
//! compares the revision, lets the domain judge, writes, and records the change.

use database::agents::agent_find;
use database::deployments::deployment_running;
use database::findings::finding_words_of_number;
use database::meta::server_clock;
pub use database::numbers::{Number, NumberFilter};
use database::numbers::{
    number_find, number_find_by_phone_number, number_list as select, number_update as update,
};
use database::workspaces::workspace_find;
use database::{DbError, Read, Tx};
use domain::agent::{Content, Language};
use domain::assignment::{Assignment, Facts};
use domain::caller::CallerRules;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown};
use domain::event::EventKind;
use domain::fallback::Fallback;
use domain::hours::{Hours, Zone};
use domain::id::{AgentId, NumberId, SecretId, WorkspaceId};
use domain::number::{E164, NumberStatus, ReleaseHold};
use domain::permission::Permission;
use domain::readiness::{self, Readiness, readiness};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::endpoints::Place;
use super::secrets::{NewSecrets, Sealer, forget_replaced};
use super::{Caller, Failure, IfMatch, chains, endpoints};
use crate::app::Shared;
use crate::patch::Patch;

/// One number of a workspace, as it is named in a path: by its id, or by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberRef {
    /// By its id.
    Id(NumberId),
    /// By its E.164 form.
    PhoneNumber(E164),
}

/// What a PATCH of a number says.
#[derive(Clone, Default)]
pub struct NumberPatch {
    /// What people call it.
    pub label: Patch<String>,
    /// What people sort it by.
    pub tags: Patch<Vec<String>>,
    /// While set, it cannot be released.
    pub release_lock: Option<bool>,
    /// Whom it answers.
    pub inbound: Patch<CallerRules>,
    /// Tried before the agent's and the workspace's fallback.
    pub fallback: Patch<Fallback>,
    /// When it answers as usual.
    pub hours: Patch<Hours>,
    /// Instead of the agent's.
    pub language: Patch<Language>,
    /// Instead of the workspace's.
    pub time_zone: Patch<Zone>,
    /// The secrets in its fallbacks.
    pub secrets: NewSecrets,
}

/// A request to give a number back.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// The number once more, so that nobody releases another by mistake.
    pub confirm: Option<String>,
    /// Although an agent answers it.
    pub force: bool,
}

/// Numbers of the workspace, oldest first.
pub async fn number_list(
    app: &Shared,
    caller: &Caller,
    filter: NumberFilter,
    after: Option<NumberId>,
    limit: u32,
) -> Result<Vec<Number>, Failure> {
    caller.may(Permission::NumbersRead)?;
    let workspace = caller.workspace;
    Ok(app.database.read(move |read| select(read, workspace, &filter, after, limit)).await?)
}

/// One number.
pub async fn number_show(app: &Shared, caller: &Caller, number: NumberRef) -> Result<Number, Failure> {
    caller.may(Permission::NumbersRead)?;
    let workspace = caller.workspace;
    app.database.try_read(move |read| find(read, workspace, number)).await
}

/// Changes a number's label, tags, lock and settings.
pub async fn number_patch(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    patch: NumberPatch,
    if_match: IfMatch,
) -> Result<Number, Failure> {
    caller.may(Permission::NumbersWrite)?;
    endpoints::places_check(app, caller.workspace, patch.places()).await?;
    let sealer = Sealer::of(app);
    change(app, caller, number, if_match, move |tx, before, now| {
        refuse_unless(before, "changed", NumberStatus::holds_the_number)?;
        let mut after = before.clone();
        patch.clone().apply(&mut after);
        if after.release_lock && before.status == NumberStatus::Releasing {
            return Err(gone(before).into());
        }
        if after != *before {
            patch.secrets.store(tx, &sealer, before.workspace, now)?;
            forget_replaced(tx, before.workspace, &secrets_of(before), &secrets_of(&after))?;
        }
        Ok(Changed { action: "number.update", event: EventKind::NumberUpdated, after })
    })
    .await
}

/// Lets an agent answer a number, in one environment and as one variant, instead of whoever did.
pub async fn number_assign(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    assignment: Assignment,
    if_match: IfMatch,
) -> Result<Number, Failure> {
    caller.may(Permission::NumbersWrite)?;
    change(app, caller, number, if_match, move |tx, before, _| {
        refuse_unless(before, "assigned", NumberStatus::holds_the_number)?;
        assignment_check(tx, before, assignment, "")?;
        let after = Number { assignment: Some(assignment), ..before.clone() };
        Ok(Changed { action: "number.assign", event: EventKind::NumberAssigned, after })
    })
    .await
}

/// Lets nobody answer a number. Doing it again changes nothing.
pub async fn number_unassign(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    if_match: IfMatch,
) -> Result<Number, Failure> {
    caller.may(Permission::NumbersWrite)?;
    change(app, caller, number, if_match, |_, before, _| {
        let after = Number { assignment: None, ..before.clone() };
        Ok(Changed { action: "number.unassign", event: EventKind::NumberUnassigned, after })
    })
    .await
}

/// Lets a number be given back when the hold ends. Until then it answers as before, and this can be taken back.
pub async fn number_release(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    release: Release,
    if_match: IfMatch,
) -> Result<Number, Failure> {
    caller.may(Permission::NumbersRelease)?;
    let hold =
        SignedDuration::from_secs(i64::try_from(app.config.store.release_hold_s).unwrap_or(i64::MAX / 2));
    let clock = app.clock.clone();
    let released = change(app, caller, number, if_match, move |tx, before, now| {
        refuse_release(before, &release)?;
        // The hold is never shortened by a clock that is behind.
        let begins = clock.server(server_clock(tx)?).map_or(now, |server| server.max(now));
        let release_at = begins.checked_add(hold).unwrap_or(Timestamp::MAX);
        let after = Number {
            status: NumberStatus::ReleaseScheduled,
            hold: Some(ReleaseHold { requested_at: now, release_at }),
            ..before.clone()
        };
        Ok(Changed { action: "number.release", event: EventKind::NumberReleaseScheduled, after })
    })
    .await?;
    app.nudges.release_numbers.notify_one();
    Ok(released)
}

/// Keeps a number that was to be given back.
pub async fn number_release_cancel(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    if_match: IfMatch,
) -> Result<Number, Failure> {
    caller.may(Permission::NumbersRelease)?;
    change(app, caller, number, if_match, |_, before, now| {
        // From the end of the hold on the carrier may be told at any moment: what cannot be kept for sure is not promised.
        let ended = before.hold.is_some_and(|hold| hold.release_at <= now);
        if before.status == NumberStatus::Releasing || ended {
            return Err(gone(before).into());
        }
        refuse_unless(before, "kept: no release is scheduled", |status| {
            status == NumberStatus::ReleaseScheduled
        })?;
        let after = Number { status: NumberStatus::Active, hold: None, ..before.clone() };
        Ok(Changed { action: "number.release_cancel", event: EventKind::NumberReleaseCancelled, after })
    })
    .await
}

/// Whether a number can do its work now, and what is missing.
pub async fn number_readiness(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
) -> Result<Readiness, Failure> {
    caller.may(Permission::NumbersRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            let number = find(read, workspace, number)?;
            let running = match number.assignment {
                Some(assignment) => running_content(read, assignment.agent_id, assignment.environment)?,
                None => None,
            };
            let outage = workspace_find(read, workspace)?
                .map(|workspace| workspace.settings.outage)
                .unwrap_or_default();
            let findings = finding_words_of_number(read, number.id)?;
            Ok(readiness(readiness::Facts {
                status: number.status,
                capabilities: number.capabilities,
                source: number.source,
                assignment: number.assignment,
                running: running.as_ref(),
                outage,
                findings: &findings,
            }))
        })
        .await
}

/// What is about to be written of a number.
struct Changed {
    action: &'static str,
    event: EventKind,
    after: Number,
}

/// One change of one number, in one transaction. A change that changes nothing is not recorded.
async fn change(
    app: &Shared,
    caller: &Caller,
    number: NumberRef,
    if_match: IfMatch,
    decide: impl Fn(&Tx<'_>, &Number, Timestamp) -> Result<Changed, Failure> + Send + 'static,
) -> Result<Number, Failure> {
    let (now, caller) = (app.clock.now(), caller.clone());
    let changed = app
        .database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            let before = find(tx, caller.workspace, number)?;
            if_match.check(before.revision)?;
            let Changed { action, event, after } = decide(tx, &before, now)?;
            if after == before {
                return Ok(before);
            }
            if (after.assignment, &after.settings) != (before.assignment, &before.settings) {
                chains::number_check(tx, &after).map_err(|failure| {
                    let (old, new) = (&before.settings, &after.settings);
                    if new.fallback != old.fallback {
                        failure.in_field("fallback.targets")
                    } else if new.hours != old.hours {
                        failure.in_field("hours.closed.targets")
                    } else {
                        failure.in_field("agent_id")
                    }
                })?;
            }
            let after = update(tx, &after, now)?;
            caller
                .change(now, action, after.id, event)
                .before(recorded(&before))
                .after(recorded(&after))
                .record(tx)?;
            Ok::<_, Failure>(after)
        })
        .await?;
    app.nudges.build_routes.notify_one();
    Ok(changed)
}

impl NumberPatch {
    /// Everything that it would have us connect to.
    fn places(&self) -> Vec<(String, Place)> {
        let mut found = Vec::new();
        if let Patch::Set(fallback) = &self.fallback {
            endpoints::fallback_places(fallback, "fallback", &mut found);
        }
        if let Patch::Set(Hours { closed: Some(closed), .. }) = &self.hours {
            endpoints::fallback_places(closed, "hours.closed", &mut found);
        }
        found
    }

    fn apply(self, number: &mut Number) {
        number.label = self.label.over(number.label.take());
        number.tags = self.tags.over_or(std::mem::take(&mut number.tags), Vec::new());
        number.release_lock = self.release_lock.unwrap_or(number.release_lock);
        let settings = &mut number.settings;
        settings.inbound = self.inbound.over(settings.inbound.take());
        settings.fallback = self.fallback.over(settings.fallback.take());
        settings.hours = self.hours.over(settings.hours.take());
        settings.language = self.language.over(settings.language.take());
        settings.time_zone = self.time_zone.over(settings.time_zone.take());
    }
}

/// The secrets in a number's own settings.
fn secrets_of(number: &Number) -> Vec<SecretId> {
    let closed = number.settings.hours.as_ref().and_then(|hours| hours.closed.as_ref());
    let mut found = endpoints::fallback_secrets(number.settings.fallback.as_ref());
    found.extend(endpoints::fallback_secrets(closed));
    found
}

/// Judges an assignment by what is published, in the transaction that makes it. `place` is where its fields stand in the body.
pub(super) fn assignment_check(
    tx: &Tx<'_>,
    number: &Number,
    assignment: Assignment,
    place: &str,
) -> Result<(), Failure> {
    let agent_id = assignment.agent_id;
    let agent = agent_find(tx, number.workspace, agent_id)?
        .ok_or_else(|| Failure::field(format!("{place}agent_id"), no_such_agent(agent_id)))?;
    let running = deployment_running(tx, agent_id)?;
    let running: Vec<(Environment, &Content)> =
        running.iter().map(|running| (running.environment, &running.version.content)).collect();
    let facts = Facts { capabilities: number.capabilities, running: &running, draft: &agent.content };
    assignment.check(facts).map_err(|refusal| {
        let field = match refusal.code {
            Code::NotPublished => "environment",
            Code::VariantNotFound | Code::VariantNotPublished => "variant_id",
            _ => "agent_id",
        };
        Failure::field(format!("{place}{field}"), refusal)
    })
}

fn running_content(
    read: &Read<'_>,
    agent: AgentId,
    environment: Environment,
) -> Result<Option<Content>, DbError> {
    let running = deployment_running(read, agent)?;
    Ok(running
        .into_iter()
        .find(|running| running.environment == environment)
        .map(|running| running.version.content))
}

fn refuse_release(number: &Number, release: &Release) -> Result<(), Failure> {
    if let Some(hold) = number.hold {
        return Err(Failure::Refused(Refusal::new(
            Code::NumberState,
            format!(
                "{} is to be given back at {:.0} already; keep it with POST /v1/numbers/{}/release/cancel",
                number.phone_number, hold.release_at, number.id
            ),
        )));
    }
    refuse_unless(number, "released", |status| status == NumberStatus::Active)?;
    if number.release_lock {
        return Err(Failure::Refused(Refusal::new(
            Code::ReleaseLocked,
            format!(
                "{} has a release lock; take it off first with PATCH /v1/numbers/{} {{\"release_lock\":false}}",
                number.phone_number, number.id
            ),
        )));
    }
    if let Some(assignment) = number.assignment.filter(|_| !release.force) {
        return Err(Failure::Refused(Refusal::new(
            Code::NumberInUse,
            format!(
                "{} is answered by the agent {} in {}; remove the assignment first, or repeat with ?force=true",
                number.phone_number, assignment.agent_id, assignment.environment
            ),
        )));
    }
    let expected = number.phone_number.to_string();
    match &release.confirm {
        Some(confirm) if *confirm == expected => Ok(()),
        Some(confirm) => Err(Failure::field(
            "confirm",
            Refusal::new(
                Code::ConfirmationMismatch,
                format!("is {}, and the number is {expected}; nothing was released", shown(confirm)),
            ),
        )),
        None => Err(Failure::field(
            "confirm",
            Refusal::new(
                Code::Required,
                format!(
                    "is missing: after the hold a number that is given back may be gone for good, so send \"confirm\":\"{expected}\""
                ),
            ),
        )),
    }
}

/// It is too late to keep it.
fn gone(number: &Number) -> Refusal {
    let ended = number.hold.map(|hold| format!(" ended at {:.0}", hold.release_at)).unwrap_or_default();
    Refusal::new(
        Code::NumberState,
        format!(
            "the hold of {}{ended} and it is being given back; it cannot be kept any more",
            number.phone_number
        ),
    )
}

fn refuse_unless(number: &Number, done: &str, allowed: impl Fn(NumberStatus) -> bool) -> Result<(), Refusal> {
    if allowed(number.status) {
        return Ok(());
    }
    let states: Vec<&str> = NumberStatus::ALL
        .iter()
        .copied()
        .filter(|&status| allowed(status))
        .map(NumberStatus::as_str)
        .collect();
    Err(Refusal::new(
        Code::NumberState,
        format!(
            "{} is {} and cannot be {done}; this works while it is {}",
            number.phone_number,
            number.status,
            states.join(" or ")
        ),
    ))
}

/// A number of the workspace. Whatever is not there looks the same, be it another workspace's or nobody's.
pub(super) fn find(read: &Read<'_>, workspace: WorkspaceId, number: NumberRef) -> Result<Number, Failure> {
    match number {
        NumberRef::Id(id) => Ok(number_find(read, workspace, id)?.ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("there is no number {id} in this workspace"))
        })?),
        NumberRef::PhoneNumber(phone_number) => {
            let mut found = number_find_by_phone_number(read, workspace, phone_number)?;
            if found.len() > 1 {
                let ids: Vec<String> = found.iter().map(|number| number.id.to_string()).collect();
                return Err(Failure::Refused(Refusal::new(
                    Code::AmbiguousNumber,
                    format!(
                        "{phone_number} comes in on {} ways; use one of the ids {}",
                        ids.len(),
                        ids.join(", ")
                    ),
                )));
            }
            Ok(found.pop().ok_or_else(|| {
                Refusal::new(Code::NotFound, format!("there is no number {phone_number} in this workspace"))
            })?)
        }
    }
}

/// Whether a text is meant as a phone number rather than as an id.
pub fn looks_like_a_number(text: &str) -> bool {
    text.starts_with('+')
        || (text.contains(|c: char| c.is_ascii_digit()) && !text.contains(|c: char| c.is_ascii_alphabetic()))
}

fn no_such_agent(id: AgentId) -> Refusal {
    Refusal::new(
        Code::AgentNotFound,
        format!("there is no agent {id} in this workspace; list them with GET /v1/agents"),
    )
}

/// The number as the audit log and the event feed keep it. The token of its callbacks is not among it.
pub(super) fn recorded(number: &Number) -> serde_json::Value {
    json!({
        "id": number.id,
        "phone_number": number.phone_number,
        "status": number.status,
        "status_reason": number.status_reason,
        "label": number.label,
        "tags": number.tags,
        "assignment": number.assignment,
        "release_lock": number.release_lock,
        "settings": number.settings,
        "release_at": number.hold.map(|hold| hold.release_at),
    })
}

impl std::str::FromStr for NumberRef {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if !looks_like_a_number(text) {
            return text.parse().map(NumberRef::Id).map_err(|refusal: Refusal| {
                let detail = format!("{}; or name it by its digits, as +14385950345", refusal.detail);
                Refusal::new(refusal.code, detail)
            });
        }
        // Numbers that the carrier gave us are found even where the numbering plan that we know has no room for them.
        match E164::from_carrier(text) {
            Some(number) => Ok(NumberRef::PhoneNumber(number)),
            None => E164::parse(text, None).map(NumberRef::PhoneNumber).map_err(|refusal| {
                let detail = format!("{} (a number is named by its id, or in E.164 form)", refusal.detail);
                Refusal::new(refusal.code, detail)
            }),
        }
    }
}
