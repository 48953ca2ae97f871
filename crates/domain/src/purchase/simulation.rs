//! A seeded simulation of purchases: several workers that crash, stall and lose leases, a database that compares fences, and a
//! carrier that answers late, wrongly or not at all, takes effect late, and lists what it sold later still. The clock is a
//! number, chance is a seed, and the carrier's own ledger is the judge.
//!
//! Only [`step`] is the real thing. The lease rules modelled here are those of `database` and the background task.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::*;

/// How many seeds a run of the tests tries.
const SEEDS: u64 = 10_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// Long past the last late look of any purchase.
const HORIZON: i64 = 80 * HOUR;
const LEASE: i64 = 30 * SECOND;
/// Shorter than the lease.
const CLIENT_TIMEOUT: i64 = 15 * SECOND;
/// An effect later than this is later than the last late look, and nobody can be blamed.
const EFFECT_IN_TIME: i64 = 23 * HOUR;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: i64) -> i64 {
        i64::try_from(self.bits() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    /// True so many times in a thousand.
    fn per_mille(&mut self, times: i64) -> bool {
        self.below(1_000) < times
    }
}

/// Who has a number at the carrier.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Owner {
    /// We, through the purchase of this index.
    Purchase(usize),
    /// Our account, but somebody bought it by hand.
    Portal,
    /// Another customer.
    Stranger,
}

struct Sold {
    owner: Owner,
    at: i64,
    /// From when on listings show it.
    listed_at: i64,
}

/// One purchase and the row that holds it.
struct Row {
    phone: usize,
    progress: Progress,
    fence: u64,
    leased_until: i64,
    // What the judge wants to know.
    posts_sent: Vec<i64>,
    last_post_deferred: bool,
    fences_posted: HashSet<u64>,
    omissions_left: u32,
    was_reviewed: bool,
    dearer: bool,
}

