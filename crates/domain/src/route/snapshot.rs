//! A table as bytes and back, for a restart without a database. Numbers, of which there may be millions, are 48 bytes each in
//! the order of the shards, so that reading them is little more than copying; what they share is JSON. Secrets stand in it
//! as the ciphertext that the table holds.
//!
//! Where the bytes are kept, how many of them and how they are replaced is the server's.
//!
//! ```text
//! "SWBROUTE" · format u32 · route_version u64 · length of the JSON u64 · JSON · count of each shard u32 · numbers · checksum u64
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::Content;
use crate::assignment::Assignment;
use crate::call::Ingress;
use crate::environment::Environment;
use crate::id::{AgentId, NumberId, SecretId, VersionId, WorkspaceId};
use crate::number::E164;
use crate::route::Builder;
use crate::route::row::{CallbackToken, NumberSettings, Row, RunningRow, WorkspaceRow};
use crate::route::shard::{Hash, Key, Placed, SHARDS, Shard};
use crate::route::table::{RouteKey, RouteTable};
use crate::workspace::WorkspaceSettings;

const MAGIC: &[u8; 8] = b"SWBROUTE";
/// Raised when the bytes change their meaning; another format is refused, not guessed at.
const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 8 + 4 + 8 + 8;
const NUMBER_BYTES: usize = 48;
/// How many bytes are handed to the sink at once, about.
const PIECE_BYTES: usize = 64 * 1024;

/// Why bytes are no snapshot that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not a snapshot at all, or cut off.
    #[error("the file is no route snapshot, or only a part of one")]
    NotASnapshot,
    /// Written by another version of the program.
    #[error("the snapshot has format {0}, and this program reads format {FORMAT}")]
    OtherFormat(u32),
    /// The checksum does not fit the contents.
    #[error("the snapshot is damaged: its checksum does not fit its contents")]
    Damaged,
    /// The checksum fits, but the contents make no sense.
    #[error("the snapshot makes no sense: {0}")]
    Senseless(&'static str),
}

#[derive(Serialize, Deserialize)]
struct SharedJson {
    workspaces: Vec<(WorkspaceId, WorkspaceSettings)>,
    running: Vec<RunningJson>,
    secrets: Vec<(SecretId, Vec<u8>)>,
    /// Numbers name their route by its place in this list.
    routes: Vec<RouteJson>,
}

#[derive(Serialize, Deserialize)]
struct RunningJson {
    agent_id: AgentId,
    environment: Environment,
    version_id: VersionId,
    version: u32,
    agent_name: String,
    content: Content,
}

#[derive(Serialize, Deserialize)]
struct RouteJson {
    workspace_id: WorkspaceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assignment: Option<Assignment>,
    /// The number's own settings as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<String>,
}

