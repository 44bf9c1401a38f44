//! What unit tests of several files share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pbft_core::limits::Constants;
use pbft_net::ReplicaSockets;

use crate::{Deployment, NodeKeys, ReplicaEntry, Timeouts};

pub(crate) const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Kind 1: replicas; kind 2: clients.
pub(crate) fn keys(kind: u8, index: u8) -> NodeKeys {
    let mut signing = [kind; 32];
    signing[1] = index;
    let mut tls = signing;
    tls[0] += 100;
    NodeKeys::from_seeds(signing, tls)
}

/// Four replicas, of which none is started, and one client.
pub(crate) fn deployment(name: &str) -> (Deployment, Vec<ReplicaSockets>) {
    let sockets: Vec<_> = (0..4).map(|_| ReplicaSockets::bind(ANY, ANY).unwrap()).collect();
    let replicas = (0..).zip(&sockets).map(|(index, sockets)| ReplicaEntry {
        keys: keys(1, index).public(),
        peer_address: sockets.peer_address(),
        client_address: sockets.client_address(),
    });
    let (replicas, clients) = (replicas.collect(), vec![keys(2, 0).public()]);
    let (constants, timeouts) = (Constants::default(), Timeouts::default());
    let deployment = Deployment::new(name, replicas, clients, constants, timeouts, false);
    (deployment.unwrap(), sockets)
}

/// Numbers that are the same in every run; not from 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}
