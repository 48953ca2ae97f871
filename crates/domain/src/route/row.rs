//! What routes are built from: one row for each number, each version that runs somewhere, each workspace, each secret that a
//! call may need. Plain facts as the database has them; building judges nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::{Content, Language};
use crate::assignment::Assignment;
use crate::call::Ingress;
use crate::caller::CallerRules;
use crate::environment::Environment;
use crate::fallback::Fallback;
use crate::hours::{Hours, Zone};
use crate::id::{AgentId, NumberId, SecretId, VersionId, WorkspaceId};
use crate::number::E164;
use crate::workspace::WorkspaceSettings;

/// Everything a route table is built from or changed by. In a change, `None` in the second place means: gone.
#[derive(Clone, Debug)]
pub enum Row {
    /// A number that takes calls.
    Number((Ingress, E164), Option<NumberRow>),
    /// What an agent runs in one environment.
    Running((AgentId, Environment), Option<RunningRow>),
    /// A workspace's settings.
    Workspace(WorkspaceId, Option<WorkspaceRow>),
    /// A secret's ciphertext; only whoever holds the key can open it.
    Secret(SecretId, Option<Arc<[u8]>>),
}

/// One number that takes calls.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberRow {
    /// Its id.
    pub number_id: NumberId,
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// The 128 random bits in the path of its callbacks.
    pub callback_token: CallbackToken,
    /// Who answers it, if anybody.
    pub assignment: Option<Assignment>,
    /// What is set on the number itself; most have nothing.
    pub own: Option<Box<NumberSettings>>,
}

/// The 128 random bits in the path of a number's callbacks. It is no secret to the carrier, but nobody else can guess it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CallbackToken(pub [u8; 16]);

/// The settings of one number that calls depend on, where it differs from its agent and workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NumberSettings {
    /// Whom it answers.
    #[serde(default)]
    pub inbound: Option<CallerRules>,
    /// Tried before the agent's and the workspace's fallback.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// When it answers as usual.
    #[serde(default)]
    pub hours: Option<Hours>,
    /// Instead of the agent's.
    #[serde(default)]
    pub language: Option<Language>,
    /// Instead of the workspace's.
    #[serde(default)]
    pub time_zone: Option<Zone>,
}

/// What an agent runs in one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningRow {
    /// The version's id.
    pub version_id: VersionId,
    /// The version's number.
    pub version: u32,
    /// The agent's name, for explanations.
    pub agent_name: Arc<str>,
    /// What it holds.
    pub content: Arc<Content>,
}

/// A workspace's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkspaceRow {
    /// The settings.
    pub settings: WorkspaceSettings,
}

impl CallbackToken {
    /// As it stands in the path: 32 hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// Reads 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<CallbackToken> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut token = [0; 16];
        let mut seen = 0;
        for (byte, pair) in token.iter_mut().zip(digits.chunks_exact(2)) {
            let (upper, lower) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            seen |= upper | lower;
            *byte = upper << 4 | lower & 15;
        }
        (seen != NO_DIGIT).then_some(CallbackToken(token))
    }
}

/// What each byte stands for; 255 for those that are no digit. A table, since a branch for each digit of something random is
/// mostly guessed wrong.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0u8;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};
const NO_DIGIT: u8 = 255;

impl std::fmt::Debug for CallbackToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let token = CallbackToken([0x0f, 0xa5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xff]);
        assert_eq!(token.to_hex(), "0fa5000102030405060708090a0b0cff");
        assert_eq!(CallbackToken::parse(&token.to_hex()), Some(token));
        for wrong in ["", "0fa5", "0FA5000102030405060708090A0B0CFF", "+fa5000102030405060708090a0b0cff"] {
            assert_eq!(CallbackToken::parse(wrong), None, "{wrong}");
        }
    }
}