/// Writes a table into the sink, piece by piece.
pub fn encode(table: &RouteTable, sink: &mut dyn FnMut(&[u8])) {
    let mut places = std::collections::HashMap::new();
    let mut routes = Vec::with_capacity(table.shared.routes.len());
    for (place, route) in table.shared.routes.iter() {
        places.insert(place, u32::try_from(routes.len()).expect("as many as places, which are u32"));
        routes.push(RouteJson {
            workspace_id: route.key.workspace_id,
            assignment: route.key.assignment,
            own: route.key.own.as_deref().map(str::to_owned),
        });
    }
    let shared = SharedJson {
        workspaces: table
            .shared
            .workspaces
            .iter()
            .filter_map(|(_, workspace)| Some((workspace.id, workspace.known.as_ref()?.settings.clone())))
            .collect(),
        running: table
            .shared
            .running
            .iter()
            .filter_map(|(_, running)| {
                let row = running.known.as_ref()?;
                Some(RunningJson {
                    agent_id: running.key.0,
                    environment: running.key.1,
                    version_id: row.version_id,
                    version: row.version,
                    agent_name: row.agent_name.to_string(),
                    content: (*row.content).clone(),
                })
            })
            .collect(),
        secrets: table.shared.secrets.iter().map(|(id, bytes)| (*id, bytes.to_vec())).collect(),
        routes,
    };
    let json = serde_json::to_vec(&shared).expect("settings are plain data with text keys");

    let mut checksum = Checksum::new();
    let mut write = |piece: &[u8]| {
        checksum.take(piece);
        sink(piece);
    };
    let mut piece = Vec::with_capacity(PIECE_BYTES + NUMBER_BYTES);
    piece.extend_from_slice(MAGIC);
    piece.extend_from_slice(&FORMAT.to_le_bytes());
    piece.extend_from_slice(&table.version.to_le_bytes());
    piece.extend_from_slice(&(json.len() as u64).to_le_bytes());
    write(&piece);
    write(&json);
    piece.clear();
    for shard in &table.shards {
        let count = u32::try_from(shard.len()).expect("a shard is a thousandth of all numbers");
        piece.extend_from_slice(&count.to_le_bytes());
    }
    let numbers = table.shards.iter().enumerate().flat_map(|(place, shard)| shard.numbers(place));
    for (key, route, entry) in numbers {
        piece.extend_from_slice(&key.number.digits().to_le_bytes());
        piece.extend_from_slice(&entry.id().to_bits().to_le_bytes());
        piece.extend_from_slice(&entry.token().0);
        piece.extend_from_slice(&key.ingress.get().to_le_bytes());
        piece.extend_from_slice(&places[&route].to_le_bytes());
        if piece.len() >= PIECE_BYTES {
            write(&piece);
            piece.clear();
        }
    }
    write(&piece);
    sink(&checksum.finish().to_le_bytes());
}

/// The route version of a snapshot, from its first bytes alone.
pub fn version_of(bytes: &[u8]) -> Result<u64, Unusable> {
    let mut rest = bytes;
    if take(&mut rest, MAGIC.len())? != MAGIC {
        return Err(Unusable::NotASnapshot);
    }
    match u32::from_le_bytes(take_array(&mut rest)?) {
        FORMAT => Ok(u64::from_le_bytes(take_array(&mut rest)?)),
        other => Err(Unusable::OtherFormat(other)),
    }
}

/// Reads a table from a snapshot's bytes.
pub fn decode(bytes: &[u8]) -> Result<RouteTable, Unusable> {
    let version = version_of(bytes)?;
    let body = bytes.len().checked_sub(8).filter(|&body| body >= HEAD_BYTES).ok_or(Unusable::NotASnapshot)?;
    let mut checksum = Checksum::new();
    checksum.take(&bytes[..body]);
    if checksum.finish().to_le_bytes() != bytes[body..] {
        return Err(Unusable::Damaged);
    }
    let mut rest = &bytes[HEAD_BYTES - 8..body];
    let json_len =
        usize::try_from(u64::from_le_bytes(take_array(&mut rest)?)).map_err(|_| Unusable::NotASnapshot)?;
    let shared: SharedJson = serde_json::from_slice(take(&mut rest, json_len)?)
        .map_err(|_| Unusable::Senseless("its JSON is not what this format holds"))?;
    let mut counts = [0u32; SHARDS];
    for count in &mut counts {
        *count = u32::from_le_bytes(take_array(&mut rest)?);
    }

    let mut table = shared_table(&shared.workspaces, shared.running, shared.secrets, version);
    // Each route is held once for each of its numbers; the numbers are counted first, since they stand at the end.
    let mut holders = vec![0u32; shared.routes.len()];
    let numbers: usize = counts.iter().map(|&count| count as usize).sum();
    if rest.len() != numbers.saturating_mul(NUMBER_BYTES) {
        return Err(Unusable::Senseless("it does not have as many numbers as it says"));
    }
    for number in rest.chunks_exact(NUMBER_BYTES) {
        let route = u32::from_le_bytes(number[NUMBER_BYTES - 4..].try_into().expect("four bytes"));
        *holders
            .get_mut(route as usize)
            .ok_or(Unusable::Senseless("a number takes a route that it does not have"))? += 1;
    }
    let mut places = Vec::with_capacity(shared.routes.len());
    for (route, holders) in shared.routes.into_iter().zip(holders) {
        let own: Option<Box<NumberSettings>> = route
            .own
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| Unusable::Senseless("a number's settings are not what this format holds"))?;
        let key = RouteKey {
            workspace_id: route.workspace_id,
            assignment: route.assignment,
            own: route.own.map(Arc::from),
        };
        places.push(table.shared.route_hold_times(&key, own, holders));
    }
    for (place, count) in counts.into_iter().enumerate() {
        let placed = take(&mut rest, count as usize * NUMBER_BYTES)?
            .chunks_exact(NUMBER_BYTES)
            .map(|number| placed(number, &places, place))
            .collect::<Option<Vec<Placed>>>()
            .ok_or(Unusable::Senseless("a number is no number, or stands in another's shard"))?;
        let shard = Shard::from_ordered(&placed)
            .ok_or(Unusable::Senseless("the numbers do not stand in their order"))?;
        table.numbers += shard.len();
        table.shards[place] = Arc::new(shard);
    }
    Ok(table)
}

