//! Agents, their versions, and what each environment runs.

use crate::arena::{Arena, at};
use crate::stock::{HOME, OTHER, agent, deploy, workspaces};
use database::DbError;
use database::agents::{
    Agent, agent_count, agent_create, agent_delete, agent_find, agent_list, agent_update,
};
use database::deployments::{
    deployment_current, deployment_list, deployment_ran, deployment_running, deployment_running_numbers,
};
use database::routes::route_version;
use database::versions::{version_find, version_find_by_id, version_latest, version_list};
use domain::agent::Content;
use domain::environment::Environment;
use domain::id::{AgentId, VariantId, VersionId};

crate::on_both_engines!(
    agents_are_kept_and_changed,
    a_draft_concerns_no_call,
    versions_are_numbered_once,
    environments_run_what_was_put_there_last,
    a_deleted_agent_runs_nowhere,
);

async fn agents_are_kept_and_changed(arena: Arena) {
    workspaces(&arena.database).await;
    arena
        .database
        .write(|tx| {
            agent_create(tx, &agent(1))?;
            agent_create(tx, &agent(2))?;
            agent_create(tx, &Agent { workspace: OTHER, ..agent(3) })
        })
        .await
        .unwrap();
    let found = arena.database.read(|read| agent_find(read, HOME, AgentId::from_bits(1))).await.unwrap();
    assert_eq!(found, Some(agent(1)));
    assert!(found.unwrap().has_variant(VariantId::from_bits(1)));
    let elsewhere = arena.database.read(|read| agent_find(read, OTHER, AgentId::from_bits(1))).await.unwrap();
    assert_eq!(elsewhere, None);
    let ids = async |search: Option<&'static str>, after: Option<AgentId>| {
        let found = arena.database.read(move |read| agent_list(read, HOME, search, after, 10)).await.unwrap();
        found.into_iter().map(|agent| agent.id.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None).await, [1, 2]);
    assert_eq!(ids(None, Some(AgentId::from_bits(1))).await, [2]);
    assert_eq!(ids(Some("RÉCEPTION 2"), None).await, [2]);
    assert_eq!(arena.database.read(|read| agent_count(read, HOME)).await, Ok(2));
    let emptied = Agent { content: Content::default(), ..agent(1) };
    let changed = arena.database.write(move |tx| agent_update(tx, &emptied, at(5))).await.unwrap();
    assert_eq!(changed.revision, 2);
    assert_eq!(
        arena.database.write(|tx| agent_update(tx, &agent(1), at(6))).await,
        Err(DbError::StaleVersion)
    );
}

async fn a_draft_concerns_no_call(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(|tx| agent_create(tx, &agent(1))).await.unwrap();
    let version = async || arena.database.read(route_version).await.unwrap();
    let before = version().await;
    let emptied = Agent { content: Content::default(), ..agent(1) };
    let changed = arena.database.write(move |tx| agent_update(tx, &emptied, at(5))).await.unwrap();
    assert_eq!(version().await, before);
    let renamed = Agent { name: "other".into(), ..changed };
    arena.database.write(move |tx| agent_update(tx, &renamed, at(5))).await.unwrap();
    assert_eq!(version().await, before + 1);
}

async fn versions_are_numbered_once(arena: Arena) {
    workspaces(&arena.database).await;
    let id = AgentId::from_bits(1);
    arena
        .database
        .write(|tx| {
            agent_create(tx, &agent(1))?;
            deploy(tx, &agent(1), 1, Environment::Sandbox, 1)?;
            deploy(tx, &agent(1), 2, Environment::Sandbox, 2)
        })
        .await
        .unwrap();
    let (latest, first, listed, older, elsewhere) = arena
        .database
        .read(move |read| {
            Ok((
                version_latest(read, id)?,
                version_find(read, id, 1)?,
                version_list(read, id, None, 10)?,
                version_list(read, id, Some(2), 10)?,
                version_find_by_id(read, OTHER, VersionId::from_bits(1001))?,
            ))
        })
        .await
        .unwrap();
    assert_eq!(latest, 2);
    let first = first.unwrap();
    assert_eq!((first.content.clone(), first.note.as_deref()), (agent(1).content, Some("first")));
    assert_eq!(listed.iter().map(|version| version.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(older, std::slice::from_ref(&first));
    assert_eq!(elsewhere, None);
    let again = database::versions::Version { id: VersionId::from_bits(9), ..first };
    let taken = arena.database.write(move |tx| database::versions::version_create(tx, &again)).await;
    assert_eq!(taken, Err(DbError::Conflict("versions_version")));
}

async fn environments_run_what_was_put_there_last(arena: Arena) {
    workspaces(&arena.database).await;
    let id = AgentId::from_bits(1);
    arena
        .database
        .write(|tx| {
            agent_create(tx, &agent(1))?;
            deploy(tx, &agent(1), 1, Environment::Sandbox, 1)?;
            deploy(tx, &agent(1), 1, Environment::Live, 2)?;
            deploy(tx, &agent(1), 2, Environment::Sandbox, 3)
        })
        .await
        .unwrap();
    let (running, numbers, history, older, ran, never, (current, of_live)) = arena
        .database
        .read(move |read| {
            Ok((
                deployment_running(read, id)?,
                deployment_running_numbers(read, id)?,
                deployment_list(read, id, None, None, 10)?,
                deployment_list(read, id, None, Some(domain::id::DeploymentId::from_bits(2)), 10)?,
                deployment_ran(read, id, Environment::Sandbox, 1)?,
                deployment_ran(read, id, Environment::Live, 2)?,
                (
                    deployment_current(read, id)?,
                    deployment_list(read, id, Some(Environment::Live), None, 10)?,
                ),
            ))
        })
        .await
        .unwrap();
    let running: Vec<_> = running.into_iter().map(|it| (it.environment, it.version.version)).collect();
    assert_eq!(running, [(Environment::Live, 1), (Environment::Sandbox, 2)]);
    assert_eq!((numbers.sandbox, numbers.pre_release, numbers.live), (Some(2), None, Some(1)));
    assert_eq!(history.iter().map(|it| it.id.to_bits()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(older.len(), 1);
    assert_eq!(current.iter().map(|it| it.id.to_bits()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(of_live.iter().map(|it| it.id.to_bits()).collect::<Vec<_>>(), [2]);
    assert!(ran && !never);
}

async fn a_deleted_agent_runs_nowhere(arena: Arena) {
    workspaces(&arena.database).await;
    let id = AgentId::from_bits(1);
    arena
        .database
        .write(|tx| {
            agent_create(tx, &agent(1))?;
            deploy(tx, &agent(1), 1, Environment::Live, 1)
        })
        .await
        .unwrap();
    assert_eq!(arena.database.write(move |tx| agent_delete(tx, OTHER, id, at(9))).await, Ok(false));
    assert_eq!(arena.database.write(move |tx| agent_delete(tx, HOME, id, at(9))).await, Ok(true));
    assert_eq!(arena.database.write(move |tx| agent_delete(tx, HOME, id, at(9))).await, Ok(false));
    let (found, running, listed) = arena
        .database
        .read(move |read| {
            Ok((
                agent_find(read, HOME, id)?,
                deployment_running(read, id)?,
                agent_list(read, HOME, None, None, 10)?,
            ))
        })
        .await
        .unwrap();
    assert!(found.is_none() && running.is_empty() && listed.is_empty());
}
