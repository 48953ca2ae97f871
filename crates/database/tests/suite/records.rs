//! The audit log, the event feed and the counter of routes: written with what they tell of, in order.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, keep, number, workspaces};
use database::audit::{
    AuditBreak, AuditFilter, AuditHead, audit_head, audit_heads, audit_list, audit_verify, audit_verify_since,
};
use database::events::{NewEvent, event_last, event_list, event_prune, event_seq, events_append};
use database::routes::route_version;
use database::{Change, Database, DbError, Tx};
use domain::event::EventKind;
use domain::id::WorkspaceId;
use jiff::Timestamp;

crate::on_both_engines!(
    a_change_is_told_to_people_and_programs,
    a_change_undone_was_never_told,
    many_events_ask_no_more_often_than_one,
    the_feed_is_in_commit_order,
    tampering_is_found,
    what_was_added_since_an_anchor_is_checked,
    versions_have_no_holes,
    old_events_are_forgotten,
);

fn change(workspace: WorkspaceId, target: &str, at: Timestamp) -> Change<'static> {
    Change {
        workspace,
        at,
        actor: "key_1",
        action: "number_label",
        target: target.to_owned(),
        before: Some(serde_json::json!({"label": null})),
        after: Some(serde_json::json!({"label": "é", "a": 1})),
        request_id: Some("req_1"),
        event: Some(EventKind::NumberUpdated),
    }
}

