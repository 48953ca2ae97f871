//! Secrets and their key: nothing in clear on disk, no start with another key.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, workspaces};
use database::secrets::{secret_count_by_key, secret_create, secret_delete, secret_list, secret_open};
use database::{DbError, Engine, Keyring};
use domain::id::SecretId;
use std::sync::Arc;

crate::on_both_engines!(
    a_secret_is_nowhere_in_clear,
    a_moved_ciphertext_does_not_open,
    another_key_is_refused,
    a_missing_key_is_refused,
    two_first_nodes_agree_on_one_key,
);

const CANARY: &str = "canary-5f3a9c71-hunter2";

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::from_bytes(&[7; 32]))
}

async fn a_secret_is_nowhere_in_clear(arena: Arena) {
    workspaces(&arena.database).await;
    let id = SecretId::from_bits(1);
    let ring = keyring();
    let stored = arena
        .database
        .write(move |tx| secret_create(tx, &ring, HOME, id, "sip_password", CANARY, at(0)))
        .await
        .unwrap();
    assert_eq!(stored.last4, "ter2");
    let ring = keyring();
    let (opened, elsewhere, listed, by_key) = arena
        .database
        .read(move |read| {
            Ok((
                secret_open(read, &ring, HOME, id)?,
                secret_open(read, &ring, OTHER, id)?,
                secret_list(read, HOME, None, 10)?,
                secret_count_by_key(read)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(opened.unwrap().as_slice(), CANARY.as_bytes());
    assert!(elsewhere.is_none());
    assert_eq!(listed, [stored]);
    assert_eq!(by_key, [(keyring().fingerprint()[..8].to_owned(), 1)]);
    if arena.engine == Engine::Sqlite {
        for entry in std::fs::read_dir(arena.folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(8).any(|window| window == &CANARY.as_bytes()[..8]));
        }
    }
    let rows = arena.raw("SELECT * FROM secrets").await.concat();
    assert!(!rows.contains("canary"), "{rows}");
    assert!(arena.database.write(move |tx| secret_delete(tx, HOME, id)).await.unwrap());
}

async fn a_moved_ciphertext_does_not_open(arena: Arena) {
    workspaces(&arena.database).await;
    let ring = keyring();
    arena
        .database
        .write(move |tx| {
            for n in 1..=2 {
                secret_create(tx, &ring, HOME, SecretId::from_bits(n), "sip_password", CANARY, at(0))?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let (one, two) = (SecretId::from_bits(1), SecretId::from_bits(2));
    arena
        .raw(&format!(
            "UPDATE secrets SET ciphertext = (SELECT s.ciphertext FROM secrets s WHERE s.id = '{one}') WHERE id = '{two}'"
        ))
        .await;
    let ring = keyring();
    let opened = arena.database.read(move |read| secret_open(read, &ring, HOME, two)).await;
    assert!(matches!(opened, Err(DbError::Corrupt(_))));
}

async fn another_key_is_refused(arena: Arena) {
    arena.database.check_key(&keyring()).await.unwrap();
    arena.database.check_key(&keyring()).await.unwrap();
    let other = Keyring::from_bytes(&[8; 32]);
    let refused = arena.database.check_key(&other).await;
    let expected = keyring().fingerprint().to_owned();
    assert_eq!(refused, Err(DbError::WrongKey { expected, found: other.fingerprint().to_owned() }));
}

async fn a_missing_key_is_refused(arena: Arena) {
    let path = arena.folder.path().join("keys/switchboard.key");
    let made = arena.database.open_keyring(&path).await.unwrap();
    let again = arena.database.open_keyring(&path).await.unwrap();
    assert_eq!(again.fingerprint(), made.fingerprint());
    std::fs::remove_file(&path).unwrap();
    let Err(DbError::WrongKey { expected, found }) = arena.database.open_keyring(&path).await else {
        panic!("it started without its key")
    };
    assert_eq!(expected, made.fingerprint());
    assert!(found.starts_with("no key"), "{found}");
    assert!(!path.exists(), "nothing was made in its place");
}

async fn two_first_nodes_agree_on_one_key(arena: Arena) {
    let second = arena.another().await;
    let (one, two) = (Keyring::from_bytes(&[1; 32]), Keyring::from_bytes(&[2; 32]));
    let (first, other) = tokio::join!(arena.database.check_key(&one), second.check_key(&two));
    assert!(first.is_ok() != other.is_ok(), "{first:?} {other:?}");
    second.close().await;
}
