//! State transfer as a state machine: the receiving side (PROTOCOL section 5; PITFALLS G1-G6).
//!
//! ```text
//!   proof (Q signatures)  ->  digest  ->  heads  ->  nodes, level by level  ->  leaves  ->  pages
//! ```
//!
//! Everything hangs from the stable proof: a head must hash to its digest, nodes to the node above them,
//! a page to its leaf. So any donor will do, none decides anything, and a lie is found on arrival.
//! Subtrees whose node equals the own one at the same place are skipped, and so are pages fetched before
//! for another target. Like [`crate::client`] it reads no clock and sends nothing itself.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::archive::{Snapshot, state_digest};
use crate::certificate::StableProof;
use crate::cluster::Cluster;
use crate::pages::{PageChanges, Pages};
use crate::tree::{TreeHead, leaf, top_of};
use crate::types::{Digest, Instant, ReplicaId, Sequence};

mod parts;

pub use parts::{Ask, Part, PartOf, TreeName, What};

/// How many levels of nodes one ask opens.
pub const DEPTH: u32 = 8;
/// The most bytes of pages in one part; one page is always allowed.
pub const PART_BYTES_MAX: usize = 512 << 10;
/// The most pages one ask names.
pub const ASK_PAGES_MAX: usize = 128;
/// The most asks a donor has to answer at a time.
const ASKS_PER_DONOR: usize = 4;
/// Leaves known to be wanted and not asked for, beyond which no more nodes are opened.
const WANTED_MAX: usize = 4096;
/// How long a donor may take for one ask, at first: links may be slower, so the time doubles whenever all donors
/// missed it, and is measured by what answers take from then on.
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// No donor may take longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// A donor that let so many deadlines pass is not asked again before all others failed as well: it may
/// be down, and must not be what a transfer waits for (PITFALLS G6).
const MISSED_MAX: u32 = 3;
/// After all donors failed: how long until all are tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest pause between rounds of donors.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Why a donor is believed no more during this transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum PartFault {
    /// The heads do not hash to the proven digest (PITFALLS G1).
    #[error("heads that do not hash to the proven digest")]
    Head,
    /// The nodes do not hash to the node above them.
    #[error("nodes that do not hash to the node above")]
    Nodes,
    /// A page does not hash to its leaf (PITFALLS G3).
    #[error("a page that does not hash to its leaf")]
    Page,
    /// Something else than what was asked for, or in another order.
    #[error("a part that was not asked for")]
    Unasked,
}

/// What a transfer's host must do.
#[derive(Clone, Debug)]
pub enum TransferAction {
    /// Ask a donor.
    Ask {
        /// Whom.
        to: ReplicaId,
        /// For what.
        ask: Ask,
    },
    /// Tell people: this donor lied and is asked no more.
    Blame {
        /// Who.
        donor: ReplicaId,
        /// How.
        fault: PartFault,
    },
    /// The state is here, whole and proven.
    Done(Box<Snapshot>),
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages fetched and proven.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Subtrees that were the own ones already: one for each node compared and found equal.
    pub skipped: u64,
}

#[derive(Clone, Debug, Default)]
struct Donor {
    in_flight: usize,
    /// Deadlines missed: the fewer, the sooner it is asked.
    missed: u32,
    gone: bool,
    liar: bool,
}

impl Donor {
    fn is_usable(&self) -> bool {
        !self.gone && !self.liar && self.missed < MISSED_MAX
    }
}

/// Something to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    what: What,
    /// For nodes: the node above them, known to be right.
    proven: Digest,
}

#[derive(Clone, Debug)]
struct InFlight {
    donor: ReplicaId,
    job: Job,
    asked_at: Instant,
    deadline: Instant,
}

type PageName = (TreeName, u32);

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    cluster: Arc<Cluster>,
    proof: StableProof,
    /// A later proof, for when nobody holds the snapshot of the first any more.
    later: Option<StableProof>,
    held: Snapshot,
    heads: Option<(TreeHead, TreeHead)>,
    donors: BTreeMap<ReplicaId, Donor>,
    turn: usize,
    jobs: Vec<Job>,
    in_flight: Vec<InFlight>,
    /// Leaves known and not asked for.
    wanted: BTreeMap<PageName, Digest>,
    /// Leaves asked for.
    asked: BTreeMap<PageName, Digest>,
    /// Pages that differ from those held: for the snapshot to come.
    changed: BTreeMap<PageName, Bytes>,
    /// Pages fetched so far by leaf, for this target and the next.
    fetched: BTreeMap<Digest, Bytes>,
    retry_at: Option<Instant>,
    retry: Duration,
    /// How long a donor may take now.
    patience: Duration,
    progress: Progress,
}

