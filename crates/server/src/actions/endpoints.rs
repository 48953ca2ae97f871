//! Endpoints and fallbacks on their way into an agent: every address is asked of the one egress function, and a secret that was left
//! out stays what it was – but only where it goes to the same place. A stored password never follows an address to another one.

use std::sync::Arc;

use database::workspaces::workspace_find;
use domain::agent::Content;
use domain::endpoint::{Address, Dial, Endpoint, SecretRef, SipAuth, Target};
use domain::error::{Code, Refusal};
use domain::fallback::Fallback;
use domain::id::{SecretId, WorkspaceId};
use domain::number::E164;

use super::{Failure, FieldRefusal};
use crate::app::Shared;

/// Stands for a secret that was left out. No row ever has this id: ids begin with the time.
pub const LEFT_OUT: SecretId = SecretId::from_bits(0);

/// A reference to a secret that was left out.
pub fn left_out() -> SecretRef {
    SecretRef { id: LEFT_OUT, last4: String::new() }
}

/// An endpoint with its secrets in place; `was` is the one that it replaces.
pub fn endpoint_kept(
    mut endpoint: Endpoint,
    was: Option<&Endpoint>,
    path: &str,
) -> Result<Endpoint, Failure> {
    match &mut endpoint {
        Endpoint::Dial(dial) => {
            let dial = Arc::make_mut(dial);
            let known: Vec<&Dial> = match was {
                Some(Endpoint::Dial(dial)) => vec![dial],
                _ => Vec::new(),
            };
            dial_kept(dial, &known, path)?;
        }
        Endpoint::Webhook(webhook) => {
            let webhook = Arc::make_mut(webhook);
            let was = match was {
                Some(Endpoint::Webhook(was)) => Some(&**was),
                _ => None,
            };
            if webhook.secret.as_ref().is_some_and(|secret| secret.id == LEFT_OUT) {
                let same_host = |was: &&domain::endpoint::Webhook| {
                    was.webhook_url.address().host == webhook.webhook_url.address().host
                };
                webhook.secret = was.filter(same_host).and_then(|was| was.secret.clone());
            }
            let known: Vec<&Dial> = was.and_then(|was| was.default.as_ref()).into_iter().collect();
            if let Some(default) = &mut webhook.default {
                dial_kept(default, &known, &format!("{path}.default"))?;
            }
        }
    }
    Ok(endpoint)
}

/// A fallback with its secrets in place; `was` is the one that it replaces.
pub fn fallback_kept(
    mut fallback: Fallback,
    was: Option<&Fallback>,
    path: &str,
) -> Result<Fallback, Failure> {
    let known: Vec<&Dial> = was.into_iter().flat_map(|was| &was.targets).collect();
    for (place, dial) in fallback.targets.iter_mut().enumerate() {
        dial_kept(dial, &known, &format!("{path}.targets[{place}]"))?;
    }
    Ok(fallback)
}

fn dial_kept(dial: &mut Dial, known: &[&Dial], path: &str) -> Result<(), Failure> {
    let Target::Sip { uri, auth: Some(SipAuth { username, password }) } = &mut dial.target else {
        return Ok(());
    };
    if password.id != LEFT_OUT {
        return Ok(());
    }
    let kept = known.iter().find_map(|dial| match &dial.target {
        Target::Sip { uri: known, auth: Some(auth) } if known == uri && auth.username == *username => {
            Some(auth.password.clone())
        }
        _ => None,
    });
    *password = kept.ok_or_else(|| {
        Failure::field(
            format!("{path}.password"),
            Refusal::new(
                Code::Required,
                "is missing, and none is stored for this uri and username; send it (a stored password never follows an address to another place)",
            ),
        )
    })?;
    Ok(())
}

/// What a target would have us connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A host and port.
    Address(Address),
    /// A telephone number.
    PhoneNumber(E164),
}

/// Everything that an endpoint would have us connect to, with its field's path.
pub fn endpoint_places(endpoint: &Endpoint, path: &str, found: &mut Vec<(String, Place)>) {
    match endpoint {
        Endpoint::Dial(dial) => dial_places(dial, path, found),
        Endpoint::Webhook(webhook) => {
            found.push((format!("{path}.webhook_url"), Place::Address(webhook.webhook_url.address())));
            if let Some(dial) = &webhook.default {
                dial_places(dial, &format!("{path}.default"), found);
            }
        }
    }
}

/// Everything that a fallback would have us connect to, with its field's path.
pub fn fallback_places(fallback: &Fallback, path: &str, found: &mut Vec<(String, Place)>) {
    for (place, dial) in fallback.targets.iter().enumerate() {
        dial_places(dial, &format!("{path}.targets[{place}]"), found);
    }
}

/// Everything that a draft and its variants, or a version, would have us connect to.
pub fn content_places(content: &Content) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    if let Some(endpoint) = &content.draft.endpoint {
        endpoint_places(endpoint, "endpoint", &mut found);
    }
    if let Some(fallback) = &content.draft.fallback {
        fallback_places(fallback, "fallback", &mut found);
    }
    for variant in &content.variants {
        if let Some(endpoint) = &variant.endpoint {
            endpoint_places(endpoint, &format!("variants[{}].endpoint", variant.name), &mut found);
        }
    }
    found
}

fn dial_places(dial: &Dial, path: &str, found: &mut Vec<(String, Place)>) {
    match &dial.target {
        Target::Sip { uri, .. } => found.push((format!("{path}.uri"), Place::Address(uri.address()))),
        Target::Stream { url } => found.push((format!("{path}.url"), Place::Address(url.address()))),
        Target::Phone { phone_number } => {
            found.push((format!("{path}.phone_number"), Place::PhoneNumber(*phone_number)));
        }
    }
}

