//! Answers which live connections the pods of this node have: the addresses come from the main loop, the connections from the kernel,
//! and who has their addresses again from the main loop.

use super::status::{StatusReporter, clock};
use crate::account::end;
use crate::controller::Enforcer;
use crate::flow::{FlowEnd, LiveFlow, LiveFlows};
use crate::kernel::TrackedFlows;
use crate::net::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How many kinds of connections are reported: at most some megabytes.
const MOST_FLOWS: usize = 10_000;
/// How many addresses one query contains at most: some hundred microseconds of the main loop.
const ADDRESSES_PER_QUERY: usize = 256;
/// How long all of it may take. The main loop answers nothing before the first lists are complete.
const PATIENCE: Duration = Duration::from_secs(20);

impl StatusReporter {
    /// The live connections of this node's pods.
    ///
    /// # Errors
    /// Why they are not known.
    pub(super) async fn connections(&self) -> Result<LiveFlows, String> {
        let listed = timeout(PATIENCE, self.list_connections()).await;
        listed.unwrap_or_else(|_| Err(format!("it took longer than {} s", PATIENCE.as_secs())))
    }

    async fn list_connections(&self) -> Result<LiveFlows, String> {
        let ending = || "the agent is about to end".to_owned();
        let read = |enforcer: &Enforcer| {
            let local: BTreeSet<IpAddr> = enforcer.plan().local().collect();
            (local, enforcer.options().mark)
        };
        let (local, cut) = self.ask(read).await.ok_or_else(ending)?;
        let time = clock(SystemTime::now()).unwrap_or_default();
        // One at a time: the kernel walks through all connections of the host.
        let turn = self.listing().await.ok_or_else(ending)?;
        let listed = spawn_blocking(move || {
            let listed = TrackedFlows::list(&local, cut, MOST_FLOWS);
            drop(turn);
            listed
        });
        let listed = listed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let ends = listed.flows.keys().flat_map(|flow| [flow.source, flow.destination]);
        let ends: Vec<IpAddr> = ends.collect::<BTreeSet<IpAddr>>().into_iter().collect();
        let mut known: BTreeMap<IpAddr, FlowEnd> = BTreeMap::new();
        for part in ends.chunks(ADDRESSES_PER_QUERY) {
            let part = part.to_vec();
            let named = self.ask(move |enforcer| {
                let ends = part.iter().map(|address| (*address, end(enforcer.cluster(), *address)));
                ends.collect::<Vec<_>>()
            });
            known.extend(named.await.ok_or_else(ending)?);
        }
        let flows =
            listed.flows.iter().filter_map(|(flow, connections)| live_flow(flow, *connections, &known));
        Ok(LiveFlows {
            time,
            node: self.node().to_owned(),
            flows: flows.collect(),
            left_out: listed.left_out,
        })
    }
}

fn live_flow(flow: &Flow, connections: u64, known: &BTreeMap<IpAddr, FlowEnd>) -> Option<LiveFlow> {
    let (protocol, port) = flow.port?;
    Some(LiveFlow {
        source: known.get(&flow.source)?.clone(),
        destination: known.get(&flow.destination)?.clone(),
        protocol: protocol.to_string(),
        port,
        connections,
    })
}