/// One thing that will happen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Poll { worker: usize },
    CarryOut { row: usize, fence: u64, effect: u8, deadline: i64 },
    Answer { row: usize, fence: u64, answer: Answer },
    TakeEffect { row: usize },
    Stranger { phone: usize },
    Portal { phone: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Answer {
    Confirmed,
    Unavailable,
    Refused,
    Deferred,
    Ambiguous,
    Found,
    Foreign,
    NotFound,
    LookFailed,
    Configured,
    ConfigureFailed,
}

const EFFECTS: [Effect; 6] =
    [Effect::Post, Effect::LookUp, Effect::Configure, Effect::Activate, Effect::Fail, Effect::AskPerson];

struct World {
    chance: Chance,
    now: i64,
    queue: BinaryHeap<Reverse<(i64, u64, Next)>>,
    sequence: u64,
    schedule: Schedule,
    rows: Vec<Row>,
    phones: Vec<Option<Sold>>,
    /// An honest carrier and healthy workers: trouble is rare and short.
    honest: bool,
    trace: u64,
}

impl World {
    fn new(seed: u64, honest: bool) -> World {
        let mut world = World {
            chance: Chance(seed),
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            schedule: Schedule::default(),
            rows: Vec::new(),
            phones: Vec::new(),
            honest,
            trace: 0,
        };
        let purchases = 1 + usize::try_from(world.chance.below(4)).unwrap();
        for phone in 0..purchases {
            world.phones.push(None);
            let dearer = world.often(20);
            world.rows.push(Row {
                phone,
                progress: Progress::new(time(0)),
                fence: 0,
                leased_until: 0,
                posts_sent: Vec::new(),
                last_post_deferred: false,
                fences_posted: HashSet::new(),
                omissions_left: 1,
                was_reviewed: false,
                dearer,
            });
            if world.often(50) {
                let at = world.chance.below(15 * MINUTE);
                world.push(at, Next::Stranger { phone });
            }
            if world.often(20) {
                let at = world.chance.below(15 * MINUTE);
                world.push(at, Next::Portal { phone });
            }
        }
        for worker in 0..=usize::try_from(world.chance.below(3)).unwrap() {
            let at = world.chance.below(SECOND);
            world.push(at, Next::Poll { worker });
        }
        world
    }

    fn often(&mut self, per_mille: i64) -> bool {
        !self.honest && self.chance.per_mille(per_mille)
    }

    fn push(&mut self, delay: i64, next: Next) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence, next)));
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, next))) = self.queue.pop() {
            if at > HORIZON {
                break;
            }
            self.now = at;
            match next {
                Next::Poll { worker } => self.poll(worker),
                Next::CarryOut { row, fence, effect, deadline } => {
                    self.carry_out(row, fence, EFFECTS[usize::from(effect)], deadline);
                }
                Next::Answer { row, fence, answer } => self.answer(row, fence, answer),
                Next::TakeEffect { row } => self.sell(self.rows[row].phone, Owner::Purchase(row)),
                Next::Stranger { phone } => self.sell(phone, Owner::Stranger),
                Next::Portal { phone } => self.sell(phone, Owner::Portal),
            }
        }
    }

    /// The carrier sells each exact number once.
    fn sell(&mut self, phone: usize, owner: Owner) {
        if self.phones[phone].is_none() {
            let lag = match self.chance.below(10) {
                _ if self.honest => self.chance.below(3 * SECOND),
                0..=5 => 0,
                6..=8 => self.chance.below(20 * SECOND),
                _ => self.chance.below(9 * MINUTE),
            };
            self.note(phone, "sold");
            self.phones[phone] = Some(Sold { owner, at: self.now, listed_at: self.now + lag });
        }
    }

    fn poll(&mut self, worker: usize) {
        for row in 0..self.rows.len() {
            let due = self.rows[row].progress.wake_at.is_some_and(|at| at <= time(self.now));
            if !due || self.rows[row].leased_until > self.now {
                continue;
            }
            self.rows[row].fence += 1;
            self.rows[row].leased_until = self.now + LEASE;
            let price_holds = !(self.rows[row].dearer && self.chance.per_mille(500));
            self.happen(row, Event::Claimed { price_holds }, self.now + LEASE);
        }
        // A crash of the worker itself: it comes back later.
        let rest = if self.often(20) { self.chance.below(5 * MINUTE) } else { 0 };
        let next_wake = self
            .rows
            .iter()
            .filter_map(|row| row.progress.wake_at)
            .map(|at| at.as_millisecond() - self.now)
            .min()
            .map_or(HORIZON, |wait| wait.clamp(SECOND, HOUR));
        let jitter = self.chance.below(100);
        self.push(next_wake + rest + jitter, Next::Poll { worker });
    }

    /// The step is written down first; then its effects are begun, unless the worker dies in between.
    fn happen(&mut self, row: usize, event: Event, deadline: i64) {
        let (next, effects) = step(&self.rows[row].progress, event, time(self.now), &self.schedule);
        assert!(next.posts <= self.schedule.posts_max + 1);
        self.rows[row].was_reviewed |= next.state == PurchaseState::NeedsReview;
        self.rows[row].progress = next;
        self.note(row, self.rows[row].progress.state.as_str());
        let carried_on =
            effects.iter().any(|effect| matches!(effect, Effect::Post | Effect::LookUp | Effect::Configure));
        if !carried_on {
            // Nothing more to do under this lease.
            self.rows[row].leased_until = self.now;
        }
        if self.often(40) {
            return; // Died here. The lease runs out by itself.
        }
        let fence = self.rows[row].fence;
        for effect in effects {
            let effect = u8::try_from(EFFECTS.iter().position(|&e| e == effect).unwrap()).unwrap();
            let stall = if self.often(30) { self.chance.below(2 * LEASE) } else { self.chance.below(20) };
            self.push(stall, Next::CarryOut { row, fence, effect, deadline });
        }
    }

    fn carry_out(&mut self, row: usize, fence: u64, effect: Effect, deadline: i64) {
        match effect {
            Effect::Post => {
                // What the worker checks right before it sends: its own deadline, and the stored fence.
                if self.now + CLIENT_TIMEOUT > deadline || self.rows[row].fence != fence {
                    return;
                }
                self.post(row, fence);
            }
            Effect::LookUp => self.look(row, fence),
            Effect::Configure => {
                let answer = if self.often(100) { Answer::ConfigureFailed } else { Answer::Configured };
                self.reply(row, fence, answer);
            }
            Effect::Activate | Effect::Fail | Effect::AskPerson => {}
        }
    }

    fn post(&mut self, row: usize, fence: u64) {
        let now = self.now;
        let judged = &mut self.rows[row];
        assert!(judged.fences_posted.insert(fence), "two requests under one lease");
        if let (Some(&last), false) = (judged.posts_sent.last(), judged.last_post_deferred) {
            let window = i64::try_from(self.schedule.look_ups.last().unwrap().as_millis()).unwrap();
            assert!(now - last >= window, "asked again {} ms after an unclear answer", now - last);
        }
        judged.posts_sent.push(now);
        judged.last_post_deferred = false;
        let phone = judged.phone;
        if self.often(50) {
            let answer = if self.chance.per_mille(800) { Answer::Deferred } else { Answer::Refused };
            self.rows[row].last_post_deferred = answer == Answer::Deferred;
            self.reply(row, fence, answer);
            return;
        }
        if self.phones[phone].is_some() {
            let answer = if self.often(100) { Answer::Ambiguous } else { Answer::Unavailable };
            self.reply(row, fence, answer);
            return;
        }
        let trouble = if self.honest { 2 } else { 400 };
        if !self.chance.per_mille(trouble) {
            self.sell(phone, Owner::Purchase(row));
            self.reply(row, fence, Answer::Confirmed);
            return;
        }
        // No clear answer: nothing happened, or it did, or it will.
        match self.chance.below(20) {
            0..=4 => {}
            5..=14 => self.sell(phone, Owner::Purchase(row)),
            15..=18 => {
                let late = self.chance.below(90 * SECOND);
                self.push(late, Next::TakeEffect { row });
            }
            _ => {
                let late = self.chance.below(if self.honest { 5 * MINUTE } else { 30 * HOUR });
                self.push(late, Next::TakeEffect { row });
            }
        }
        self.reply(row, fence, Answer::Ambiguous);
    }

    fn look(&mut self, row: usize, fence: u64) {
        let phone = self.rows[row].phone;
        let mut answer = match &self.phones[phone] {
            Some(sold) if sold.listed_at <= self.now => match sold.owner {
                Owner::Purchase(owner) if owner == row => Answer::Found,
                Owner::Stranger => Answer::NotFound,
                _ => Answer::Foreign,
            },
            _ => Answer::NotFound,
        };
        if self.often(100) {
            answer = Answer::LookFailed;
        } else if self.rows[row].omissions_left > 0 && self.often(50) {
            self.rows[row].omissions_left -= 1;
            answer = Answer::NotFound;
        }
        self.reply(row, fence, answer);
    }

    fn reply(&mut self, row: usize, fence: u64, answer: Answer) {
        if self.often(40) {
            return; // The worker died while it waited.
        }
        let slow = if self.often(100) { 3 * LEASE } else { 500 };
        let delay = self.chance.below(slow);
        // The client gives up, and knows nothing of a request that was sent.
        let answer = match answer {
            _ if delay <= CLIENT_TIMEOUT => answer,
            Answer::Confirmed
            | Answer::Unavailable
            | Answer::Refused
            | Answer::Deferred
            | Answer::Ambiguous => {
                self.rows[row].last_post_deferred = false;
                Answer::Ambiguous
            }
            Answer::Found | Answer::Foreign | Answer::NotFound | Answer::LookFailed => Answer::LookFailed,
            Answer::Configured | Answer::ConfigureFailed => Answer::ConfigureFailed,
        };
        // A paused process may write its answer long after it came.
        let paused = if self.often(20) { self.chance.below(HOUR) } else { 0 };
        self.push(delay.min(CLIENT_TIMEOUT) + paused, Next::Answer { row, fence, answer });
    }

    fn answer(&mut self, row: usize, fence: u64, answer: Answer) {
        if self.rows[row].fence != fence {
            self.note(row, "echo");
            return;
        }
        let carrier_number_id = format!("PN{row}");
        let event = match answer {
            Answer::Confirmed => Event::PostConfirmed { carrier_number_id },
            Answer::Unavailable => Event::PostUnavailable,
            Answer::Refused => Event::PostRefused(Reason::Refused),
            Answer::Deferred => Event::PostDeferred { retry_after: None },
            Answer::Ambiguous => Event::PostAmbiguous,
            Answer::Found => Event::Found { carrier_number_id },
            Answer::Foreign => Event::FoundForeign,
            Answer::NotFound => Event::NotFound,
            Answer::LookFailed => Event::LookFailed,
            Answer::Configured => Event::Configured,
            Answer::ConfigureFailed => Event::ConfigureFailed,
        };
        // The lease may have run out; as long as nobody took it, the answer is still the newest.
        self.happen(row, event, self.rows[row].leased_until);
    }

    fn note(&mut self, row: usize, what: &str) {
        let mut hash = self.trace ^ self.now.cast_unsigned() ^ (row as u64);
        for byte in what.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.trace = hash;
    }

    /// Holds our rows against the carrier's ledger.
    fn judge(&self, seed: u64) {
        for (index, row) in self.rows.iter().enumerate() {
            let progress = &row.progress;
            let bought = self.phones[row.phone].as_ref().filter(|sold| sold.owner == Owner::Purchase(index));
            match progress.state {
                PurchaseState::Active => {
                    assert!(bought.is_some(), "seed {seed}: purchase {index} is active, not bought");
                }
                PurchaseState::Failed => {
                    let in_time = bought.is_some_and(|sold| {
                        row.posts_sent.last().is_some_and(|&post| sold.at - post < EFFECT_IN_TIME)
                    });
                    assert!(!in_time, "seed {seed}: purchase {index} was bought and is lost: {progress:?}");
                }
                state => panic!("seed {seed}: purchase {index} ends {state}: {progress:?}"),
            }
            let sent = u32::try_from(row.posts_sent.len()).unwrap();
            assert!(
                sent <= self.schedule.posts_max + progress.deferrals + 1,
                "seed {seed}: purchase {index} was asked for {sent} times"
            );
        }
    }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
}

