//! Agents: the draft that people edit, the variants in it, and the version that publishing freezes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Dial, Endpoint};
use crate::error::{Code, Refusal, shown};
use crate::fallback::Fallback;
use crate::id::VariantId;

/// The longest name of an agent or variant, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// The most variants of one agent.
pub const VARIANTS_MAX: usize = 500;
/// The most call parameters, and the most attributes of a variant.
pub const PARAMETERS_MAX: usize = 20;
/// The most that a parameter's name and value have together, in bytes: carriers take less than 500.
pub const PARAMETER_BYTES_MAX: usize = 450;
/// The longest parameter name, in bytes.
pub const PARAMETER_NAME_BYTES_MAX: usize = 40;
/// Names that begin like this are ours.
pub const PARAMETER_RESERVED: &str = "switchboard_";

/// What people edit, variants apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// How calls reach the agent.
    pub endpoint: Option<Endpoint>,
    /// What it speaks first, and what messages are spoken in.
    pub language: Option<Language>,
    /// Where its calls go when it cannot take them.
    pub fallback: Option<Fallback>,
    /// Sent along with each call.
    #[serde(default)]
    pub call_parameters: Parameters,
}

/// One agent, many sites: what differs at one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Its id, the same in draft and versions.
    pub id: VariantId,
    /// What people call it; once per agent.
    pub name: String,
    /// Sent along with each call, over the agent's call parameters of the same name.
    #[serde(default)]
    pub attributes: Parameters,
    /// Its own endpoint, instead of the agent's.
    pub endpoint: Option<Endpoint>,
}

/// What a version holds: a draft and its variants, frozen. The first variant is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The draft as it was.
    #[serde(flatten)]
    pub draft: Draft,
    /// Its variants, the default first; empty where the agent uses none.
    #[serde(default)]
    pub variants: Vec<Variant>,
}

impl Content {
    /// The variant that answers a number without one.
    pub fn default_variant(&self) -> Option<&Variant> {
        self.variants.first()
    }

    /// A variant by its id.
    pub fn variant(&self, id: VariantId) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.id == id)
    }

    /// The endpoint that answers with this variant: its own, or the agent's.
    pub fn endpoint<'a>(&'a self, variant: Option<&'a Variant>) -> Option<&'a Endpoint> {
        variant.and_then(|variant| variant.endpoint.as_ref()).or(self.draft.endpoint.as_ref())
    }

    /// Refuses what cannot run: an agent, or one of its variants, that no call could reach.
    pub fn check_publishable(&self) -> Result<(), Refusal> {
        if self.variants.is_empty() && self.draft.endpoint.is_none() {
            return Err(Refusal::new(
                Code::NothingToPublish,
                "the draft has no endpoint, so no call could reach the agent; set one with PATCH /v1/agents/{id}/draft",
            ));
        }
        if self.draft.endpoint.is_none()
            && let Some(bare) = self.variants.iter().find(|variant| variant.endpoint.is_none())
        {
            return Err(Refusal::new(
                Code::NothingToPublish,
                format!(
                    "neither the draft nor the variant {} has an endpoint, so no call could reach it; set one with PATCH /v1/agents/{{id}}/draft",
                    shown(&bare.name)
                ),
            ));
        }
        Ok(())
    }

    /// The target that every call of this variant tries first, if it is always the same (a webhook decides per call).
    pub fn first_target<'a>(&'a self, variant: Option<&'a Variant>) -> Option<&'a Dial> {
        match self.endpoint(variant)? {
            Endpoint::Dial(dial) => Some(dial),
            Endpoint::Webhook(webhook) => webhook.default.as_ref(),
        }
    }
}

