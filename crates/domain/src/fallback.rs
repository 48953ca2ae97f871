//! Fallbacks: where a call goes when the agent cannot take it.
//!
//! A number, its agent's version and its workspace may each have a [`Fallback`]. A call tries the agent's own target first and
//! then the number's, the agent's and the workspace's targets in this order, each target once, [`CHAIN_TARGETS_MAX`] in
//! all; then the nearest level's message is spoken. [`chain`] puts the levels together and refuses what is too long;
//! [`refuse_loop`] follows telephone targets that are numbers of ours; [`check_agent`] does both for all calls of an agent.

use serde::{Deserialize, Serialize};

use crate::agent::{Content, Variant};
use crate::endpoint::{Dial, Endpoint, Target};
use crate::error::{Code, Refusal};
use crate::id::VariantId;
use crate::number::E164;

/// The most targets that one call tries, the agent's own included.
pub const CHAIN_TARGETS_MAX: usize = 5;
/// The longest spoken message, in characters: about half a minute.
pub const MESSAGE_CHARS_MAX: usize = 500;
/// What is said when no level has a message of its own.
pub const MESSAGE_DEFAULT: &str =
    "We are sorry, we cannot take your call at the moment. Please try again later.";

/// The fallback of one level: targets to try, then a message to speak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// Tried in order.
    #[serde(default)]
    pub targets: Vec<Dial>,
    /// Spoken when no target took the call.
    #[serde(default)]
    pub message: Option<String>,
}

crate::words! {
    /// Whose fallback it is, nearest to the call first.
    Level, "fallback level" {
        /// The number's own.
        Number = "number",
        /// The agent's.
        Agent = "agent",
        /// The workspace's.
        Workspace = "workspace",
    }
}

/// The levels of one call's fallback, nearest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Levels<'a> {
    /// The number's own.
    pub number: Option<&'a Fallback>,
    /// The running version's.
    pub agent: Option<&'a Fallback>,
    /// The workspace's.
    pub workspace: Option<&'a Fallback>,
}

impl<'a> Levels<'a> {
    /// The levels that are set, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = (Level, &'a Fallback)> {
        [(Level::Number, self.number), (Level::Agent, self.agent), (Level::Workspace, self.workspace)]
            .into_iter()
            .filter_map(|(level, fallback)| fallback.map(|fallback| (level, fallback)))
    }
}

/// What follows on the agent's own target: the targets of all levels in order, and the message at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Each target with the level it comes from; none stands twice.
    pub targets: Vec<(Level, &'a Dial)>,
    /// What is spoken at the end, and whose it is; `None` means [`MESSAGE_DEFAULT`].
    pub message: Option<(Level, &'a str)>,
}

/// Puts the levels together behind the agent's own target (`first`, if it has one that is always the same). A target that
/// stands in two levels is tried once. Longer than [`CHAIN_TARGETS_MAX`] in all is refused.
pub fn chain<'a>(first: Option<&Dial>, levels: Levels<'a>) -> Result<Chain<'a>, Refusal> {
    let mut targets: Vec<(Level, &'a Dial)> = Vec::new();
    for (level, fallback) in levels.iter() {
        for dial in &fallback.targets {
            let known = first.is_some_and(|first| first.target == dial.target)
                || targets.iter().any(|(_, earlier)| earlier.target == dial.target);
            if !known {
                targets.push((level, dial));
            }
        }
    }
    // A webhook's answer takes the first place too, so one place is always the agent's.
    let count = targets.len() + 1;
    if count > CHAIN_TARGETS_MAX {
        let list: Vec<String> =
            targets.iter().map(|(level, dial)| format!("{} ({level})", dial.target)).collect();
        return Err(Refusal::new(
            Code::FallbackTooLong,
            format!(
                "a call would try {count} targets: the agent's own, then {}; at most {CHAIN_TARGETS_MAX} are tried",
                list.join(", ")
            ),
        ));
    }
    let message =
        levels.iter().find_map(|(level, fallback)| fallback.message.as_deref().map(|text| (level, text)));
    Ok(Chain { targets, message })
}