fn shared_table(
    workspaces: &[(WorkspaceId, WorkspaceSettings)],
    running: Vec<RunningJson>,
    secrets: Vec<(SecretId, Vec<u8>)>,
    version: u64,
) -> RouteTable {
    let mut builder = Builder::new();
    for (id, settings) in workspaces {
        builder.push(Row::Workspace(*id, Some(WorkspaceRow { settings: settings.clone() })));
    }
    for running in running {
        let row = RunningRow {
            version_id: running.version_id,
            version: running.version,
            agent_name: running.agent_name.into(),
            content: Arc::new(running.content),
        };
        builder.push(Row::Running((running.agent_id, running.environment), Some(row)));
    }
    for (id, ciphertext) in secrets {
        builder.push(Row::Secret(id, Some(ciphertext.into())));
    }
    builder.finish(version)
}

fn placed(bytes: &[u8], places: &[u32], shard: usize) -> Option<Placed> {
    let mut rest = bytes;
    let number = E164::from_digits(u64::from_le_bytes(take_array(&mut rest).ok()?))?;
    let id = NumberId::from_bits(u128::from_le_bytes(take_array(&mut rest).ok()?));
    let token = CallbackToken(take_array(&mut rest).ok()?);
    let ingress = Ingress::new(u32::from_le_bytes(take_array(&mut rest).ok()?))?;
    let route = *places.get(u32::from_le_bytes(take_array(&mut rest).ok()?) as usize)?;
    let hash = Hash::of(Key { ingress, number });
    (hash.shard() == shard).then(|| Placed::new(hash, id, token, route))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Unusable> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Unusable::NotASnapshot)?;
    *rest = after;
    Ok(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unusable> {
    take(rest, N).map(|taken| taken.try_into().expect("as many bytes as asked for"))
}

/// A checksum against damage, not against forgery: eight bytes at a time, each step one-to-one, so that damage within one
/// word is always found and other damage is missed once in 2⁶⁴.
struct Checksum {
    state: u64,
    /// Bytes that do not fill a word yet.
    pending: [u8; 8],
    pending_len: usize,
    total: u64,
}

impl Checksum {
    const fn new() -> Checksum {
        Checksum { state: 0x9E37_79B9_7F4A_7C15, pending: [0; 8], pending_len: 0, total: 0 }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        self.total = self.total.wrapping_add(bytes.len() as u64);
        if self.pending_len > 0 {
            let fill = bytes.len().min(8 - self.pending_len);
            self.pending[self.pending_len..self.pending_len + fill].copy_from_slice(&bytes[..fill]);
            self.pending_len += fill;
            bytes = &bytes[fill..];
            if self.pending_len < 8 {
                return;
            }
            self.word(u64::from_le_bytes(self.pending));
            self.pending_len = 0;
        }
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words {
            self.word(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_len = rest.len();
    }

    const fn word(&mut self, word: u64) {
        self.state = (self.state ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.state ^= self.state >> 29;
    }

    fn finish(mut self) -> u64 {
        self.pending[self.pending_len..].fill(0);
        self.word(u64::from_le_bytes(self.pending));
        self.word(self.total);
        self.state ^ (self.state >> 32)
    }
}
