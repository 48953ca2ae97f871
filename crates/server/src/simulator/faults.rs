//! Misbehaviour on demand: rules that say when the simulated carrier does what carriers sometimes do.
//!
//! Rules are counted and drawn from a seed, so that the same requests in the same order meet the same faults. This
//! file only chooses; `router` and `callbacks` carry out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::form::mix;

/// The most rules at a time.
const RULES_MAX: usize = 100;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It takes this long before anything happens. With a `callback.…` operation, the callback is sent late.
    Slow { ms: u64 },
    /// 429 without effect, with or without `Retry-After`.
    TooManyRequests {
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// A 5xx without effect.
    ErrorBefore {
        #[serde(default = "unavailable")]
        status: u16,
    },
    /// The effect, then a 5xx.
    ErrorAfter {
        #[serde(default = "unavailable")]
        status: u16,
    },
    /// The connection is closed without an answer, and nothing happened.
    DropBefore,
    /// The connection is closed without an answer, but it did happen.
    DropAfter,
    /// The effect, and half of the answer; with `connection`, the other half is announced and never comes.
    TruncatedJson {
        #[serde(default)]
        connection: bool,
    },
    /// A proxy's HTML page with status 502, before the effect or after it.
    #[serde(rename = "html_502")]
    Html502 {
        #[serde(default)]
        after: bool,
    },
    /// An error at once, and the effect that many seconds later, even over a restart.
    LateEffect {
        seconds: u64,
        #[serde(default = "gateway_timeout")]
        status: u16,
    },
    /// Numbers bought less than that many seconds ago are missing from listings.
    ListLag { seconds: u64 },
    /// Pages but the first begin that many items further on (skipping) or, negative, further back (repeating).
    ListShift { by: isize },
    /// The callback is sent that many times more, at the same moment.
    CallbackDuplicate {
        #[serde(default = "one")]
        copies: u8,
    },
    /// The status callback waits until the call's next one has been sent.
    CallbackReorder,
    /// The callback's signature is wrong.
    CallbackBadSignature,
}

fn unavailable() -> u16 {
    503
}

fn gateway_timeout() -> u16 {
    504
}

fn one() -> u8 {
    1
}

impl Kind {
    fn for_callbacks(&self, rule: &Matcher) -> bool {
        match self {
            Self::CallbackDuplicate { .. } | Self::CallbackReorder | Self::CallbackBadSignature => true,
            Self::Slow { .. } => rule.operation.as_deref().is_some_and(|name| name.starts_with("callback.")),
            _ => false,
        }
    }
}

/// When a rule strikes. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
struct Matcher {
    /// `GET`, `POST`, `DELETE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// A part of the path, or of the callback's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// `numbers.create`, `callback.voice`, …; `numbers.*` for all of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// How likely, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    /// Only every so many matching requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<u64>,
    /// Let so many matching requests pass first.
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<u64>,
    /// Strike so many times and then no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Rule {
    #[serde(flatten)]
    matcher: Matcher,
    #[serde(flatten)]
    kind: Kind,
    #[serde(skip_deserializing)]
    seen: u64,
    #[serde(skip_deserializing)]
    struck: u64,
    #[serde(skip)]
    chance: u64,
}

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    seed: u64,
    added: u64,
}

/// A request, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) operation: &'a str,
}

/// What to do to one request of the REST interface.
#[derive(Debug, Default)]
pub(crate) struct RequestPlan {
    pub(crate) delay: Duration,
    pub(crate) hidden_for: Option<Duration>,
    pub(crate) shift: isize,
    /// The first matching rule of those that end in a bad answer.
    pub(crate) fault: Option<Kind>,
}

/// What to do to one callback.
#[derive(Debug, Default)]
pub(crate) struct CallbackPlan {
    pub(crate) delay: Duration,
    pub(crate) copies: u8,
    pub(crate) reorder: bool,
    pub(crate) bad_signature: bool,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), seed, added: 0 }
    }

    /// Adds the rules of a JSON list; all of them or, where one is wrong, none.
    pub(crate) fn add(&mut self, list: Value) -> anyhow::Result<()> {
        const KNOWN: [&str; 16] = [
            "method",
            "path",
            "operation",
            "probability",
            "every",
            "skip",
            "after",
            "times",
            "kind",
            "ms",
            "retry_after",
            "status",
            "connection",
            "seconds",
            "by",
            "copies",
        ];
        let Value::Array(list) = list else { anyhow::bail!("expected a JSON list of rules") };
        ensure!(self.rules.len() + list.len() <= RULES_MAX, "more than {RULES_MAX} rules");
        let mut rules = Vec::new();
        for (at, value) in list.into_iter().enumerate() {
            let fields = value.as_object().with_context(|| format!("rule {at} is not an object"))?;
            // Flattened structures cannot refuse unknown fields, and a misspelt rule must not pass as a mild one.
            if let Some(unknown) = fields.keys().find(|key| !KNOWN.contains(&key.as_str())) {
                anyhow::bail!("rule {at} has an unknown field {unknown:?}; known: {}", KNOWN.join(", "));
            }
            let mut rule: Rule =
                serde_json::from_value(value).with_context(|| format!("rule {at} is not a rule"))?;
            ensure!(
                rule.matcher.probability.is_none_or(|p| (0.0..=1.0).contains(&p)),
                "rule {at}: probability must be between 0 and 1"
            );
            ensure!(rule.matcher.every != Some(0), "rule {at}: every must be at least 1");
            rule.chance = mix(self.seed ^ mix(self.added + at as u64));
            rules.push(rule);
        }
        self.added += rules.len() as u64;
        self.rules.append(&mut rules);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The rules with how often each was met and struck.
    pub(crate) fn body(&self) -> Value {
        json!(self.rules)
    }

    pub(crate) fn for_request(&mut self, target: Target<'_>) -> RequestPlan {
        let mut plan = RequestPlan::default();
        for kind in self.strike(target, false) {
            match kind {
                Kind::Slow { ms } => plan.delay += Duration::from_millis(ms),
                Kind::ListLag { seconds } => plan.hidden_for = Some(Duration::from_secs(seconds)),
                Kind::ListShift { by } => plan.shift += by,
                other => plan.fault = plan.fault.or(Some(other)),
            }
        }
        plan
    }

    pub(crate) fn for_callback(&mut self, target: Target<'_>) -> CallbackPlan {
        let mut plan = CallbackPlan::default();
        for kind in self.strike(target, true) {
            match kind {
                Kind::Slow { ms } => plan.delay += Duration::from_millis(ms),
                Kind::CallbackDuplicate { copies } => plan.copies += copies,
                Kind::CallbackReorder => plan.reorder = true,
                Kind::CallbackBadSignature => plan.bad_signature = true,
                _ => {}
            }
        }
        plan
    }

    fn strike(&mut self, target: Target<'_>, callback: bool) -> Vec<Kind> {
        self.rules
            .iter_mut()
            .filter(|rule| rule.kind.for_callbacks(&rule.matcher) == callback)
            .filter_map(|rule| rule.strikes(target).then(|| rule.kind.clone()))
            .collect()
    }
}