/// The secrets in a fallback.
pub fn fallback_secrets(fallback: Option<&Fallback>) -> Vec<SecretId> {
    fallback.into_iter().flat_map(|fallback| &fallback.targets).filter_map(dial_secret).collect()
}

/// The secrets in a draft and its variants, or in a version.
pub fn content_secrets(content: &Content) -> Vec<SecretId> {
    let variants = content.variants.iter().filter_map(|variant| variant.endpoint.as_ref());
    let mut found = fallback_secrets(content.draft.fallback.as_ref());
    for endpoint in content.draft.endpoint.iter().chain(variants) {
        match endpoint {
            Endpoint::Dial(dial) => found.extend(dial_secret(dial)),
            Endpoint::Webhook(webhook) => {
                found.extend(webhook.secret.as_ref().map(|secret| secret.id));
                found.extend(webhook.default.as_ref().and_then(dial_secret));
            }
        }
    }
    found
}

fn dial_secret(dial: &Dial) -> Option<SecretId> {
    match &dial.target {
        Target::Sip { auth: Some(auth), .. } => Some(auth.password.id),
        _ => None,
    }
}

/// Refuses what may not be reached, all at once. Asked before the transaction: it may look names up.
pub async fn places_check(
    app: &Shared,
    workspace: WorkspaceId,
    places: Vec<(String, Place)>,
) -> Result<(), Failure> {
    let is_abroad = |place: &Place| match place {
        Place::PhoneNumber(number) => app.egress.destination_check(*number, None).is_err(),
        Place::Address(_) => false,
    };
    let home = if places.iter().any(|(_, place)| is_abroad(place)) {
        let found = app.database.read(move |read| workspace_find(read, workspace)).await?;
        found.and_then(|workspace| workspace.settings.default_country)
    } else {
        None
    };
    let mut refused = Vec::new();
    for (field, place) in places {
        let checked = match place {
            Place::Address(address) => app.egress.address_check(&address).await,
            Place::PhoneNumber(number) => app.egress.destination_check(number, home),
        };
        if let Err(refusal) = checked {
            refused.push(FieldRefusal { field, refusal });
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Invalid(refused)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::endpoint::{SipUri, Webhook, WebhookUrl};

    fn sip(uri: &str, username: &str, password: SecretRef) -> Dial {
        let auth = SipAuth { username: username.to_owned(), password };
        Dial {
            target: Target::Sip { uri: SipUri::parse(uri).unwrap(), auth: Some(auth) },
            ring_timeout_s: 20,
        }
    }

    fn stored(bits: u128) -> SecretRef {
        SecretRef { id: SecretId::from_bits(bits), last4: "cdef".to_owned() }
    }

    fn password(endpoint: &Endpoint) -> Option<u128> {
        match endpoint {
            Endpoint::Dial(dial) => match &dial.target {
                Target::Sip { auth: Some(auth), .. } => Some(auth.password.id.to_bits()),
                _ => None,
            },
            Endpoint::Webhook(_) => None,
        }
    }

    #[test]
    fn a_password_stays_only_where_it_goes_to_the_same_place() {
        let was = Endpoint::from(sip("sip:a@one.example", "us", stored(7)));
        let kept = |uri, username, password| {
            endpoint_kept(sip(uri, username, password).into(), Some(&was), "endpoint")
        };
        assert_eq!(password(&kept("sip:a@one.example", "us", left_out()).unwrap()), Some(7));
        assert_eq!(password(&kept("sip:a@one.example", "us", stored(8)).unwrap()), Some(8));
        for (uri, username) in [("sip:a@two.example", "us"), ("sip:a@one.example", "them")] {
            let Err(Failure::Invalid(fields)) = kept(uri, username, left_out()) else {
                panic!("{uri} {username}")
            };
            assert_eq!((&*fields[0].field, fields[0].refusal.code), ("endpoint.password", Code::Required));
        }
    }

    #[test]
    fn a_signing_secret_stays_with_its_host() {
        let webhook = |url: &str, secret| {
            Endpoint::from(Webhook {
                webhook_url: WebhookUrl::parse(url, domain::endpoint::Plain::Refuse).unwrap(),
                secret,
                default: None,
            })
        };
        let was = webhook("https://team.example/a", Some(stored(7)));
        let secret = |url: &str, secret| match endpoint_kept(webhook(url, secret), Some(&was), "endpoint") {
            Ok(Endpoint::Webhook(webhook)) => webhook.secret.as_ref().map(|secret| secret.id.to_bits()),
            _ => panic!("{url}"),
        };
        assert_eq!(secret("https://team.example/b", Some(left_out())), Some(7));
        assert_eq!(secret("https://other.example/", Some(left_out())), None);
        assert_eq!(secret("https://team.example/a", None), None, "cleared");
    }

    #[test]
    fn fallback_targets_keep_theirs_wherever_they_stand() {
        let was = Fallback {
            targets: vec![sip("sip:a@x.example", "u", stored(1)), sip("sip:b@x.example", "u", stored(2))],
            message: None,
        };
        let new = Fallback { targets: vec![sip("sip:b@x.example", "u", left_out())], message: None };
        let kept = fallback_kept(new, Some(&was), "fallback").unwrap();
        assert_eq!(password(&kept.targets[0].clone().into()), Some(2));
    }
}
