//! Workspaces, keys, roles, idempotency, leases.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, workspaces};
use database::DbError;
use database::idempotency::{Answer, Slot, idempotency_find, idempotency_keep, idempotency_prune};
use database::keys::{
    ApiKey, KeyRole, key_create, key_find, key_find_by_public_id, key_list, key_revoke, key_used,
    role_create, role_delete, role_find, role_list, role_update,
};
use database::leases::{lease_give_back, lease_holds, lease_list, lease_take};
use database::workspaces::{
    Workspace, workspace_create, workspace_find, workspace_find_by_name, workspace_list, workspace_update,
};
use domain::id::{KeyId, RoleId, WorkspaceId};
use domain::permission::{BuiltInRole, Permission, Permissions};
use domain::workspace::WorkspaceSettings;
use jiff::SignedDuration;

crate::on_both_engines!(
    workspaces_are_kept_and_changed,
    keys_are_found_and_revoked,
    roles_are_kept_while_used,
    an_answer_is_kept_once,
    twins_wait_for_each_other,
    a_lease_has_one_holder,
);

async fn workspaces_are_kept_and_changed(arena: Arena) {
    workspaces(&arena.database).await;
    let taken = arena
        .database
        .write(|tx| {
            workspace_create(tx, WorkspaceId::from_bits(3), "home", &WorkspaceSettings::default(), at(0))
        })
        .await;
    assert_eq!(taken, Err(DbError::Conflict("workspaces_name")));
    let home = arena.database.read(|read| workspace_find(read, HOME)).await.unwrap().unwrap();
    assert_eq!((home.name.as_str(), home.revision), ("home", 1));
    let renamed = Workspace { name: "chez nous".into(), ..home.clone() };
    let changed = arena.database.write(move |tx| workspace_update(tx, &renamed, at(9))).await.unwrap();
    assert_eq!((changed.revision, changed.updated_at), (2, at(9)));
    let stale = arena.database.write(move |tx| workspace_update(tx, &home, at(9))).await;
    assert_eq!(stale, Err(DbError::StaleVersion));
    let (by_name, listed) = arena
        .database
        .read(|read| Ok((workspace_find_by_name(read, "chez nous")?, workspace_list(read, Some(HOME), 10)?)))
        .await
        .unwrap();
    assert_eq!(by_name, Some(changed));
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [OTHER]);
}

fn key(n: u128, role: KeyRole) -> ApiKey {
    ApiKey {
        id: KeyId::from_bits(n),
        public_id: format!("pub{n:05}"),
        workspace: HOME,
        name: "ci".into(),
        secret_hash: vec![7; 32],
        last4: "wxyz".into(),
        role,
        created_at: at(0),
        created_by: "system:cli".into(),
        expires_at: Some(at(1000)),
        revoked_at: None,
        last_used_at: None,
    }
}

async fn keys_are_found_and_revoked(arena: Arena) {
    workspaces(&arena.database).await;
    let given = key(1, KeyRole::BuiltIn(BuiltInRole::Admin));
    let kept = given.clone();
    arena.database.write(move |tx| key_create(tx, &kept)).await.unwrap();
    let found = arena.database.read(|read| key_find_by_public_id(read, "pub00001")).await.unwrap().unwrap();
    assert_eq!(found, (given.clone(), BuiltInRole::Admin.permissions()));
    arena
        .database
        .write(|tx| {
            key_used(tx, KeyId::from_bits(1), at(10))?;
            key_used(tx, KeyId::from_bits(1), at(11))?;
            assert!(!key_revoke(tx, OTHER, KeyId::from_bits(1), at(20))?);
            assert!(key_revoke(tx, HOME, KeyId::from_bits(1), at(20))?);
            assert!(!key_revoke(tx, HOME, KeyId::from_bits(1), at(21))?);
            Ok(())
        })
        .await
        .unwrap();
    let (found, elsewhere, listed) = arena
        .database
        .read(|read| {
            Ok((
                key_find(read, HOME, KeyId::from_bits(1))?,
                key_find(read, OTHER, KeyId::from_bits(1))?,
                key_list(read, HOME, None, 10)?,
            ))
        })
        .await
        .unwrap();
    let expected = ApiKey { last_used_at: Some(at(10)), revoked_at: Some(at(20)), ..given };
    assert_eq!(found.as_ref(), Some(&expected));
    assert_eq!(elsewhere, None);
    assert_eq!(listed, [expected]);
}

