//! The workspace: its settings, and the outage switch of each environment.

use database::DbError;
pub use database::workspaces::Workspace;
use database::workspaces::{workspace_find, workspace_update};
use domain::environment::{Environment, SandboxFollows};
use domain::error::{Code, Refusal, shown};
use domain::event::EventKind;
use domain::fallback::Fallback;
use domain::hours::Zone;
use domain::id::WorkspaceId;
use domain::number::Country;
use domain::permission::Permission;
use serde_json::json;

use super::secrets::{NewSecrets, Sealer, forget_replaced};
use super::{Caller, Failure, IfMatch, chains, endpoints};
use crate::app::Shared;
use crate::patch::Patch;

/// What a PATCH of the workspace says.
#[derive(Clone, Default)]
pub struct WorkspacePatch {
    /// What people call it.
    pub name: Option<String>,
    /// Understood where a phone number is written without country code, for suggestions only.
    pub default_country: Patch<Country>,
    /// Numbers without a time zone of their own live in this one.
    pub time_zone: Patch<Zone>,
    /// The last fallback before the spoken message.
    pub fallback: Patch<Fallback>,
    /// What sandbox runs.
    pub sandbox_follows: Patch<SandboxFollows>,
    /// The environments that are switched to their fallbacks, or back.
    pub outage: Vec<(Environment, bool)>,
    /// The secrets of the fallback.
    pub secrets: NewSecrets,
}

/// The caller's workspace.
pub async fn workspace_show(app: &Shared, caller: &Caller) -> Result<Workspace, Failure> {
    caller.may(Permission::SettingsRead)?;
    let id = caller.workspace;
    let found = app.database.read(move |read| workspace_find(read, id)).await?;
    found.ok_or_else(|| {
        DbError::Corrupt(format!("a key leads to the workspace {id}, which is not there")).into()
    })
}

/// Changes the caller's workspace.
pub async fn workspace_patch(
    app: &Shared,
    caller: &Caller,
    patch: WorkspacePatch,
    if_match: IfMatch,
) -> Result<Workspace, Failure> {
    caller.may(Permission::SettingsWrite)?;
    let mut places = Vec::new();
    if let Patch::Set(fallback) = &patch.fallback {
        endpoints::fallback_places(fallback, "fallback", &mut places);
    }
    endpoints::places_check(app, caller.workspace, places).await?;
    let (now, sealer, caller) = (app.clock.now(), Sealer::of(app), caller.clone());
    let changed = app
        .database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            let before = workspace_find(tx, caller.workspace)?
                .ok_or_else(|| DbError::Corrupt("a key leads to a workspace that is not there".to_owned()))?;
            if_match.check(before.revision)?;
            let mut after = before.clone();
            patch.clone().apply(&mut after, now);
            if after == before {
                return Ok(before);
            }
            if after.settings.fallback != before.settings.fallback {
                chains::workspace_check(tx, caller.workspace, after.settings.fallback.as_ref())
                    .map_err(|failure| failure.in_field("fallback.targets"))?;
            }
            patch.secrets.store(tx, &sealer, caller.workspace, now)?;
            let secrets = |of: &Workspace| endpoints::fallback_secrets(of.settings.fallback.as_ref());
            forget_replaced(tx, caller.workspace, &secrets(&before), &secrets(&after))?;
            let after = workspace_update(tx, &after, now).map_err(|error| name_taken(error, &after.name))?;
            caller
                .change(now, "workspace.update", after.id, EventKind::WorkspaceUpdated)
                .before(recorded(&before))
                .after(recorded(&after))
                .record(tx)?;
            Ok::<_, Failure>(after)
        })
        .await?;
    app.nudges.build_routes.notify_one();
    Ok(changed)
}

/// How national numbers are understood in a workspace, for suggestions.
pub async fn default_country(app: &Shared, workspace: WorkspaceId) -> Result<Option<Country>, Failure> {
    let found = app.database.read(move |read| workspace_find(read, workspace)).await?;
    Ok(found.and_then(|workspace| workspace.settings.default_country))
}

impl WorkspacePatch {
    fn apply(self, workspace: &mut Workspace, now: jiff::Timestamp) {
        let settings = &mut workspace.settings;
        workspace.name = self.name.unwrap_or_else(|| workspace.name.clone());
        settings.default_country = self.default_country.over(settings.default_country);
        settings.time_zone = self.time_zone.over_or(settings.time_zone.clone(), Zone::utc());
        settings.fallback = self.fallback.over(settings.fallback.take());
        settings.sandbox_follows =
            self.sandbox_follows.over_or(settings.sandbox_follows, SandboxFollows::Published);
        for (environment, on) in self.outage {
            settings.outage = settings.outage.switched(environment, on, now);
        }
    }
}

/// What a name that is taken is answered with: names of other workspaces are not told apart from reserved ones.
pub(super) fn name_taken(error: DbError, name: &str) -> Failure {
    match error {
        DbError::Conflict("workspaces_name") => Failure::field(
            "name",
            Refusal::new(Code::NameTaken, format!("the name {} is taken; choose another", shown(name))),
        ),
        error => error.into(),
    }
}

/// The workspace as the audit log keeps it.
fn recorded(workspace: &Workspace) -> serde_json::Value {
    json!({ "id": workspace.id, "name": workspace.name, "settings": workspace.settings })
}
