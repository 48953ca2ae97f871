//! What must hold for any input whatever, as one function for each way in. The fuzzer (`fuzz/`) calls these with
//! inputs of its own making; here they are called with what it found worth keeping, with every odd message we have,
//! and with some thousands of mutations of both.

mod digest;
mod endpoint;
mod header_lists;
mod message;
pub(crate) mod stream;
mod uri;
mod user_agent;

use std::path::{Path, PathBuf};

use crate::network::Chance;

type Property = fn(&[u8]);

/// Each property and the fuzz target of its name.
const PROPERTIES: [(&str, Property); 7] = [
    ("message", message::check),
    ("uri", uri::check),
    ("header_lists", header_lists::check),
    ("digest", digest::check),
    ("stream", stream::check),
    ("endpoint", endpoint::check),
    ("user_agent", user_agent::check),
];

/// Inputs that the fuzzer found worth keeping, or that once broke something, by target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/fuzz").join(target);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs a property; says which input broke it, ready to be kept.
fn run(target: &str, check: Property, input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| check(input)) {
        eprintln!("{target} does not hold for \"{}\"", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn what_the_fuzzer_found() {
    for (target, check) in PROPERTIES {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{target} has no corpus");
        for input in &corpus {
            run(target, check, input);
        }
    }
}

#[test]
fn torture_messages() {
    for (target, check) in PROPERTIES {
        for message in crate::torture::messages() {
            run(target, check, &message);
        }
    }
}

/// A few thousand inputs that nobody has tried, so that a test run without the fuzzer still looks for new ones. They
/// are the same in each run.
#[test]
fn mutations() {
    for (target, check) in PROPERTIES {
        let mut seeds = corpus(target);
        seeds.extend(crate::torture::messages());
        let mut chance = Chance::new(4475);
        for _ in 0..1_000 {
            let mut input = pick(&seeds, &mut chance).clone();
            for _ in 0..=chance.below(4) {
                mutate(&mut input, pick(&seeds, &mut chance), &mut chance);
            }
            run(target, check, &input);
        }
    }
}

fn pick<'a>(all: &'a [Vec<u8>], chance: &mut Chance) -> &'a Vec<u8> {
    &all[below(chance, all.len())]
}

fn below(chance: &mut Chance, limit: usize) -> usize {
    usize::try_from(chance.below(limit.max(1) as u64)).unwrap()
}

fn mutate(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = below(chance, input.len() + 1);
    let to = (at + below(chance, 40)).min(input.len());
    match chance.below(5) {
        0 => _ = input.drain(at..to),
        1 => input.insert(at, chance.next().to_le_bytes()[0]),
        2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << chance.below(8)),
        3 => input.extend_from_within(at..to),
        _ => {
            let start = below(chance, other.len() + 1);
            let end = (start + below(chance, 200)).min(other.len());
            input.splice(at..to, other[start..end].iter().copied());
        }
    }
}
