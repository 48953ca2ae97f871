//! The promises of the facade: closures end, errors undo, nobody waits for ever, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::arena::Arena;
use database::{Database, DbError, Engine, Tx};
use jiff::Timestamp;

crate::on_both_engines!(
    values_come_back_as_they_went,
    parameters_count_by_number,
    an_error_undoes_all,
    a_panic_undoes_all_and_hurts_nobody,
    a_failed_statement_dooms_its_transaction,
    an_attempt_undoes_only_itself,
    a_cancelled_caller_leaves_nothing_half_done,
    racing_counters_lose_nothing,
    one_bad_apple_does_not_spoil_the_group,
    a_slow_query_is_cut_off,
    a_unique_rule_answers_by_name,
    a_reader_cannot_write,
    a_reader_sees_one_state,
    a_closed_database_refuses,
    changes_are_heard,
    many_rows_at_once,
);

const SET: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

fn set(tx: &Tx<'_>, name: &str, value: &str) -> Result<(), DbError> {
    tx.execute(SET, &[name.into(), value.into()]).map(drop)
}

async fn value(database: &Database, name: &'static str) -> Option<String> {
    database
        .read(move |read| {
            read.query_opt("SELECT value FROM meta WHERE name = $1", &[name.into()], |row| row.read(0))
        })
        .await
        .unwrap()
}

async fn values_come_back_as_they_went(arena: Arena) {
    arena
        .database
        .write(|tx| {
            let types = if tx.engine() == Engine::Sqlite {
                "t TEXT, i INTEGER, b INTEGER, y BLOB, j TEXT, w INTEGER"
            } else {
                "t TEXT, i BIGINT, b BOOLEAN, y BYTEA, j JSONB, w TIMESTAMPTZ"
            };
            tx.execute(&format!("CREATE TABLE kinds ({types})"), &[]).map(drop)
        })
        .await
        .unwrap();
    let time: Timestamp = "2026-11-21T22:05:01.123456Z".parse().unwrap();
    let old: Timestamp = "1875-05-20T00:00:00.000001Z".parse().unwrap();
    arena
        .database
        .write(move |tx| {
            let insert = "INSERT INTO kinds (t, i, b, y, j, w) VALUES ($1, $2, $3, $4, $5, $6)";
            let json = database::Value::json(&serde_json::json!({"a": [1, null, "é"]}));
            tx.execute(
                insert,
                &[
                    "héllo $1".into(),
                    i64::MIN.into(),
                    true.into(),
                    (&[0_u8, 255][..]).into(),
                    json,
                    time.into(),
                ],
            )?;
            let none = database::Value::Null;
            tx.execute(insert, &[none.clone(), none.clone(), none.clone(), none.clone(), none, old.into()])
                .map(drop)
        })
        .await
        .unwrap();
    let rows = arena
        .database
        .read(|read| {
            read.query("SELECT t, i, b, y, j, w FROM kinds ORDER BY w DESC", &[], |row| {
                Ok((
                    row.read::<Option<String>>(0)?,
                    row.read::<Option<i64>>(1)?,
                    row.read::<Option<bool>>(2)?,
                    row.read::<Option<Vec<u8>>>(3)?,
                    row.json_opt::<serde_json::Value>(4)?,
                    row.read::<Timestamp>(5)?,
                ))
            })
        })
        .await
        .unwrap();
    let json = serde_json::json!({"a": [1, null, "é"]});
    assert_eq!(
        rows,
        [
            (Some("héllo $1".into()), Some(i64::MIN), Some(true), Some(vec![0, 255]), Some(json), time),
            (None, None, None, None, None, old),
        ]
    );
    let wrong = arena
        .database
        .read(|read| {
            read.query_one("SELECT i FROM kinds WHERE i IS NOT NULL", &[], |row| row.read::<String>(0))
        })
        .await;
    assert!(matches!(wrong, Err(DbError::Corrupt(_))), "{wrong:?}");
}

