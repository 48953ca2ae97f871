//! Who supplies the store's numbers: the one place that makes a carrier from the settings. Everybody else asks the [`Carrier`].

use std::sync::Arc;
use std::time::Duration;

use carriers::Carrier;
use carriers::http::Timeouts;
use carriers::twilio::{Credentials, Settings, TwilioClient};
use secrecy::SecretString;

use crate::config::{Config, Supply, is_loopback};

/// The carrier that the settings name; none where they name no supply.
pub(super) fn carrier(config: &Config) -> anyhow::Result<Option<Arc<dyn Carrier>>> {
    let Some(supply) = config.store.supply else { return Ok(None) };
    let twilio = &config.carriers.twilio;
    let (Some(account_sid), Some(auth_token)) = (&twilio.account_sid, &twilio.auth_token) else {
        anyhow::bail!(
            "store.supply = {} needs carriers.twilio.account_sid and carriers.twilio.auth_token{}",
            match supply {
                Supply::Twilio => "\"twilio\"",
                Supply::Demo => "\"demo\"",
            },
            match supply {
                Supply::Twilio => "",
                Supply::Demo =>
                    " of a simulator: start one with `switchboard simulator`, which prints them, or run `switchboard demo`",
            }
        );
    };
    anyhow::ensure!(
        supply == Supply::Twilio || is_loopback(&twilio.base_url),
        "store.supply = \"demo\" sells numbers of the built-in simulator: set carriers.twilio.base_url to its address, such \
         as http://127.0.0.1:4010"
    );
    let (user, password) = match (&twilio.api_key_sid, &twilio.api_key_secret) {
        (Some(sid), Some(secret)) => (sid, secret),
        _ => (account_sid, auth_token),
    };
    let client = TwilioClient::new(Settings {
        base_url: twilio.base_url.clone(),
        account_sid: account_sid.clone(),
        credentials: Credentials {
            user: user.clone(),
            password: SecretString::from(password.expose().to_owned()),
        },
        timeouts: Timeouts {
            connect: Duration::from_millis(twilio.connect_timeout_ms),
            total: Duration::from_millis(twilio.timeout_ms),
        },
        read_tries: twilio.read_tries,
    })?;
    Ok(Some(Arc::new(client)))
}
