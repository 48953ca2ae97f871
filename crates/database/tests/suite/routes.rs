//! What route tables are loaded from, and what they are told of changes.

use crate::arena::{Arena, at};
use crate::stock::{HOME, agent, deploy, keep, number, phone_number, workspaces};
use database::Keyring;
use database::agents::{agent_create, agent_delete};
use database::numbers::{Number, number_update};
use database::routes::{
    RouteUpdate, route_changes_prune, route_rows, route_rows_since, route_table, route_version,
};
use database::secrets::{secret_create, secret_delete};
use database::workspaces::{Workspace, workspace_find, workspace_update};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, SecretId};
use domain::number::{E164, NumberStatus};
use domain::route::row::Row;

crate::on_both_engines!(
    all_rows_are_loaded,
    a_table_of_two_halves_is_of_one_moment,
    a_change_is_told_with_its_row,
    a_successor_takes_the_place,
    whoever_is_too_far_behind_loads_all,
);

/// A row in one line, for comparing.
fn line(row: &Row) -> String {
    match row {
        Row::Number((ingress, number), row) => {
            let id = row
                .as_ref()
                .map(|row| (row.number_id.to_bits(), row.assignment.map(|it| it.agent_id.to_bits())));
            format!("number {} {number} {id:?}", ingress.get())
        }
        Row::Running((agent, environment), row) => {
            let version = row.as_ref().map(|row| (row.version, row.agent_name.to_string()));
            format!("running {} {environment} {version:?}", agent.to_bits())
        }
        Row::Workspace(id, row) => {
            format!("workspace {} {:?}", id.to_bits(), row.as_ref().map(|row| row.settings.default_country))
        }
        Row::Secret(id, row) => format!("secret {} {}", id.to_bits(), row.is_some()),
    }
}

async fn load(arena: &Arena) -> (i64, Vec<String>) {
    let database = arena.database.in_bulk();
    let read = database.read(|read| {
        let mut lines = Vec::new();
        let version = route_rows(read, |row| {
            lines.push(line(&row));
            Ok(())
        })?;
        lines.sort();
        Ok((version, lines))
    });
    read.await.unwrap()
}

async fn since(arena: &Arena, known: i64) -> Option<(i64, Vec<String>)> {
    let read = arena.database.read(move |read| {
        Ok(match route_rows_since(read, known)? {
            RouteUpdate::Unchanged => Some((known, vec![])),
            RouteUpdate::LoadAll => None,
            RouteUpdate::Rows(version, rows) => {
                let mut lines: Vec<String> = rows.iter().map(line).collect();
                lines.sort();
                Some((version, lines))
            }
        })
    });
    read.await.unwrap()
}

/// A number that agent 1 answers, live.
fn assigned(n: u64) -> Number {
    let assignment =
        Assignment { agent_id: AgentId::from_bits(1), environment: Environment::Live, variant_id: None };
    Number { assignment: Some(assignment), ..number(n) }
}

async fn set_up(arena: &Arena) {
    workspaces(&arena.database).await;
    arena
        .database
        .write(|tx| {
            agent_create(tx, &agent(1))?;
            deploy(tx, &agent(1), 1, Environment::Live, 1)?;
            secret_create(
                tx,
                &Keyring::from_bytes(&[7; 32]),
                HOME,
                SecretId::from_bits(1),
                "sip_password",
                "12345678",
                at(0),
            )?;
            let not_yet = |n| Number { carrier_number_id: None, ..number(n) };
            let ordering = Number { status: NumberStatus::Ordering, ..not_yet(3) };
            let unknown = Number { status: NumberStatus::NeedsReview, ..not_yet(4) };
            // The carrier has sold it to us, so it rings here, whatever a person is asked about it.
            let bought = Number {
                status: NumberStatus::NeedsReview,
                carrier_number_id: Some("PN5".into()),
                ..number(5)
            };
            keep(tx, &[assigned(1), number(2), ordering, unknown, bought])
        })
        .await
        .unwrap();
}

async fn all_rows_are_loaded(arena: Arena) {
    set_up(&arena).await;
    let (version, lines) = load(&arena).await;
    assert_eq!(version, arena.database.read(route_version).await.unwrap());
    assert_eq!(
        lines,
        [
            "number 0 +14155550001 Some((1, Some(1)))",
            "number 0 +14155550002 Some((2, None))",
            "number 0 +14155550005 Some((5, None))",
            "running 1 live Some((1, \"Réception 1\"))",
            "secret 1 true",
            "workspace 1 Some(None)",
            "workspace 2 Some(None)",
        ]
    );
}