async fn parameters_count_by_number(arena: Arena) {
    let sql = "SELECT CAST($2 AS TEXT), '$1', CAST($1 AS TEXT), CAST($2 AS TEXT)";
    let read = arena
        .database
        .read(move |read| {
            read.query_one(sql, &["one".into(), "two".into()], |row| {
                Ok([row.read::<String>(0)?, row.read(1)?, row.read(2)?, row.read(3)?])
            })
        })
        .await;
    assert_eq!(read.unwrap(), ["two", "$1", "one", "two"]);
    let short = arena.database.read(move |read| read.query_one(sql, &["one".into()], |_| Ok(()))).await;
    assert!(matches!(short, Err(DbError::Internal(why)) if why.contains("2 wanted")));
}

async fn an_error_undoes_all(arena: Arena) {
    let refused: Result<(), DbError> = arena
        .database
        .write(|tx| {
            set(tx, "a", "1")?;
            Err(DbError::StaleVersion)
        })
        .await;
    assert_eq!(refused, Err(DbError::StaleVersion));
    assert_eq!(value(&arena.database, "a").await, None);
}

async fn a_panic_undoes_all_and_hurts_nobody(arena: Arena) {
    for _ in 0..5 {
        let refused: Result<(), DbError> = arena
            .database
            .write(|tx| {
                set(tx, "a", "1")?;
                panic!("a test's panic")
            })
            .await;
        assert!(matches!(refused, Err(DbError::Internal(why)) if why.contains("a test's panic")));
    }
    arena.database.write(|tx| set(tx, "b", "2")).await.unwrap();
    assert_eq!(value(&arena.database, "a").await, None);
    assert_eq!(value(&arena.database, "b").await.as_deref(), Some("2"));
}

async fn a_failed_statement_dooms_its_transaction(arena: Arena) {
    let swallowed = arena
        .database
        .write(|tx| {
            set(tx, "a", "1")?;
            drop(tx.execute("INSERT INTO meta (name, value) VALUES ('a', 'again')", &[]));
            Ok(())
        })
        .await;
    assert!(matches!(swallowed, Err(DbError::Internal(_))), "{swallowed:?}");
    assert_eq!(value(&arena.database, "a").await, None);
}

async fn an_attempt_undoes_only_itself(arena: Arena) {
    arena
        .database
        .write(|tx| {
            set(tx, "a", "1")?;
            let tried: Result<(), DbError> = tx.attempt(|tx| {
                set(tx, "b", "2")?;
                tx.execute("INSERT INTO meta (name, value) VALUES ('a', 'again')", &[]).map(drop)
            });
            assert_eq!(tried, Err(DbError::Conflict("meta_pkey")));
            tx.attempt(|tx| set(tx, "c", "3"))
        })
        .await
        .unwrap();
    assert_eq!(value(&arena.database, "a").await.as_deref(), Some("1"));
    assert_eq!(value(&arena.database, "b").await, None);
    assert_eq!(value(&arena.database, "c").await.as_deref(), Some("3"));
}