/// Names and values that travel with a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Checks names, sizes and count.
    pub fn check(entries: BTreeMap<String, String>) -> Result<Parameters, Refusal> {
        if entries.len() > PARAMETERS_MAX {
            return Err(Refusal::new(
                Code::TooMany,
                format!("there are {} entries; at most {PARAMETERS_MAX} travel with a call", entries.len()),
            ));
        }
        for (name, value) in &entries {
            Self::check_entry(name, value)?;
        }
        Ok(Parameters(entries))
    }

    /// Checks one name and its value.
    pub fn check_entry(name: &str, value: &str) -> Result<(), Refusal> {
        let well_named = (1..=PARAMETER_NAME_BYTES_MAX).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !well_named {
            return Err(Refusal::new(
                Code::InvalidValue,
                format!(
                    "the name {} cannot travel in a SIP header; use a letter, then letters, digits, _ and -, at most {PARAMETER_NAME_BYTES_MAX} in all",
                    shown(name)
                ),
            ));
        }
        if name.to_ascii_lowercase().starts_with(PARAMETER_RESERVED) {
            return Err(Refusal::new(
                Code::InvalidValue,
                format!(
                    "the name {} begins with {PARAMETER_RESERVED}, which is kept for what Switchboard itself sends; choose another",
                    shown(name)
                ),
            ));
        }
        if name.len() + value.len() > PARAMETER_BYTES_MAX {
            return Err(Refusal::new(
                Code::TooLong,
                format!(
                    "the entry {} has {} bytes; name and value have at most {PARAMETER_BYTES_MAX} together",
                    shown(name),
                    name.len() + value.len()
                ),
            ));
        }
        if let Some(c) = value.chars().find(|c| c.is_control()) {
            return Err(Refusal::new(
                Code::ControlCharacter,
                format!(
                    "the value of {} holds the control character U+{:04X}, which cannot travel in a SIP header",
                    shown(name),
                    c as u32
                ),
            ));
        }
        Ok(())
    }

    /// The entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and over them the others.
    #[must_use]
    pub fn overlaid(&self, over: &Parameters) -> Parameters {
        let mut merged = self.0.clone();
        merged.extend(over.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        Parameters(merged)
    }
}

/// A language tag (BCP 47): a language, and perhaps a script and a region. `en-US`, `fr`, `zh-Hant-TW`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Language(String);

impl Language {
    /// Reads a tag and writes it in its usual letter case.
    pub fn parse(text: &str) -> Result<Language, Refusal> {
        let refuse = || {
            Refusal::new(
                Code::BadLanguage,
                format!("{} is not a language tag; send one such as en-US, fr or zh-Hant-TW", shown(text)),
            )
        };
        let mut parts = text.split('-');
        let language = parts
            .next()
            .filter(|part| matches!(part.len(), 2 | 3) && part.bytes().all(|b| b.is_ascii_alphabetic()))
            .ok_or_else(refuse)?;
        let mut written = language.to_ascii_lowercase();
        let mut rest = parts.peekable();
        if let Some(script) =
            rest.next_if(|part| part.len() == 4 && part.bytes().all(|b| b.is_ascii_alphabetic()))
        {
            written.push('-');
            written.push_str(&script[..1].to_ascii_uppercase());
            written.push_str(&script[1..].to_ascii_lowercase());
        }
        if let Some(region) = rest.next_if(|part| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_alphabetic()))
                || (part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit()))
        }) {
            written.push('-');
            written.push_str(&region.to_ascii_uppercase());
        }
        if rest.next().is_some() {
            return Err(refuse());
        }
        Ok(Language(written))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_tags_are_written_one_way() {
        for (text, tag) in
            [("en-us", "en-US"), ("FR", "fr"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419")]
        {
            assert_eq!(Language::parse(text).unwrap().as_str(), tag);
        }
        for text in ["", "e", "english", "en_US", "en-", "en-US-x-y", "en US"] {
            assert_eq!(Language::parse(text).unwrap_err().code, Code::BadLanguage, "{text:?}");
        }
    }

    #[test]
    fn parameters_that_cannot_travel_are_refused() {
        let check = |name: &str, value: &str| {
            Parameters::check(BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert!(check("site", "Montréal").is_ok());
        assert_eq!(check("switchboard_call", "x").unwrap_err().code, Code::InvalidValue);
        assert_eq!(check("a b", "x").unwrap_err().code, Code::InvalidValue);
        assert_eq!(check("a", "x\r\nVia: y").unwrap_err().code, Code::ControlCharacter);
        assert_eq!(check("a", &"x".repeat(500)).unwrap_err().code, Code::TooLong);
    }
}
