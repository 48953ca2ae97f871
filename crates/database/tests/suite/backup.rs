//! Backups: what comes out is what went in, on either engine, and nothing broken passes for whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, agent, deploy, keep, number, phone_number, workspaces};
use database::agents::{agent_create, agent_find};
use database::audit::audit_verify;
use database::backup::RestoredKeys;
use database::calls::{CallEvent, CallReport, call_report};
use database::events::event_list;
use database::idempotency::{Answer, Slot, idempotency_keep};
use database::keys::{ApiKey, KeyRole, key_create, key_find, key_revoke};
use database::meta;
use database::numbers::{Number, number_find, number_to_release, number_update};
use database::purchases::{BudgetRefusal, Limits, purchase_claim, purchase_create, purchase_find};
use database::routes::{RouteUpdate, route_rows_since, route_version};
use database::secrets::{secret_create, secret_open};
use database::{Change, Database, DbError, Engine, Keyring};
use domain::call::{CallStatus, Ingress};
use domain::environment::Environment;
use domain::event::EventKind;
use domain::id::{AgentId, CallId, KeyId, NumberId, PurchaseId, SecretId};
use domain::number::{NumberStatus, ReleaseHold};
use domain::permission::BuiltInRole;
use expect_test::expect;
use jiff::SignedDuration;

crate::on_both_engines!(
    a_backup_holds_every_table_and_column,
    a_restored_database_is_the_same,
    a_restored_release_waits_for_a_person,
    a_restored_key_opens_nothing,
    a_backup_moves_between_engines,
    backups_under_writes_are_whole,
    a_broken_backup_is_refused,
    a_full_database_is_not_overwritten,
);

async fn a_backup_holds_every_table_and_column(_: Arena) {
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.sql")).unwrap();
    let mut expected: Vec<String> = schema
        .lines()
        .filter(|line| !["--", "INDEX", "UNIQUE"].iter().any(|word| line.starts_with(word)))
        .map(|line| line.trim_end_matches(" NOT NULL").to_owned())
        .filter(|line| !line.starts_with("leases."))
        .collect();
    let mut found: Vec<String> = database::backup::backup_columns()
        .map(|column| {
            let (name, kind) = column.split_once(' ').unwrap();
            let kind = match kind {
                "Int" => "INTEGER",
                "Bool" => "BOOLEAN",
                other => &other.to_uppercase(),
            };
            format!("{name} {kind}")
        })
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::from_bytes(&[7; 32]))
}

const LIMITS: Limits = Limits { buys_per_day: 10, monthly_spend: None };

/// One of everything.
async fn furnish(database: &Database) {
    workspaces(database).await;
    database.check_key(&keyring()).await.unwrap();
    let ring = keyring();
    database
        .write(move |tx| {
            secret_create(tx, &ring, HOME, SecretId::from_bits(1), "sip_password", "12345678", at(0))?;
            agent_create(tx, &agent(1))?;
            deploy(tx, &agent(1), 1, Environment::Live, 1)?;
            let labelled =
                Number { label: Some("Été \"quoted\"\n🛎".into()), tags: vec!["a".into()], ..number(1) };
            keep(tx, &[labelled])?;
            let id = PurchaseId::from_bits(2);
            let ordering = Number { status: NumberStatus::Ordering, purchase_id: Some(id), ..number(2) };
            purchase_create(tx, &ordering, id, LIMITS, at(0))?.unwrap();
            purchase_claim(tx, "node", SignedDuration::from_secs(30), 5, at(1))?;
            idempotency_keep(
                tx,
                Slot { workspace: HOME, route: "POST /v1/numbers/buy", key: "k" },
                &Answer { body_hash: vec![0, 255, 7], status: 202, body: "{ }".into() },
                at(0),
            )?;
            call_report(
                tx,
                &CallReport {
                    id: CallId::from_bits(1),
                    ingress: Ingress::STORE,
                    carrier_call_id: "CA1".into(),
                    workspace: Some(HOME),
                    number_id: Some(NumberId::from_bits(1)),
                    from: "+15145550100".into(),
                    to: phone_number(1).to_string(),
                    route: None,
                    status: Some(CallStatus::Completed),
                    outcome: None,
                    decision: Some(serde_json::json!({"z": [1, 2.5, null], "a": "é"})),
                    answered_at: None,
                    ended_at: Some(at(9)),
                    duration_s: Some(9),
                    event: CallEvent {
                        seq: 0,
                        at: at(1),
                        kind: "status".into(),
                        dedupe_key: "1".into(),
                        detail: serde_json::json!({}),
                    },
                    at: at(1),
                },
            )?;
            for n in 0..5 {
                tx.record(&Change {
                    workspace: HOME,
                    at: at(n),
                    actor: "key_1",
                    action: "number_label",
                    target: "num_1".into(),
                    before: None,
                    after: Some(serde_json::json!({"n": n})),
                    request_id: None,
                    event: Some(EventKind::NumberUpdated),
                })?;
            }
            Ok(())
        })
        .await
        .unwrap();
}

