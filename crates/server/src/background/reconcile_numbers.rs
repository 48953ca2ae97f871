//! Holds the carrier's list of numbers against ours, every few minutes and at the start: what is in the account that we do not know,
//! what we think we have that is not there, and whose calls were set to go elsewhere.
//!
//! It finds and reports. It never buys, adopts, changes or releases anything, and no finding of it changes where calls go. Once
//! one full comparison has ended, purchases that a restore had locked are allowed again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use carriers::{Configuration, OwnedNumber, Tag};
use database::findings::{FINDINGS_MAX, finding_list, finding_put, finding_remove};
use database::leases::{Lease, lease_give_back, lease_holds, lease_take};
use database::numbers::{Number, number_each_of_ingress};
use database::{Change, DbError, Tx};
use domain::call::Ingress;
use domain::event::EventKind;
use domain::number::E164;
use domain::reconcile::{Finding, FindingKind, Listed, Observation, Ours, Owner, Rules, compare};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::driver::{Outcome, Task};
use crate::app::{Nudges, Shared};
use crate::store::Store;

const ACTOR: &str = "system:reconcile_numbers";
/// The lease under which one node reads the list.
const LEASE: &str = "reconcile_numbers";
/// The most pages of one list: a thousand numbers each.
const PAGES_MAX: usize = 2_000;
/// How many differences one transaction writes.
const WRITES_MAX: usize = 200;

/// The task.
pub struct ReconcileNumbers {
    node: String,
}

impl ReconcileNumbers {
    /// The task of this node.
    pub fn new(app: &Shared) -> ReconcileNumbers {
        ReconcileNumbers { node: format!("{:032x}", app.random.bits()) }
    }
}

#[async_trait]
impl Task for ReconcileNumbers {
    const NAME: &'static str = "reconcile_numbers";

    fn period(&self, app: &Shared) -> Duration {
        Duration::from_millis(app.config.reconcile.period_ms)
    }

    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify {
        &nudges.reconcile_numbers
    }

    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome> {
        let Some(store) = &app.store else { return Ok(Outcome::Idle) };
        Ok(match reconcile(app, store, &self.node).await? {
            Some(_) => Outcome::Idle,
            // Another node is at it, or has died at it.
            None => Outcome::WakeAt(app.clock.now().checked_add(lease_lasts(app)).unwrap_or(Timestamp::MAX)),
        })
    }
}

/// What one comparison found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many numbers the carrier listed.
    pub listed: usize,
    /// How many of ours are, or may be, there.
    pub ours: usize,
    /// How they differ, whether believed yet or not.
    pub findings: Vec<Finding>,
    /// When a finding is believed.
    pub rules: Rules,
    /// Why purchases were locked, if this comparison has unlocked them.
    pub unlocked: Option<String>,
}

/// Compares once; nothing where another node is at it.
pub async fn reconcile(app: &Shared, store: &Store, node: &str) -> anyhow::Result<Option<Report>> {
    let Some(lease) = take(app, node).await? else { return Ok(None) };
    let report = compared(app, store, &lease).await;
    let now = app.clock.now();
    app.database.write(move |tx| lease_give_back(tx, &lease, now)).await?;
    report.map(Some)
}

/// How long the lease lasts after each page of the list: the work of a node that died waits no longer.
pub(super) fn lease_lasts(app: &Shared) -> SignedDuration {
    let lasts = Duration::from_millis(app.config.purchases.lease_ms).saturating_mul(2);
    SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX)
}

async fn take(app: &Shared, node: &str) -> anyhow::Result<Option<Lease>> {
    let (holder, now, lasts) = (node.to_owned(), app.clock.now(), lease_lasts(app));
    Ok(app.database.write(move |tx| lease_take(tx, LEASE, &holder, now, lasts)).await?)
}

