//! Calls: whatever the order of reports, the same call comes out.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, workspaces};
use database::calls::{
    CallEvent, CallFilter, CallPlace, CallReport, CallReported, CallRoute, call_find, call_list, call_prune,
    call_report, call_timeline,
};
use domain::call::{CallStatus, Ingress, Outcome, TIMELINE_MAX};
use domain::environment::Environment;
use domain::id::{AgentId, CallId, NumberId, VersionId};

crate::on_both_engines!(
    reports_make_a_call_in_any_order,
    racing_reports_make_one_call,
    a_call_without_a_number_of_ours_is_kept,
    a_timeline_has_an_end,
    lists_find_calls,
    old_calls_are_forgotten_a_few_at_a_time,
    a_call_that_is_over_has_an_outcome,
    times_of_a_call_never_contradict_each_other,
);

/// The report number `n` of call `c`.
fn report(c: u128, n: i64, status: CallStatus) -> CallReport {
    CallReport {
        id: CallId::from_bits(c),
        ingress: Ingress::STORE,
        carrier_call_id: format!("CA{c}"),
        workspace: Some(HOME),
        number_id: None,
        from: "+15145550100".into(),
        to: "+14385950345".into(),
        route: None,
        status: Some(status),
        outcome: None,
        decision: None,
        answered_at: None,
        ended_at: None,
        duration_s: None,
        event: CallEvent {
            seq: 0,
            at: at(n),
            kind: "status".into(),
            dedupe_key: format!("status {n}"),
            detail: serde_json::json!({"status": status.as_str()}),
        },
        at: at(100 + n),
    }
}

fn story() -> Vec<CallReport> {
    let route = CallRoute {
        agent_id: AgentId::from_bits(5),
        environment: Environment::Live,
        variant_id: None,
        version_id: Some(VersionId::from_bits(6)),
    };
    vec![
        CallReport {
            number_id: Some(NumberId::from_bits(7)),
            route: Some(route),
            decision: Some(serde_json::json!({"connect": "sip:support@example.com"})),
            ..report(1, 1, CallStatus::Ringing)
        },
        CallReport { answered_at: Some(at(3)), ..report(1, 3, CallStatus::InProgress) },
        CallReport {
            outcome: Some(Outcome::Answered),
            ended_at: Some(at(9)),
            duration_s: Some(6),
            ..report(1, 9, CallStatus::Completed)
        },
    ]
}

async fn tell(arena: &Arena, report: CallReport) -> CallReported {
    arena.database.write(move |tx| call_report(tx, &report)).await.unwrap()
}

async fn reports_make_a_call_in_any_order(arena: Arena) {
    workspaces(&arena.database).await;
    let mut calls = Vec::new();
    for (n, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]].into_iter().enumerate() {
        let mut ends = 0;
        let mut told = Vec::new();
        for place in order {
            // Each report comes twice, as carriers do; each call has an id of its own.
            for _ in 0..2 {
                let mut report = story().remove(place);
                report.id = CallId::from_bits(100 + n as u128);
                report.carrier_call_id = format!("CA{n}");
                told.push(tell(&arena, report).await);
            }
        }
        ends += told.iter().filter(|it| it.is_ended).count();
        assert_eq!(ends, 1, "it ends once");
        assert_eq!(told.iter().filter(|it| it.is_new).count(), 1);
        assert_eq!(told.iter().filter(|it| it.is_duplicate).count(), 3);
        let id = told[0].call.id;
        let found =
            arena.database.read(move |read| call_find(read, HOME, id, at(1000))).await.unwrap().unwrap();
        let timeline = arena.database.read(move |read| call_timeline(read, id)).await.unwrap();
        let times: Vec<_> = timeline.iter().map(|event| event.at).collect();
        assert_eq!(times, [at(1), at(3), at(9)]);
        calls.push(found);
    }
    for call in &calls {
        let normal = database::calls::Call {
            id: calls[0].id,
            carrier_call_id: calls[0].carrier_call_id.clone(),
            updated_at: calls[0].updated_at,
            ..call.clone()
        };
        assert_eq!(normal, calls[0]);
    }
    let call = &calls[0];
    assert_eq!((call.status, call.outcome), (CallStatus::Completed, Some(Outcome::Answered)));
    assert_eq!((call.started_at, call.answered_at, call.ended_at), (at(1), Some(at(3)), Some(at(9))));
    assert_eq!(call.route.unwrap().version_id, Some(VersionId::from_bits(6)));
    assert_eq!(call.decision.as_ref().unwrap()["connect"], "sip:support@example.com");
}

