//! What each operation of the API needs, asked before anything of the request is read: who may not do a thing is told so, and not first
//! what would have to be mended to be refused then. The actions ask again, for whoever calls them otherwise.

use domain::error::Refusal;
use domain::permission::Permission;

use super::Caller;

/// The permissions that an operation needs, by its `operationId`; none where it is not known here. What depends on the request as well –
/// assigning while buying, say – is asked by the action alone.
pub fn needs(operation: &str) -> Option<&'static [Permission]> {
    use Permission as P;
    Some(match operation {
        "number_list" | "number_show" | "number_readiness" | "number_drift" | "store_countries"
        | "store_search" => &[P::NumbersRead],
        "number_patch" | "number_assign" | "number_unassign" => &[P::NumbersWrite],
        "number_buy" => &[P::NumbersBuy],
        "number_release" | "number_delete" | "number_release_cancel" => &[P::NumbersRelease],
        "agent_list" | "agent_show" | "draft_show" | "variant_list" | "variant_show" | "version_list"
        | "version_find" | "deployment_list" => &[P::AgentsRead],
        "agent_publish_preview" | "callout_list" => &[P::AgentsRead, P::NumbersRead],
        "agent_create" | "agent_patch" | "agent_delete" | "draft_patch" | "variant_create"
        | "variant_patch" | "variant_delete" => &[P::AgentsWrite],
        "agent_publish" | "agent_promote" | "agent_rollback" => &[P::AgentsPublish],
        "call_list" | "call_find" | "route_explain" => &[P::CallsRead],
        "workspace_show" => &[P::SettingsRead],
        "workspace_patch" => &[P::SettingsWrite],
        "api_key_list" | "api_key_show" | "role_list" | "role_show" => &[P::KeysRead],
        "api_key_create" | "api_key_revoke" | "role_create" | "role_patch" | "role_delete" => &[P::KeysWrite],
        "audit_list" => &[P::AuditRead],
        // Each kind of event needs its own: see `events`.
        "event_listen" => &[],
        _ => return None,
    })
}

/// Refuses a caller who lacks one of them.
pub fn needs_check(caller: &Caller, needs: &[Permission]) -> Result<(), Refusal> {
    needs.iter().try_for_each(|&permission| caller.may(permission))
}
