//! What differs between two contents of an agent, for people: one line for each setting, named as the API names it. Stored secrets are
//! compared by their row and shown by their last characters.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::agent::{Content, Parameters};
use crate::endpoint::{Dial, Endpoint, SecretRef, Target};
use crate::fallback::Fallback;

/// The most differences that are listed; the rest is counted.
pub const DIFFERENCES_MAX: usize = 200;

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The setting, such as `endpoint.url` or `variants[Paris].attributes.site`.
    pub field: String,
    /// What it was; `None` where it was not set.
    pub before: Option<String>,
    /// What it is; `None` where it is not set any more.
    pub after: Option<String>,
}

/// What differs, at most [`DIFFERENCES_MAX`], and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// In the order in which the settings stand in the API.
    pub differences: Vec<Difference>,
    /// How many are not listed.
    pub more: usize,
}

/// Compares two contents; `None` stands for nothing at all, as before the first version.
pub fn differences(before: Option<&Content>, after: &Content) -> Differences {
    let (was, is) = (before.map(settings).unwrap_or_default(), settings(after));
    let keys: std::collections::BTreeSet<&Key> = was.keys().chain(is.keys()).collect();
    let mut found: Vec<Difference> = keys
        .into_iter()
        .filter(|key| was.get(key).map(|s| &s.identity) != is.get(key).map(|s| &s.identity))
        .map(|key| {
            let field =
                is.get(key).or(was.get(key)).map_or_else(String::new, |setting| setting.field.clone());
            let shown = |settings: &Settings| settings.get(key).map(|setting| setting.shown.clone());
            Difference { field, before: shown(&was), after: shown(&is) }
        })
        .collect();
    let more = found.len().saturating_sub(DIFFERENCES_MAX);
    found.truncate(DIFFERENCES_MAX);
    Differences { differences: found, more }
}

/// What a setting is found by in both contents: a section in the API's order, a variant's id, and the name below it.
type Key = (u8, u128, String);
type Settings = BTreeMap<Key, Setting>;

struct Setting {
    field: String,
    shown: String,
    /// What is compared: a secret's row, not its last characters.
    identity: String,
}

struct Writer<'a> {
    settings: &'a mut Settings,
    section: u8,
    variant: u128,
    prefix: String,
}

impl Writer<'_> {
    fn set(&mut self, name: &str, shown: impl Into<String>) {
        let shown = shown.into();
        self.put(name, shown.clone(), shown);
    }

    fn secret(&mut self, name: &str, secret: &SecretRef) {
        self.put(name, format!("…{}", secret.last4), secret.id.to_string());
    }

    fn put(&mut self, name: &str, shown: String, identity: String) {
        let field = format!("{}{name}", self.prefix);
        self.settings
            .insert((self.section, self.variant, name.to_owned()), Setting { field, shown, identity });
    }

    fn dial(&mut self, name: &str, dial: &Dial) {
        self.set(&format!("{name}.type"), dial.target.kind().as_str());
        match &dial.target {
            Target::Sip { uri, auth } => {
                self.set(&format!("{name}.uri"), uri.as_str());
                if let Some(auth) = auth {
                    self.set(&format!("{name}.username"), &*auth.username);
                    self.secret(&format!("{name}.password"), &auth.password);
                }
            }
            Target::Stream { url } => self.set(&format!("{name}.url"), url.as_str()),
            Target::Phone { phone_number } => {
                self.set(&format!("{name}.phone_number"), phone_number.to_string());
            }
        }
        if !matches!(dial.target, Target::Stream { .. }) {
            self.set(&format!("{name}.ring_timeout_s"), dial.ring_timeout_s.to_string());
        }
    }

    fn endpoint(&mut self, endpoint: Option<&Endpoint>) {
        match endpoint {
            None => {}
            Some(Endpoint::Dial(dial)) => self.dial("endpoint", dial),
            Some(Endpoint::Webhook(webhook)) => {
                self.set("endpoint.type", "webhook");
                self.set("endpoint.webhook_url", webhook.webhook_url.as_str());
                if let Some(secret) = &webhook.secret {
                    self.secret("endpoint.secret", secret);
                }
                if let Some(default) = &webhook.default {
                    self.dial("endpoint.default", default);
                }
            }
        }
    }

    fn parameters(&mut self, name: &str, parameters: &Parameters) {
        for (key, value) in parameters.iter() {
            self.set(&format!("{name}.{key}"), value);
        }
    }

    fn fallback(&mut self, fallback: &Fallback) {
        for (index, dial) in fallback.targets.iter().enumerate() {
            self.dial(&format!("fallback.targets[{index}]"), dial);
        }
        if let Some(message) = &fallback.message {
            self.set("fallback.message", &**message);
        }
    }
}

