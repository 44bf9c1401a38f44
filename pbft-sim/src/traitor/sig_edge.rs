//! Signatures at the edge: malleable copies, zeros, a point of small order, one kind's signature under another
//! kind, its own and others', statements signed for another cluster, and a decision under many different
//! signatures of its own (PITFALLS I1, I4, I5).

use std::sync::Arc;

use pbft_core::cluster::{Cluster, ClusterConfig};
use pbft_core::hook::Deed;
use pbft_core::message::{Message, Signed, Statement};
use pbft_core::replica::{Input, To};
use pbft_core::signed::sign;
use pbft_core::types::{ReplicaId, Signature};

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

/// The votes of the other kind that the same signature would be good for, if the kind were not signed.
fn other_kinds(statement: &Statement) -> Vec<Statement> {
    match statement {
        Statement::PrePrepare(vote) => vec![Statement::Prepare(*vote), Statement::Commit(*vote)],
        Statement::Prepare(vote) => vec![Statement::Commit(*vote)],
        Statement::Commit(vote) => vec![Statement::Prepare(*vote)],
        _ => Vec::new(),
    }
}

impl Behaviour for SigEdge {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        // Others' signatures are replayed under other kinds too.
        if let Input::Deliver(verified) = &input
            && let Some(signed) = verified.message().signed()
            && signed.sender != world.me()
            && world.random.chance(300)
        {
            for statement in other_kinds(&signed.statement) {
                let replayed = Signed { statement, ..signed.clone() };
                world.send(To::All, Message::Statement(replayed));
            }
        }
        inputs.push(input);
    }

    fn act(&mut self, world: &mut World<'_>, deed: Deed) {
        if let Some((statement, None)) = said(&deed) {
            let signed = world.sign(statement.clone());
            let copy = |signature| Signed { signature, ..signed.clone() };
            let mut edges = vec![copy(malleable(&signed.signature)), copy(NOBODYS)];
            let others = other_kinds(statement).into_iter();
            edges.extend(others.map(|statement| Signed { statement, ..signed.clone() }));
            if let Some(edge) = world.kit.edge.clone() {
                let preimage = statement.preimage(&world.kit.cluster, world.me());
                edges.push(copy(edge.of_small_order(&preimage)));
                if world.random.chance(50) {
                    let decision = world.lonely_decision(|preimage, one| edge.again(preimage, one));
                    world.send(To::All, decision);
                }
            }
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
