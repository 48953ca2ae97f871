//! Carries purchases on: every open intent → one step of its state machine (`domain::purchase`) after the other → `active`, `failed`
//! or `needs_review`.
//!
//! The order of things is what makes a crash harmless. A purchase is claimed under a lease with a rising fence. Each step is
//! written down, only if the fence is still ours, *before* its effect is carried out; what it means for the number, its audit
//! row and its event are in that same transaction. Right before the one request that costs money, the lease is checked again:
//! by a clock that does not jump, by the wall, and in the database. The client gives up before the lease ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use carriers::{BuyOutcome, Configuration, Order, OwnedNumber, Tag, VoiceUrls};
use database::numbers::{Number, number_find, number_update};
use database::purchases::{Purchase, purchase_claim, purchase_find, purchase_next_wake, purchase_step};
use database::{Change, DbError, Tx};
use domain::event::EventKind;
use domain::number::{Capabilities, NumberStatus};
use domain::purchase::{Effect, Event, PurchaseState, Reason, Schedule, step};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::{error, info, warn};

use super::driver::{Outcome, Task};
use crate::app::{Nudges, Shared};
use crate::store::Store;

/// Who writes the audit rows.
const ACTOR: &str = "system:order_numbers";
/// How often writing a step down is tried while the database is out of reach.
const WRITES_MAX: u32 = 5;
/// The pause between these tries.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// The task.
pub struct OrderNumbers {
    node: String,
    permits: Arc<Semaphore>,
    outcomes: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    step: &'static str,
    outcome: &'static str,
}

impl OrderNumbers {
    /// The task of this node.
    pub fn new(app: &Shared) -> OrderNumbers {
        let outcomes = Family::default();
        app.metrics.register("purchase_steps", "What the carrier said to purchases", outcomes.clone());
        OrderNumbers {
            node: format!("{:032x}", app.random.bits()),
            permits: Arc::new(Semaphore::new(app.config.purchases.concurrency.max(1))),
            outcomes,
        }
    }
}

#[async_trait]
impl Task for OrderNumbers {
    const NAME: &'static str = "order_numbers";

    fn period(&self, app: &Shared) -> Duration {
        Duration::from_millis(app.config.purchases.poll_ms)
    }

    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify {
        &nudges.order_numbers
    }

    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome> {
        let Some(store) = &app.store else { return Ok(Outcome::Idle) };
        // As many as can be worked on at once, and no more: a lease that waits for a worker runs out for nothing.
        let free: Vec<OwnedSemaphorePermit> =
            std::iter::from_fn(|| self.permits.clone().try_acquire_owned().ok())
                .take(app.config.purchases.concurrency.max(1))
                .collect();
        let limit = u32::try_from(free.len()).unwrap_or(u32::MAX);
        if limit == 0 {
            // Whoever ends nudges.
            return Ok(Outcome::Idle);
        }
        app.failpoint("order_numbers.before_claim");
        let lease = Lease::begin(app);
        let (holder, lasts, now) = (self.node.clone(), lease.lasts, lease.begun_at);
        let claimed = app
            .database
            .write(move |tx| purchase_claim(tx, &holder, lasts, limit, now))
            .await
            .context("failed to claim purchases")?;
        let all_busy = claimed.len() >= free.len();
        for (purchase, permit) in claimed.into_iter().zip(free) {
            let work = Work {
                app: app.clone(),
                store: store.clone(),
                purchase,
                lease,
                capabilities: None,
                schedule: app.config.purchases.schedule(),
                outcomes: self.outcomes.clone(),
            };
            app.tasks.spawn(Self::NAME, async move {
                let app = work.app.clone();
                work.carry_on().await;
                drop(permit);
                app.nudges.order_numbers.notify_one();
            });
        }
        if all_busy {
            return Ok(Outcome::Idle);
        }
        let next = app.database.read(purchase_next_wake).await.context("failed to look for purchases")?;
        Ok(next.map_or(Outcome::Idle, Outcome::WakeAt))
    }
}

/// How long a claim is good, by every clock there is. Read before the claim was written, so never later than the database thinks.
#[derive(Clone, Copy)]
struct Lease {
    lasts: SignedDuration,
    begun_at: Timestamp,
    ends: Duration,
}

impl Lease {
    fn begin(app: &Shared) -> Lease {
        let lease = Duration::from_millis(app.config.purchases.lease_ms);
        Lease {
            lasts: SignedDuration::try_from(lease).unwrap_or(SignedDuration::MAX),
            begun_at: app.clock.now(),
            ends: app.clock.monotonic() + lease,
        }
    }