/// Makes the lease last on, if it is still the same.
async fn renew(app: &Shared, lease: &Lease) -> anyhow::Result<()> {
    let renewed = take(app, &lease.holder).await?;
    anyhow::ensure!(
        renewed.is_some_and(|renewed| renewed.fence == lease.fence),
        "the lease of the comparison was lost"
    );
    Ok(())
}

async fn compared(app: &Shared, store: &Store, lease: &Lease) -> anyhow::Result<Report> {
    app.failpoint("reconcile_numbers.before_listing");
    let listed_at = app.clock.now();
    let listed = list(app, store, lease).await?;
    app.failpoint("reconcile_numbers.after_listing");
    // Ours are read after theirs, so that whatever is bought meanwhile has its row already.
    let ours = ours(app, store, &listed, listed_at).await?;
    let (listed_count, ours_count) = (listed.len(), ours.len());
    let theirs = listed
        .into_iter()
        .map(|(number, owned)| {
            let purchase = Tag::purchase_of(&owned.label);
            (number, Listed { carrier_number_id: owned.carrier_number_id, purchase })
        })
        .collect();
    let mut observations = compare(theirs, ours);
    observations.truncate(FINDINGS_MAX as usize);
    let rules = app.config.reconcile.rules();
    let findings = keep(app, lease, observations, listed_at, rules).await?;
    app.failpoint("reconcile_numbers.after_findings");
    let unlocked = unlock(app, lease).await?;
    if let Some(why) = &unlocked {
        info!("purchases are unlocked: the carrier's list was compared with ours ({why})");
        app.nudges.order_numbers.notify_one();
    }
    Ok(Report { listed: listed_count, ours: ours_count, findings, rules, unlocked })
}

/// Every number in the account. A page that cannot be read is no verdict on anything: then there is no list.
async fn list(app: &Shared, store: &Store, lease: &Lease) -> anyhow::Result<BTreeMap<E164, OwnedNumber>> {
    let mut listed = BTreeMap::new();
    let mut next = None;
    for _ in 0..PAGES_MAX {
        let page =
            store.carrier().numbers_list(next.as_deref()).await.context("failed to list the account")?;
        renew(app, lease).await?;
        // Pages shift while they are read: a number may come twice.
        listed.extend(page.numbers.into_iter().map(|owned| (owned.phone_number, owned)));
        next = page.next;
        if next.is_none() {
            return Ok(listed);
        }
    }
    anyhow::bail!("the account has more than {PAGES_MAX} pages of numbers")
}

/// Our numbers, each with what differs at the carrier.
async fn ours(
    app: &Shared,
    store: &Store,
    listed: &BTreeMap<E164, OwnedNumber>,
    listed_at: Timestamp,
) -> anyhow::Result<Vec<Ours>> {
    let rows = app
        .database
        .in_bulk()
        .read(move |read| {
            let mut rows = Vec::new();
            number_each_of_ingress(read, Ingress::STORE, |number| {
                rows.push(number);
                Ok(())
            })?;
            Ok(rows)
        })
        .await
        .context("failed to read our numbers")?;
    let ours = |number: Number| Ours {
        differences: listed
            .get(&number.phone_number)
            .map(|owned| differences(store, &number, owned))
            .unwrap_or_default(),
        phone_number: number.phone_number,
        owner: Owner { number_id: number.id, workspace_id: number.workspace },
        takes_calls: number.status.takes_calls(),
        is_newer: number.updated_at >= listed_at,
    };
    Ok(rows.into_iter().map(ours).collect())
}

/// The settings in which calls would go elsewhere. People may name their numbers at the carrier as they like.
fn differences(store: &Store, number: &Number, owned: &OwnedNumber) -> Vec<&'static str> {
    let wanted = Configuration { label: owned.label.clone(), voice: store.voice_urls(number.callback_token) };
    let mut differences = wanted.differences(owned);
    differences.retain(|&name| name != "label");
    differences
}