fn settings(content: &Content) -> Settings {
    let mut settings = Settings::new();
    let mut at = |section: u8, variant: u128, prefix: String, write: &mut dyn FnMut(&mut Writer<'_>)| {
        write(&mut Writer { settings: &mut settings, section, variant, prefix });
    };
    let draft = &content.draft;
    at(0, 0, String::new(), &mut |w| w.endpoint(draft.endpoint.as_ref()));
    at(1, 0, String::new(), &mut |w| {
        if let Some(language) = &draft.language {
            w.set("language", language.as_str());
        }
    });
    at(2, 0, String::new(), &mut |w| {
        if let Some(fallback) = &draft.fallback {
            w.fallback(fallback);
        }
    });
    at(3, 0, String::new(), &mut |w| w.parameters("call_parameters", &draft.call_parameters));
    for (index, variant) in content.variants.iter().enumerate() {
        at(4, variant.id.to_bits(), format!("variants[{}].", variant.name), &mut |w| {
            w.set("name", &*variant.name);
            w.parameters("attributes", &variant.attributes);
            w.endpoint(variant.endpoint.as_ref());
        });
        if index == 0 {
            at(4, 0, String::new(), &mut |w| {
                w.put("default_variant", variant.name.clone(), variant.id.to_string());
            });
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Draft, Language, Variant};
    use crate::endpoint::{SipAuth, SipUri};
    use crate::id::{SecretId, VariantId};

    fn parameters(entries: &[(&str, &str)]) -> Parameters {
        Parameters::check(entries.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()).unwrap()
    }

    fn content() -> Content {
        let auth = SipAuth {
            username: "us".into(),
            password: SecretRef { id: SecretId::from_bits(7), last4: "wxyz".into() },
        };
        let uri = SipUri::parse("sip:bot@agents.example.com").unwrap();
        let dial = Dial { target: Target::Sip { uri, auth: Some(auth) }, ring_timeout_s: 20 };
        let variant = |bits, name: &str, site: &str| Variant {
            id: VariantId::from_bits(bits),
            name: name.into(),
            attributes: parameters(&[("site", site)]),
            endpoint: None,
        };
        Content {
            draft: Draft {
                endpoint: Some(dial.into()),
                language: Some(Language::parse("fr").unwrap()),
                fallback: None,
                call_parameters: parameters(&[("tier", "gold")]),
            },
            variants: vec![variant(1, "Paris", "75"), variant(2, "Lyon", "69")],
        }
    }

    fn told(before: Option<&Content>, after: &Content) -> String {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".into());
        let lines: Vec<String> = differences(before, after)
            .differences
            .iter()
            .map(|d| format!("{}: {} → {}", d.field, shown(&d.before), shown(&d.after)))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn nothing_differs_from_itself() {
        assert_eq!(told(Some(&content()), &content()), "");
    }

    #[test]
    fn everything_is_new_in_the_first_version() {
        assert_eq!(
            told(None, &content()),
            "endpoint.password: – → …wxyz\n\
             endpoint.ring_timeout_s: – → 20\n\
             endpoint.type: – → sip\n\
             endpoint.uri: – → sip:bot@agents.example.com\n\
             endpoint.username: – → us\n\
             language: – → fr\n\
             call_parameters.tier: – → gold\n\
             default_variant: – → Paris\n\
             variants[Paris].attributes.site: – → 75\n\
             variants[Paris].name: – → Paris\n\
             variants[Lyon].attributes.site: – → 69\n\
             variants[Lyon].name: – → Lyon"
        );
    }

    #[test]
    fn changes_are_told_one_by_one_and_secrets_by_their_end() {
        let before = content();
        let mut after = content();
        let Some(Endpoint::Dial(dial)) = &mut after.draft.endpoint else { unreachable!() };
        let Target::Sip { auth: Some(auth), .. } = &mut std::sync::Arc::make_mut(dial).target else {
            unreachable!()
        };
        auth.password = SecretRef { id: SecretId::from_bits(8), last4: "wxyz".into() };
        after.draft.language = None;
        after.draft.fallback = Some(Fallback { targets: vec![], message: Some("Later, please.".into()) });
        after.variants.swap(0, 1);
        after.variants[1].name = "Île-de-France".into();
        assert_eq!(
            told(Some(&before), &after),
            "endpoint.password: …wxyz → …wxyz\n\
             language: fr → –\n\
             fallback.message: – → Later, please.\n\
             default_variant: Paris → Lyon\n\
             variants[Île-de-France].name: Paris → Île-de-France"
        );
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let mut after = content();
        let variant = after.variants[0].clone();
        after.variants =
            (0..300u128).map(|n| Variant { id: VariantId::from_bits(n), ..variant.clone() }).collect();
        let found = differences(None, &after);
        assert_eq!(found.differences.len(), DIFFERENCES_MAX);
        assert_eq!(found.differences.len() + found.more, 7 + 1 + 600);
    }
}
