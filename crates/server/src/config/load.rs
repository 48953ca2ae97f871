//! Reading the settings: defaults, then the file, then the environment, each stronger than the one before.

use std::path::{Path, PathBuf};

use domain::error::shown;
use toml::{Table, Value};

use super::Config;

/// Read where no other file is named, if it is there.
pub const CONFIG_FILE_DEFAULT: &str = "switchboard.toml";
/// What the names of our environment variables begin with.
const PREFIX: &str = "SWITCHBOARD_";
/// Names the file.
const FILE_VARIABLE: &str = "SWITCHBOARD_CONFIG";
/// Variables that begin like this belong to the test suite.
const TEST_PREFIX: &str = "SWITCHBOARD_TEST_";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("failed to read the settings file {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold settings.
    #[error("the settings file {} has an error: {said}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        said: String,
    },
    /// A variable is no setting, or has no usable value. The value is not repeated: it may be a secret.
    #[error("the environment variable {variable} cannot be used: {said}")]
    Variable {
        /// Which variable.
        variable: String,
        /// What is wrong.
        said: String,
    },
    /// The settings would be unsafe together.
    #[error("{0}")]
    Unsafe(String),
}

impl Config {
    /// Reads the settings: the named file, else the one that `SWITCHBOARD_CONFIG` names, else `switchboard.toml` if it is
    /// there; then the environment. Refuses unsafe combinations.
    #[expect(clippy::disallowed_methods, reason = "this is the one file that may read the environment")]
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let named = file.map(Path::to_owned).or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
        let table = match named {
            Some(path) => read_table(&path)?,
            None if Path::new(CONFIG_FILE_DEFAULT).exists() => read_table(Path::new(CONFIG_FILE_DEFAULT))?,
            None => Table::new(),
        };
        // Names that are not UTF-8 are none of ours; values that are not are shown as broken and refused by their setting.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        let config = Config::from_parts(table, variables)?;
        config.check()?;
        Ok(config)
    }

    /// Puts a settings table and variables together. `table` must have been read without error by itself.
    pub(super) fn from_parts(
        mut table: Table,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut variables: Vec<(String, String)> = variables
            .filter(|(name, _)| {
                name.starts_with(PREFIX)
                    && name != FILE_VARIABLE
                    && !name.starts_with(TEST_PREFIX)
                    && !super::client::VARIABLES.contains(&name.as_str())
            })
            .collect();
        variables.sort();
        for (variable, text) in variables {
            overlay(&mut table, &variable, &text)?;
        }
        Ok(table.try_into().expect("each overlay was tried when it was made"))
    }
}

/// Sets one variable: as text if the setting takes a text, else as the TOML value that is written there.
fn overlay(table: &mut Table, variable: &str, text: &str) -> Result<(), ConfigError> {
    let path: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    let tried = |value: Value| -> Result<Table, String> {
        let mut next = table.clone();
        if !place(&mut next, &path, value) {
            return Err(format!("{} is no table of settings", path.join(".")));
        }
        match Config::deserialize_table(next.clone()) {
            Ok(_) => Ok(next),
            Err(error) => Err(error),
        }
    };
    let as_text = tried(Value::String(text.to_owned()));
    let outcome = match (as_text, toml::from_str::<Table>(&format!("value = {text}"))) {
        (Ok(next), _) => Ok(next),
        (Err(_), Ok(mut parsed)) if parsed.len() == 1 => {
            tried(parsed.remove("value").expect("it was just written"))
        }
        (Err(said), _) => Err(said),
    };
    match outcome {
        Ok(next) => {
            *table = next;
            Ok(())
        }
        // What serde says may quote the value.
        Err(said) => {
            Err(ConfigError::Variable { variable: shown(variable), said: said.replace(text, "(value)") })
        }
    }
}

fn place(table: &mut Table, path: &[String], value: Value) -> bool {
    match path {
        [] => false,
        [last] => {
            table.insert(last.clone(), value);
            true
        }
        [first, rest @ ..] => {
            match table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(inner) => place(inner, rest, value),
                _ => false,
            }
        }
    }
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let refuse = |said: String| ConfigError::File { path: path.to_owned(), said };
    // Read as settings first, for its messages with line and column.
    toml::from_str::<Config>(&text).map_err(|error| refuse(error.to_string()))?;
    toml::from_str(&text).map_err(|error| refuse(error.to_string()))
}

