//! Readiness: whether a number can do its work now – take calls, place calls, exchange messages – and if not, what is missing.
//!
//! Facts come in, sentences go out. What a call would really do is told by `route`; this is what people look at first.

use serde::Serialize;

use crate::agent::Content;
use crate::assignment::Assignment;
use crate::number::{Capabilities, NumberStatus, Source};
use crate::reconcile::FindingKind;
use crate::workspace::OutageMode;

crate::words! {
    /// Why a number is not ready, or what to know although it is.
    ReasonCode, "readiness reason" {
        /// It is being bought.
        Ordering = "ordering",
        /// It was not bought.
        Failed = "failed",
        /// Whether it was bought is unknown.
        NeedsReview = "needs_review",
        /// It was given back.
        Released = "released",
        /// Its calls go elsewhere by the carrier's settings.
        Drifted = "drifted",
        /// The carrier does not have it any more.
        NotAtCarrier = "not_at_carrier",
        /// It cannot take calls at all.
        NoVoice = "no_voice",
        /// Nobody answers it.
        NotAssigned = "not_assigned",
        /// Its agent runs nothing in its environment.
        NotPublished = "not_published",
        /// Its variant is gone from the running version: the default variant answers.
        VariantGone = "variant_gone",
        /// Its environment is switched to its fallbacks.
        OutageMode = "outage_mode",
        /// It will be given back soon.
        ReleaseScheduled = "release_scheduled",
        /// Bought numbers serve inbound only.
        InboundOnly = "inbound_only",
        /// It cannot exchange messages at all.
        NoSms = "no_sms",
        /// Messages are not handled here.
        SmsNotHandled = "sms_not_handled",
    }
}

/// Why a number is not ready, or what to know although it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For programs.
    pub code: ReasonCode,
    /// For people: why, and what to do.
    pub detail: String,
}

/// Whether one kind of work can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Whether it can.
    pub ready: bool,
    /// Why not; or, where it can, what to know.
    pub reasons: Vec<Reason>,
}

/// Whether a number can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Take calls.
    pub inbound: Ready,
    /// Place calls.
    pub outbound: Ready,
    /// Exchange messages.
    pub sms: Ready,
}

/// What readiness is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// How far the number is.
    pub status: NumberStatus,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Where it comes from.
    pub source: Source,
    /// Who answers it.
    pub assignment: Option<Assignment>,
    /// What the agent runs there, if anything.
    pub running: Option<&'a Content>,
    /// The outage switches of the workspace.
    pub outage: OutageMode,
    /// What the last look at the carrier's list found, in words.
    pub findings: &'a [(FindingKind, String)],
}

/// Judges a number.
pub fn readiness(facts: Facts<'_>) -> Readiness {
    Readiness { inbound: inbound(facts), outbound: outbound(facts), sms: sms(facts) }
}

fn reason(code: ReasonCode, detail: impl Into<String>) -> Reason {
    Reason { code, detail: detail.into() }
}

fn inbound(facts: Facts<'_>) -> Ready {
    let (mut missing, mut notes) = (Vec::new(), Vec::new());
    missing.extend(not_ours(facts.status));
    for (kind, detail) in facts.findings {
        missing.extend(match kind {
            FindingKind::Drifted => Some(reason(
                ReasonCode::Drifted,
                format!("the carrier sends its calls elsewhere: {detail}; the operator runs `switchboard reconcile`"),
            )),
            FindingKind::Ghost => Some(reason(
                ReasonCode::NotAtCarrier,
                format!("the carrier does not have the number any more: {detail}; the operator looks at its console"),
            )),
            // Numbers of the carrier's list that nobody here has.
            FindingKind::Orphan => None,
        });
    }
    if !facts.capabilities.voice {
        missing.push(reason(
            ReasonCode::NoVoice,
            "the number has no voice capability, so no call can come in; use one that has it",
        ));
    }
    match facts.assignment {
        None => missing.push(reason(
            ReasonCode::NotAssigned,
            "no agent is assigned, so callers reach the fallback; assign one with PUT /v1/numbers/{id}/assignment",
        )),
        Some(assignment) => {
            let environment = assignment.environment;
            match (facts.running, assignment.variant_id) {
                (None, _) => missing.push(reason(
                    ReasonCode::NotPublished,
                    format!("the agent runs nothing in {environment}, so callers reach the fallback; publish it there"),
                )),
                (Some(running), Some(id)) if running.variant(id).is_none() => notes.push(reason(
                    ReasonCode::VariantGone,
                    format!("the variant {id} is not in the version that {environment} runs, so the default variant answers; publish it, or reassign the number"),
                )),
                _ => {}
            }
            if let Some(since) = facts.outage.since(environment) {
                notes.push(reason(
                    ReasonCode::OutageMode,
                    format!("{environment} is in outage mode since {since:.0}, so calls go straight to the fallback; switch it off with PATCH /v1/workspace"),
                ));
            }
        }
    }
    if facts.status == NumberStatus::ReleaseScheduled {
        notes.push(reason(
            ReasonCode::ReleaseScheduled,
            "the number is to be given back and answers until then; keep it with POST /v1/numbers/{id}/release/cancel",
        ));
    }
    if facts.status == NumberStatus::Releasing {
        notes.push(reason(
            ReasonCode::ReleaseScheduled,
            "the number is being given back at the carrier and cannot be kept any more; it answers until it is gone",
        ));
    }
    let ready = missing.is_empty();
    missing.append(&mut notes);
    Ready { ready, reasons: missing }
}

