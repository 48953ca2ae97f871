//! Publishing: a draft is frozen into the next version, and versions move sandbox → pre-release → live and back.
//!
//! Nothing is written here: the functions say what is to be deployed, or why not. What a deployment would change for each
//! number is [`crate::preview`]'s to tell.

use serde::Serialize;

use crate::agent::Content;
use crate::environment::{Environment, SandboxFollows};
use crate::error::{Code, Refusal};

/// The longest note on a version, in characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// The most versions of one agent: a version is small, and five hundred saves a day reach this in half a year of following saves.
pub const VERSIONS_MAX: u32 = 100_000;

crate::words! {
    /// How a version came into an environment.
    DeploymentAction, "deployment action" {
        /// A draft was frozen and put into sandbox.
        Publish = "publish",
        /// It was taken over from the environment before.
        Promote = "promote",
        /// It ran there before and was put back.
        Rollback = "rollback",
    }
}

/// A version that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its number: one more than the latest.
    pub version: u32,
}

/// What publishing is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Versions<'a> {
    /// The number of the latest version; 0 where there is none.
    pub latest: u32,
    /// The version that sandbox runs, and what it holds.
    pub sandbox: Option<(u32, &'a Content)>,
}

/// A draft is published on purpose. Refused where no call could reach it, and where sandbox runs exactly this already.
pub fn publish(draft: &Content, versions: Versions<'_>) -> Result<Publication, Refusal> {
    draft.check_publishable()?;
    if let Some((version, running)) = versions.sandbox
        && running == draft
    {
        return Err(Refusal::new(
            Code::NothingToPublish,
            format!(
                "sandbox runs version {version}, which is exactly this draft; change the draft or its variants first"
            ),
        ));
    }
    if versions.latest >= VERSIONS_MAX {
        return Err(Refusal::new(
            Code::LimitReached,
            format!(
                "the agent has {} versions; at most {VERSIONS_MAX} are kept, so go on with a new agent",
                versions.latest
            ),
        ));
    }
    Ok(Publication { version: versions.latest + 1 })
}

/// A draft was saved. Where sandbox follows saves it is published in the same step – unless it cannot run yet, or changed
/// nothing: a half-finished draft is saved all the same, and sandbox keeps what it has.
pub fn publish_saved(
    draft: &Content,
    versions: Versions<'_>,
    follows: SandboxFollows,
) -> Option<Publication> {
    match follows {
        SandboxFollows::Published => None,
        SandboxFollows::Saved => publish(draft, versions).ok(),
    }
}

/// What each environment runs of one agent: numbers of versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Sandbox.
    pub sandbox: Option<u32>,
    /// Pre-release.
    pub pre_release: Option<u32>,
    /// Live.
    pub live: Option<u32>,
}

impl Running {
    /// What this environment runs.
    pub const fn version(&self, environment: Environment) -> Option<u32> {
        match environment {
            Environment::Sandbox => self.sandbox,
            Environment::PreRelease => self.pre_release,
            Environment::Live => self.live,
        }
    }

    /// With another version in one environment.
    #[must_use]
    pub fn with(mut self, environment: Environment, version: u32) -> Running {
        *match environment {
            Environment::Sandbox => &mut self.sandbox,
            Environment::PreRelease => &mut self.pre_release,
            Environment::Live => &mut self.live,
        } = Some(version);
        self
    }
}

/// What is to be done to an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// It is to run this version.
    Deploy(u32),
    /// It runs this version already; asking twice is harmless.
    Unchanged(u32),
}

impl Deployment {
    fn to(version: u32, running: Option<u32>) -> Deployment {
        if running == Some(version) { Deployment::Unchanged(version) } else { Deployment::Deploy(version) }
    }
}

/// A version goes on to the next environment. Live takes only what pre-release runs.
pub fn promote(from: Environment, to: Environment, running: Running) -> Result<Deployment, Refusal> {
    let invalid = |why: &str| {
        Err(Refusal::new(Code::InvalidValue, format!("from {from} to {to} is no promotion: {why}")))
    };
    match (from, to) {
        (_, Environment::Sandbox) => {
            return invalid(
                "sandbox takes drafts, with POST /v1/agents/{id}/publish, or earlier versions, with …/rollback",
            );
        }
        (from, to) if from == to => return invalid("send two environments"),
        (Environment::Live, _) => {
            return invalid(
                "versions go from sandbox to pre_release and from there to live; for the way back use …/rollback",
            );
        }
        _ => {}
    }
    let source = running.version(from);
    if to == Environment::Live && (source.is_none() || source != running.pre_release) {
        let have = running.pre_release.map_or("nothing".to_owned(), |version| format!("version {version}"));
        let want = match (from, source) {
            (Environment::PreRelease, _) => String::new(),
            (from, None) => format!(" and {from} nothing either"),
            (from, Some(version)) => format!(", {from} version {version}"),
        };
        return Err(Refusal::new(
            Code::PreReleaseNotReady,
            format!(
                "live takes only what pre_release runs; pre_release runs {have}{want}; promote from sandbox to pre_release first, try it there, then promote from pre_release to live"
            ),
        ));
    }
    let Some(version) = source else {
        return Err(Refusal::new(
            Code::NotInEnvironment,
            format!("the agent runs nothing in {from}, so there is nothing to promote; publish it first"),
        ));
    };
    Ok(Deployment::to(version, running.version(to)))
}

/// What a rollback is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Whether the agent has a version of this number.
    pub exists: bool,
    /// Whether it was ever deployed to this environment.
    pub ran_there: bool,
    /// What runs there now.
    pub running: Option<u32>,
}

