//! What is waited for, and whether a node has it.

use crate::status::{AgentStatus, PolicyState, PolicyStatus, StatedVersion};
use serde::Deserialize;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// This version of the policy, or a later one, is in force.
    InForce(WantedVersion),
    /// Nothing of the policy is in force any more.
    Deleted,
}

/// A version of a policy, as far as it is known; without any of the three, whatever the agent has received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WantedVersion {
    /// metadata.uid
    #[serde(default)]
    pub(super) uid: Option<String>,
    /// metadata.generation
    #[serde(default)]
    pub(super) generation: Option<i64>,
    /// metadata.resourceVersion
    #[serde(default)]
    pub(super) resource_version: Option<String>,
}

/// A node that has what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// How many of its pods the policy selects.
    pub(super) pods: usize,
}

impl Goal {
    /// What is so once it is reached.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Goal::InForce(_) => "is in force",
            Goal::Deleted => "is deleted",
        }
    }

    /// Whether a node has it. `status` is the answer of its agent to a question about the policy.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn reached(&self, status: &AgentStatus) -> Result<Reached, String> {
        let Some(policies) = &status.policies else {
            return Err(with_problems("the agent has not received its first complete lists yet", status));
        };
        match (self, policies.first()) {
            (Goal::Deleted, None) => Ok(Reached { pods: 0 }),
            (Goal::Deleted, Some(policy)) => {
                let what = match policy.state {
                    PolicyState::Deleting => "its deletion was received and is not in force yet",
                    PolicyState::InForce | PolicyState::Pending => "it is still known",
                };
                Err(with_problems(what, status))
            }
            (Goal::InForce(_), None) => Err(with_problems("the policy is not known there", status)),
            (Goal::InForce(wanted), Some(policy)) => {
                wanted.reached(policy).map_err(|why| match policy.state {
                    PolicyState::InForce => why,
                    PolicyState::Pending | PolicyState::Deleting => with_problems(&why, status),
                })
            }
        }
    }
}

impl WantedVersion {
    fn reached(&self, policy: &PolicyStatus) -> Result<Reached, String> {
        let Some(received) = &policy.received else {
            return Err("the agent was told that the policy was deleted".to_owned());
        };
        if self.uid.is_some() && self.uid != policy.uid {
            return Err("an earlier policy of this name is known there".to_owned());
        }
        if !self.is_included_in(received) {
            let (own, wanted) = (named(received), named(&self.stated()));
            return Err(format!("{wanted} is not received yet, only {own}"));
        }
        if policy.state != PolicyState::InForce {
            let before = policy.in_force.as_ref().map_or("nothing of it".to_owned(), named);
            let waits = policy.waits_for.iter().map(|what| format!("; it waits for {what}"));
            let waits: String = waits.collect();
            return Err(format!("{} is received and not in force yet, {before} is{waits}", named(received)));
        }
        if policy.audited {
            return Err("it is audited: evaluated and reported, and not enforced".to_owned());
        }
        Ok(Reached { pods: policy.pods })
    }

    /// Whether a received version is this one or a later one. Generations have an order, resourceVersions have none.
    fn is_included_in(&self, received: &StatedVersion) -> bool {
        match (self.generation, received.generation) {
            (Some(wanted), Some(own)) if own != wanted => own > wanted,
            (Some(_), None) => false,
            (Some(_) | None, _) => {
                self.resource_version.is_none() || self.resource_version == received.resource_version
            }
        }
    }

    fn stated(&self) -> StatedVersion {
        StatedVersion { generation: self.generation, resource_version: self.resource_version.clone() }
    }
}

fn named(version: &StatedVersion) -> String {
    match version {
        StatedVersion { generation: Some(generation), resource_version: Some(resource) } => {
            format!("generation {generation} (resourceVersion {resource})")
        }
        StatedVersion { generation: Some(generation), resource_version: None } => {
            format!("generation {generation}")
        }
        StatedVersion { generation: None, resource_version: Some(resource) } => {
            format!("resourceVersion {resource}")
        }
        StatedVersion { generation: None, resource_version: None } => "a version without a number".to_owned(),
    }
}