    /// How long it still is, by the clock that is less generous.
    fn left(&self, app: &Shared) -> Duration {
        let wall = self.lasts - app.clock.now().duration_since(self.begun_at);
        let wall = Duration::try_from(wall).unwrap_or_default();
        self.ends.saturating_sub(app.clock.monotonic()).min(wall)
    }
}

/// One purchase under one lease.
struct Work {
    app: Shared,
    store: Arc<Store>,
    purchase: Purchase,
    lease: Lease,
    /// What the carrier says that the number can do.
    capabilities: Option<Capabilities>,
    schedule: Schedule,
    outcomes: Family<OutcomeLabels, Counter>,
}

impl Work {
    /// One step after the other, until there is nothing to do under this lease, or it is lost.
    async fn carry_on(mut self) {
        let id = self.purchase.id;
        if let Err(why) = self.steps().await {
            // The row says how far it is; whoever claims it next goes on from there.
            warn!(purchase.id = %id, "the purchase {id} waits for its lease to end: {why:#}");
        }
    }

    async fn steps(&mut self) -> anyhow::Result<()> {
        let mut event = self.first_event().await?;
        loop {
            let Some(effects) = self.write_down(event).await? else {
                info!(purchase.id = %self.purchase.id, "the lease of {} went to another worker", self.purchase.id);
                return Ok(());
            };
            self.app.failpoint(&format!("order_numbers.after_{}", self.purchase.progress.state));
            let mut next = None;
            for effect in effects {
                match effect {
                    Effect::Post => next = Some(self.post().await?),
                    Effect::LookUp => next = Some(self.look_up().await?),
                    Effect::Configure => next = Some(self.configure().await?),
                    // Written with the step.
                    Effect::Activate | Effect::Fail | Effect::AskPerson => {}
                }
            }
            match next {
                Some(told) => event = told,
                None => return Ok(()),
            }
        }
    }

    async fn first_event(&self) -> anyhow::Result<Event> {
        let open = [PurchaseState::Requested, PurchaseState::Posting, PurchaseState::Ambiguous];
        if self.purchase.restored && open.contains(&self.purchase.progress.state) {
            return Ok(Event::Restored);
        }
        let number = self.number().await?;
        let country = number.country.or_else(|| number.phone_number.country());
        let price = country.and_then(|country| self.store.price(country, number.number_type));
        Ok(Event::Claimed { price_holds: price == Some(self.purchase.price) })
    }

    async fn number(&self) -> anyhow::Result<Number> {
        let (workspace, id) = (self.purchase.workspace, self.purchase.number_id);
        let found = self.app.database.read(move |read| number_find(read, workspace, id)).await?;
        found.with_context(|| format!("the number {id} of the purchase {} is missing", self.purchase.id))
    }

    /// Decides and writes down; what follows comes back, or nothing where the lease was lost.
    async fn write_down(&mut self, event: Event) -> anyhow::Result<Option<Vec<Effect>>> {
        let mut tries = 0;
        loop {
            let (purchase, event, schedule) = (self.purchase.clone(), event.clone(), self.schedule.clone());
            let (now, capabilities) = (self.app.clock.now(), self.capabilities);
            let written = self
                .app
                .database
                .write(move |tx| step_write(tx, &purchase, &event, capabilities, now, &schedule))
                .await;
            match written {
                Ok(Some((purchase, effects))) => {
                    let (before, after) = (self.purchase.progress.state, purchase.progress.state);
                    if before != after {
                        info!(purchase.id = %purchase.id, "the purchase {} of {} went from {before} to {after}", purchase.id, purchase.phone_number);
                    }
                    self.purchase = purchase;
                    return Ok(Some(effects));
                }
                Ok(None) => return Ok(None),
                Err(DbError::Unavailable(why)) if tries < WRITES_MAX => {
                    tries += 1;
                    warn!(purchase.id = %self.purchase.id, "a step waits for the database: {why}");
                    tokio::time::sleep(WRITE_PAUSE * tries).await;
                }
                Err(error) => return Err(error).context("failed to write a step down"),
            }
        }
    }

    fn voice(&self, number: &Number) -> VoiceUrls {
        self.store.voice_urls(number.callback_token)
    }

    fn count(&self, step: &'static str, outcome: &'static str) {
        self.outcomes.get_or_create(&OutcomeLabels { step, outcome }).inc();
    }

