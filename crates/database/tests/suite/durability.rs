//! What was acknowledged is there after SIGKILL, whole; what was not is there whole or not at all.
//!
//! The program that is killed is this test binary itself: told so by its environment, it writes and prints
//! what was acknowledged until it dies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::arena::Arena;
use database::{Address, Database, Engine, Settings};

crate::on_both_engines!(an_acknowledged_write_outlives_its_process);

const TARGET: &str = "SWITCHBOARD_TEST_WRITER_TARGET";
const INSERT: &str = "INSERT INTO meta (name, value) VALUES ($1, 'x')";

/// The victim. As a test of its own it does nothing.
#[test]
#[expect(clippy::disallowed_methods, reason = "only its environment tells the victim that it is one")]
fn writer() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let address = match target.strip_prefix("sqlite:") {
        Some(path) => Address::Sqlite(PathBuf::from(path)),
        None => Address::Postgres(target),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::open(Settings::new(address)).await.unwrap();
        let mut writers = Vec::new();
        for writer in 0..4 {
            let database = database.clone();
            writers.push(crate::arena::beside(async move {
                for n in 0.. {
                    let name = format!("{}-{writer}-{n}", std::process::id());
                    let (left, right) = (format!("left {name}"), format!("right {name}"));
                    let written = database.write(move |tx| {
                        tx.execute(INSERT, &[(&left).into()])?;
                        tx.execute(INSERT, &[(&right).into()])
                    });
                    written.await.unwrap();
                    // One write a line, so that a line is whole or not there.
                    std::io::stdout().write_all(format!("acknowledged {name}\n").as_bytes()).unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn an_acknowledged_write_outlives_its_process(arena: Arena) {
    let target = match &arena.settings.address {
        Address::Sqlite(path) => format!("sqlite:{}", path.display()),
        Address::Postgres(url) => url.clone(),
    };
    let mut acknowledged = Vec::new();
    for round in 1..=4 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::writer", "--nocapture"])
            .env(TARGET, &target)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let told = |line: &str| line.rsplit_once("acknowledged ").map(|(_, name)| name.to_owned());
        let mut heard = 0;
        // Killed after some writes, another number of them each time; then whatever was said before it died.
        while heard < round * 9 {
            let line = lines.next().expect("the victim writes").unwrap();
            heard += usize::from(told(&line).inspect(|name| acknowledged.push(name.clone())).is_some());
        }
        victim.kill().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| told(&line)));
        victim.wait().unwrap();
    }
    let kept = arena
        .database
        .read(|read| {
            read.query("SELECT name FROM meta WHERE value = 'x' LIMIT 1000000", &[], |row| {
                row.read::<String>(0)
            })
        })
        .await
        .unwrap();
    let side = |side: &str| {
        let mut names: Vec<&str> = kept.iter().filter_map(|name| name.strip_prefix(side)).collect();
        names.sort_unstable();
        names
    };
    let (left, right) = (side("left "), side("right "));
    assert_eq!(left, right, "nothing is half written");
    let lost: Vec<_> =
        acknowledged.iter().filter(|name| left.binary_search(&name.as_str()).is_err()).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert!(acknowledged.len() >= 90);
    if arena.engine == Engine::Sqlite {
        assert_eq!(arena.raw("PRAGMA integrity_check").await, ["ok"]);
    }
}
