//! Settings that are each fine and together unsafe: refused when the program starts, with the reason and what to do.

use domain::money::Money;
use url::{Host, Url};

use super::{Config, ConfigError, Supply};
use crate::app::failpoint::FAILPOINTS;

impl Config {
    /// Refuses what would be unsafe, or could not work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let refusals = [
            self.listening(),
            self.public_address(),
            self.fallback_address(),
            self.key_beside_data(),
            self.supply_account(),
            self.supply_api_key(),
            self.supply_address(),
            self.leases(),
            self.failpoint(),
        ];
        let several = [self.prices(), self.purchases(), self.retention()].concat();
        let refusals = refusals.into_iter().flatten().chain(several);
        ConfigError::all(refusals.map(ConfigError::Unsafe).collect())
    }

    fn listening(&self) -> Option<String> {
        let exposed = !self.listen.ip().is_loopback()
            && self.trusted_proxies.is_empty()
            && !self.danger_listen_without_tls;
        exposed.then(|| {
            format!(
                "listen = \"{}\" is reachable from outside and would carry API keys in clear: listen on 127.0.0.1, or put a \
                 proxy that ends TLS in front and name it in trusted_proxies, or accept it with danger_listen_without_tls = true",
                self.listen
            )
        })
    }

    fn public_address(&self) -> Option<String> {
        if let Some(url) = &self.public_url {
            if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
                return Some(format!("public_url = \"{url}\" must be https://host, as carriers reach us"));
            }
            if url.scheme() == "http" && !is_loopback(url) {
                return Some(format!(
                    "public_url = \"{url}\" is not encrypted: carriers would send callers' numbers in clear; use https"
                ));
            }
            if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
                return Some(
                    "public_url must have neither a query, a fragment nor a user name: signatures are verified over it"
                        .to_owned(),
                );
            }
        }
        None
    }

    fn fallback_address(&self) -> Option<String> {
        let fallback = self.voice_fallback_url.as_ref()?;
        if fallback.scheme() != "https" && !is_loopback(fallback) {
            return Some(format!("voice_fallback_url = \"{fallback}\" must be https"));
        }
        (self.public_url.as_ref().and_then(Url::host) == fallback.host() && !is_loopback(fallback)).then(|| {
            format!(
                "voice_fallback_url = \"{fallback}\" is on the host of public_url and would be down with it; use another host"
            )
        })
    }

    fn key_beside_data(&self) -> Option<String> {
        let key = self.key_file();
        key.starts_with(&self.data_dir).then(|| {
            format!(
                "encryption_key_file = \"{}\" lies inside data_dir: whoever copies the data would have the key too; keep it elsewhere",
                key.display()
            )
        })
    }

    fn supply_account(&self) -> Option<String> {
        if self.store.supply != Some(Supply::Twilio) {
            return None;
        }
        let twilio = &self.carriers.twilio;
        if twilio.base_url.scheme() != "https" && !is_loopback(&twilio.base_url) {
            return Some(format!(
                "carriers.twilio.base_url = \"{}\" must be https: it carries the account's credentials",
                twilio.base_url
            ));
        }
        (twilio.account_sid.is_none() || twilio.auth_token.is_none()).then(|| {
            "store.supply = \"twilio\" needs carriers.twilio.account_sid and carriers.twilio.auth_token (the token \
             verifies callbacks, with an API key too)"
                .to_owned()
        })
    }

    fn supply_api_key(&self) -> Option<String> {
        let twilio = &self.carriers.twilio;
        (twilio.api_key_sid.is_some() != twilio.api_key_secret.is_some()).then(|| {
            "carriers.twilio.api_key_sid and carriers.twilio.api_key_secret belong together: set both or none".to_owned()
        })
    }

    fn supply_address(&self) -> Option<String> {
        if self.store.supply != Some(Supply::Twilio) {
            return None;
        }
        let twilio = &self.carriers.twilio;
        let Some(public_url) = &self.public_url else {
            return Some(
                "store.supply = \"twilio\" needs public_url: the address that Twilio sends calls to and signs".to_owned(),
            );
        };
        (is_loopback(public_url) && !is_loopback(&twilio.base_url)).then(|| {
            format!("public_url = \"{public_url}\" cannot be reached by Twilio: use the public https address of this server")
        })
    }

    fn leases(&self) -> Option<String> {
        let (timeout_ms, lease_ms) = (self.carriers.twilio.timeout_ms, self.purchases.lease_ms);
        (timeout_ms.saturating_mul(2) > lease_ms).then(|| {
            format!(
                "carriers.twilio.timeout_ms = {timeout_ms} must be at most half of purchases.lease_ms = {lease_ms}: a request \
                 to buy has to be over before another node may take the purchase up"
            )
        })
    }

    fn purchases(&self) -> Vec<String> {
        let (purchases, mut found) = (&self.purchases, Vec::new());
        for (name, times) in
            [("look_ups_ms", &purchases.look_ups_ms), ("late_looks_ms", &purchases.late_looks_ms)]
        {
            if times.is_empty() || !times.is_sorted() {
                found.push(format!(
                    "purchases.{name} must name at least one time, and later ones behind earlier ones: without looking, a number \
                     whose purchase got no clear answer would be asked for again blindly"
                ));
            }
        }
        if purchases.posts_max == 0 {
            found.push("purchases.posts_max = 0 would never buy anything; use 1 or more".to_owned());
        }
        found
    }

    fn retention(&self) -> Vec<String> {
        let retention = &self.retention;
        let events = (retention.events_days == 0).then_some(("events_days", "use 1 or more"));
        let calls = (retention.calls_days == Some(0))
            .then_some(("calls_days", "use 1 or more, or leave it out to keep calls for good"));
        let said = |(name, way_out): (&str, &str)| {
            format!("retention.{name} = 0 would forget everything as soon as it is there; {way_out}")
        };
        events.into_iter().chain(calls).map(said).collect()
    }

    fn failpoint(&self) -> Option<String> {
        let wanted = self.danger_failpoint.as_deref()?;
        let name = wanted.strip_suffix(":stop").unwrap_or(wanted);
        (!FAILPOINTS.contains(&name)).then(|| {
            format!(
                "danger_failpoint = \"{wanted}\" is no place to crash at; they are {}",
                FAILPOINTS.join(", ")
            )
        })
    }

    fn prices(&self) -> Vec<String> {
        let (currency, mut found) = (self.store.currency, Vec::new());
        for (country, types) in &self.store.prices {
            for (number_type, price) in types {
                for (name, amount) in [("monthly", &price.monthly), ("setup", &price.setup)] {
                    if let Err(refusal) = Money::parse(amount, currency) {
                        found
                            .push(format!("store.prices.{country}.{number_type}.{name}: {}", refusal.detail));
                    }
                }
            }
        }
        let spend = self.store.limits.monthly_spend.as_ref();
        if let Some(Err(refusal)) = spend.map(|spend| Money::parse(spend, currency)) {
            found.push(format!("store.limits.monthly_spend: {}", refusal.detail));
        }
        found
    }
}