async fn prove(restored: &Database, original: &Database) {
    let ring = keyring();
    let look = move |read: &database::Read<'_>| {
        Ok((
            number_find(read, HOME, NumberId::from_bits(1))?,
            agent_find(read, HOME, AgentId::from_bits(1))?,
            event_list(read, HOME, 0, 100)?,
            audit_verify(read, HOME, None)?,
            secret_open(read, &ring, HOME, SecretId::from_bits(1))?.map(|secret| secret.to_vec()),
        ))
    };
    let (was, is) = (original.read(look.clone()).await.unwrap(), restored.read(look).await.unwrap());
    assert_eq!(was, is);
    assert_eq!(is.3, Ok(5));
    assert_eq!(is.4.as_deref(), Some(&b"12345678"[..]));
    restored.check_key(&keyring()).await.unwrap();
    let other = restored.check_key(&Keyring::from_bytes(&[8; 32])).await;
    assert!(matches!(other, Err(DbError::WrongKey { .. })), "it knows its key");

    // It buys nothing, and knows that what it knows of purchases may be old.
    let locked = restored.read(meta::purchases_locked).await.unwrap().expect("it is locked");
    assert!(locked.contains("reconcile"), "{locked}");
    let refused = restored
        .write(|tx| {
            let ordering = Number { status: NumberStatus::Ordering, ..number(3) };
            purchase_create(tx, &ordering, PurchaseId::from_bits(3), LIMITS, at(5))
        })
        .await;
    assert!(matches!(refused, Ok(Err(BudgetRefusal::Locked(_)))), "{refused:?}");
    let purchase =
        restored.read(|read| purchase_find(read, PurchaseId::from_bits(2))).await.unwrap().unwrap();
    assert!(purchase.restored && purchase.lease.is_none());

    // A node that kept a table from before loads everything anew.
    let known = original.read(route_version).await.unwrap();
    let update = restored.read(move |read| route_rows_since(read, known)).await.unwrap();
    assert!(matches!(update, RouteUpdate::LoadAll), "{update:?}");
    // And it goes on working.
    restored
        .write(|tx| {
            let found = number_find(tx, HOME, NumberId::from_bits(1))?.unwrap();
            number_update(tx, &Number { label: None, ..found }, at(99))
        })
        .await
        .unwrap();
}

async fn a_restored_database_is_the_same(arena: Arena) {
    furnish(&arena.database).await;
    let path = arena.folder.path().join("backup.jsonl");
    let made = arena.database.backup_create(&path, at(50)).await.unwrap();
    assert_eq!(made.manifest.key_fingerprint.as_deref(), Some(keyring().fingerprint()));
    assert_eq!(Database::backup_read(&path).unwrap(), made);
    let verified = Database::backup_verify(&path).await.unwrap();
    assert_eq!((verified.audit_entries, &verified.backup), (5, &made));
    let (restored, backup) =
        Database::backup_restore(arena.empty(arena.engine).await, &path, RestoredKeys::Revoke).await.unwrap();
    assert_eq!(backup, made);
    prove(&restored, &arena.database).await;
    restored.close().await;
    // Nothing else is left in the folder, and nobody else may read it.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = arena.database.backup_create(&path, at(51)).await;
    assert!(matches!(again, Err(DbError::Refused(_))), "an older backup is never replaced");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("12345678"), "secrets stay sealed");
}