/// Refuses a fallback that leads back to `from` through numbers of ours. `next` tells, for a number of ours, the telephone
/// targets that a call to it may be sent to (its endpoint's and its whole chain's), and nothing for other numbers.
pub fn refuse_loop(from: E164, targets: &[Dial], next: &dyn Fn(E164) -> Vec<E164>) -> Result<(), Refusal> {
    let mut path = vec![from];
    for dial in targets {
        if let Target::Phone { phone_number } = dial.target {
            follow(phone_number, &mut path, next)?;
        }
    }
    Ok(())
}

/// One number that an agent answers, as far as its chain of targets is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its digits.
    pub phone_number: E164,
    /// As which variant the agent answers it.
    pub variant_id: Option<VariantId>,
    /// Its own fallback.
    pub fallback: Option<&'a Fallback>,
}

/// Checks what all calls of an agent would try with this content: no chain is too long, and none goes in a circle. Of `answered`
/// only numbers with a fallback of their own matter: the others' chains are the agent's. `next` is as for [`refuse_loop`], with
/// this content in place for the numbers that the agent answers.
pub fn check_agent(
    content: &Content,
    answered: &[Answered<'_>],
    workspace: Option<&Fallback>,
    next: &dyn Fn(E164) -> Vec<E164>,
) -> Result<(), Refusal> {
    let agent = content.draft.fallback.as_ref();
    let variants: Vec<Option<&Variant>> =
        if content.variants.is_empty() { vec![None] } else { content.variants.iter().map(Some).collect() };
    let shared = Levels { number: None, agent, workspace };
    for variant in variants {
        chain(content.first_target(variant), shared)?;
        for number in telephones(content.endpoint(variant), shared) {
            follow(number, &mut Vec::new(), next)?;
        }
    }
    for number in answered.iter().filter(|number| number.fallback.is_some()) {
        let variant =
            number.variant_id.and_then(|id| content.variant(id)).or_else(|| content.default_variant());
        let levels = Levels { number: number.fallback, ..shared };
        chain(content.first_target(variant), levels).map_err(|refusal| {
            Refusal::new(refusal.code, format!("calls to {}: {}", number.phone_number, refusal.detail))
        })?;
        let mut path = vec![number.phone_number];
        for after in telephones(content.endpoint(variant), levels) {
            follow(after, &mut path, next)?;
        }
    }
    Ok(())
}

/// The telephone numbers that a call with this endpoint and these levels may be sent on to.
pub fn telephones(endpoint: Option<&Endpoint>, levels: Levels<'_>) -> Vec<E164> {
    let own = match endpoint {
        Some(Endpoint::Dial(dial)) => Some(&**dial),
        Some(Endpoint::Webhook(webhook)) => webhook.default.as_ref(),
        None => None,
    };
    own.into_iter()
        .chain(levels.iter().flat_map(|(_, fallback)| &fallback.targets))
        .filter_map(|dial| match dial.target {
            Target::Phone { phone_number } => Some(phone_number),
            Target::Sip { .. } | Target::Stream { .. } => None,
        })
        .collect()
}

fn follow(number: E164, path: &mut Vec<E164>, next: &dyn Fn(E164) -> Vec<E164>) -> Result<(), Refusal> {
    if path.contains(&number) {
        let steps: Vec<String> = path.iter().chain([&number]).map(ToString::to_string).collect();
        return Err(Refusal::new(
            Code::FallbackLoop,
            format!("the call would go in a circle: {}; remove one of these targets", steps.join(" → ")),
        ));
    }
    path.push(number);
    // The path holds the number that was called and each hop after it.
    if path.len() > CHAIN_TARGETS_MAX + 1 {
        let steps: Vec<String> = path.iter().map(ToString::to_string).collect();
        return Err(Refusal::new(
            Code::FallbackTooLong,
            format!(
                "the call would be passed on through {}; at most {CHAIN_TARGETS_MAX} hops are allowed",
                steps.join(" → ")
            ),
        ));
    }
    for after in next(number) {
        follow(after, path, next)?;
    }
    path.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(n: u64) -> Dial {
        Dial {
            target: Target::Phone { phone_number: E164::from_digits(14_385_550_100 + n).unwrap() },
            ring_timeout_s: 20,
        }
    }

    fn fallback(targets: &[u64], message: Option<&str>) -> Fallback {
        Fallback { targets: targets.iter().map(|&n| phone(n)).collect(), message: message.map(str::to_owned) }
    }

    #[test]
    fn levels_follow_one_another_and_no_target_is_tried_twice() {
        let (number, agent, workspace) = (
            fallback(&[1], None),
            fallback(&[2, 1], Some("agent says")),
            fallback(&[3], Some("workspace says")),
        );
        let levels = Levels { number: Some(&number), agent: Some(&agent), workspace: Some(&workspace) };
        let first = phone(3);
        let chain = chain(Some(&first), levels).unwrap();
        assert_eq!(chain.targets, [(Level::Number, &phone(1)), (Level::Agent, &phone(2))]);
        assert_eq!(chain.message, Some((Level::Agent, "agent says")));
    }

    #[test]
    fn the_agent_and_four_more_are_the_most() {
        let (four, five) = (fallback(&[1, 2, 3, 4], None), fallback(&[1, 2, 3, 4, 5], None));
        assert!(chain(None, Levels { agent: Some(&four), ..Levels::default() }).is_ok());
        let refused = chain(None, Levels { agent: Some(&five), ..Levels::default() }).unwrap_err();
        assert_eq!(refused.code, Code::FallbackTooLong);
    }

    #[test]
    fn all_calls_of_an_agent_are_checked_at_once() {
        fn answered(phone_number: E164, fallback: Option<&Fallback>) -> Answered<'_> {
            Answered { phone_number, variant_id: None, fallback }
        }
        let number = |n: u64| E164::from_digits(14_385_550_100 + n).unwrap();
        let with = |targets: &[u64]| Content {
            draft: crate::agent::Draft {
                fallback: Some(fallback(targets, None)),
                ..crate::agent::Draft::default()
            },
            ..Content::default()
        };
        let check = |content: &Content, own: Option<&Fallback>| {
            // Numbers 1 and 2 are answered by this agent; 7 is sent on to 2; others are not ours.
            let next = |from: E164| match from.digits() - 14_385_550_100 {
                1 | 2 => {
                    telephones(None, Levels { agent: content.draft.fallback.as_ref(), ..Levels::default() })
                }
                7 => vec![number(2)],
                _ => vec![],
            };
            check_agent(content, &[answered(number(1), own), answered(number(2), None)], None, &next)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(check(&with(&[9]), None), Ok(()));
        assert_eq!(check(&with(&[1]), None), Err(Code::FallbackLoop), "its own number");
        assert_eq!(check(&with(&[7]), None), Err(Code::FallbackLoop), "through another number");
        assert_eq!(check(&with(&[3, 4, 5]), Some(&fallback(&[6], None))), Ok(()));
        assert_eq!(check(&with(&[3, 4, 5]), Some(&fallback(&[6, 8], None))), Err(Code::FallbackTooLong));
        assert_eq!(check(&with(&[]), Some(&fallback(&[1], None))), Err(Code::FallbackLoop));
    }

    #[test]
    fn circles_are_found_through_other_numbers() {
        let number = |n: u64| E164::from_digits(14_385_550_100 + n).unwrap();
        let next = |from: E164| match from.digits() - 14_385_550_100 {
            1 => vec![number(2)],
            2 => vec![number(0)],
            _ => vec![],
        };
        let refused = refuse_loop(number(0), &[phone(1)], &next).unwrap_err();
        assert_eq!(refused.code, Code::FallbackLoop);
        assert!(
            refused.detail.contains("+14385550100 → +14385550101 → +14385550102 → +14385550100"),
            "{refused}"
        );
        assert!(refuse_loop(number(9), &[phone(7)], &next).is_ok());
        let endless = |from: E164| vec![E164::from_digits(from.digits() + 1).unwrap()];
        assert_eq!(refuse_loop(number(0), &[phone(1)], &endless).unwrap_err().code, Code::FallbackTooLong);
    }
}