async fn a_change_is_told_to_people_and_programs(arena: Arena) {
    workspaces(&arena.database).await;
    arena
        .database
        .write(|tx| {
            tx.record(&change(HOME, "num_1", at(1)))?;
            tx.record(&change(HOME, "num_2", at(2)))?;
            tx.record(&Change { event: None, before: None, ..change(OTHER, "num_3", at(3)) })
        })
        .await
        .unwrap();
    let (audit, of_target, older, events, elsewhere) = arena
        .database
        .read(|read| {
            Ok((
                audit_list(read, HOME, &AuditFilter::default(), None, 10)?,
                audit_list(read, HOME, &AuditFilter::of_target("num_1"), None, 10)?,
                audit_list(read, HOME, &AuditFilter::default(), Some(2), 10)?,
                event_list(read, HOME, 0, 10)?,
                event_list(read, OTHER, 0, 10)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(audit.iter().map(|entry| (entry.seq, entry.at)).collect::<Vec<_>>(), [(2, at(2)), (1, at(1))]);
    assert_eq!(audit[1].after, Some(serde_json::json!({"label": "é", "a": 1})));
    assert_eq!(audit[1].request_id.as_deref(), Some("req_1"));
    assert_ne!(audit[0].id, audit[1].id);
    assert_eq!(of_target, [audit[1].clone()]);
    assert_eq!(older, [audit[1].clone()]);
    assert_eq!(events.len(), 2);
    assert_eq!((events[1].seq, events[1].event.kind), (2, EventKind::NumberUpdated));
    assert_eq!((events[1].event.subject.as_str(), &events[1].event.data["label"]), ("num_2", &"é".into()));
    assert!(elsewhere.is_empty());
    let id = events[1].event.id;
    let place =
        arena.database.read(move |read| Ok((event_seq(read, HOME, id)?, event_seq(read, OTHER, id)?)));
    assert_eq!(place.await.unwrap(), (Some(2), None));
}

async fn a_change_undone_was_never_told(arena: Arena) {
    workspaces(&arena.database).await;
    let before = arena.database.read(route_version).await.unwrap();
    let undone: Result<(), DbError> = arena
        .database
        .write(|tx| {
            keep(tx, &[number(1)])?;
            tx.record(&change(HOME, "num_1", at(1)))?;
            Err(DbError::StaleVersion)
        })
        .await;
    assert_eq!(undone, Err(DbError::StaleVersion));
    let tried = arena
        .database
        .write(|tx| {
            let undone: Result<(), DbError> = tx.attempt(|tx| {
                keep(tx, &[number(1)])?;
                Err(DbError::StaleVersion)
            });
            assert!(undone.is_err());
            Ok(())
        })
        .await;
    assert_eq!(tried, Ok(()));
    let (entries, events, version) = arena
        .database
        .read(|read| {
            Ok((
                audit_list(read, HOME, &AuditFilter::default(), None, 10)?,
                event_last(read, HOME)?,
                route_version(read)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!((entries.len(), events, version), (0, 0, before));
}

fn call_started(n: i64) -> NewEvent {
    NewEvent { kind: EventKind::CallStarted, subject: "cal_1".to_owned(), data: n.into(), at: at(n) }
}

/// What is locked for a batch of events must not be locked the longer the more there are.
async fn many_events_ask_no_more_often_than_one(arena: Arena) {
    workspaces(&arena.database).await;
    let asked = arena
        .database
        .write(|tx| {
            let mut asked = Vec::new();
            for events in [1, 200] {
                let before = tx.asked();
                let events: Vec<NewEvent> = (0..events).map(call_started).collect();
                events_append(tx, HOME, &events)?;
                asked.push(tx.asked() - before);
            }
            events_append(tx, HOME, &[])?;
            Ok(asked)
        })
        .await
        .unwrap();
    assert_eq!(asked, [3, 3]);
    let kept = arena.database.read(|read| event_list(read, HOME, 0, 300)).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=201).collect::<Vec<_>>());
    assert_eq!(arena.database.read(|read| event_last(read, HOME)).await.unwrap(), 201);
}

async fn the_feed_is_in_commit_order(arena: Arena) {
    workspaces(&arena.database).await;
    let second = arena.another().await;
    let mut writers = Vec::new();
    for n in 0..60_i64 {
        let database = if n % 2 == 0 { arena.database.clone() } else { second.clone() };
        writers.push(crate::arena::beside(async move {
            database.write(move |tx| events_append(tx, HOME, &[call_started(n)])).await
        }));
    }
    // A listener that only ever asks for what comes after what it has seen must miss nothing.
    let mut seen = Vec::new();
    let mut last = 0;
    while seen.len() < 60 {
        for entry in second.read(move |read| event_list(read, HOME, last, 7)).await.unwrap() {
            assert_eq!(entry.seq, last + 1);
            last = entry.seq;
            seen.push(entry.event.data.as_i64().unwrap());
        }
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    second.close().await;
}

async fn verify(database: &Database, anchor: Option<AuditHead>) -> Result<i64, AuditBreak> {
    database.read(move |read| audit_verify(read, HOME, anchor.as_ref())).await.unwrap()
}

fn ten_changes(tx: &Tx<'_>) -> Result<(), DbError> {
    (1..=10).try_for_each(|n| tx.record(&change(HOME, &format!("num_{n}"), at(n))))
}

async fn tampering_is_found(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(ten_changes).await.unwrap();
    assert_eq!(verify(&arena.database, None).await, Ok(10));
    let anchor = arena.database.read(audit_heads).await.unwrap().remove(0);
    assert_eq!((anchor.workspace, anchor.seq), (HOME, 10));
    let home = HOME.to_string();
    let clean: Vec<String> = vec![
        format!("DELETE FROM audit WHERE workspace_id = '{home}'"),
        format!(
            "UPDATE workspace_heads SET audit_seq = 0, audit_hash = '{}', event_seq = 0 WHERE workspace_id = '{home}'",
            "0".repeat(64)
        ),
        format!("DELETE FROM events WHERE workspace_id = '{home}'"),
    ];
    // Each way to tamper, and what it is told as.
    let cases: Vec<(Vec<&str>, AuditBreak)> = vec![
        (vec!["UPDATE audit SET after = '{}' WHERE seq = 4"], AuditBreak::Changed(4)),
        (vec!["UPDATE audit SET actor = 'nobody' WHERE seq = 1"], AuditBreak::Changed(1)),
        (vec!["DELETE FROM audit WHERE seq = 5"], AuditBreak::Missing(6)),
        (vec!["DELETE FROM audit WHERE seq = 10"], AuditBreak::CutOff { found: 9, expected: 10 }),
        (
            vec![
                "UPDATE audit SET seq = 100 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 4",
                "UPDATE audit SET seq = 4 WHERE seq = 100",
            ],
            AuditBreak::Changed(3),
        ),
    ];
    for (tampering, expected) in cases {
        for sql in &tampering {
            arena.raw(sql).await;
        }
        assert_eq!(verify(&arena.database, None).await, Err(expected), "{tampering:?}");
        for sql in &clean {
            arena.raw(sql).await;
        }
        arena.database.write(ten_changes).await.unwrap();
        assert_eq!(
            verify(&arena.database, Some(anchor.clone())).await,
            Ok(10),
            "the same story, the same hashes"
        );
    }
    // The whole chain written anew, or its end cut off with its recorded end: only an anchor tells.
    for sql in &clean {
        arena.raw(sql).await;
    }
    arena
        .database
        .write(|tx| (1..=9).try_for_each(|n| tx.record(&change(HOME, "num_1", at(n)))))
        .await
        .unwrap();
    assert_eq!(verify(&arena.database, None).await, Ok(9));
    let cut = AuditBreak::CutOff { found: 9, expected: 10 };
    assert_eq!(verify(&arena.database, Some(anchor.clone())).await, Err(cut));
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(10)))).await.unwrap();
    assert_eq!(verify(&arena.database, Some(anchor)).await, Err(AuditBreak::Rewritten(10)));
    // A clock that went back is not followed.
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(-500)))).await.unwrap();
    assert_eq!(verify(&arena.database, None).await, Ok(11));
    let newest =
        arena.database.read(|read| audit_list(read, HOME, &AuditFilter::default(), None, 2)).await.unwrap();
    assert_eq!((newest[0].at, newest[1].at), (at(10), at(10)));
    // Who writes one that does go back is found,
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(1000)))).await.unwrap();
    arena.raw("UPDATE audit SET at = (SELECT a.at FROM audit a WHERE a.seq = 1) WHERE seq = 12").await;
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(13)))).await.unwrap();
    arena.raw("UPDATE audit SET at = (SELECT e.at FROM events e WHERE e.seq = 12) WHERE seq = 12").await;
    assert_eq!(verify(&arena.database, None).await, Err(AuditBreak::ClockBack(13)));
    // and hides nothing that comes behind.
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(1014)))).await.unwrap();
    arena.raw("UPDATE audit SET actor = 'nobody' WHERE seq = 14").await;
    assert_eq!(verify(&arena.database, None).await, Err(AuditBreak::Changed(14)));
}

