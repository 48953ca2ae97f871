//! Assignments: number → agent + environment + variant (or none), the rules about them, and the callouts that tell where what
//! people changed does not match what numbers do.

use serde::{Deserialize, Serialize};

use crate::agent::Content;
use crate::environment::Environment;
use crate::error::{Code, Refusal, shown};
use crate::id::{AgentId, NumberId, VariantId};
use crate::number::{Capabilities, Capability};

/// Who answers a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// The agent.
    pub agent_id: AgentId,
    /// Whose version of it.
    pub environment: Environment,
    /// As which variant; without one, as the default variant.
    pub variant_id: Option<VariantId>,
}

/// What an assignment is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the number can do.
    pub capabilities: Capabilities,
    /// What the agent runs, by environment; those where it runs nothing are left out.
    pub running: &'a [(Environment, &'a Content)],
    /// The agent's draft, to tell what publishing would change.
    pub draft: &'a Content,
}

impl<'a> Facts<'a> {
    fn runs_in(&self, environment: Environment) -> Option<&'a Content> {
        self.running.iter().find(|(there, _)| *there == environment).map(|(_, content)| *content)
    }
}

impl Assignment {
    /// Whether a number may be assigned so: the agent runs there, the variant is published there, and the number takes calls.
    pub fn check(self, facts: Facts<'_>) -> Result<(), Refusal> {
        if !facts.capabilities.voice {
            return Err(Refusal::new(
                Code::CapabilityMissing,
                format!(
                    "the number has no {} capability, and an agent answers calls; choose a number that has it",
                    Capability::Voice
                ),
            ));
        }
        let environment = self.environment;
        let Some(running) = facts.runs_in(environment) else {
            let way = self.way(facts, |_| true).unwrap_or_default();
            return Err(Refusal::new(
                Code::NotPublished,
                format!("the agent runs nothing in {environment}: {way}, then assign the number"),
            ));
        };
        let Some(variant_id) = self.variant_id else { return Ok(()) };
        if running.variant(variant_id).is_some() {
            return Ok(());
        }
        let missing = || {
            let agent = self.agent_id;
            Refusal::new(
                Code::VariantNotFound,
                format!(
                    "the agent has no variant {variant_id}; list them with GET /v1/agents/{agent}/variants"
                ),
            )
        };
        let contents = std::iter::once(facts.draft).chain(facts.running.iter().map(|(_, content)| *content));
        let mut variants = contents.filter_map(|content| content.variant(variant_id));
        let variant = variants.next().ok_or_else(missing)?;
        let way = self.way(facts, |content| content.variant(variant_id).is_some()).ok_or_else(missing)?;
        Err(Refusal::new(
            Code::VariantNotPublished,
            format!(
                "the variant {} is not published to {environment}: {way}, then assign the number",
                shown(&variant.name)
            ),
        ))
    }

    /// Every step to where the environment runs what is wanted, from the nearest one below that runs it already: one step alone
    /// would often be refused, or change nothing. `None` where no step leads there.
    fn way(self, facts: Facts<'_>, has: impl Fn(&Content) -> bool) -> Option<String> {
        let agent = self.agent_id;
        let (mut steps, mut to) = (Vec::new(), self.environment);
        let place = loop {
            let Some(from) = to.promoted_from() else {
                steps.push(format!("publish the draft with POST /v1/agents/{agent}/publish"));
                break has(facts.draft).then(|| "only the draft has it".to_owned())?;
            };
            steps.push(format!(
                "promote {from} to {to} with POST /v1/agents/{agent}/promote {{\"from\":\"{from}\",\"to\":\"{to}\"}}"
            ));
            if facts.runs_in(from).is_some_and(&has) {
                break format!("{from} has it");
            }
            to = from;
        };
        steps.reverse();
        Some(format!("{place}; {}", steps.join(", then ")))
    }
}

crate::words! {
    /// The kinds of callout.
    CalloutKind, "callout" {
        /// The running version has no variants and the draft has some: publish so that they can be assigned.
        DraftVariants = "draft_variants",
        /// The running version has variants and the draft has more: publish so that they can be assigned.
        NewVariant = "new_variant",
        /// A number's variant is gone from the draft or from the running version: publish, or reassign the number.
        VariantDeleted = "variant_deleted",
    }
}

/// A message on the Numbers page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Callout {
    /// Which message.
    pub kind: CalloutKind,
    /// About which agent.
    pub agent_id: AgentId,
    /// In which environment.
    pub environment: Environment,
    /// The variants that it is about.
    pub variants: Vec<VariantId>,
    /// The numbers that it is about; only for [`CalloutKind::VariantDeleted`].
    pub numbers: Vec<NumberId>,
}

