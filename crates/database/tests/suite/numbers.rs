//! Numbers: one owner each, lists that find what was asked for, changes that notice each other.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, keep, number, phone_number, workspaces};
use database::DbError;
use database::numbers::{
    Number, NumberFilter, number_count, number_each_of_ingress, number_find, number_find_by_callback_token,
    number_find_by_owner, number_find_by_phone_number, number_list, number_to_release, number_update,
};
use domain::call::Ingress;
use domain::caller::CallerRules;
use domain::id::NumberId;
use domain::number::{Capability, Country, NumberStatus, ReleaseHold, Source};
use domain::route::row::NumberSettings;

crate::on_both_engines!(
    a_number_comes_back_as_it_went,
    a_number_has_one_owner,
    lists_find_what_was_asked_for,
    pages_are_stable,
    a_change_to_an_old_revision_is_refused,
    holds_end,
);

async fn a_number_comes_back_as_it_went(arena: Arena) {
    workspaces(&arena.database).await;
    let mut given = number(7);
    given.label = Some("Front desk – Montréal 🛎".into());
    given.tags = vec!["vip".into(), "été".into()];
    given.settings = NumberSettings {
        inbound: Some(CallerRules { block_anonymous: true, ..CallerRules::default() }),
        ..NumberSettings::default()
    };
    let kept = given.clone();
    arena.database.write(move |tx| keep(tx, std::slice::from_ref(&kept))).await.unwrap();
    let (by_id, elsewhere, by_phone, by_owner, by_token) = arena
        .database
        .read(|read| {
            Ok((
                number_find(read, HOME, NumberId::from_bits(7))?,
                number_find(read, OTHER, NumberId::from_bits(7))?,
                number_find_by_phone_number(read, HOME, phone_number(7))?,
                number_find_by_owner(read, Ingress::STORE, phone_number(7))?,
                number_find_by_callback_token(read, number(7).callback_token)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(by_id.as_ref(), Some(&given));
    assert_eq!(elsewhere, None, "another workspace's id is like one that does not exist");
    assert_eq!(by_phone, [given.clone()]);
    assert_eq!(by_owner.as_ref(), Some(&given));
    assert_eq!(by_token.as_ref(), Some(&given));
}

async fn a_number_has_one_owner(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(|tx| keep(tx, &[number(7)])).await.unwrap();
    let twin = Number {
        id: NumberId::from_bits(99),
        workspace: OTHER,
        callback_token: number(99).callback_token,
        ..number(7)
    };
    let again = twin.clone();
    let taken = arena.database.write(move |tx| keep(tx, std::slice::from_ref(&again))).await;
    assert_eq!(taken, Err(DbError::Conflict("numbers_owner")));
    // Another ingress is another number; and a released one is free again.
    let elsewhere = Number { ingress: Ingress::new(1).unwrap(), ..twin.clone() };
    arena
        .database
        .write(move |tx| {
            keep(tx, std::slice::from_ref(&elsewhere))?;
            let released = Number { status: NumberStatus::Released, ..number(7) };
            number_update(tx, &released, at(1))?;
            let third = number(100);
            keep(tx, &[Number { phone_number: phone_number(7), ..third }])
        })
        .await
        .unwrap();
}

async fn list(arena: &Arena, filter: NumberFilter) -> Vec<u128> {
    let found = arena.database.read(move |read| number_list(read, HOME, &filter, None, 50)).await.unwrap();
    found.into_iter().map(|number| number.id.to_bits()).collect()
}

async fn lists_find_what_was_asked_for(arena: Arena) {
    workspaces(&arena.database).await;
    let labelled = |n: u64, label: &str| Number { label: Some(label.into()), ..number(n) };
    let numbers = vec![
        labelled(1, "Reception 777"),
        Number { country: Some(Country::CA), ..labelled(2, "100% ÉTÉ_line") },
        Number { status: NumberStatus::Failed, status_reason: Some("unavailable".into()), ..number(3) },
        number(1777),
        Number { workspace: OTHER, ..number(5777) },
    ];
    arena.database.write(move |tx| keep(tx, &numbers)).await.unwrap();
    let all = NumberFilter::default;
    let search = |text: &str| NumberFilter { search: Some(text.into()), ..all() };
    for (filter, expected) in [
        (all(), vec![1, 2, 3, 1777]),
        (search("777"), vec![1, 1777]),
        (search("+1 (415) 555-1777"), vec![1777]),
        (search("reception"), vec![1]),
        (search("été_"), vec![2]),
        (search("0%"), vec![2]),
        (search("_"), vec![2]),
        (search("%"), vec![2]),
        (search("nothing"), vec![]),
        (search("'; DROP TABLE numbers; --"), vec![]),
        (NumberFilter { country: Some(Country::CA), ..all() }, vec![2]),
        (NumberFilter { statuses: vec![NumberStatus::Active], ..all() }, vec![1, 2, 1777]),
        (NumberFilter { statuses: vec![NumberStatus::Failed, NumberStatus::Ordering], ..all() }, vec![3]),
        (NumberFilter { capability: Some(Capability::Sms), ..all() }, vec![2]),
        (NumberFilter { capability: Some(Capability::Mms), ..all() }, vec![]),
        (NumberFilter { source: Some(Source::Store), is_unassigned: true, ..all() }, vec![1, 2, 3, 1777]),
    ] {
        assert_eq!(list(&arena, filter.clone()).await, expected, "{filter:?}");
    }
    let (counts, held) = arena
        .database
        .read(|read| {
            let mut held = 0;
            number_each_of_ingress(read, Ingress::STORE, |_| {
                held += 1;
                Ok(())
            })?;
            Ok((number_count(read, HOME)?, held))
        })
        .await
        .unwrap();
    assert_eq!(held, 4, "those of all workspaces, but not the failed one");
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<i64>(), 4);
}

async fn pages_are_stable(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(|tx| (0..25).try_for_each(|n| keep(tx, &[number(n * 2)]))).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    for page in 0.. {
        let found = arena
            .database
            .read(move |read| number_list(read, HOME, &NumberFilter::default(), after, 10))
            .await
            .unwrap();
        let Some(last) = found.last() else { break };
        after = Some(last.id);
        seen.extend(found.iter().map(|number| number.id.to_bits()));
        // Rows come and go while somebody turns the pages.
        arena.database.write(move |tx| keep(tx, &[number(page * 2 + 1)])).await.unwrap();
    }
    let expected: Vec<u128> = (0..25).map(|n| n * 2).collect();
    seen.retain(|n| n % 2 == 0);
    assert_eq!(seen, expected);
}

async fn a_change_to_an_old_revision_is_refused(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(|tx| keep(tx, &[number(1)])).await.unwrap();
    let first = arena
        .database
        .write(|tx| number_update(tx, &Number { label: Some("first".into()), ..number(1) }, at(5)))
        .await
        .unwrap();
    assert_eq!((first.revision, first.updated_at), (2, at(5)));
    let second = arena
        .database
        .write(|tx| number_update(tx, &Number { label: Some("second".into()), ..number(1) }, at(6)));
    assert_eq!(second.await, Err(DbError::StaleVersion));
    let found = arena.database.read(|read| number_find(read, HOME, NumberId::from_bits(1))).await.unwrap();
    assert_eq!(found, Some(first));
}

async fn holds_end(arena: Arena) {
    workspaces(&arena.database).await;
    arena
        .database
        .write(|tx| {
            keep(tx, &[number(1), number(2)])?;
            let hold = Some(ReleaseHold { requested_at: at(10), release_at: at(100) });
            let held = Number { status: NumberStatus::ReleaseScheduled, hold, ..number(2) };
            number_update(tx, &held, at(10)).map(drop)
        })
        .await
        .unwrap();
    let due = async |now| {
        let found = arena.database.read(move |read| number_to_release(read, now, 10)).await.unwrap();
        found.into_iter().map(|number| number.id.to_bits()).collect::<Vec<_>>()
    };
    assert!(due(at(99)).await.is_empty());
    assert_eq!(due(at(100)).await, [2]);
}