/// The backup cannot know whether somebody kept the number after it was made.
async fn a_restored_release_waits_for_a_person(arena: Arena) {
    furnish(&arena.database).await;
    let hold = ReleaseHold { requested_at: at(10), release_at: at(20) };
    let held = Number { status: NumberStatus::ReleaseScheduled, hold: Some(hold), ..number(7) };
    arena.database.write(move |tx| keep(tx, std::slice::from_ref(&held))).await.unwrap();
    let path = arena.folder.path().join("backup.jsonl");
    arena.database.backup_create(&path, at(50)).await.unwrap();
    let (restored, _) =
        Database::backup_restore(arena.empty(arena.engine).await, &path, RestoredKeys::Revoke).await.unwrap();
    let found = restored
        .read(|read| {
            assert!(number_to_release(read, at(1_000_000), 10)?.is_empty(), "nothing is to be given back");
            Ok((number_find(read, HOME, NumberId::from_bits(7))?.unwrap(), event_list(read, HOME, 0, 100)?))
        })
        .await
        .unwrap();
    assert_eq!((found.0.status, found.0.hold), (NumberStatus::Active, None));
    assert_eq!(found.1.last().unwrap().event.kind, EventKind::NumberReleaseCancelled, "and it is told");
    restored.close().await;
}