/// Two numbers, the first and the last of many, always change hands together. No table may show one of them moved alone.
async fn a_table_of_two_halves_is_of_one_moment(arena: Arena) {
    const LAST: u64 = 40;
    set_up(&arena).await;
    arena.database.write(|tx| keep(tx, &(10..=LAST).map(number).collect::<Vec<_>>())).await.unwrap();
    let moving = async {
        for moment in 1..=60 {
            let write = arena.database.write(move |tx| {
                for id in [1, LAST] {
                    let known =
                        database::numbers::number_find(tx, HOME, NumberId::from_bits(id.into()))?.unwrap();
                    let there = known.assignment.is_none().then_some(Assignment {
                        agent_id: AgentId::from_bits(1),
                        environment: Environment::Live,
                        variant_id: None,
                    });
                    number_update(tx, &Number { assignment: there, ..known }, at(moment))?;
                }
                Ok(())
            });
            write.await.unwrap();
        }
    };
    let loading = async {
        let mut versions = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let table = route_table(&arena.database.in_bulk()).await.unwrap();
            let of = |n: u64| table.find(Ingress::STORE, phone_number(n)).unwrap().assignment.is_some();
            assert_ne!(of(1), of(LAST), "at version {}", table.version());
            assert_eq!(table.numbers(), 3 + 31);
            versions.insert(table.version());
        }
        versions.len()
    };
    let ((), versions) = tokio::join!(moving, loading);
    assert!(versions > 1, "nothing changed while tables were loaded");
    let (version, lines) = load(&arena).await;
    let table = route_table(&arena.database.in_bulk()).await.unwrap();
    assert_eq!(i64::try_from(table.version()), Ok(version));
    assert_eq!(table.numbers(), lines.iter().filter(|line| line.starts_with("number")).count());
    assert!(table.workspace(HOME).is_some() && table.secret(SecretId::from_bits(1)).is_some());
    assert!(table.running(AgentId::from_bits(1), Environment::Live).is_some());
}

async fn a_change_is_told_with_its_row(arena: Arena) {
    set_up(&arena).await;
    let (known, _) = load(&arena).await;
    assert_eq!(since(&arena, known).await, Some((known, vec![])));
    arena
        .database
        .write(|tx| {
            // Two changes of one thing in one transaction are one row.
            let released = Number { status: NumberStatus::Failed, ..number(2) };
            let once = number_update(tx, &released, at(1))?;
            number_update(tx, &once, at(2))?;
            deploy(tx, &agent(1), 2, Environment::Sandbox, 2)?;
            secret_delete(tx, HOME, SecretId::from_bits(1)).map(drop)
        })
        .await
        .unwrap();
    let expected = [
        "number 0 +14155550002 None",
        "running 1 live Some((1, \"Réception 1\"))",
        "running 1 pre_release None",
        "running 1 sandbox Some((2, \"Réception 1\"))",
        "secret 1 false",
    ];
    assert_eq!(since(&arena, known).await, Some((known + 1, expected.map(str::to_owned).to_vec())));

    let home = arena.database.read(|read| workspace_find(read, HOME)).await.unwrap().unwrap();
    let mut moved = Workspace { name: "moved".into(), ..home };
    moved.settings.default_country = Some(domain::number::Country::CA);
    arena.database.write(move |tx| workspace_update(tx, &moved, at(3)).map(drop)).await.unwrap();
    let expected = vec!["workspace 1 Some(Some(CA))".to_owned()];
    assert_eq!(since(&arena, known + 1).await, Some((known + 2, expected)));

    arena.database.write(|tx| agent_delete(tx, HOME, AgentId::from_bits(1), at(4))).await.unwrap();
    let (_, lines) = since(&arena, known + 2).await.unwrap();
    assert_eq!(lines, ["running 1 live None", "running 1 pre_release None", "running 1 sandbox None"]);
}

async fn a_successor_takes_the_place(arena: Arena) {
    set_up(&arena).await;
    let (known, _) = load(&arena).await;
    arena
        .database
        .write(|tx| {
            number_update(tx, &Number { status: NumberStatus::Released, ..assigned(1) }, at(1))?;
            keep(tx, &[Number { phone_number: phone_number(1), ..number(9) }])
        })
        .await
        .unwrap();
    let (_, lines) = since(&arena, known).await.unwrap();
    assert!(lines.iter().all(|line| line == "number 0 +14155550001 Some((9, None))"), "{lines:?}");
    let place: (Ingress, E164) = (Ingress::STORE, phone_number(1));
    let owner =
        arena.database.read(move |read| database::numbers::number_find_by_owner(read, place.0, place.1));
    assert_eq!(owner.await.unwrap().map(|number| number.id), Some(NumberId::from_bits(9)));
}

async fn whoever_is_too_far_behind_loads_all(arena: Arena) {
    set_up(&arena).await;
    let (known, _) = load(&arena).await;
    assert_eq!(since(&arena, known + 5).await, None, "the database was restored");
    assert!(since(&arena, 0).await.is_some());
    // Sweeping up keeps what is recent.
    assert_eq!(arena.database.write(route_changes_prune).await, Ok(0));
    arena.raw("DELETE FROM route_changes WHERE version < 3").await;
    assert_eq!(since(&arena, 0).await, None);
    assert!(since(&arena, 2).await.is_some());
}