async fn racing_reports_make_one_call(arena: Arena) {
    workspaces(&arena.database).await;
    let second = arena.another().await;
    let mut reporters = Vec::new();
    for n in 0..30 {
        let database = if n % 2 == 0 { arena.database.clone() } else { second.clone() };
        reporters.push(crate::arena::beside(async move {
            let mut report = report(1, n, CallStatus::Ringing);
            report.id = CallId::from_bits(1000 + u128::from(n.unsigned_abs()));
            database.write(move |tx| call_report(tx, &report)).await.unwrap()
        }));
    }
    let mut told = Vec::new();
    for reporter in reporters {
        told.push(reporter.await.unwrap());
    }
    assert_eq!(told.iter().filter(|it| it.is_new).count(), 1);
    let calls = arena
        .database
        .read(|read| call_list(read, HOME, &CallFilter::default(), None, 10, at(1000)))
        .await
        .unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].timeline_count, 30);
    second.close().await;
}

async fn a_call_without_a_number_of_ours_is_kept(arena: Arena) {
    workspaces(&arena.database).await;
    let orphan = CallReport { workspace: None, ..report(1, 1, CallStatus::Completed) };
    let told = tell(&arena, orphan).await;
    assert!(told.is_new && told.is_ended);
    // Later its beginning arrives, and tells whose it is.
    let told = tell(&arena, report(1, 0, CallStatus::Ringing)).await;
    assert_eq!((told.call.workspace, told.call.status), (Some(HOME), CallStatus::Completed));
    assert_eq!(told.call.started_at, at(0));
}

async fn a_timeline_has_an_end(arena: Arena) {
    workspaces(&arena.database).await;
    let most = i64::try_from(TIMELINE_MAX).unwrap();
    arena
        .database
        .in_bulk()
        .write(move |tx| {
            (0..most + 20).try_for_each(|n| call_report(tx, &report(1, n, CallStatus::InProgress)).map(drop))
        })
        .await
        .unwrap();
    let timeline = arena.database.read(|read| call_timeline(read, CallId::from_bits(1))).await.unwrap();
    assert_eq!(timeline.len(), TIMELINE_MAX);
    let told = tell(&arena, report(1, most + 50, CallStatus::Completed)).await;
    assert_eq!(told.call.timeline_count, most + 21, "later ones are counted");
    assert_eq!(told.call.status, CallStatus::Completed, "and still tell how far the call is");
}

async fn lists_find_calls(arena: Arena) {
    workspaces(&arena.database).await;
    for report in story() {
        tell(&arena, report).await;
    }
    tell(&arena, report(2, 50, CallStatus::Ringing)).await;
    tell(&arena, CallReport { workspace: Some(OTHER), ..report(3, 60, CallStatus::Ringing) }).await;
    let list = async |filter: CallFilter, before| {
        let found = arena
            .database
            .read(move |read| call_list(read, HOME, &filter, before, 10, at(1000)))
            .await
            .unwrap();
        found.into_iter().map(|call| call.id.to_bits()).collect::<Vec<_>>()
    };
    let all = CallFilter::default;
    assert_eq!(list(all(), None).await, [2, 1]);
    let place = |second, bits| Some(CallPlace { started_at: at(second), id: CallId::from_bits(bits) });
    assert_eq!(list(all(), place(50, 2)).await, [1]);
    assert_eq!(list(all(), place(1, 1)).await, [0; 0]);
    // The order is that of time, whatever the ids are; calls that began at once are told apart by them.
    for bits in [1000, 900] {
        let report = CallReport { id: CallId::from_bits(bits), ..report(bits, 20, CallStatus::Ringing) };
        tell(&arena, CallReport { outcome: Some(Outcome::Announced), ..report }).await;
    }
    assert_eq!(list(all(), None).await, [2, 1000, 900, 1]);
    assert_eq!(list(all(), place(20, 1000)).await, [900, 1]);
    assert_eq!(list(CallFilter { number: Some(NumberId::from_bits(7)), ..all() }, None).await, [1]);
    assert_eq!(list(CallFilter { agent: Some(AgentId::from_bits(5)), ..all() }, None).await, [1]);
    assert_eq!(list(CallFilter { environment: Some(Environment::Sandbox), ..all() }, None).await, [0; 0]);
    assert_eq!(list(CallFilter { outcome: Some(Outcome::Answered), ..all() }, None).await, [1]);
    assert_eq!(list(CallFilter { status: Some(CallStatus::Ringing), ..all() }, None).await, [2, 1000, 900]);
    assert_eq!(
        list(CallFilter { started_from: Some(at(10)), started_before: Some(at(51)), ..all() }, None).await,
        [2, 1000, 900]
    );
}