/// A version that ran in an environment before is put back there. Others take the way through the environments before it.
pub fn rollback(environment: Environment, version: u32, past: Past) -> Result<Deployment, Refusal> {
    if !past.exists {
        return Err(Refusal::new(
            Code::VersionNotFound,
            format!("the agent has no version {version}; list them with GET /v1/agents/{{id}}/versions"),
        ));
    }
    if !past.ran_there {
        let how = match environment.promoted_from() {
            None => "publish".to_owned(),
            Some(from) => format!("promote it there from {from}"),
        };
        return Err(Refusal::new(
            Code::NotInEnvironment,
            format!(
                "version {version} never ran in {environment}, so it cannot be put back there; {how}, or choose a version that GET /v1/agents/{{id}}/deployments?environment={environment} lists"
            ),
        ));
    }
    Ok(Deployment::to(version, past.running))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Draft;
    use crate::endpoint::{Dial, Endpoint, Target};
    use crate::number::E164;
    use Environment::{Live, PreRelease, Sandbox};

    fn content(digits: u64) -> Content {
        let phone_number = E164::from_digits(digits).unwrap();
        let endpoint = Endpoint::from(Dial { target: Target::Phone { phone_number }, ring_timeout_s: 20 });
        Content { draft: Draft { endpoint: Some(endpoint), ..Draft::default() }, ..Content::default() }
    }

    #[test]
    fn a_draft_becomes_the_next_version() {
        let (old, new) = (content(14_385_550_100), content(14_385_550_101));
        let none = Versions { latest: 0, sandbox: None };
        assert_eq!(publish(&new, none), Ok(Publication { version: 1 }));
        assert_eq!(publish(&Content::default(), none).unwrap_err().code, Code::NothingToPublish);

        let same = publish(&old, Versions { latest: 7, sandbox: Some((3, &old)) }).unwrap_err();
        assert_eq!(same.code, Code::NothingToPublish);
        assert!(same.detail.contains("version 3"), "{same}");
        // After a rollback of sandbox the draft of version 7 is published anew, as version 8.
        assert_eq!(
            publish(&new, Versions { latest: 7, sandbox: Some((3, &old)) }),
            Ok(Publication { version: 8 })
        );
        let full = publish(&new, Versions { latest: VERSIONS_MAX, sandbox: None }).unwrap_err();
        assert_eq!(full.code, Code::LimitReached);
    }

    #[test]
    fn sandbox_follows_saves_where_it_is_set_to() {
        let (old, new) = (content(14_385_550_100), content(14_385_550_101));
        let versions = Versions { latest: 2, sandbox: Some((2, &old)) };
        assert_eq!(publish_saved(&new, versions, SandboxFollows::Published), None);
        assert_eq!(publish_saved(&new, versions, SandboxFollows::Saved), Some(Publication { version: 3 }));
        assert_eq!(publish_saved(&old, versions, SandboxFollows::Saved), None, "nothing has changed");
        assert_eq!(
            publish_saved(&Content::default(), versions, SandboxFollows::Saved),
            None,
            "not finished yet"
        );
    }

    #[test]
    fn promotions_go_one_way_and_live_takes_what_pre_release_runs() {
        use Code::{InvalidValue, NotInEnvironment, PreReleaseNotReady};
        let at = |sandbox, pre_release, live| Running { sandbox, pre_release, live };
        let check = |from, to, running| promote(from, to, running).map_err(|refusal| refusal.code);
        let all = at(Some(3), Some(2), Some(1));
        for (from, to, running, expected) in [
            (Sandbox, PreRelease, all, Ok(Deployment::Deploy(3))),
            (PreRelease, Live, all, Ok(Deployment::Deploy(2))),
            (Sandbox, Live, all, Err(PreReleaseNotReady)),
            (Sandbox, Live, at(Some(3), Some(3), None), Ok(Deployment::Deploy(3))),
            (PreRelease, Live, at(Some(3), None, None), Err(PreReleaseNotReady)),
            (Sandbox, Live, at(None, None, None), Err(PreReleaseNotReady)),
            (Sandbox, PreRelease, at(None, Some(2), None), Err(NotInEnvironment)),
            (PreRelease, Live, at(Some(3), Some(2), Some(2)), Ok(Deployment::Unchanged(2))),
            (Sandbox, Sandbox, all, Err(InvalidValue)),
            (PreRelease, PreRelease, all, Err(InvalidValue)),
            (PreRelease, Sandbox, all, Err(InvalidValue)),
            (Live, PreRelease, all, Err(InvalidValue)),
        ] {
            assert_eq!(check(from, to, running), expected, "{from} to {to} of {running:?}");
        }
        let refused = promote(Sandbox, Live, all).unwrap_err();
        assert!(refused.detail.contains("pre_release runs version 2, sandbox version 3"), "{refused}");
    }

    #[test]
    fn only_what_ran_there_is_put_back() {
        let past = |exists, ran_there, running| Past { exists, ran_there, running };
        let check = |past| rollback(Live, 2, past).map_err(|refusal| refusal.code);
        assert_eq!(check(past(true, true, Some(3))), Ok(Deployment::Deploy(2)));
        assert_eq!(check(past(true, true, Some(2))), Ok(Deployment::Unchanged(2)));
        assert_eq!(check(past(false, false, Some(3))), Err(Code::VersionNotFound));
        assert_eq!(check(past(true, false, Some(3))), Err(Code::NotInEnvironment));
        assert_eq!(check(past(true, false, None)), Err(Code::NotInEnvironment));
    }
}
