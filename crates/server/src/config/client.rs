//! What the command line's client takes from the environment. The settings of the server are another matter: these variables
//! are about somebody who talks to one, maybe on another machine.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where the API is.
const URL: &str = "SWITCHBOARD_URL";
/// The API key itself.
const KEY: &str = "SWITCHBOARD_KEY";
/// The file that holds the API key.
const KEY_FILE: &str = "SWITCHBOARD_KEY_FILE";
/// All of them: `serve` leaves them alone, although they begin like its settings.
pub(super) const VARIABLES: &[&str] = &[URL, KEY, KEY_FILE];

/// The client's environment. A key is never taken from the command line, where every process of the machine could read it.
pub struct ClientEnvironment {
    /// Where the API is.
    pub url: Option<String>,
    /// The API key.
    pub key: Option<SecretString>,
    /// The file that holds it.
    pub key_file: Option<PathBuf>,
}

impl ClientEnvironment {
    /// Reads the three variables. One that is empty counts as absent.
    #[expect(
        clippy::disallowed_methods,
        reason = "this folder is the one place that may read the environment"
    )]
    pub fn load() -> ClientEnvironment {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        ClientEnvironment {
            url: text(URL),
            key: text(KEY).map(SecretString::from),
            key_file: std::env::var_os(KEY_FILE).filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }
}

/// Whether the user asks for no colours, as <https://no-color.org> says it.
#[expect(clippy::disallowed_methods, reason = "this folder is the one place that may read the environment")]
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