impl Transfer {
    /// A transfer of the state that `proof`, which the caller has verified, is about. `held` is what is
    /// here already; what of it is the same is not fetched.
    pub fn new(cluster: Arc<Cluster>, me: ReplicaId, proof: StableProof, held: Snapshot) -> Self {
        let others = cluster.replicas().filter(|replica| *replica != me);
        let donors = others.map(|replica| (replica, Donor::default())).collect();
        let mut transfer = Transfer {
            cluster,
            proof,
            later: None,
            held,
            heads: None,
            donors,
            turn: 0,
            jobs: Vec::new(),
            in_flight: Vec::new(),
            wanted: BTreeMap::new(),
            asked: BTreeMap::new(),
            changed: BTreeMap::new(),
            fetched: BTreeMap::new(),
            retry_at: None,
            retry: RETRY_MIN,
            patience: PATIENCE_MIN,
            progress: Progress::default(),
        };
        transfer.begin();
        transfer
    }

    /// The slot whose state is fetched.
    pub fn target(&self) -> Sequence {
        self.proof.sequence()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// A later proof is known. It becomes the target when no donor holds the present one any more; only
    /// proofs set targets, so nobody can announce one that does not exist (PITFALLS G2).
    pub fn offer(&mut self, proof: StableProof) {
        let best = self.later.as_ref().map_or(self.target(), StableProof::sequence);
        if proof.sequence() > best {
            self.later = Some(proof);
        }
    }

    /// When the host should next call [`Transfer::wake`].
    pub fn deadline(&self) -> Option<Instant> {
        let asks = self.in_flight.iter().map(|asked| asked.deadline);
        asks.chain(self.retry_at).min()
    }

    /// Time has passed, or the transfer has just begun.
    pub fn wake(&mut self, now: Instant, out: &mut Vec<TransferAction>) {
        let late: Vec<usize> = (0..self.in_flight.len())
            .rev()
            .filter(|at| self.in_flight.get(*at).is_some_and(|asked| now >= asked.deadline))
            .collect();
        for at in late {
            let asked = self.in_flight.swap_remove(at);
            self.put_back(asked.job);
            if let Some(donor) = self.donors.get_mut(&asked.donor) {
                donor.in_flight = donor.in_flight.saturating_sub(1);
                donor.missed = donor.missed.saturating_add(1);
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            for donor in self.donors.values_mut() {
                (donor.gone, donor.missed) = (false, 0);
            }
            if self.donors.values().all(|donor| donor.liar) {
                self.donors.values_mut().for_each(|donor| donor.liar = false);
            }
        }
        self.ask(now, out);
    }

    /// A donor answered.
    pub fn on_part(
        &mut self,
        now: Instant,
        from: ReplicaId,
        part: Part,
        out: &mut Vec<TransferAction>,
    ) {
        // The answer to an ask for a target given up since: no fault.
        if part.sequence != self.target() {
            return;
        }
        let matches =
            |asked: &InFlight| asked.donor == from && answers(&part.what, &asked.job.what);
        let Some(at) = self.in_flight.iter().position(matches) else {
            // A late answer was given to somebody else meanwhile; it is of no use, nor proof of a lie.
            return;
        };
        let asked = self.in_flight.swap_remove(at);
        if let Some(donor) = self.donors.get_mut(&from) {
            donor.in_flight = donor.in_flight.saturating_sub(1);
        }
        let fault = match part.what {
            PartOf::Gone => {
                if let Some(donor) = self.donors.get_mut(&from) {
                    donor.gone = true;
                }
                self.put_back(asked.job.clone());
                None
            }
            PartOf::Head { sessions, application } => self.take_heads(sessions, application),
            PartOf::Nodes { tree, height, index, digests } => {
                self.take_nodes(&asked.job, tree, height, index, &digests)
            }
            PartOf::Pages { tree, pages } => self.take_pages(&asked.job, tree, pages),
        };
        match fault {
            Some(fault) => {
                self.put_back(asked.job);
                if let Some(donor) = self.donors.get_mut(&from)
                    && !core::mem::replace(&mut donor.liar, true)
                {
                    out.push(TransferAction::Blame { donor: from, fault });
                }
            }
            None => {
                self.retry = RETRY_MIN;
                let took = now.since(asked.asked_at).saturating_mul(4);
                self.patience = took.clamp(PATIENCE_MIN, PATIENCE_MAX);
            }
        }
        if !self.finish(out) {
            self.ask(now, out);
        }
    }

    // --- What arrives ---

    fn take_heads(&mut self, sessions: TreeHead, application: TreeHead) -> Option<PartFault> {
        if self.heads.is_some() {
            return None;
        }
        let digest = state_digest(&self.cluster, self.target(), &sessions, &application);
        let sane = |head: &TreeHead| {
            usize::try_from(head.count).is_ok_and(|count| count <= Pages::COUNT_MAX)
        };
        if digest != self.proof.checkpoint.digest || !sane(&sessions) || !sane(&application) {
            return Some(PartFault::Head);
        }
        self.heads = Some((sessions, application));
        self.jobs.retain(|job| job.what != What::Head);
        self.resolve(TreeName::Sessions, sessions.height(), 0, sessions.top);
        self.resolve(TreeName::Application, application.height(), 0, application.top);
        None
    }

    fn take_nodes(
        &mut self,
        job: &Job,
        tree: TreeName,
        height: u8,
        index: u32,
        digests: &[Digest],
    ) -> Option<PartFault> {
        let height = u32::from(height);
        let depth = height.min(DEPTH);
        if digests.len() != 1 << depth || top_of(digests) != job.proven {
            return Some(PartFault::Nodes);
        }
        for (at, digest) in (index << depth..).zip(digests) {
            self.resolve(tree, height - depth, at, *digest);
        }
        None
    }

    fn take_pages(
        &mut self,
        job: &Job,
        tree: TreeName,
        pages: Vec<(u32, Bytes)>,
    ) -> Option<PartFault> {
        let What::Pages { numbers, .. } = &job.what else {
            return Some(PartFault::Unasked);
        };
        let in_order = pages.iter().zip(numbers).all(|((number, _), asked)| number == asked);
        if pages.is_empty() || pages.len() > numbers.len() || !in_order {
            return Some(PartFault::Unasked);
        }
        for (number, page) in pages {
            let Some(digest) = self.asked.get(&(tree, number)).copied() else { continue };
            let at = usize::try_from(number).unwrap_or(usize::MAX);
            if leaf(at, &page) != digest {
                return Some(PartFault::Page);
            }
            self.asked.remove(&(tree, number));
            self.progress.fetched += 1;
            self.progress.fetched_bytes += crate::pages::length(&page);
            self.fetched.insert(digest, page.clone());
            self.changed.insert((tree, number), page);
        }
        // What did not fit this part is asked for again.
        let left = Job { what: job.what.clone(), proven: job.proven };
        self.put_back(left);
        None
    }

    /// A node is known to be right: it is here already, or what is below it is wanted.
    fn resolve(&mut self, tree: TreeName, height: u32, index: u32, digest: Digest) {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if self.held.tree(tree).node(height, at) == digest {
            self.progress.skipped += 1;
            return;
        }
        if digest == Digest::NULL {
            // Nothing but empty pages here, where something is held.
            let first = u64::from(index) << height;
            let held = u64::try_from(self.held.tree(tree).count()).unwrap_or(u64::MAX);
            for number in first..(first + (1 << height)).min(held) {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.changed.insert((tree, number), Bytes::new());
            }
            return;
        }
        if height > 0 {
            let height = u8::try_from(height).unwrap_or(u8::MAX);
            self.jobs.push(Job { what: What::Nodes { tree, height, index }, proven: digest });
        } else if let Some(page) = self.fetched.get(&digest) {
            self.changed.insert((tree, index), page.clone());
        } else {
            self.wanted.insert((tree, index), digest);
        }
    }

    // --- What goes out ---

    fn begin(&mut self) {
        self.heads = None;
        self.in_flight.clear();
        self.wanted.clear();
        self.asked.clear();
        self.changed.clear();
        for donor in self.donors.values_mut() {
            donor.in_flight = 0;
            donor.gone = false;
            donor.missed = 0;
        }
        // Every donor is asked for the heads, so that each keeps the snapshot from now on.
        let head = Job { what: What::Head, proven: Digest::NULL };
        self.jobs = self.donors.keys().map(|_| head.clone()).collect();
    }

    fn put_back(&mut self, job: Job) {
        match &job.what {
            What::Head if self.heads.is_some() => {}
            What::Pages { tree, numbers } => {
                for number in numbers {
                    if let Some(digest) = self.asked.remove(&(*tree, *number)) {
                        self.wanted.insert((*tree, *number), digest);
                    }
                }
            }
            What::Head | What::Nodes { .. } => self.jobs.push(job),
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        // Pages first when many are known, so that what is known stays bounded.
        if self.wanted.len() < WANTED_MAX
            && let Some(job) = self.jobs.pop()
        {
            return Some(job);
        }
        let tree = self.wanted.first_key_value().map(|((tree, _), _)| *tree)?;
        let same = self.wanted.keys().take_while(|(of, _)| *of == tree);
        let numbers: Vec<u32> = same.map(|(_, number)| *number).take(ASK_PAGES_MAX).collect();
        for number in &numbers {
            if let Some(digest) = self.wanted.remove(&(tree, *number)) {
                self.asked.insert((tree, *number), digest);
            }
        }
        Some(Job { what: What::Pages { tree, numbers }, proven: Digest::NULL })
    }

    /// The donor to ask next: of those that can answer the one that missed fewest deadlines, in turn.
    fn next_donor(&mut self) -> Option<ReplicaId> {
        let count = self.donors.len();
        let order = (0..count).map(|step| (self.turn + step).checked_rem(count).unwrap_or(0));
        let free = order
            .filter_map(|at| self.donors.iter().nth(at))
            .filter(|(_, donor)| donor.is_usable() && donor.in_flight < ASKS_PER_DONOR);
        let (chosen, _) = free.min_by_key(|(_, donor)| (donor.missed, donor.in_flight))?;
        let chosen = *chosen;
        self.turn = self.donors.keys().position(|id| *id == chosen).unwrap_or(0) + 1;
        Some(chosen)
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<TransferAction>) {
        if !self.donors.values().any(Donor::is_usable) {
            self.give_up_on_donors(now);
        }
        if self.retry_at.is_some() {
            return;
        }
        while let Some(donor) = self.next_donor() {
            let Some(job) = self.next_job() else { return };
            let ask = Ask { sequence: self.target(), what: job.what.clone() };
            out.push(TransferAction::Ask { to: donor, ask });
            if let Some(donor) = self.donors.get_mut(&donor) {
                donor.in_flight += 1;
            }
            let deadline = now.after(self.patience);
            self.in_flight.push(InFlight { donor, job, asked_at: now, deadline });
        }
    }

    /// Nobody is left to ask: on to a later target if there is one, else everyone again after a pause.
    fn give_up_on_donors(&mut self, now: Instant) {
        if self.retry_at.is_none() && self.donors.values().any(|donor| donor.missed > 0) {
            self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
        }
        if let Some(later) = self.later.take() {
            self.proof = later;
            self.begin();
        } else if self.retry_at.is_none() {
            self.retry_at = Some(now.after(self.retry));
            self.retry = self.retry.saturating_mul(2).min(RETRY_MAX);
        }
    }

    fn finish(&mut self, out: &mut Vec<TransferAction>) -> bool {
        let Some((sessions, application)) = self.heads else { return false };
        let busy = |asked: &InFlight| asked.job.what != What::Head;
        if !self.jobs.is_empty() || !self.wanted.is_empty() || self.in_flight.iter().any(busy) {
            return false;
        }
        let mut snapshot = self.held.clone();
        snapshot.sequence = self.target();
        let changed = core::mem::take(&mut self.changed);
        let of = |name: TreeName, head: TreeHead| {
            let mine = changed.range((name, 0)..=(name, u32::MAX));
            PageChanges {
                count: usize::try_from(head.count).unwrap_or(usize::MAX),
                total_bytes: head.total_bytes,
                pages: mine
                    .map(|((_, number), page)| {
                        (usize::try_from(*number).unwrap_or(usize::MAX), page.clone())
                    })
                    .collect(),
            }
        };
        snapshot.sessions.apply(of(TreeName::Sessions, sessions));
        snapshot.application.apply(of(TreeName::Application, application));
        out.push(TransferAction::Done(Box::new(snapshot)));
        true
    }
}

/// Whether a part is of the kind that was asked for, and about the same.
fn answers(part: &PartOf, asked: &What) -> bool {
    match (part, asked) {
        (PartOf::Gone, _) | (PartOf::Head { .. }, What::Head) => true,
        (
            PartOf::Nodes { tree, height, index, .. },
            What::Nodes { tree: of, height: at, index: number },
        ) => (tree, height, index) == (of, at, number),
        (PartOf::Pages { tree, pages }, What::Pages { tree: of, numbers }) => {
            tree == of && pages.first().map(|(number, _)| number) == numbers.first()
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "transfer_test.rs"]
mod tests;