async fn a_cancelled_caller_leaves_nothing_half_done(arena: Arena) {
    const CALLERS: usize = 60;
    let begun = Arc::new(AtomicU32::new(0));
    let ended = Arc::new(AtomicU32::new(0));
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let (database, begun, ended) = (arena.database.clone(), Arc::clone(&begun), Arc::clone(&ended));
        callers.push(crate::arena::beside(async move {
            database
                .write(move |tx| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    set(tx, &format!("left {number}"), "x")?;
                    set(tx, &format!("right {number}"), "x")?;
                    ended.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
                .await
        }));
    }
    // Each caller goes away as soon as the first few have begun.
    while begun.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    for caller in callers {
        drop(caller.await);
    }
    // One more write, behind all of them in the queue; on PostgreSQL others may still run.
    arena.database.close().await;
    assert_eq!(begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
    let reopened = arena.another().await;
    let counted = reopened
        .read(|read| {
            let count = "SELECT count(*) FROM meta WHERE name LIKE $1";
            let left: i64 = read.query_one(count, &["left %".into()], |row| row.read(0))?;
            let right: i64 = read.query_one(count, &["right %".into()], |row| row.read(0))?;
            Ok((left, right))
        })
        .await
        .unwrap();
    assert_eq!(counted.0, counted.1);
    assert_eq!(counted.0, i64::from(ended.load(Ordering::SeqCst)));
    reopened.close().await;
}

async fn racing_counters_lose_nothing(arena: Arena) {
    arena.database.write(|tx| set(tx, "count", "0")).await.unwrap();
    let second = arena.another().await;
    let mut callers = Vec::new();
    for number in 0..100 {
        let database = if number % 2 == 0 { arena.database.clone() } else { second.clone() };
        callers.push(crate::arena::beside(async move {
            database
                .write(|tx| {
                    if tx.engine() == Engine::Postgres {
                        // The strictest level: losers are told by PostgreSQL, and run again by us.
                        tx.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[])?;
                    }
                    let count: String =
                        tx.query_one("SELECT value FROM meta WHERE name = 'count'", &[], |row| row.read(0))?;
                    set(tx, "count", &(count.parse::<u32>().unwrap() + 1).to_string())
                })
                .await
        }));
    }
    let mut won = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(()) => won += 1,
            Err(DbError::Unavailable(why)) => assert!(why.contains("races"), "{why}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(won > 10, "{won}");
    assert_eq!(value(&arena.database, "count").await, Some(won.to_string()));
    second.close().await;
}

async fn one_bad_apple_does_not_spoil_the_group(arena: Arena) {
    let mut callers = Vec::new();
    for number in 0..200 {
        let database = arena.database.clone();
        callers.push(crate::arena::beside(async move {
            database
                .write(move |tx| {
                    set(tx, &format!("n{number}"), "x")?;
                    match number % 3 {
                        0 => Err(DbError::StaleVersion),
                        1 => tx.execute("INSERT INTO nowhere VALUES (1)", &[]).map(drop),
                        _ => Ok(()),
                    }
                })
                .await
        }));
    }
    for (number, caller) in callers.into_iter().enumerate() {
        let result = caller.await.unwrap();
        match number % 3 {
            0 => assert_eq!(result, Err(DbError::StaleVersion)),
            1 => assert!(matches!(result, Err(DbError::Internal(_)))),
            _ => assert_eq!(result, Ok(())),
        }
    }
    let count = "SELECT count(*) FROM meta WHERE name LIKE 'n%'";
    let kept: i64 =
        arena.database.read(move |read| read.query_one(count, &[], |row| row.read(0))).await.unwrap();
    assert_eq!(kept, 66);
}

/// Counts without end, on both engines.
const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0";

async fn a_slow_query_is_cut_off(arena: Arena) {
    let hasty = arena.database.within(Duration::from_millis(300));
    let ended = Arc::new(AtomicBool::new(false));
    let (read_ended, write_ended) = (Arc::clone(&ended), Arc::clone(&ended));
    let cut = hasty
        .read(move |read| {
            let result = read.query_one(ENDLESS, &[], |row| row.read::<i64>(0));
            read_ended.store(true, Ordering::SeqCst);
            result
        })
        .await;
    assert!(matches!(cut, Err(DbError::Unavailable(_))), "{cut:?}");
    // The thread is free again: the query itself was ended, not only its caller.
    arena.database.read(|_| Ok(())).await.unwrap();
    let cut = hasty
        .write(move |tx| {
            set(tx, "slow", "x")?;
            let result = tx.query_one(ENDLESS, &[], |row| row.read::<i64>(0));
            write_ended.store(true, Ordering::SeqCst);
            result
        })
        .await;
    assert!(matches!(cut, Err(DbError::Unavailable(_))), "{cut:?}");
    arena.database.write(|tx| set(tx, "after", "x")).await.unwrap();
    arena.database.close().await;
    assert!(ended.load(Ordering::SeqCst));
    let reopened = arena.another().await;
    assert_eq!(value(&reopened, "slow").await, None);
    assert_eq!(value(&reopened, "after").await.as_deref(), Some("x"));
    reopened.close().await;
}

async fn a_unique_rule_answers_by_name(arena: Arena) {
    let taken = arena
        .database
        .write(|tx| {
            set(tx, "a", "1")?;
            tx.execute("INSERT INTO meta (name, value) VALUES ('a', '2')", &[])
        })
        .await;
    assert_eq!(taken, Err(DbError::Conflict("meta_pkey")));
}

async fn a_reader_cannot_write(arena: Arena) {
    let sql = "INSERT INTO meta (name, value) VALUES ('a', '1') RETURNING name";
    let refused =
        arena.database.read(move |read| read.query_one(sql, &[], |row| row.read::<String>(0))).await;
    assert!(matches!(refused, Err(DbError::ReadOnly(_))), "{refused:?}");
    assert_eq!(value(&arena.database, "a").await, None);
}

async fn a_reader_sees_one_state(arena: Arena) {
    arena.database.write(|tx| set(tx, "a", "1")).await.unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel::<()>(0);
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(0);
    let gone = std::sync::Mutex::new(gone);
    let database = arena.database.clone();
    let reading = crate::arena::beside(async move {
        database
            .read(move |read| {
                let sql = "SELECT value FROM meta WHERE name = 'a'";
                let first: String = read.query_one(sql, &[], |row| row.read(0))?;
                tell.send(()).unwrap();
                gone.lock().unwrap().recv().unwrap();
                let second: String = read.query_one(sql, &[], |row| row.read(0))?;
                Ok((first, second))
            })
            .await
    });
    tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
    arena.database.write(|tx| set(tx, "a", "2")).await.unwrap();
    tokio::task::spawn_blocking(move || go.send(()).unwrap()).await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), ("1".to_owned(), "1".to_owned()));
    assert_eq!(value(&arena.database, "a").await.as_deref(), Some("2"));
}