/// Anchors are made often, so that only what is new is gone through each time.
async fn what_was_added_since_an_anchor_is_checked(arena: Arena) {
    workspaces(&arena.database).await;
    let since = async |anchor: &AuditHead| {
        let anchor = anchor.clone();
        arena.database.read(move |read| audit_verify_since(read, &anchor)).await.unwrap()
    };
    let head = async || arena.database.read(|read| audit_head(read, HOME)).await.unwrap().unwrap();
    let fresh = head().await;
    assert_eq!((fresh.seq, since(&fresh).await), (0, Ok(0)));
    arena.database.write(ten_changes).await.unwrap();
    assert_eq!(since(&fresh).await, Ok(10));
    let anchor = head().await;
    arena.database.write(|tx| tx.record(&change(HOME, "num_1", at(11)))).await.unwrap();
    assert_eq!(since(&anchor).await, Ok(11));
    let forged = AuditHead { hash: fresh.hash.clone(), ..anchor.clone() };
    assert_eq!(since(&forged).await, Err(AuditBreak::Rewritten(10)));
    arena.raw("UPDATE audit SET actor = 'nobody' WHERE seq = 11").await;
    assert_eq!(since(&anchor).await, Err(AuditBreak::Changed(11)));
    arena.raw("DELETE FROM audit WHERE seq >= 10").await;
    assert_eq!(since(&anchor).await, Err(AuditBreak::CutOff { found: 9, expected: 11 }));
}

async fn versions_have_no_holes(arena: Arena) {
    workspaces(&arena.database).await;
    let second = arena.another().await;
    let before = arena.database.read(route_version).await.unwrap();
    let mut writers = Vec::new();
    for n in 0..40 {
        let database = if n % 2 == 0 { arena.database.clone() } else { second.clone() };
        writers.push(crate::arena::beside(
            async move { database.write(move |tx| keep(tx, &[number(n)])).await },
        ));
    }
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(arena.database.read(route_version).await.unwrap(), before + 40);
    let noted =
        arena.raw("SELECT count(*), count(DISTINCT version) FROM route_changes WHERE kind = 'number'").await;
    assert_eq!(noted, ["40 40"]);
    second.close().await;
}

async fn old_events_are_forgotten(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(ten_changes).await.unwrap();
    for expected in [3, 2, 0] {
        assert_eq!(arena.database.write(|tx| event_prune(tx, at(6), 3)).await, Ok(expected));
    }
    let kept = arena.database.read(|read| event_list(read, HOME, 0, 100)).await.unwrap();
    assert_eq!(kept.first().map(|entry| entry.seq), Some(6));
    assert_eq!(arena.database.read(|read| event_last(read, HOME)).await.unwrap(), 10);
}