/// Counts what was seen, forgets what was not, reports what is believed.
async fn keep(
    app: &Shared,
    lease: &Lease,
    observations: Vec<Observation>,
    listed_at: Timestamp,
    rules: Rules,
) -> anyhow::Result<Vec<Finding>> {
    let known = app.database.read(|read| finding_list(read, Ingress::STORE)).await?;
    let mut known: BTreeMap<(E164, FindingKind), Finding> = known
        .into_iter()
        .map(|finding| ((finding.observation.phone_number, finding.observation.kind), finding))
        .collect();
    let mut findings: Vec<Finding> = observations
        .into_iter()
        .map(|seen| {
            let before = known.remove(&(seen.phone_number, seen.kind));
            Finding::observed(before.as_ref(), Ingress::STORE, seen, listed_at, rules)
        })
        .collect();
    let gone: Vec<Finding> = known.into_values().collect();
    for chunk in findings.chunks_mut(WRITES_MAX) {
        renew(app, lease).await?;
        let mut written = chunk.to_vec();
        for finding in &mut written {
            if finding.reported_at.is_none() && finding.is_believed(rules) {
                finding.reported_at = Some(listed_at);
            }
        }
        let reports: Vec<bool> =
            chunk.iter().map(|finding| finding.reported_at.is_none() && finding.is_believed(rules)).collect();
        chunk.clone_from_slice(&written);
        let (held, now) = (lease.clone(), app.clock.now());
        app.database
            .write(move |tx| {
                hold(tx, &held, now)?;
                for (finding, is_new) in written.iter().zip(&reports) {
                    finding_put(tx, finding)?;
                    if *is_new {
                        report(tx, finding, now)?;
                    }
                }
                Ok(())
            })
            .await
            .context("failed to keep the findings")?;
    }
    for chunk in gone.chunks(WRITES_MAX) {
        let (chunk, held, now) = (chunk.to_vec(), lease.clone(), app.clock.now());
        app.database
            .write(move |tx| {
                hold(tx, &held, now)?;
                chunk.iter().try_for_each(|finding| finding_remove(tx, finding))
            })
            .await
            .context("failed to forget what is no difference any more")?;
    }
    Ok(findings)
}

/// A node that was paused for longer than its lease writes nothing.
fn hold(tx: &Tx<'_>, lease: &Lease, now: Timestamp) -> Result<(), DbError> {
    if lease_holds(tx, lease, now)? {
        return Ok(());
    }
    Err(DbError::Refused("the lease of the comparison was lost".into()))
}

/// Tells people and programs of a finding that is believed now.
fn report(tx: &Tx<'_>, finding: &Finding, now: Timestamp) -> Result<(), DbError> {
    let observation = &finding.observation;
    warn!(
        "{} {}: {} (seen in {} listings)",
        observation.phone_number, observation.kind, observation.detail, finding.seen
    );
    // An orphan belongs to no workspace: the operator learns of it from the log and from `switchboard reconcile`.
    let Some(owner) = observation.owner else { return Ok(()) };
    tx.record(&Change {
        workspace: owner.workspace_id,
        at: now,
        actor: ACTOR,
        action: "number.drift",
        target: owner.number_id.to_string(),
        before: None,
        after: Some(json!({
            "id": owner.number_id,
            "phone_number": observation.phone_number,
            "finding": observation.kind,
            "detail": observation.detail,
            "first_seen_at": finding.first_seen_at,
        })),
        request_id: None,
        event: Some(EventKind::NumberDrifted),
    })
}

async fn unlock(app: &Shared, lease: &Lease) -> anyhow::Result<Option<String>> {
    let (held, now) = (lease.clone(), app.clock.now());
    app.database
        .write(move |tx| {
            hold(tx, &held, now)?;
            let why = database::meta::purchases_locked(tx)?;
            database::meta::reconciled(tx, now)?;
            Ok(why)
        })
        .await
        .context("failed to note that the comparison has ended")
}
