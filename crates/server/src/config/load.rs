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
/// The most faults of one file that are told at once.
const FAULTS_MAX: usize = 50;
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
    /// More than one of these.
    #[error("{}", lines(.0))]
    Several(Vec<ConfigError>),
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl ConfigError {
    /// All of them as one; none where there is none.
    pub(super) fn all(mut errors: Vec<ConfigError>) -> Result<(), ConfigError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(ConfigError::Several(errors)),
        }
    }

    fn into_each(self) -> Vec<ConfigError> {
        match self {
            ConfigError::Several(errors) => errors,
            one => vec![one],
        }
    }

    /// Each by itself.
    pub fn each(&self) -> &[ConfigError] {
        match self {
            ConfigError::Several(errors) => errors,
            one => std::slice::from_ref(one),
        }
    }
}

impl Config {
    /// Reads the settings: the named file, else the one that `SWITCHBOARD_CONFIG` names, else `switchboard.toml` if it is
    /// there; then the environment. Refuses unsafe combinations.
    #[expect(clippy::disallowed_methods, reason = "this is the one file that may read the environment")]
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let named = file.map(Path::to_owned).or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
        let (table, mut errors) = match named {
            Some(path) => read_table(&path)?,
            None if Path::new(CONFIG_FILE_DEFAULT).exists() => read_table(Path::new(CONFIG_FILE_DEFAULT))?,
            None => (Table::new(), Vec::new()),
        };
        // Names that are not UTF-8 are none of ours; values that are not are shown as broken and refused by their setting.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        match Config::from_parts(table, variables) {
            // What goes together is judged once each is what it should be.
            Ok(config) if errors.is_empty() => config.check().map(|()| config),
            Ok(_) => Err(ConfigError::Several(errors)),
            Err(more) => {
                errors.extend(more.into_each());
                Err(ConfigError::Several(errors))
            }
        }
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
        let mut errors = Vec::new();
        for (variable, text) in variables {
            errors.extend(overlay(&mut table, &variable, &text).err());
        }
        ConfigError::all(errors)?;
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

/// The settings of a file that can be used, and what is wrong with the others.
fn read_table(path: &Path) -> Result<(Table, Vec<ConfigError>), ConfigError> {
    let mut text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let refuse = |said: String| ConfigError::File { path: path.to_owned(), said };
    // What is no TOML cannot be read on.
    toml::from_str::<Table>(&text).map_err(|error| refuse(error.to_string()))?;
    let mut errors = Vec::new();
    // Read as settings, for messages with line and column; each fault is blanked out, to find the next.
    while let Err(error) = toml::from_str::<Config>(&text) {
        errors.push(refuse(error.to_string()));
        let blanked = error.span().and_then(|span| without(&text, span.start));
        match blanked.filter(|rest| errors.len() < FAULTS_MAX && toml::from_str::<Table>(rest).is_ok()) {
            Some(rest) => text = rest,
            None => return Err(ConfigError::Several(errors)),
        }
    }
    let table = toml::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    Ok((table, errors))
}

/// The text with the line around a place blanked out; of a table's head, with all lines up to the next head. Lines and columns of
/// everything else stay as they are. `None` where there is nothing to blank.
fn without(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[start..];
    let is_head = |line: &str| line.trim_start().starts_with('[');
    let lines = if is_head(rest) {
        1 + rest.split('\n').skip(1).take_while(|line| !is_head(line)).count()
    } else {
        1
    };
    let length: usize = rest.split_inclusive('\n').take(lines).map(str::len).sum();
    let blank: String = rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
    (blank.trim() != rest[..length].trim()).then(|| format!("{}{blank}{}", &text[..start], &rest[length..]))
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