async fn a_closed_database_refuses(arena: Arena) {
    let other = arena.database.clone();
    arena.database.close().await;
    assert!(matches!(other.write(|tx| set(tx, "a", "1")).await, Err(DbError::Unavailable(_))));
    assert!(matches!(other.read(|_| Ok(())).await, Err(DbError::Unavailable(_))));
}

async fn changes_are_heard(arena: Arena) {
    let other = arena.another().await;
    let mut near = arena.database.changes();
    let mut far = other.changes();
    // A listener that has just connected reports that something may have changed; let that pass.
    let wait = Duration::from_secs(5);
    if arena.engine == Engine::Postgres {
        for changes in [&mut near, &mut far] {
            let listening = changes.wait_for(|count| *count >= 1);
            tokio::time::timeout(wait, listening).await.expect("listening").unwrap();
        }
    }
    near.borrow_and_update();
    far.borrow_and_update();
    arena
        .database
        .write(|tx| {
            tx.nudge();
            set(tx, "a", "1")
        })
        .await
        .unwrap();
    tokio::time::timeout(wait, near.changed()).await.expect("heard on this node").unwrap();
    if arena.engine == Engine::Postgres {
        tokio::time::timeout(wait, far.changed()).await.expect("heard on the other node").unwrap();
    }
    other.close().await;
}

async fn many_rows_at_once(arena: Arena) {
    const ROWS: i64 = 5_000;
    let names: Arc<Vec<String>> = Arc::new((0..ROWS).map(|i| format!("row {i}")).collect());
    let written = arena
        .database
        .in_bulk()
        .write(move |tx| tx.execute_many(SET, names.iter().map(|name| vec![name.into(), "x".into()])))
        .await
        .unwrap();
    assert_eq!(written, 5_000);
    let seen = arena
        .database
        .read(|read| {
            let mut seen = 0;
            read.query_each("SELECT name FROM meta WHERE value = 'x'", &[], |row| {
                assert!(row.text(0)?.starts_with("row "));
                seen += 1;
                Ok(())
            })?;
            Ok(seen)
        })
        .await
        .unwrap();
    assert_eq!(seen, ROWS);
}
