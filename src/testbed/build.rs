//! Building a testbed, and removing it.

use super::addressing::Addressing;
use super::cni::CniResultFiles;
use super::names::{check_id, claim};
use super::{Endpoint, Layout, Port, Prober, TestNode, Testbed, TestbedError, netns, topology};
use std::collections::{BTreeMap, BTreeSet};
use topology::NetnsHandle;

impl Testbed {
    /// Creates the namespaces, links, addresses, routes and listeners of a layout.
    ///
    /// `id` is 1 to 12 lower-case letters and digits, and is a part of the name of every namespace: `bw-ID-router`,
    /// `bw-ID-node-NODE`, `bw-ID-pod-NAMESPACE-POD`, `bw-ID-outside`. Needs root. After a failure, everything built is
    /// removed.
    pub fn build(id: &str, layout: &Layout) -> Result<Testbed, TestbedError> {
        check_id(id)?;
        let addressing = Addressing::new(&layout.nodes)?;
        let mut checked = addressing.clone();
        for place in &layout.pods {
            checked.admit(place)?;
        }
        let mut testbed = Testbed::create_core(id, addressing)?;
        testbed.open_outside(&layout.outside_listens)?;
        for node in &layout.nodes {
            testbed.add_node(node, &layout.node_listens)?;
        }
        testbed.add_pods(&layout.pods)?;
        Ok(testbed)
    }

    /// Removes the namespaces that a killed process left of a testbed with this id, and returns their names.
    pub fn sweep(id: &str) -> Result<Vec<String>, TestbedError> {
        check_id(id)?;
        netns::sweep(&format!("bw-{id}-"))
    }

    /// Removes everything; continues after errors and lists them. The caller must end the processes that it started
    /// inside.
    pub fn remove(mut self) -> Result<(), TestbedError> {
        self.tear_down()
    }

    fn create_core(id: &str, addressing: Addressing) -> Result<Testbed, TestbedError> {
        let results = CniResultFiles::create(id)?;
        let prober = Prober::start()?;
        let mut names = BTreeSet::new();
        let router_name = claim(&mut names, &format!("bw-{id}-router"));
        let outside_name = claim(&mut names, &format!("bw-{id}-outside"));
        let (router, outside) = prober.worker.run(async move {
            let router = NetnsHandle::create(&router_name, &topology::router_sysctls()).await?;
            match NetnsHandle::create(&outside_name, &topology::host_sysctls()).await {
                Ok(outside) => Ok((router, outside)),
                Err(error) => {
                    router.namespace.remove()?;
                    Err(error)
                }
            }
        })?;
        Ok(Testbed {
            id: id.to_owned(),
            prober,
            names,
            addressing,
            router,
            outside,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            results,
        })
    }

    fn open_outside(&mut self, ports: &[Port]) -> Result<(), TestbedError> {
        let (router, outside) = (self.router.clone(), self.outside.clone());
        self.prober.worker.run(async move { topology::attach_outside(&router, &outside).await })?;
        self.serve(&Endpoint::Outside, ports)
    }

    fn add_node(&mut self, name: &str, ports: &[Port]) -> Result<(), TestbedError> {
        self.results.add_node(name)?;
        let title = claim(&mut self.names, &format!("bw-{}-node-{name}", self.id));
        let handle = self
            .prober
            .worker
            .run(async move { NetnsHandle::create(&title, &topology::node_sysctls()).await })?;
        let node = TestNode { handle: handle.clone(), next_link: topology::FIRST_POD_LINK };
        self.nodes.insert(name.to_owned(), node);
        let Some(nets) = self.addressing.node(name).cloned() else { return Ok(()) };
        let router = self.router.clone();
        self.prober.worker.run(async move { topology::attach_node(&router, &handle, &nets).await })?;
        self.serve(&Endpoint::node(name), ports)
    }

    fn tear_down(&mut self) -> Result<(), TestbedError> {
        self.prober.worker.stop();
        let mut left = Vec::new();
        let pods =
            std::mem::take(&mut self.pods).into_values().filter_map(|pod| pod.own).map(|own| own.namespace);
        let nodes = std::mem::take(&mut self.nodes).into_values().map(|node| node.handle.namespace);
        let rest = [&self.outside, &self.router].map(|handle| handle.namespace.clone());
        for namespace in pods.chain(nodes).chain(rest) {
            if self.names.remove(namespace.name())
                && let Err(error) = namespace.remove()
            {
                left.push(error.to_string());
            }
        }
        if left.is_empty() { Ok(()) } else { Err(TestbedError::Remains { left }) }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            tracing::warn!(%error, "the testbed is not wholly removed");
        }
    }
}
