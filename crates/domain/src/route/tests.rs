//! Routes: cases as tables, and random changes against a plain map.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::agent::{Content, Draft, Language, Parameters, Variant};
use crate::assignment::Assignment;
use crate::call::Ingress;
use crate::caller::{Caller, CallerRules};
use crate::endpoint::{Dial, Endpoint, Plain, SipUri, StreamUrl, Target, Webhook, WebhookUrl};
use crate::environment::Environment;
use crate::fallback::Fallback;
use crate::hours::{Holiday, Hours, Minute, Range, Zone};
use crate::id::{AgentId, NumberId, SecretId, VariantId, VersionId, WorkspaceId};
use crate::number::{Country, E164};
use crate::route::row::{CallbackToken, NumberRow, NumberSettings, Row, RunningRow, WorkspaceRow};
use crate::route::{Builder, Explained, IncomingCall, RouteTable, decide, snapshot};
use crate::workspace::{OutageMode, WorkspaceSettings};

const WORKSPACE: WorkspaceId = WorkspaceId::from_bits(1);
const AGENT: AgentId = AgentId::from_bits(2);
const DOWNTOWN: VariantId = VariantId::from_bits(3);
const AIRPORT: VariantId = VariantId::from_bits(4);

fn number(n: u64) -> E164 {
    E164::from_digits(14_385_550_100 + n).unwrap()
}

fn phone(n: u64) -> Dial {
    Dial { target: Target::Phone { phone_number: number(n) }, ring_timeout_s: 20 }
}

fn sip(user: &str) -> Dial {
    let uri = SipUri::parse(&format!("sip:{user}@agents.example")).unwrap();
    Dial { target: Target::Sip { uri, auth: None }, ring_timeout_s: 15 }
}

fn stream() -> Dial {
    let url = StreamUrl::parse("wss://agent.example/media", Plain::Refuse).unwrap();
    Dial { target: Target::Stream { url }, ring_timeout_s: 20 }
}

fn fallback(targets: Vec<Dial>, message: Option<&str>) -> Fallback {
    Fallback { targets, message: message.map(str::to_owned) }
}

fn variant(id: VariantId, name: &str, endpoint: Option<Endpoint>) -> Variant {
    Variant { id, name: name.to_owned(), attributes: Parameters::default(), endpoint }
}

fn content(endpoint: Option<Endpoint>, variants: Vec<Variant>) -> Content {
    Content { draft: Draft { endpoint, ..Draft::default() }, variants }
}

/// Everything that one call to one number depends on; cases change what they are about.
struct Case {
    settings: WorkspaceSettings,
    content: Option<Content>,
    assignment: Option<Assignment>,
    own: NumberSettings,
    caller: Caller,
    now: Timestamp,
}

impl Case {
    fn new() -> Case {
        Case {
            settings: WorkspaceSettings::default(),
            content: Some(content(Some(sip("support").into()), vec![])),
            assignment: Some(Assignment {
                agent_id: AGENT,
                environment: Environment::Live,
                variant_id: None,
            }),
            own: NumberSettings::default(),
            caller: Caller::read("+15145550100"),
            // A Monday, 10:30 in Toronto.
            now: "2026-11-23T15:30:00Z".parse().unwrap(),
        }
    }

    fn table(&self) -> RouteTable {
        let own = (self.own != NumberSettings::default()).then(|| Box::new(self.own.clone()));
        let mut rows = vec![
            Row::Number(
                (Ingress::STORE, number(0)),
                Some(NumberRow {
                    number_id: NumberId::from_bits(9),
                    workspace_id: WORKSPACE,
                    callback_token: CallbackToken([7; 16]),
                    assignment: self.assignment,
                    own,
                }),
            ),
            Row::Workspace(WORKSPACE, Some(WorkspaceRow { settings: self.settings.clone() })),
        ];
        if let Some(content) = &self.content {
            rows.push(Row::Running((AGENT, Environment::Live), Some(running(content.clone(), 3))));
        }
        RouteTable::build(rows, 1)
    }