/// The reason, with the checks of the agent that fail.
fn with_problems(why: &str, status: &AgentStatus) -> String {
    let problems = status.problems().map(|(check, problem)| format!("; {check}: {problem}"));
    format!("{why}{}", problems.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::CheckStatus;

    fn version(generation: i64, resource: &str) -> StatedVersion {
        StatedVersion { generation: Some(generation), resource_version: Some(resource.into()) }
    }

    fn policy() -> PolicyStatus {
        PolicyStatus {
            namespace: "shop".into(),
            name: "web".into(),
            uid: Some("a".into()),
            state: PolicyState::InForce,
            audited: false,
            pods: 2,
            received: Some(version(3, "70")),
            in_force: Some(version(3, "70")),
            waits_for: None,
            refused: Vec::new(),
        }
    }

    fn status(policy: Option<PolicyStatus>) -> AgentStatus {
        AgentStatus {
            time: String::new(),
            node: "node-a".into(),
            version: String::new(),
            revision: None,
            backend: String::new(),
            ready: false,
            checks: vec![CheckStatus {
                name: "sync".into(),
                problem: Some("refused".into()),
                remarks: Vec::new(),
            }],
            last_sync: None,
            last_verification: None,
            counts: None,
            policies: Some(policy.into_iter().collect()),
        }
    }

    fn wanted(uid: Option<&str>, generation: Option<i64>, resource: Option<&str>) -> Goal {
        let (uid, resource_version) = (uid.map(str::to_owned), resource.map(str::to_owned));
        Goal::InForce(WantedVersion { uid, generation, resource_version })
    }

    #[test]
    fn version_is_reached_once_it_or_a_later_one_is_in_force() {
        let in_force = status(Some(policy()));
        let reached = [
            wanted(None, None, None),
            wanted(Some("a"), Some(3), Some("70")),
            wanted(Some("a"), Some(3), None),
            wanted(None, Some(2), Some("60")),
            wanted(None, None, Some("70")),
        ];
        for goal in reached {
            assert_eq!(goal.reached(&in_force), Ok(Reached { pods: 2 }), "{goal:?}");
        }
        let not_reached = [
            (wanted(Some("b"), Some(1), Some("80")), "an earlier policy"),
            (wanted(Some("a"), Some(4), Some("80")), "generation 4 (resourceVersion 80) is not received yet"),
            (wanted(Some("a"), Some(3), Some("80")), "only generation 3 (resourceVersion 70)"),
        ];
        for (goal, why) in not_reached {
            let error = goal.reached(&in_force).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_received_and_not_in_force_is_not_reached_and_says_what_prevents_it() {
        let pending = PolicyStatus {
            state: PolicyState::Pending,
            in_force: Some(version(2, "60")),
            waits_for: Some("its sets".into()),
            ..policy()
        };
        let error = wanted(None, Some(3), None).reached(&status(Some(pending))).expect_err("it is pending");
        assert_eq!(
            error,
            "generation 3 (resourceVersion 70) is received and not in force yet, generation 2 (resourceVersion 60) is; \
             it waits for its sets; sync: refused"
        );
        let unknown = wanted(None, None, None).reached(&status(None)).expect_err("it is not known");
        assert!(unknown.contains("not known there; sync: refused"), "{unknown}");
        let starting = AgentStatus { policies: None, ..status(None) };
        for goal in [wanted(None, None, None), Goal::Deleted] {
            assert!(goal.reached(&starting).expect_err("it starts").contains("first complete lists"));
        }
    }

    #[test]
    fn audited_policy_is_not_in_force() {
        let audited = status(Some(PolicyStatus { audited: true, ..policy() }));
        let error = wanted(None, None, None).reached(&audited).expect_err("its traffic passes");
        assert!(error.contains("audited"), "{error}");
    }

    #[test]
    fn deletion_is_reached_once_nothing_of_the_policy_is_in_force() {
        assert_eq!(Goal::Deleted.reached(&status(None)), Ok(Reached { pods: 0 }));
        for state in [PolicyState::InForce, PolicyState::Pending, PolicyState::Deleting] {
            let held = status(Some(PolicyStatus { state, ..policy() }));
            assert!(Goal::Deleted.reached(&held).is_err(), "{state:?}");
        }
    }
}