/// One that was revoked after the backup was made would live again.
async fn a_restored_key_opens_nothing(arena: Arena) {
    furnish(&arena.database).await;
    let key = |n: u128, workspace| ApiKey {
        id: KeyId::from_bits(n),
        public_id: format!("public{n}"),
        workspace,
        name: "deploy".into(),
        secret_hash: vec![7; 32],
        last4: "abcd".into(),
        role: KeyRole::BuiltIn(BuiltInRole::Owner),
        created_at: at(1),
        created_by: "cli".into(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    arena
        .database
        .write(move |tx| {
            key_create(tx, &key(1, HOME))?;
            key_create(tx, &key(2, HOME))?;
            key_create(tx, &key(3, OTHER))?;
            key_revoke(tx, HOME, KeyId::from_bits(2), at(2)).map(drop)
        })
        .await
        .unwrap();
    let path = arena.folder.path().join("backup.jsonl");
    arena.database.backup_create(&path, at(50)).await.unwrap();
    let other = if arena.engine == Engine::Sqlite { Engine::Postgres } else { Engine::Sqlite };
    let revoked = async |engine, keys| {
        let (restored, _) = Database::backup_restore(arena.empty(engine).await, &path, keys).await.unwrap();
        let found = restored
            .read(|read| {
                let at = |workspace, n| {
                    key_find(read, workspace, KeyId::from_bits(n)).map(|key| key.unwrap().revoked_at)
                };
                let told = event_list(read, HOME, 0, 100)?;
                let told = told.iter().filter(|entry| entry.event.kind == EventKind::KeyRevoked).count();
                assert!(audit_verify(read, HOME, None)?.is_ok());
                Ok((at(HOME, 1)?, at(HOME, 2)?, at(OTHER, 3)?, told))
            })
            .await
            .unwrap();
        restored.close().await;
        found
    };
    let (one, two, three, told) = revoked(arena.engine, RestoredKeys::Revoke).await;
    assert!(one.is_some() && three.is_some(), "in every workspace");
    assert_eq!((two, told), (Some(at(2)), 1), "what was revoked before stays as it was");
    assert_eq!(revoked(other, RestoredKeys::Keep).await, (None, Some(at(2)), None, 0));
}

async fn a_backup_moves_between_engines(arena: Arena) {
    furnish(&arena.database).await;
    let path = arena.folder.path().join("backup.jsonl");
    arena.database.backup_create(&path, at(50)).await.unwrap();
    let other = if arena.engine == Engine::Sqlite { Engine::Postgres } else { Engine::Sqlite };
    let (restored, _) =
        Database::backup_restore(arena.empty(other).await, &path, RestoredKeys::Revoke).await.unwrap();
    assert_eq!(restored.engine(), other);
    prove(&restored, &arena.database).await;
    restored.close().await;
}

async fn backups_under_writes_are_whole(arena: Arena) {
    furnish(&arena.database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let (database, stop) = (arena.database.clone(), Arc::clone(&stop));
        writers.push(crate::arena::beside(async move {
            let mut written = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                let n = 1_000 + writer * 2_000 + written;
                database
                    .write(move |tx| {
                        // Two rows that must never be seen apart.
                        keep(tx, &[number(n)])?;
                        tx.record(&Change {
                            workspace: HOME,
                            at: at(100),
                            actor: "key_1",
                            action: "number_import",
                            target: NumberId::from_bits(n.into()).to_string(),
                            before: None,
                            after: None,
                            request_id: None,
                            event: None,
                        })
                    })
                    .await
                    .unwrap();
                written += 1;
            }
            written
        }));
    }
    for round in 0..5 {
        let path = arena.folder.path().join(format!("backup {round}.jsonl"));
        let made = arena.database.backup_create(&path, at(200)).await.unwrap();
        let verified = Database::backup_verify(&path).await.unwrap();
        assert_eq!(made.rows["numbers"] + 3, made.rows["audit"], "{made:?}");
        assert_eq!(verified.backup, made);
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}

async fn a_broken_backup_is_refused(arena: Arena) {
    furnish(&arena.database).await;
    let path = arena.folder.path().join("backup.jsonl");
    arena.database.backup_create(&path, at(50)).await.unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let (all, last) = (lines.len(), lines.len() - 1);
    let joined = |lines: &[&str]| [lines, &[""]].concat().join("\n");
    let mut told = Vec::new();
    for broken in [
        String::new(),
        "hello\n".into(),
        whole[..whole.len() / 2].to_owned(),
        joined(&lines[..last]),
        joined(&[&lines[..2], &lines[3..]].concat()),
        whole.replacen("key_1", "key_2", 1),
        joined(&[&lines[..all], &lines[last..]].concat()),
        whole.replacen("\"switchboard_backup\":1", "\"switchboard_backup\":2", 1),
        whole.replacen(
            &format!("\"schema_version\":{}", database::SCHEMA_VERSION),
            "\"schema_version\":99",
            1,
        ),
    ] {
        let path = arena.folder.path().join("broken.jsonl");
        std::fs::write(&path, broken).unwrap();
        let error = Database::backup_read(&path).unwrap_err().to_string();
        assert!(Database::backup_verify(&path).await.is_err());
        let settings = arena.empty(arena.engine).await;
        assert!(Database::backup_restore(settings, &path, RestoredKeys::Revoke).await.is_err());
        told.push(error.rsplit_once("broken.jsonl: ").map_or(error.clone(), |(_, why)| why.to_owned()));
    }
    expect![[r#"
        it is empty
        it is no backup: expected value at line 1 column 1
        it is cut off in the middle of a line
        it is cut off: its end is missing
        it was changed since it was made: its SHA-256 differs
        it was changed since it was made: its SHA-256 differs
        it does not hold the rows that it says
        its format is not known to this program
        the database has schema 99, this program knows schemas up to 2: run a newer one"#]]
    .assert_eq(&told.join("\n"));
}

async fn a_full_database_is_not_overwritten(arena: Arena) {
    furnish(&arena.database).await;
    let path = arena.folder.path().join("backup.jsonl");
    arena.database.backup_create(&path, at(50)).await.unwrap();
    let Err(error) = Database::backup_restore(arena.settings.clone(), &path, RestoredKeys::Revoke).await
    else {
        panic!("it was overwritten")
    };
    assert!(matches!(&error, DbError::Refused(why) if why.contains("not empty")), "{error}");
    assert_eq!(arena.database.read(meta::purchases_locked).await.unwrap(), None);
}