/// Whether the URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &str) -> Option<String> {
        let config: Config = toml::from_str(settings).expect("each key alone is fine");
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_safe() {
        assert_eq!(said(""), None);
    }

    #[test]
    fn unsafe_settings_are_refused_with_the_way_out() {
        let twilio = "store.supply = \"twilio\"\ncarriers.twilio.account_sid = \"AC1\"\ncarriers.twilio.auth_token = \"t\"\n";
        for (settings, part) in [
            ("listen = \"0.0.0.0:80\"", "trusted_proxies"),
            ("listen = \"[::]:80\"", "trusted_proxies"),
            ("public_url = \"http://calls.example\"", "use https"),
            ("public_url = \"ftp://calls.example\"", "must be https"),
            ("public_url = \"https://calls.example/?x=1\"", "query"),
            (
                "public_url = \"https://calls.example\"\nvoice_fallback_url = \"https://calls.example/x\"",
                "another host",
            ),
            ("voice_fallback_url = \"http://other.example\"", "must be https"),
            ("data_dir = \"d\"\nencryption_key_file = \"d/key\"", "inside data_dir"),
            ("store.supply = \"twilio\"", "account_sid"),
            (twilio, "needs public_url"),
            (&format!("public_url = \"http://127.0.0.1:1\"\n{twilio}"), "cannot be reached"),
            (
                &format!(
                    "public_url = \"https://a.example\"\ncarriers.twilio.base_url = \"http://b.example\"\n{twilio}"
                ),
                "must be https",
            ),
            (
                &format!(
                    "public_url = \"https://a.example\"\ncarriers.twilio.api_key_sid = \"SK1\"\n{twilio}"
                ),
                "belong together",
            ),
            ("store.prices.US.local.monthly = \"1,15\"", "store.prices.US.local.monthly"),
            ("retention.events_days = 0", "use 1 or more"),
            ("retention.calls_days = 0", "for good"),
            ("store.limits.monthly_spend = \"lots\"", "store.limits.monthly_spend"),
        ] {
            let said = said(settings).unwrap_or_else(|| panic!("accepted: {settings}"));
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn the_ways_out_work() {
        for settings in [
            "listen = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.0/8\"]",
            "listen = \"0.0.0.0:80\"\ndanger_listen_without_tls = true",
            "public_url = \"http://127.0.0.1:7600\"",
            "public_url = \"https://a.example\"\nvoice_fallback_url = \"https://b.example/x\"",
            "store.supply = \"demo\"",
            "danger_failpoint = \"order_numbers.before_post:stop\"",
        ] {
            assert_eq!(said(settings), None, "{settings}");
        }
    }
}