fn outbound(facts: Facts<'_>) -> Ready {
    let mut reasons: Vec<Reason> = not_ours(facts.status).into_iter().collect();
    match facts.source {
        Source::Store => reasons.push(reason(
            ReasonCode::InboundOnly,
            "numbers bought in the store serve inbound only: the account that they are bought with is the operator's, and its \
             caller ID is not yours to show. To place calls, use a number of an account of your own at Twilio or Telnyx, or of \
             your carrier's SIP trunk; connecting those is not part of this version yet",
        )),
    }
    Ready { ready: false, reasons }
}

fn sms(facts: Facts<'_>) -> Ready {
    let mut reasons: Vec<Reason> = not_ours(facts.status).into_iter().collect();
    reasons.push(if facts.capabilities.sms {
        reason(
            ReasonCode::SmsNotHandled,
            "the number can exchange messages, but this version of Switchboard does not handle them",
        )
    } else {
        reason(
            ReasonCode::NoSms,
            "the number has no SMS capability; search the store with capabilities=sms for one that has it",
        )
    });
    Ready { ready: false, reasons }
}

fn not_ours(status: NumberStatus) -> Option<Reason> {
    Some(match status {
        NumberStatus::Active | NumberStatus::ReleaseScheduled | NumberStatus::Releasing => return None,
        NumberStatus::Ordering => {
            reason(ReasonCode::Ordering, "the number is being bought; this usually takes a few seconds")
        }
        NumberStatus::Failed => reason(
            ReasonCode::Failed,
            "the number was not bought, and nothing was charged; choose another in the store",
        ),
        NumberStatus::NeedsReview => reason(
            ReasonCode::NeedsReview,
            "whether the number was bought is not known yet; Switchboard goes on looking, and an operator is asked",
        ),
        NumberStatus::Released => reason(ReasonCode::Released, "the number was given back"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::id::{AgentId, VariantId};
    use expect_test::{Expect, expect};

    #[expect(clippy::needless_pass_by_value, reason = "`expect!` reads better as an argument")]
    fn check(facts: Facts<'_>, expected: Expect) {
        let readiness = readiness(facts);
        let show = |name: &str, ready: &Ready| {
            let codes: Vec<&str> = ready.reasons.iter().map(|reason| reason.code.as_str()).collect();
            format!("{name} {} [{}]\n", ready.ready, codes.join(", "))
        };
        expected.assert_eq(
            &[
                show("inbound", &readiness.inbound),
                show("outbound", &readiness.outbound),
                show("sms", &readiness.sms),
            ]
            .concat(),
        );
    }

    #[test]
    fn a_number_says_what_it_lacks() {
        let running = Content::default();
        let assignment = Assignment {
            agent_id: AgentId::from_bits(1),
            environment: Environment::Live,
            variant_id: Some(VariantId::from_bits(1)),
        };
        let bare = Facts {
            status: NumberStatus::Ordering,
            capabilities: Capabilities::default(),
            source: Source::Store,
            assignment: None,
            running: None,
            outage: OutageMode::default(),
            findings: &[],
        };
        check(
            bare,
            expect![[r"
            inbound false [ordering, no_voice, not_assigned]
            outbound false [ordering, inbound_only]
            sms false [ordering, no_sms]
        "]],
        );
        let at = "2026-11-21T22:00:00Z".parse().unwrap();
        let ours = Facts {
            status: NumberStatus::ReleaseScheduled,
            capabilities: Capabilities { voice: true, sms: true, mms: false },
            assignment: Some(assignment),
            running: Some(&running),
            outage: OutageMode::default().switched(Environment::Live, true, at),
            ..bare
        };
        check(
            ours,
            expect![[r"
            inbound true [variant_gone, outage_mode, release_scheduled]
            outbound false [inbound_only]
            sms false [sms_not_handled]
        "]],
        );
        check(
            Facts { running: None, status: NumberStatus::Active, outage: OutageMode::default(), ..ours },
            expect![[r"
            inbound false [not_published]
            outbound false [inbound_only]
            sms false [sms_not_handled]
        "]],
        );
        let findings = [FindingKind::Drifted, FindingKind::Ghost, FindingKind::Orphan];
        let findings = findings.map(|kind| (kind, "voice_url is another".to_owned()));
        check(
            Facts {
                findings: &findings,
                status: NumberStatus::Active,
                outage: OutageMode::default(),
                ..ours
            },
            expect![[r"
            inbound false [drifted, not_at_carrier, variant_gone]
            outbound false [inbound_only]
            sms false [sms_not_handled]
        "]],
        );
    }
}