    /// The one request of this lease that costs money.
    async fn post(&mut self) -> anyhow::Result<Event> {
        let number = self.number().await?;
        self.app.failpoint("order_numbers.before_check");
        if let Err(why) = self.may_post().await {
            warn!(purchase.id = %self.purchase.id, "nothing was sent for {}: {why:#}", self.purchase.phone_number);
            self.count("post", "held_back");
            return Ok(Event::PostDeferred { retry_after: None });
        }
        self.app.failpoint("order_numbers.before_post");
        let order = Order {
            phone_number: self.purchase.phone_number,
            tag: Tag::of_purchase(self.purchase.id),
            voice: self.voice(&number),
        };
        let outcome = self.store.carrier().number_buy(&order).await;
        self.app.failpoint("order_numbers.after_post");
        let phone_number = self.purchase.phone_number;
        Ok(match outcome {
            BuyOutcome::Confirmed(owned) => {
                self.count("post", "confirmed");
                self.found(owned, |carrier_number_id| Event::PostConfirmed { carrier_number_id })
            }
            BuyOutcome::Unavailable => {
                self.count("post", "unavailable");
                Event::PostUnavailable
            }
            BuyOutcome::Refused { account, code, message } => {
                self.count("post", "refused");
                warn!("the carrier refuses to sell {phone_number}: {code} {message}");
                Event::PostRefused(if account { Reason::CarrierAuthFailed } else { Reason::Refused })
            }
            BuyOutcome::Deferred { retry_after, why } => {
                self.count("post", "deferred");
                warn!("the carrier was not asked for {phone_number}: {why}");
                Event::PostDeferred { retry_after }
            }
            BuyOutcome::Ambiguous { why } => {
                self.count("post", "ambiguous");
                warn!("whether {phone_number} was bought is unknown: {why}");
                Event::PostAmbiguous
            }
        })
    }

    /// Whether the request may still be sent: it has to end before the lease does, by every clock and by the database's word.
    async fn may_post(&self) -> anyhow::Result<()> {
        let timeout = self.store.carrier().request_limit();
        anyhow::ensure!(self.lease.left(&self.app) > timeout, "the lease ends too soon");
        let id = self.purchase.id;
        let (stored, locked) = self
            .app
            .database
            .read(move |read| Ok((purchase_find(read, id)?, database::meta::purchases_locked(read)?)))
            .await
            .context("the lease could not be read")?;
        let stored = stored.context("the purchase is gone")?;
        anyhow::ensure!(stored.fence == self.purchase.fence && stored.lease.is_some(), "the lease was lost");
        anyhow::ensure!(stored.progress.state == PurchaseState::Posting, "it went on elsewhere");
        anyhow::ensure!(locked.is_none(), "purchases are locked until a reconcile has ended");
        // Reading took time too.
        anyhow::ensure!(self.lease.left(&self.app) > timeout, "the lease ends too soon");
        Ok(())
    }

    fn found(&mut self, owned: OwnedNumber, event: impl FnOnce(String) -> Event) -> Event {
        self.capabilities = Some(owned.capabilities);
        event(owned.carrier_number_id)
    }

    /// Looks by number and by tag. Reading only.
    async fn look_up(&mut self) -> anyhow::Result<Event> {
        let number = self.number().await?;
        self.app.failpoint("order_numbers.before_look_up");
        let tag = Tag::of_purchase(self.purchase.id);
        let voice = self.voice(&number);
        let carrier = self.store.carrier();
        let look = async {
            let by_number = carrier.number_find(self.purchase.phone_number).await?;
            if by_number.is_some() {
                return Ok(by_number);
            }
            let by_tag = carrier.numbers_find_by_tag(&tag).await?;
            Ok(by_tag.into_iter().find(|owned| owned.phone_number == self.purchase.phone_number))
        };
        let looked: Result<Option<OwnedNumber>, carriers::CarrierError> =
            match tokio::time::timeout(self.lease.left(&self.app), look).await {
                Ok(looked) => looked,
                Err(_) => Err(carriers::CarrierError::Unavailable("the lease ends".into())),
            };
        self.app.failpoint("order_numbers.after_look_up");
        Ok(match looked {
            // The tag, or the URL with this number's own random token, which nobody else can have set.
            Ok(Some(owned))
                if owned.label == tag.as_str() || owned.voice_url.as_deref() == Some(&voice.voice_url) =>
            {
                self.count("look_up", "found");
                self.found(owned, |carrier_number_id| Event::Found { carrier_number_id })
            }
            Ok(Some(_)) => {
                self.count("look_up", "foreign");
                Event::FoundForeign
            }
            Ok(None) => {
                self.count("look_up", "not_found");
                Event::NotFound
            }
            Err(why) => {
                self.count("look_up", "failed");
                warn!(purchase.id = %self.purchase.id, "looking for {} failed: {why}", self.purchase.phone_number);
                Event::LookFailed
            }
        })
    }

