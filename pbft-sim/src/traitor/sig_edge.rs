//! Signatures at the edge: malleable copies, zeros, one kind's signature under another kind, and statements
//! signed for another cluster (PITFALLS I1, I4, I5).

use std::sync::Arc;

use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::hook::Deed;
use pbft_core::message::{Message, Signed, Statement};
use pbft_core::replica::To;
use pbft_core::signed::sign;
use pbft_core::types::Signature;

use super::vc_liar_forges::NOBODYS;
use super::world::said;
use super::{Behaviour, Kit, World};

/// The order of the group, little-endian: a signature with it added is the same to a lax verifier.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(super) struct SigEdge {
    elsewhere: Option<Arc<Cluster>>,
}

impl SigEdge {
    pub(super) fn new(kit: &Kit) -> SigEdge {
        let cluster = &kit.cluster;
        let elsewhere = Cluster::new(ClusterConfig {
            name: "elsewhere".to_owned(),
            members: cluster.members().to_vec(),
            clients: cluster.clients().to_vec(),
            constants: cluster.constants().clone(),
            development: cluster.development(),
        });
        SigEdge { elsewhere: elsewhere.ok().map(Arc::new) }
    }
}

/// The same R, and S with the order added.
fn malleable(signature: &Signature) -> Signature {
    let mut bytes = signature.0;
    let mut carry = 0_u16;
    for (byte, add) in bytes.iter_mut().skip(32).zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap_or(0);
        carry = sum >> 8;
    }
    Signature(bytes)
}

impl Behaviour for SigEdge {
    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if let Some((statement, None)) = said(&deed) {
            let signed = world.sign(statement.clone());
            let other_kind = match statement {
                Statement::Prepare(vote) => Some(Statement::Commit(*vote)),
                Statement::Commit(vote) => Some(Statement::Prepare(*vote)),
                _ => None,
            };
            let copy = |signature| Signed { signature, ..signed.clone() };
            let mut edges = vec![copy(malleable(&signed.signature)), copy(NOBODYS)];
            edges.extend(other_kind.map(|statement| Signed { statement, ..signed.clone() }));
            if let Some(elsewhere) = &self.elsewhere {
                edges.push(sign(elsewhere, &*world.kit.signer, world.me(), statement.clone()));
            }
            let first = world.random.chance(500);
            if first {
                world.pass(deed.clone());
            }
            for edge in edges {
                world.send(To::All, Message::Statement(edge));
            }
            if first {
                return;
            }
        }
        world.pass(deed);
    }
}
