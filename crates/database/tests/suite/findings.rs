//! Findings are kept as they were found, counted on, and forgotten.

use crate::arena::{Arena, at};
use database::findings::{
    finding_count, finding_list, finding_list_of_number, finding_put, finding_remove, finding_words_of_number,
};
use domain::call::Ingress;
use domain::id::{NumberId, WorkspaceId};
use domain::number::E164;
use domain::reconcile::{Finding, FindingKind, Observation, Owner, Rules};
use jiff::SignedDuration;

crate::on_both_engines!(a_finding_is_kept_counted_and_forgotten);

const RULES: Rules = Rules { listings: 3, gap: SignedDuration::from_secs(10) };

async fn a_finding_is_kept_counted_and_forgotten(arena: Arena) {
    let database = &arena.database;
    let ghost = Observation {
        phone_number: E164::from_carrier("+12025550100").unwrap(),
        kind: FindingKind::Ghost,
        owner: Some(Owner { number_id: NumberId::from_bits(1), workspace_id: WorkspaceId::from_bits(2) }),
        carrier_number_id: None,
        detail: "not in the carrier's list".into(),
    };
    let orphan = Observation {
        kind: FindingKind::Orphan,
        owner: None,
        carrier_number_id: Some("PN1".into()),
        ..ghost.clone()
    };
    let mut expected = Vec::new();
    for kind in [&ghost, &orphan] {
        let first = Finding::observed(None, Ingress::STORE, kind.clone(), at(0), RULES);
        let second = Finding::observed(Some(&first), Ingress::STORE, kind.clone(), at(20), RULES);
        let reported = Finding { reported_at: Some(at(20)), ..second };
        let puts = [first, reported.clone()];
        database.write(move |tx| puts.iter().try_for_each(|finding| finding_put(tx, finding))).await.unwrap();
        expected.push(reported);
    }
    let list = async || database.read(|read| finding_list(read, Ingress::STORE)).await.unwrap();
    assert_eq!(list().await, expected);
    assert_eq!((expected[0].seen, expected[0].counted_at), (2, at(20)));
    let words = database.read(|read| finding_words_of_number(read, NumberId::from_bits(1))).await.unwrap();
    assert_eq!(words, [(FindingKind::Ghost, "not in the carrier's list".to_owned())]);
    let mut counts = database.read(finding_count).await.unwrap();
    counts.sort_by_key(|(kind, _)| kind.as_str());
    assert_eq!(counts, [(FindingKind::Ghost, 1), (FindingKind::Orphan, 1)]);
    // The orphan is nobody's, though it has the same digits.
    let of_number = async |id| {
        let digits = ghost.phone_number;
        let id = NumberId::from_bits(id);
        database.read(move |read| finding_list_of_number(read, Ingress::STORE, digits, id)).await.unwrap()
    };
    assert_eq!(of_number(1).await, expected[..1]);
    assert_eq!(of_number(2).await, []);
    let gone = expected.remove(0);
    database.write(move |tx| finding_remove(tx, &gone)).await.unwrap();
    assert_eq!(list().await, expected);
    assert!(database.read(|read| finding_list(read, Ingress::new(1).unwrap())).await.unwrap().is_empty());
}