async fn roles_are_kept_while_used(arena: Arena) {
    workspaces(&arena.database).await;
    let id = RoleId::from_bits(5);
    let clerk = Permissions::of([Permission::NumbersRead, Permission::NumbersBuy]);
    let permissions = clerk.clone();
    arena
        .database
        .write(move |tx| {
            role_create(tx, HOME, id, "clerk", &permissions, at(0))?;
            key_create(tx, &key(1, KeyRole::Custom(id)))
        })
        .await
        .unwrap();
    for name in ["clerk", "owner"] {
        let permissions = clerk.clone();
        let taken = arena
            .database
            .write(move |tx| role_create(tx, HOME, RoleId::from_bits(6), name, &permissions, at(0)))
            .await;
        assert_eq!(taken, Err(DbError::Conflict("roles_name")), "{name}");
    }
    let (_, allowed) =
        arena.database.read(|read| key_find_by_public_id(read, "pub00001")).await.unwrap().unwrap();
    assert_eq!(allowed, clerk);
    let role = arena.database.read(move |read| role_find(read, HOME, id)).await.unwrap().unwrap();
    let reader = Permissions::of([Permission::NumbersRead]);
    let smaller = database::keys::Role { permissions: reader.clone(), ..role.clone() };
    arena.database.write(move |tx| role_update(tx, &smaller, at(1))).await.unwrap();
    assert_eq!(
        arena.database.write(move |tx| role_update(tx, &role, at(1))).await,
        Err(DbError::StaleVersion)
    );
    let (_, allowed) =
        arena.database.read(|read| key_find_by_public_id(read, "pub00001")).await.unwrap().unwrap();
    assert_eq!(allowed, reader, "a key can do what its role allows now");

    assert_eq!(arena.database.write(move |tx| role_delete(tx, HOME, id)).await, Ok(Err(1)));
    let deleted = arena
        .database
        .write(move |tx| {
            key_revoke(tx, HOME, KeyId::from_bits(1), at(2))?;
            role_delete(tx, HOME, id)
        })
        .await;
    assert_eq!(deleted, Ok(Ok(true)));
    assert!(arena.database.read(|read| role_list(read, HOME, None, 10)).await.unwrap().is_empty());
}

const SLOT: Slot<'_> = Slot { workspace: HOME, route: "POST /v1/numbers/buy", key: "k-1" };

fn answer(body: &str) -> Answer {
    Answer { body_hash: vec![1; 32], status: 202, body: body.into() }
}

async fn an_answer_is_kept_once(arena: Arena) {
    workspaces(&arena.database).await;
    let body = "{\"b\":1,  \"a\":\"é\"}\n";
    arena.database.write(move |tx| idempotency_keep(tx, SLOT, &answer(body), at(0))).await.unwrap();
    let again = arena.database.write(|tx| idempotency_keep(tx, SLOT, &answer("{}"), at(1))).await;
    assert_eq!(again, Err(DbError::Conflict("idempotency_keys_pkey")));
    let find = async |slot: Slot<'static>, now| {
        arena.database.read(move |read| idempotency_find(read, slot, now)).await.unwrap()
    };
    assert_eq!(find(SLOT, at(1)).await, Some(answer(body)), "byte for byte");
    assert_eq!(find(Slot { workspace: OTHER, ..SLOT }, at(1)).await, None);
    assert_eq!(find(Slot { route: "POST /v1/agents", ..SLOT }, at(1)).await, None);
    // After thirty days the key is free again, swept up or not.
    let later = at(30 * 24 * 3600);
    assert_eq!(find(SLOT, later).await, None);
    arena.database.write(move |tx| idempotency_keep(tx, SLOT, &answer("{}"), later)).await.unwrap();
    let end = later + SignedDuration::from_hours(24 * 31);
    for expected in [1, 0] {
        assert_eq!(arena.database.write(move |tx| idempotency_prune(tx, end, 1)).await, Ok(expected));
    }
}

async fn twins_wait_for_each_other(arena: Arena) {
    workspaces(&arena.database).await;
    let mut twins = Vec::new();
    for n in 0..50 {
        let database = arena.database.clone();
        twins.push(crate::arena::beside(async move {
            database
                .write(move |tx| {
                    tx.workspace_lock(HOME)?;
                    if let Some(first) = idempotency_find(tx, SLOT, at(0))? {
                        return Ok((false, first));
                    }
                    let answer = answer(&format!("answer {n}"));
                    idempotency_keep(tx, SLOT, &answer, at(0))?;
                    Ok((true, answer))
                })
                .await
                .unwrap()
        }));
    }
    let mut answers = Vec::new();
    for twin in twins {
        answers.push(twin.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(is_first, _)| *is_first).count(), 1);
    assert!(answers.iter().all(|(_, answer)| *answer == answers[0].1));
}

async fn a_lease_has_one_holder(arena: Arena) {
    let lasts = SignedDuration::from_secs(10);
    let take = async |holder: &'static str, now| {
        arena.database.write(move |tx| lease_take(tx, "reconcile", holder, now, lasts)).await.unwrap()
    };
    let first = take("one", at(0)).await.unwrap();
    assert_eq!((first.fence, first.until), (1, at(10)));
    assert_eq!(take("two", at(9)).await, None);
    assert_eq!(take("one", at(9)).await.unwrap().fence, 1, "made longer, still the same");
    let second = take("two", at(19)).await.unwrap();
    assert_eq!(second.fence, 2);
    let holds = async |lease: &database::leases::Lease, now| {
        let lease = lease.clone();
        arena.database.read(move |read| lease_holds(read, &lease, now)).await.unwrap()
    };
    assert!(!holds(&first, at(19)).await);
    assert!(holds(&second, at(28)).await && !holds(&second, at(29)).await);
    assert!(take("one", at(19)).await.is_none());
    let given = second.clone();
    assert!(arena.database.write(move |tx| lease_give_back(tx, &given, at(20))).await.unwrap());
    assert_eq!(take("two", at(20)).await.unwrap().fence, 3, "it had ended, so it is a new one");
    let listed = arena.database.read(lease_list).await.unwrap();
    assert_eq!(listed.len(), 1);
}