    #[expect(clippy::needless_pass_by_value, reason = "each expectation is used once")]
    fn check(&self, expect: Expect) {
        let table = self.table();
        let call = IncomingCall { ingress: Ingress::STORE, to: number(0), caller: self.caller };
        expect.assert_eq(&told(&table, &call, self.now));
    }
}

fn running(content: Content, version: u32) -> RunningRow {
    RunningRow {
        version_id: VersionId::from_bits(u128::from(version)),
        version,
        agent_name: "Support".into(),
        content: Arc::new(content),
    }
}

fn told(table: &RouteTable, call: &IncomingCall, now: Timestamp) -> String {
    let decision = decide(table, call, now);
    let explained = Explained::new(call, now, &decision);
    let mut told = format!("{}: {}\n", explained.decision.action, explained.decision.summary);
    for target in &explained.decision.targets {
        let ring = target.ring_timeout_s.map(|s| format!(" {s} s")).unwrap_or_default();
        let _ = writeln!(told, "  → {} {}{ring} ({})", target.kind, target.address, target.origin);
    }
    if let Some(message) = &explained.decision.message {
        let language = explained.decision.language.as_ref().map_or("", Language::as_str);
        let _ = writeln!(told, "  “{message}” {language}");
    }
    for step in &explained.steps {
        let _ = writeln!(told, "{} {}: {}", step.rule, step.outcome, step.because);
    }
    told
}

