//! Why policies allow or deny a connection, in words.

use super::question::Question;
use super::{Expectation, SideRuling};
use crate::model::Direction;
use std::net::IpAddr;

impl Expectation {
    /// Why policies allow or deny a connection, of which both directions say this.
    pub(super) fn reason(
        &self,
        question: &Question,
        egress: &SideRuling<'_>,
        ingress: &SideRuling<'_>,
    ) -> String {
        let side = |direction: Direction, ruling: &SideRuling<'_>| {
            let own = match direction {
                Direction::Egress => question.source,
                Direction::Ingress => question.destination,
            };
            match ruling {
                SideRuling::Free if self.is_local(own) => {
                    Some(format!("no policy isolates {} for {direction}", self.name(own)))
                }
                SideRuling::Free => None,
                SideRuling::Allowed(policy, rule) => {
                    Some(format!("{direction} rule {} of policy {policy} allows it", rule + 1))
                }
                SideRuling::Denied { subject, isolated_by, .. } if isolated_by.is_empty() => {
                    Some(format!("{subject} is isolated until its object is known"))
                }
                SideRuling::Denied { subject, isolated_by, .. } => {
                    let policies: Vec<String> = isolated_by.iter().map(ToString::to_string).collect();
                    let policies = policies.join(", ");
                    Some(format!(
                        "{subject} is isolated for {direction} by {policies}, and no rule allows it"
                    ))
                }
            }
        };
        let denies = |ruling: &SideRuling<'_>| !ruling.allows();
        let sides = match (denies(egress), denies(ingress)) {
            (true, _) => [side(Direction::Egress, egress), None],
            (false, true) => [None, side(Direction::Ingress, ingress)],
            (false, false) => [side(Direction::Egress, egress), side(Direction::Ingress, ingress)],
        };
        let words: Vec<String> = sides.into_iter().flatten().collect();
        if words.is_empty() { "neither end is a pod of this node".into() } else { words.join("; ") }
    }

    /// An address, with the pods of this node that have it.
    pub(super) fn name(&self, address: IpAddr) -> String {
        let subjects: Vec<String> = self.subjects(address).map(ToString::to_string).collect();
        match subjects.is_empty() {
            true => address.to_string(),
            false => format!("{} ({address})", subjects.join(" and ")),
        }
    }
}