impl Config {
    fn deserialize_table(table: Table) -> Result<Config, String> {
        table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../config.example.toml");

    fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Config::from_parts(Table::new(), variables)
    }

    #[test]
    fn the_example_is_the_defaults() {
        let example: Config = toml::from_str(EXAMPLE).expect("the example can be read");
        assert_eq!(format!("{example:#?}"), format!("{:#?}", Config::default()));
    }

    /// Every key of every table stands in the example, with a comment above it, and its commented-out lines can be read too.
    #[test]
    fn the_example_holds_every_key() {
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("#") {
                Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting,
                _ => line,
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let table: Table = toml::from_str(&uncommented).expect("with its optional keys it is TOML");
        Config::deserialize_table(table.clone()).expect("with its optional keys it is settings");
        for section in [
            "",
            "store",
            "store.limits",
            "purchases",
            "reconcile",
            "carriers",
            "carriers.twilio",
            "egress",
            "retention",
            "audit",
            "limits",
            "log",
        ] {
            let path: Vec<&str> = section.split('.').filter(|part| !part.is_empty()).collect();
            let here = path.iter().fold(&table, |table, part| table[*part].as_table().expect("a table"));
            for key in keys_of(&path) {
                assert!(here.contains_key(&key), "config.example.toml lacks {section} {key}");
            }
        }
    }

    /// Asks serde: its refusal of an unknown key lists the known ones.
    fn keys_of(path: &[&str]) -> Vec<String> {
        let mut table = Table::new();
        let path: Vec<String> = path.iter().copied().chain(["no_such_key"]).map(str::to_owned).collect();
        assert!(place(&mut table, &path, Value::Integer(1)));
        let said = Config::deserialize_table(table).expect_err("there is no such key");
        let (_, list) = said.split_once("expected").expect("serde lists what it expected");
        let keys: Vec<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!keys.is_empty(), "{said}");
        keys
    }

    #[test]
    fn each_kind_of_value_can_come_from_the_environment() {
        let config = with(&[
            ("SWITCHBOARD_LISTEN", "127.0.0.1:80"),
            ("SWITCHBOARD_STORE__SUPPLY", "demo"),
            ("SWITCHBOARD_STORE__LIMITS__BUYS_PER_DAY", "3"),
            ("SWITCHBOARD_STORE__PRICES", r#"{ US = { local = { monthly = "1.15" } } }"#),
            ("SWITCHBOARD_PURCHASES__LOOK_UPS_MS", "[50, 300]"),
            ("SWITCHBOARD_CARRIERS__TWILIO__AUTH_TOKEN", "0123456789"),
            ("SWITCHBOARD_DATABASE_NOTIFICATIONS", "false"),
            ("SWITCHBOARD_CONFIG", "elsewhere.toml"),
            ("SWITCHBOARD_TEST_POSTGRES_URL", "postgres://"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.listen.port(), 80);
        assert_eq!(config.store.supply, Some(super::super::Supply::Demo));
        assert_eq!(config.store.limits.buys_per_day, 3);
        assert_eq!(config.store.prices.len(), 1);
        assert_eq!(config.purchases.look_ups_ms, [50, 300]);
        assert_eq!(config.carriers.twilio.auth_token.unwrap().expose(), "0123456789", "digits stay a text");
        assert!(!config.database_notifications);
    }

    #[test]
    fn what_is_no_setting_is_refused_without_showing_a_value() {
        for (variable, value, part) in [
            ("SWITCHBOARD_LISTE", "s3cret", "unknown field"),
            ("SWITCHBOARD_STORE__SUPLY", "s3cret", "unknown field"),
            ("SWITCHBOARD_LISTEN__PORT", "s3cret", ""),
            ("SWITCHBOARD_STORE__LIMITS__BUYS_PER_DAY", "s3cret", "invalid type"),
            ("SWITCHBOARD_STORE__SUPPLY", "telnyx", "not built yet"),
        ] {
            let said = with(&[(variable, value)]).expect_err(variable).to_string();
            assert!(said.contains(part) && said.contains(variable), "{said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}