impl Rule {
    fn strikes(&mut self, target: Target<'_>) -> bool {
        let matcher = &self.matcher;
        let operation_fits = |wanted: &str| match wanted.strip_suffix('*') {
            Some(start) => target.operation.starts_with(start),
            None => target.operation == wanted,
        };
        let fits = matcher.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(target.method))
            && matcher.path.as_deref().is_none_or(|part| target.path.contains(part))
            && matcher.operation.as_deref().is_none_or(operation_fits);
        if !fits {
            return false;
        }
        self.seen += 1;
        let skip = matcher.skip.unwrap_or(0);
        if self.seen <= skip
            || matcher.times.is_some_and(|times| self.struck >= times)
            || matcher.every.is_some_and(|every| !(self.seen - skip).is_multiple_of(every))
        {
            return false;
        }
        if let Some(probability) = matcher.probability {
            self.chance = mix(self.chance);
            // 53 bits make a fraction exactly.
            #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
            let drawn = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
            if drawn >= probability {
                return false;
            }
        }
        self.struck += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUY: Target<'_> = Target {
        method: "POST",
        path: "/2010-04-01/Accounts/AC1/IncomingPhoneNumbers.json",
        operation: "numbers.create",
    };
    const LIST: Target<'_> = Target { method: "GET", operation: "numbers.list", ..BUY };

    fn struck(faults: &mut Faults, target: Target<'_>, requests: usize) -> Vec<usize> {
        (1..=requests).filter(|_| faults.for_request(target).fault.is_some()).collect()
    }

    #[test]
    fn rules_match_and_count() {
        let mut faults = Faults::new(1);
        faults.add(json!([{"operation": "numbers.create", "every": 3, "skip": 1, "times": 2, "kind": "drop_after"}])).unwrap();
        assert!(struck(&mut faults, LIST, 5).is_empty());
        assert_eq!(struck(&mut faults, BUY, 12), [4, 7]);
        assert_eq!(faults.body()[0]["struck"], 2);
        faults.clear();
        assert!(struck(&mut faults, BUY, 3).is_empty());
    }

    #[test]
    fn the_same_seed_draws_the_same_faults() {
        let draw = |seed| {
            let mut faults = Faults::new(seed);
            faults
                .add(json!([{"method": "POST", "probability": 0.3, "kind": "error_before", "status": 500}]))
                .unwrap();
            struck(&mut faults, BUY, 200)
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert!((30..90).contains(&draw(5).len()), "{}", draw(5).len());
    }

    #[test]
    fn slowness_adds_up_and_the_first_bad_answer_wins() {
        let mut faults = Faults::new(1);
        faults
            .add(json!([
                {"kind": "slow", "ms": 100},
                {"kind": "slow", "ms": 50, "path": "IncomingPhoneNumbers"},
                {"kind": "too_many_requests", "retry_after": 2},
                {"kind": "html_502"},
                {"kind": "callback_bad_signature", "operation": "callback.voice"},
            ]))
            .unwrap();
        let plan = faults.for_request(BUY);
        assert_eq!(plan.delay, Duration::from_millis(150));
        assert_eq!(plan.fault, Some(Kind::TooManyRequests { retry_after: Some(2) }));
        let voice = Target { method: "POST", path: "http://127.0.0.1/voice", operation: "callback.voice" };
        assert!(faults.for_callback(voice).bad_signature);
        assert!(!faults.for_callback(Target { operation: "callback.status", ..voice }).bad_signature);
    }

    #[test]
    fn wrong_rules_are_refused_whole() {
        let mut faults = Faults::new(1);
        for wrong in [
            json!({"kind": "slow", "ms": 1}),
            json!([{"kind": "slow"}]),
            json!([{"kind": "explode"}]),
            json!([{"kind": "drop_after", "probabillity": 0.5}]),
            json!([{"kind": "drop_after"}, {"kind": "drop_after", "probability": 1.5}]),
            json!([{"kind": "drop_after", "every": 0}]),
        ] {
            assert!(faults.add(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(faults.body(), json!([]));
    }
}