    /// Gives the number its label and proves that its calls come here. May be repeated without harm.
    async fn configure(&mut self) -> anyhow::Result<Event> {
        let number = self.number().await?;
        self.app.failpoint("order_numbers.before_configure");
        let Some(id) = self.purchase.progress.carrier_number_id.clone() else {
            error!(purchase.id = %self.purchase.id, "a bought number has no id of the carrier's");
            return Ok(Event::ConfigureFailed);
        };
        let wanted = Configuration {
            label: number.label.clone().unwrap_or_else(|| number.phone_number.to_string()),
            voice: self.voice(&number),
        };
        let configuring = self.store.carrier().number_configure(&id, &wanted);
        let configured = match tokio::time::timeout(self.lease.left(&self.app), configuring).await {
            Ok(configured) => configured,
            Err(_) => Err(carriers::CarrierError::Unavailable("the lease ends".into())),
        };
        self.app.failpoint("order_numbers.after_configure");
        let phone_number = self.purchase.phone_number;
        Ok(match configured {
            // Only what calls depend on: a carrier may keep a label in a form of its own.
            Ok(now)
                if now.phone_number == phone_number
                    && wanted.differences(&now).iter().all(|&name| name == "label") =>
            {
                self.count("configure", "configured");
                self.capabilities = Some(now.capabilities);
                Event::Configured
            }
            Ok(now) => {
                self.count("configure", "differs");
                warn!("{phone_number} does not take our settings: {}", wanted.differences(&now).join(", "));
                Event::ConfigureFailed
            }
            Err(why) => {
                self.count("configure", "failed");
                warn!("setting {phone_number} up failed: {why}");
                Event::ConfigureFailed
            }
        })
    }
}

/// One step, all or nothing: the purchase, its number, the audit row and the event.
fn step_write(
    tx: &Tx<'_>,
    purchase: &Purchase,
    event: &Event,
    capabilities: Option<Capabilities>,
    now: Timestamp,
    schedule: &Schedule,
) -> Result<Option<(Purchase, Vec<Effect>)>, DbError> {
    let (progress, effects) = step(&purchase.progress, event.clone(), now, schedule);
    let effects = effects.to_vec();
    let outcome = effects.iter().find_map(|effect| match effect {
        Effect::Activate => Some((NumberStatus::Active, EventKind::NumberActive, "number.activate")),
        Effect::Fail => Some((NumberStatus::Failed, EventKind::NumberFailed, "number.fail")),
        Effect::AskPerson => {
            Some((NumberStatus::NeedsReview, EventKind::NumberNeedsReview, "number.ask_person"))
        }
        Effect::Post | Effect::LookUp | Effect::Configure => None,
    });
    if outcome.is_some() {
        // Before the purchase's row: locks are taken in one order everywhere.
        tx.workspace_lock(purchase.workspace)?;
    }
    let goes_on =
        effects.iter().any(|effect| matches!(effect, Effect::Post | Effect::LookUp | Effect::Configure));
    let Some(next) = purchase_step(tx, purchase, &progress, goes_on, now)? else { return Ok(None) };
    if let Some((status, kind, action)) = outcome {
        let number = number_find(tx, purchase.workspace, purchase.number_id)?.ok_or_else(|| {
            DbError::Corrupt(format!("the number {} of a purchase is missing", purchase.number_id))
        })?;
        let after = Number {
            status,
            status_reason: progress.reason.map(|reason| reason.as_str().to_owned()),
            carrier_number_id: progress.carrier_number_id.clone().or(number.carrier_number_id.clone()),
            capabilities: capabilities.unwrap_or(number.capabilities),
            ..number.clone()
        };
        let is_new = number.status != after.status || number.status_reason != after.status_reason;
        if is_new && (number.status == status || number.status.may_become(status)) {
            number_update(tx, &after, now)?;
            tx.record(&Change {
                workspace: purchase.workspace,
                at: now,
                actor: ACTOR,
                action,
                target: number.id.to_string(),
                before: Some(told(&number)),
                after: Some(told(&after)),
                request_id: None,
                event: Some(kind),
            })?;
        }
    }
    Ok(Some((next, effects)))
}

/// What matters of a number when a purchase goes on.
pub(super) fn told(number: &Number) -> serde_json::Value {
    json!({
        "id": number.id,
        "phone_number": number.phone_number,
        "status": number.status,
        "status_reason": number.status_reason,
        "carrier_number_id": number.carrier_number_id,
    })
}