#[test]
fn an_agent_answers() {
    Case::new().check(expect![[r#"
        connect: the call is connected to the agent `Support`, sip sip:support@agents.example; if that fails, a message is spoken
          → sip sip:support@agents.example 15 s (endpoint)
          “We are sorry, we cannot take your call at the moment. Please try again later.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        outage off: outage mode of Live is off
        assignment runs: the number is assigned to the agent `Support`, which runs version 3 in Live
        variant no_variants: the agent has no variants
        endpoint sip: the agent is reached by SIP
        message default: no fallback has a message, so Switchboard's own is spoken if nobody takes the call
    "#]]);
}

#[test]
fn every_level_of_the_fallback_follows_in_order() {
    let mut case = Case::new();
    case.own.fallback = Some(fallback(vec![phone(1)], None));
    case.own.language = Some(Language::parse("fr-CA").unwrap());
    case.content = Some(Content {
        draft: Draft {
            endpoint: Some(stream().into()),
            language: Some(Language::parse("en-US").unwrap()),
            fallback: Some(fallback(vec![sip("desk"), phone(1)], Some("Désolé."))),
            ..Draft::default()
        },
        variants: vec![],
    });
    case.settings.fallback = Some(fallback(vec![phone(0), phone(2), phone(3), phone(4)], Some("Sorry.")));
    case.check(expect![[r#"
        connect: the call is connected to the agent `Support`, stream wss://agent.example/media; if that fails, 4 other targets follow, then a message
          → stream wss://agent.example/media (endpoint)
          → phone +14385550101 20 s (number)
          → sip sip:desk@agents.example 15 s (agent)
          → phone +14385550102 20 s (workspace)
          → phone +14385550103 20 s (workspace)
          “Désolé.” fr-CA
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        outage off: outage mode of Live is off
        assignment runs: the number is assigned to the agent `Support`, which runs version 3 in Live
        variant no_variants: the agent has no variants
        endpoint stream: the agent is reached by a media stream
        fallback added: the number's fallback adds 1 target
        fallback added: the agent's fallback adds 1 target
        fallback added: the workspace's fallback adds 2 targets
        fallback circle: a target is +14385550100 itself; it was left out, since the call would go in a circle
        fallback cut: a call tries at most 5 targets, so 1 target at the end of the list were left out
        message agent: the message of the agent's fallback is spoken if nobody takes the call
    "#]]);
}

#[test]
fn callers_are_judged_first() {
    let mut case = Case::new();
    case.own.inbound = Some(CallerRules {
        allow_countries: vec![Country::FR],
        block_anonymous: true,
        ..CallerRules::default()
    });
    case.check(expect![[r#"
        reject: the call is refused: +14385550100 does not answer +15145550100
        number found: +14385550100 is the number num_00000000000000000000000009
        caller blocked: the number answers only the countries in its allow_countries, and +15145550100 is from none of them
    "#]]);
    case.caller = Caller::Anonymous;
    case.check(expect![[r#"
        reject: the call is refused: +14385550100 does not answer a caller who withholds the number
        number found: +14385550100 is the number num_00000000000000000000000009
        caller blocked: the caller withholds the number, and this number's block_anonymous is on
    "#]]);
}

fn hours(closed: Option<Fallback>) -> Hours {
    let nine_to_five =
        vec![Range { from: Minute::parse("09:00").unwrap(), to: Minute::parse("17:00").unwrap() }];
    let mut hours = Hours { closed, ..Hours::default() };
    for day in 0..5 {
        hours.week[day].clone_from(&nine_to_five);
    }
    hours.holidays =
        vec![Holiday { date: jiff::civil::date(2026, 12, 25), name: "Christmas".to_owned(), open: vec![] }];
    hours
}

#[test]
fn hours_are_those_of_the_numbers_own_zone() {
    let mut case = Case::new();
    case.settings.time_zone = Zone::parse("Asia/Tokyo").unwrap();
    case.settings.fallback = Some(fallback(vec![phone(2)], Some("Sorry.")));
    case.own.hours = Some(hours(None));
    // 00:30 on Tuesday in Tokyo: closed, and what follows is the usual chain.
    case.check(expect![[r#"
        connect: the call is connected to the workspace's fallback, phone +14385550102; if that fails, a message is spoken
          → phone +14385550102 20 s (workspace)
          “Sorry.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours closed: it is Tuesday 2026-11-24 00:30 in Asia/Tokyo, which is outside the number's hours
        fallback added: the workspace's fallback adds 1 target
        message workspace: the message of the workspace's fallback is spoken if nobody takes the call
    "#]]);
    case.own.time_zone = Some(Zone::parse("America/Toronto").unwrap());
    let open = told(
        &case.table(),
        &IncomingCall { ingress: Ingress::STORE, to: number(0), caller: case.caller },
        case.now,
    );
    assert!(
        open.contains("hours open: it is Monday 2026-11-23 10:30 in America/Toronto, which is within"),
        "{open}"
    );
    case.now = "2026-12-25T15:30:00Z".parse().unwrap();
    case.own.hours = Some(hours(Some(fallback(vec![phone(5)], None))));
    case.check(expect![[r#"
        connect: the call is connected to what the number's hours set for when it is closed, phone +14385550105; if that fails, a message is spoken
          → phone +14385550105 20 s (closed)
          “Sorry.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours holiday: it is Friday 2026-12-25 10:30 in America/Toronto, and the number is closed on the holiday `Christmas` of 2026-12-25
        fallback added: what the number's hours set for when it is closed adds 1 target
        message workspace: the message of the workspace's fallback is spoken if nobody takes the call
    "#]]);
}

#[test]
fn hours_follow_daylight_saving() {
    let mut case = Case::new();
    case.own.hours = Some(hours(None));
    case.own.time_zone = Some(Zone::parse("America/Toronto").unwrap());
    // Toronto turns its clocks back on 2026-11-01: 13:30 UTC is 09:30 before and 08:30 after.
    for (now, outcome) in [("2026-10-30T13:30:00Z", "hours open"), ("2026-11-02T13:30:00Z", "hours closed")] {
        case.now = now.parse().unwrap();
        let call = IncomingCall { ingress: Ingress::STORE, to: number(0), caller: case.caller };
        let told = told(&case.table(), &call, case.now);
        assert!(told.contains(outcome), "{now}: {told}");
    }
}

#[test]
fn outage_mode_leaves_the_agent_out() {
    let mut case = Case::new();
    case.settings.outage =
        OutageMode::default().switched(Environment::Live, true, "2026-11-23T15:00:00Z".parse().unwrap());
    case.check(expect![[r#"
        say: a message is spoken, Switchboard's own, and the call ends
          “We are sorry, we cannot take your call at the moment. Please try again later.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        outage on: outage mode of Live is on since 2026-11-23T15:00:00Z, so the agent is not asked and the fallbacks take the call
        assignment runs: the number is assigned to the agent `Support`, which runs version 3 in Live
        variant no_variants: the agent has no variants
        message default: no fallback has a message, so Switchboard's own is spoken if nobody takes the call
    "#]]);
}

#[test]
fn unassigned_and_unpublished_numbers_are_answered_too() {
    let mut case = Case::new();
    case.content = None;
    case.settings.fallback = Some(fallback(vec![phone(2)], None));
    case.check(expect![[r#"
        connect: the call is connected to the workspace's fallback, phone +14385550102; if that fails, a message is spoken
          → phone +14385550102 20 s (workspace)
          “We are sorry, we cannot take your call at the moment. Please try again later.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        outage off: outage mode of Live is off
        assignment not_published: the number is assigned to the agent agt_00000000000000000000000002, which runs nothing in Live; publish it there
        fallback added: the workspace's fallback adds 1 target
        message default: no fallback has a message, so Switchboard's own is spoken if nobody takes the call
    "#]]);
    case.assignment = None;
    case.settings.fallback = None;
    case.check(expect![[r#"
        say: a message is spoken, Switchboard's own, and the call ends
          “We are sorry, we cannot take your call at the moment. Please try again later.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        assignment unassigned: the number is assigned to no agent; assign one with PUT /v1/numbers/{id}/assignment
        message default: no fallback has a message, so Switchboard's own is spoken if nobody takes the call
    "#]]);
}

#[test]
fn variants_answer_and_the_default_stands_in() {
    let mut case = Case::new();
    let variants = || {
        vec![variant(DOWNTOWN, "Downtown", None), variant(AIRPORT, "Airport", Some(sip("airport").into()))]
    };
    case.content = Some(content(Some(sip("support").into()), variants()));
    let line = |case: &Case, rule: &str| {
        let call = IncomingCall { ingress: Ingress::STORE, to: number(0), caller: case.caller };
        let told = told(&case.table(), &call, case.now);
        told.lines().filter(|line| line.starts_with(rule)).collect::<Vec<_>>().join("\n")
    };
    let with = |case: &mut Case, variant_id| case.assignment.as_mut().unwrap().variant_id = variant_id;
    for (variant_id, because, endpoint) in [
        (
            None,
            "variant default: the number is assigned to no variant, so the default variant `Downtown` answers",
            "support@",
        ),
        (Some(DOWNTOWN), "variant assigned: the number is assigned to the variant `Downtown`", "support@"),
        (Some(AIRPORT), "variant assigned: the number is assigned to the variant `Airport`", "airport@"),
        (
            Some(VariantId::from_bits(99)),
            "variant gone: the number's variant var_00000000000000000000000033 is not in the version that runs, so the default variant `Downtown` answers",
            "support@",
        ),
    ] {
        with(&mut case, variant_id);
        assert_eq!(line(&case, "variant"), because);
        assert!(line(&case, "  →").contains(endpoint), "{variant_id:?}");
    }
    case.content = Some(content(None, vec![variant(DOWNTOWN, "Downtown", None)]));
    with(&mut case, None);
    assert!(line(&case, "endpoint").starts_with("endpoint missing"), "{}", line(&case, ""));
    assert!(line(&case, "say").contains("message is spoken"));
}

#[test]
fn the_teams_server_is_asked_and_its_default_stands_in() {
    let mut case = Case::new();
    let webhook = Webhook {
        webhook_url: WebhookUrl::parse("https://team.example/route", Plain::Refuse).unwrap(),
        secret: None,
        default: Some(sip("default")),
    };
    case.content = Some(content(Some(webhook.into()), vec![]));
    case.settings.fallback = Some(fallback((1..=5).map(phone).collect(), None));
    case.check(expect![[r#"
        ask: the team's server at https://team.example/route is asked; if it gives no usable answer, 5 targets follow, then a message
          → sip sip:default@agents.example 15 s (webhook_default)
          → phone +14385550101 20 s (workspace)
          → phone +14385550102 20 s (workspace)
          → phone +14385550103 20 s (workspace)
          → phone +14385550104 20 s (workspace)
          “We are sorry, we cannot take your call at the moment. Please try again later.” 
        number found: +14385550100 is the number num_00000000000000000000000009
        caller no_rules: the number has no rules about callers, so it answers everybody
        hours no_hours: the number has no hours, so it is always open
        outage off: outage mode of Live is off
        assignment runs: the number is assigned to the agent `Support`, which runs version 3 in Live
        variant no_variants: the agent has no variants
        endpoint webhook: the agent is reached by asking the team's server for each call
        fallback added: the workspace's fallback adds 4 targets
        fallback cut: a call tries at most 5 targets, so 1 target at the end of the list were left out
        message default: no fallback has a message, so Switchboard's own is spoken if nobody takes the call
    "#]]);
}

#[test]
fn other_ingresses_and_numbers_are_not_ours() {
    let case = Case::new();
    let table = case.table();
    for (ingress, to) in [(Ingress::new(1).unwrap(), number(0)), (Ingress::STORE, number(1))] {
        let call = IncomingCall { ingress, to, caller: case.caller };
        let told = told(&table, &call, case.now);
        assert!(told.starts_with("reject: the call is refused: +1438555010"), "{told}");
        assert!(told.contains("number unknown"), "{told}");
    }
}

#[test]
fn deciding_and_finding_allocate_nothing() {
    let mut case = Case::new();
    case.own.hours = Some(hours(None));
    case.own.time_zone = Some(Zone::parse("America/Toronto").unwrap());
    case.own.inbound = Some(CallerRules { block_anonymous: true, ..CallerRules::default() });
    case.own.fallback = Some(fallback((1..=9).map(phone).collect(), Some("Sorry.")));
    let table = case.table();
    for to in [number(0), number(1)] {
        for now in ["2026-11-23T15:30:00Z", "2026-12-25T15:30:00Z", "2041-06-01T03:00:00Z"] {
            let now: Timestamp = now.parse().unwrap();
            let call = IncomingCall { ingress: Ingress::STORE, to, caller: case.caller };
            let counted = allocation_counter::measure(|| {
                let decision = decide(&table, &call, now);
                std::hint::black_box((&decision, table.find(call.ingress, to)));
            });
            assert_eq!(counted.count_total, 0, "{to} at {now}");
        }
    }
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1])));
    assert_eq!(counted.count_total, 1, "the counter counts");
}

#[test]
fn tables_never_go_backwards() {
    let table = Case::new().table();
    assert!(table.applied([], 1).is_none());
    assert!(table.applied([], 0).is_none());
    assert_eq!(table.applied([], 7).unwrap().version(), 7);
}

#[test]
fn a_change_of_many_numbers_at_once_keeps_the_others() {
    let row = |n: u64| {
        Some(NumberRow {
            number_id: NumberId::from_bits(u128::from(n)),
            workspace_id: WORKSPACE,
            callback_token: CallbackToken([0; 16]),
            assignment: None,
            own: None,
        })
    };
    let many = 20_000;
    let table = RouteTable::build((0..many).map(|n| Row::Number((Ingress::STORE, number(n)), row(n))), 1);
    assert_eq!((table.numbers(), table.routes()), (20_000, 1));
    let odd = (0..many).filter(|n| n % 2 == 1).map(|n| Row::Number((Ingress::STORE, number(n)), None));
    let halved = table.applied(odd, 2).unwrap();
    for n in 0..many {
        let found = halved.find(Ingress::STORE, number(n)).map(|found| found.number_id);
        assert_eq!(found, (n % 2 == 0).then(|| NumberId::from_bits(u128::from(n))));
        assert!(table.find(Ingress::STORE, number(n)).is_some(), "the old table stays as it was");
    }
    assert_eq!(halved.numbers(), 10_000);
    assert_eq!(halved.iter().count(), 10_000);
}

#[test]
fn damaged_snapshots_are_noticed() {
    let mut case = Case::new();
    case.own.hours = Some(hours(None));
    let bytes = encoded(&case.table());
    assert_eq!(snapshot::version_of(&bytes), Ok(1));
    assert!(snapshot::decode(&bytes).is_ok());
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        assert!(snapshot::decode(&damaged).is_err(), "one bit at {place}");
        assert!(snapshot::decode(&bytes[..place]).is_err(), "cut at {place}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(snapshot::decode(&longer).is_err());
    assert_eq!(snapshot::decode(b"").unwrap_err(), snapshot::Unusable::NotASnapshot);
}

fn encoded(table: &RouteTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot::encode(table, &mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// What a table should know, as plain maps.
#[derive(Clone, Debug, Default)]
struct Model {
    numbers: HashMap<(Ingress, E164), NumberRow>,
    running: BTreeMap<(AgentId, Environment), RunningRow>,
    workspaces: BTreeMap<WorkspaceId, WorkspaceRow>,
    secrets: BTreeMap<SecretId, Arc<[u8]>>,
}

impl Model {
    fn take(&mut self, row: Row) {
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        match row {
            Row::Number(key, Some(row)) => drop(self.numbers.insert(key, row)),
            Row::Number(key, None) => drop(self.numbers.remove(&key)),
            Row::Running(key, row) => put(&mut self.running, key, row),
            Row::Workspace(key, row) => put(&mut self.workspaces, key, row),
            Row::Secret(key, row) => put(&mut self.secrets, key, row),
        }
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        rows.extend(self.numbers.iter().map(|(key, row)| Row::Number(*key, Some(row.clone()))));
        rows.extend(self.running.iter().map(|(key, row)| Row::Running(*key, Some(row.clone()))));
        rows.extend(self.workspaces.iter().map(|(key, row)| Row::Workspace(*key, Some(row.clone()))));
        rows.extend(self.secrets.iter().map(|(key, row)| Row::Secret(*key, Some(row.clone()))));
        rows
    }

    /// The table knows exactly what the model knows, and shares no more routes than it must.
    fn check(&self, table: &RouteTable) {
        assert_eq!(table.numbers(), self.numbers.len());
        assert_eq!(table.iter().count(), self.numbers.len());
        let fresh = RouteTable::build(self.rows(), 1);
        assert_eq!(table.routes(), fresh.routes(), "no route is left over");
        let now: Timestamp = "2026-11-23T15:30:00Z".parse().unwrap();
        for ingress in [Ingress::STORE, Ingress::new(1).unwrap()] {
            for n in 0..12 {
                let call = IncomingCall { ingress, to: number(n), caller: Caller::Anonymous };
                let found = table.find(ingress, number(n));
                let row = self.numbers.get(&(ingress, number(n)));
                assert_eq!(found.map(|found| found.number_id), row.map(|row| row.number_id));
                assert_eq!(found.map(|found| found.assignment), row.map(|row| row.assignment));
                assert_eq!(found.map(|found| found.workspace_id), row.map(|row| row.workspace_id));
                assert_eq!(found.map(|found| found.callback_token), row.map(|row| row.callback_token));
                assert_eq!(told(table, &call, now), told(&fresh, &call, now));
                if let Some(row) = row {
                    let outage =
                        self.workspaces.get(&row.workspace_id).zip(row.assignment).and_then(
                            |(known, assignment)| known.settings.outage.since(assignment.environment),
                        );
                    assert_eq!(told(table, &call, now).contains("outage on"), outage.is_some());
                }
            }
        }
        for (id, ciphertext) in &self.secrets {
            assert_eq!(table.secret(*id), Some(&**ciphertext));
        }
    }
}

fn small(max: u128) -> impl Strategy<Value = u128> {
    0..max
}

fn any_row() -> impl Strategy<Value = Row> {
    let environment = || proptest::sample::select(Environment::ALL);
    let assignment = (small(3), environment(), proptest::option::of(small(3))).prop_map(
        |(agent, environment, variant)| Assignment {
            agent_id: AgentId::from_bits(agent),
            environment,
            variant_id: variant.map(VariantId::from_bits),
        },
    );
    let own = (0u64..4).prop_map(|n| {
        (n > 0).then(|| {
            Box::new(NumberSettings {
                fallback: Some(fallback(vec![phone(n + 20)], None)),
                time_zone: (n == 3).then(|| Zone::parse("Europe/Paris").unwrap()),
                hours: (n == 2).then(|| hours(None)),
                ..NumberSettings::default()
            })
        })
    });
    let number_row = (any::<u128>(), small(3), any::<[u8; 16]>(), proptest::option::of(assignment), own)
        .prop_map(|(id, workspace, token, assignment, own)| NumberRow {
            number_id: NumberId::from_bits(id),
            workspace_id: WorkspaceId::from_bits(workspace),
            callback_token: CallbackToken(token),
            assignment,
            own,
        });
    let running_row = (1u32..9, 0usize..3).prop_map(|(version, variants)| {
        let variants = (0..variants)
            .map(|n| variant(VariantId::from_bits(n as u128), &format!("variant {n}"), None))
            .collect();
        running(content(Some(sip(&format!("v{version}")).into()), variants), version)
    });
    let workspace_row = any::<bool>().prop_map(|outage| WorkspaceRow {
        settings: WorkspaceSettings {
            outage: OutageMode::default().switched(Environment::Live, outage, Timestamp::UNIX_EPOCH),
            ..WorkspaceSettings::default()
        },
    });
    prop_oneof![
        6 => ((0u32..2, 0u64..12), proptest::option::weighted(0.7, number_row))
            .prop_map(|((ingress, n), row)| Row::Number((Ingress::new(ingress).unwrap(), number(n)), row)),
        2 => (small(3), environment(), proptest::option::weighted(0.7, running_row))
            .prop_map(|(agent, environment, row)| Row::Running((AgentId::from_bits(agent), environment), row)),
        1 => (small(3), proptest::option::weighted(0.7, workspace_row))
            .prop_map(|(id, row)| Row::Workspace(WorkspaceId::from_bits(id), row)),
        1 => (small(3), proptest::option::of(any::<[u8; 3]>()))
            .prop_map(|(id, bytes)| Row::Secret(SecretId::from_bits(id), bytes.map(|bytes| bytes.as_slice().into()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn two_builders_joined_are_one(rows in proptest::collection::vec(any_row(), 0..60)) {
        let mut model = Model::default();
        for row in rows {
            model.take(row);
        }
        let (mut first, mut second) = (Builder::new(), Builder::new());
        for (n, row) in model.rows().into_iter().enumerate() {
            match row {
                Row::Number(..) if n % 2 == 1 => second.push(row),
                row => first.push(row),
            }
        }
        let table = first.in_order().join(second.in_order()).finish(1);
        model.check(&table);
        let gone = model.numbers.keys().map(|key| Row::Number(*key, None));
        prop_assert_eq!(table.applied(gone, 2).unwrap().routes(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_table_after_any_changes_is_the_table_built_at_once(
        first in proptest::collection::vec(any_row(), 0..30),
        batches in proptest::collection::vec(proptest::collection::vec(any_row(), 0..6), 0..12),
    ) {
        let mut model = Model::default();
        for row in first.clone() {
            model.take(row);
        }
        let mut table = RouteTable::build(first, 1);
        model.check(&table);
        for (version, batch) in (2..).zip(batches) {
            let (before, model_before) = (table.clone(), model.clone());
            for row in batch.clone() {
                model.take(row);
            }
            table = table.applied(batch, version).unwrap();
            model.check(&table);
            model_before.check(&before);
        }
        let restarted = snapshot::decode(&encoded(&table)).unwrap();
        prop_assert_eq!(restarted.version(), table.version());
        model.check(&restarted);
        // Nothing is left when all is gone.
        let gone: Vec<Row> = model.rows().into_iter().map(|row| match row {
            Row::Number(key, _) => Row::Number(key, None),
            Row::Running(key, _) => Row::Running(key, None),
            Row::Workspace(key, _) => Row::Workspace(key, None),
            Row::Secret(key, _) => Row::Secret(key, None),
        }).collect();
        for table in [table, restarted] {
            let empty = table.applied(gone.clone(), 1_000).unwrap();
            prop_assert_eq!((empty.numbers(), empty.shared_things()), (0, 0));
        }
    }
}