fn run_seeds(seeds: u64) {
    let mut settled = [0u64; 2];
    let mut reviewed = 0;
    for seed in 0..seeds {
        let mut world = World::new(seed, false);
        world.run();
        world.judge(seed);
        for row in &world.rows {
            settled[usize::from(row.progress.state == PurchaseState::Active)] += 1;
            reviewed += u64::from(row.was_reviewed);
        }
    }
    println!(
        "{seeds} seeds: {} active, {} failed, {reviewed} asked a person meanwhile",
        settled[1], settled[0]
    );
    assert!(settled.iter().all(|&count| count > seeds / 20), "the simulation has to show both ends");
    assert!(reviewed > 0, "and people being asked");
}

#[test]
fn nothing_is_bought_twice_or_lost_whatever_happens() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a longer run, such as half a million seeds, is asked for so"
    )]
    let seeds = std::env::var("SWITCHBOARD_TEST_SEEDS")
        .map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    run_seeds(seeds);
}

#[test]
fn an_honest_carrier_leaves_next_to_nothing_to_people() {
    let (mut purchases, mut reviewed) = (0u64, 0u64);
    for seed in 0..SEEDS {
        let mut world = World::new(seed, true);
        world.run();
        world.judge(seed);
        purchases += world.rows.len() as u64;
        reviewed += world.rows.iter().filter(|row| row.was_reviewed).count() as u64;
    }
    assert!(reviewed * 1_000 <= purchases, "{reviewed} of {purchases}");
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..100 {
        let traces = [0; 3].map(|_| {
            let mut world = World::new(seed, false);
            world.run();
            world.trace
        });
        assert!(traces.iter().all(|&trace| trace == traces[0]), "seed {seed}");
    }
}
