//! URLs in settings, read from text.

use serde::Deserialize as _;
use serde::Deserializer;
use url::Url;

pub(super) fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    Url::parse(&text).map_err(|why| {
        serde::de::Error::custom(format!(
            "{} is not a URL ({why}); write one like https://calls.example.com",
            domain::error::shown(&text)
        ))
    })
}

pub(super) fn url_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    url(deserializer).map(Some)
}