/// The callouts of one agent in one environment where it runs something. `assigned` are the numbers of that environment that
/// carry a variant.
pub fn callouts(
    agent_id: AgentId,
    environment: Environment,
    draft: &Content,
    running: &Content,
    assigned: &[(NumberId, VariantId)],
) -> Vec<Callout> {
    let callout = |kind, variants, numbers| Callout { kind, agent_id, environment, variants, numbers };
    let mut found = Vec::new();
    let more: Vec<VariantId> =
        draft.variants.iter().map(|variant| variant.id).filter(|&id| running.variant(id).is_none()).collect();
    if !more.is_empty() {
        let kind =
            if running.variants.is_empty() { CalloutKind::DraftVariants } else { CalloutKind::NewVariant };
        found.push(callout(kind, more, Vec::new()));
    }
    let gone: Vec<(NumberId, VariantId)> = assigned
        .iter()
        .copied()
        .filter(|&(_, variant)| draft.variant(variant).is_none() || running.variant(variant).is_none())
        .collect();
    if !gone.is_empty() {
        let mut variants: Vec<VariantId> = gone.iter().map(|&(_, variant)| variant).collect();
        variants.sort_unstable();
        variants.dedup();
        found.push(callout(
            CalloutKind::VariantDeleted,
            variants,
            gone.into_iter().map(|(number, _)| number).collect(),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::agent::Variant;

    fn content(variants: &[u128]) -> Content {
        let variants = variants
            .iter()
            .map(|&bits| Variant {
                id: VariantId::from_bits(bits),
                name: format!("site {bits}"),
                attributes: crate::agent::Parameters::default(),
                endpoint: None,
            })
            .collect();
        Content { variants, ..Content::default() }
    }

    fn kinds(draft: &[u128], running: &[u128], assigned: &[u128]) -> Vec<CalloutKind> {
        let assigned: Vec<(NumberId, VariantId)> =
            assigned.iter().map(|&bits| (NumberId::from_bits(bits), VariantId::from_bits(bits))).collect();
        callouts(AgentId::from_bits(1), Environment::Live, &content(draft), &content(running), &assigned)
            .into_iter()
            .map(|callout| callout.kind)
            .collect()
    }

    #[test]
    fn callouts_tell_what_publishing_would_change() {
        use CalloutKind::{DraftVariants, NewVariant, VariantDeleted};
        assert_eq!(kinds(&[], &[], &[]), []);
        assert_eq!(kinds(&[1], &[], &[]), [DraftVariants]);
        assert_eq!(kinds(&[1, 2], &[1], &[1]), [NewVariant]);
        assert_eq!(kinds(&[1], &[1, 2], &[2]), [VariantDeleted], "gone from the draft, not yet published");
        assert_eq!(
            kinds(&[1], &[1], &[2]),
            [VariantDeleted],
            "gone from the running version, until reassigned"
        );
        assert_eq!(kinds(&[1, 3], &[1, 2], &[2]), [NewVariant, VariantDeleted]);
        assert_eq!(kinds(&[1], &[1, 2], &[1]), [], "nobody carries the deleted variant");
    }

    #[test]
    fn assignments_are_judged_by_what_runs_there() {
        let voice = Capabilities { voice: true, ..Capabilities::default() };
        let (draft, running) = (content(&[1, 2]), content(&[1]));
        let assignment = |variant: Option<u128>| Assignment {
            agent_id: AgentId::from_bits(1),
            environment: Environment::Live,
            variant_id: variant.map(VariantId::from_bits),
        };
        let check = |variant: Option<u128>, running: Option<&Content>, capabilities| {
            let running: Vec<_> = running.into_iter().map(|content| (Environment::Live, content)).collect();
            let facts = Facts { capabilities, running: &running, draft: &draft };
            assignment(variant).check(facts).map_err(|refusal| refusal.code)
        };
        assert_eq!(check(None, Some(&running), voice), Ok(()));
        assert_eq!(check(Some(1), Some(&running), voice), Ok(()));
        assert_eq!(check(Some(2), Some(&running), voice), Err(Code::VariantNotPublished));
        assert_eq!(check(Some(9), Some(&running), voice), Err(Code::VariantNotFound));
        assert_eq!(check(None, None, voice), Err(Code::NotPublished));
        assert_eq!(check(None, Some(&running), Capabilities::default()), Err(Code::CapabilityMissing));
    }

    /// Advice that is followed to the letter must lead to the assignment, wherever the variant is now.
    #[test]
    fn the_advice_names_every_step_from_where_it_runs() {
        use Environment::{Live, PreRelease, Sandbox};
        let voice = Capabilities { voice: true, ..Capabilities::default() };
        let (old, new) = (content(&[1]), content(&[1, 2]));
        let told = |variant: Option<u128>, running: &[(Environment, &Content)]| {
            let assignment = Assignment {
                agent_id: AgentId::from_bits(1),
                environment: Live,
                variant_id: variant.map(VariantId::from_bits),
            };
            let refusal =
                assignment.check(Facts { capabilities: voice, running, draft: &new }).unwrap_err().detail;
            refusal.replace(&AgentId::from_bits(1).to_string(), "agt_1")
        };
        expect![[r#"
            the agent runs nothing in live: only the draft has it; publish the draft with POST /v1/agents/agt_1/publish, then promote sandbox to pre_release with POST /v1/agents/agt_1/promote {"from":"sandbox","to":"pre_release"}, then promote pre_release to live with POST /v1/agents/agt_1/promote {"from":"pre_release","to":"live"}, then assign the number
            the agent runs nothing in live: sandbox has it; promote sandbox to pre_release with POST /v1/agents/agt_1/promote {"from":"sandbox","to":"pre_release"}, then promote pre_release to live with POST /v1/agents/agt_1/promote {"from":"pre_release","to":"live"}, then assign the number
            the variant `site 2` is not published to live: only the draft has it; publish the draft with POST /v1/agents/agt_1/publish, then promote sandbox to pre_release with POST /v1/agents/agt_1/promote {"from":"sandbox","to":"pre_release"}, then promote pre_release to live with POST /v1/agents/agt_1/promote {"from":"pre_release","to":"live"}, then assign the number
            the variant `site 2` is not published to live: pre_release has it; promote pre_release to live with POST /v1/agents/agt_1/promote {"from":"pre_release","to":"live"}, then assign the number
        "#]]
        .assert_eq(&format!(
            "{}\n{}\n{}\n{}\n",
            told(None, &[]),
            told(None, &[(Sandbox, &old)]),
            told(Some(2), &[(Sandbox, &old), (PreRelease, &old), (Live, &old)]),
            told(Some(2), &[(Sandbox, &new), (PreRelease, &new), (Live, &old)]),
        ));
    }
}