async fn old_calls_are_forgotten_a_few_at_a_time(arena: Arena) {
    workspaces(&arena.database).await;
    for n in 0..5 {
        for second in [n, n + 100] {
            let call = u128::try_from(n).unwrap();
            tell(&arena, report(call, second, CallStatus::Ringing)).await;
        }
    }
    for expected in [2, 1, 0] {
        assert_eq!(arena.database.write(|tx| call_prune(tx, at(3), 2)).await, Ok(expected));
    }
    assert_eq!(arena.raw("SELECT count(*) FROM calls").await, ["2"]);
    assert_eq!(arena.raw("SELECT count(*) FROM call_events").await, ["4"]);
    // A late report of a call that is forgotten begins it again, under the same id.
    assert!(tell(&arena, report(1, 200, CallStatus::Completed)).await.is_new);
}

/// Every final status, decided or not, short and long: what is read and what the filter finds are the same.
async fn a_call_that_is_over_has_an_outcome(arena: Arena) {
    workspaces(&arena.database).await;
    let mut expected = Vec::new();
    let mut c = 0;
    for &status in CallStatus::ALL {
        for (decided, duration_s) in [(false, Some(9)), (true, None), (true, Some(1)), (true, Some(2))] {
            c += 1;
            let decision = decided.then(|| serde_json::json!({}));
            tell(&arena, CallReport { decision, duration_s, ..report(c, 1, status) }).await;
            expected.push((c, Outcome::of_silence(status, decided, duration_s)));
        }
    }
    let list = async |outcome, now| {
        let filter = CallFilter { outcome, ..CallFilter::default() };
        let read = arena.database.read(move |read| call_list(read, HOME, &filter, None, 200, now)).await;
        let mut found: Vec<_> = read.unwrap().iter().map(|call| (call.id.to_bits(), call.outcome)).collect();
        found.reverse();
        found
    };
    assert_eq!(list(None, at(1000)).await, expected);
    assert!(
        list(None, at(105)).await.iter().all(|(_, outcome)| outcome.is_none()),
        "a report may be under way"
    );
    for &outcome in Outcome::ALL {
        let found = list(Some(outcome), at(1000)).await;
        let of = expected.iter().copied().filter(|(_, it)| *it == Some(outcome)).collect::<Vec<_>>();
        assert_eq!(found, of, "{outcome}");
        assert!(list(Some(outcome), at(105)).await.is_empty(), "{outcome}");
    }
    // What a late report says counts.
    let late = CallReport { outcome: Some(Outcome::FellBack), ..report(c, 2, CallStatus::Completed) };
    assert_eq!(tell(&arena, late).await.call.outcome, Some(Outcome::FellBack));
}

/// The carrier's clock and ours differ; whatever they say, and in whatever order it comes, a call is answered between its
/// beginning and its end.
async fn times_of_a_call_never_contradict_each_other(arena: Arena) {
    workspaces(&arena.database).await;
    let moments = [1, 5, 9];
    let mut c = 0;
    for begun in moments {
        for answered in moments {
            for ended in moments {
                for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2]] {
                    c += 1;
                    let reports = [
                        report(c, begun, CallStatus::Ringing),
                        CallReport {
                            answered_at: Some(at(answered)),
                            ..report(c, 20, CallStatus::InProgress)
                        },
                        CallReport { ended_at: Some(at(ended)), ..report(c, 21, CallStatus::Completed) },
                    ];
                    arena
                        .database
                        .write(move |tx| {
                            order.iter().try_for_each(|&place| call_report(tx, &reports[place]).map(drop))
                        })
                        .await
                        .unwrap();
                }
            }
        }
    }
    let calls = arena
        .database
        .read(|read| call_list(read, HOME, &CallFilter::default(), None, 200, at(1000)))
        .await
        .unwrap();
    assert_eq!(calls.len(), usize::try_from(c).unwrap());
    for call in calls {
        let (answered, ended) = (call.answered_at.unwrap(), call.ended_at.unwrap());
        assert!(call.started_at <= answered && answered <= ended, "{call:?}");
    }
}
