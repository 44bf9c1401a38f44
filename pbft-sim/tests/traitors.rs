//! Traitors through the hook: up to f are harmless and caught, one more breaks agreement. The second half
//! shows that the checkers bite.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pbft_core::hook::Hook;
use pbft_core::message::{Batch, Statement, Vote};
use pbft_core::replica::{Action, Input, To};
use pbft_core::types::{Digest, ReplicaId, Sequence, Time, WallTime};
use pbft_sim::{Options, Report, SECONDS, Simulation, Verdict};

/// What colluding traitors share: the two digests they want decided at each slot.
type Plan = Arc<Mutex<BTreeMap<Sequence, (Digest, Digest)>>>;

/// Says one thing to `deceived` and another to everybody else.
struct TwoFaces {
    n: u32,
    deceived: Vec<u32>,
    plan: Plan,
}

impl TwoFaces {
    fn other(&self, vote: &Vote) -> Option<Vote> {
        let plan = self.plan.lock().unwrap();
        let (_, digest) = *plan.get(&vote.sequence)?;
        Some(Vote { digest, ..*vote })
    }

    fn split(&self, honest: &Action, lie: &Action, pass: &mut Vec<Action>) {
        for replica in 0..self.n {
            let source = if self.deceived.contains(&replica) { lie } else { honest };
            if let Action::Say { statement, batch, .. } = source {
                let to = To::One(ReplicaId(replica));
                pass.push(Action::Say { to, statement: statement.clone(), batch: batch.clone() });
            }
        }
    }
}

impl Hook for TwoFaces {
    fn on_input(&mut self, _: Time, input: Input, pass: &mut Vec<Input>) {
        pass.push(input);
    }

    fn on_action(&mut self, _: Time, action: Action, pass: &mut Vec<Action>) {
        let lie = match &action {
            Action::Say {
                to: To::All,
                statement: Statement::PrePrepare(vote),
                batch: Some(batch),
            } => {
                let time = WallTime(batch.time().0 + 1);
                let other = Arc::new(Batch::new(time, batch.requests().to_vec()));
                let digests = (vote.digest, other.digest());
                self.plan.lock().unwrap().insert(vote.sequence, digests);
                let vote = Vote { digest: other.digest(), ..*vote };
                let statement = Statement::PrePrepare(vote);
                Some(Action::Say { to: To::All, statement, batch: Some(other) })
            }
            Action::Say { to: To::All, statement: Statement::Prepare(vote), batch: None } => {
                self.other(vote).map(|vote| {
                    let statement = Statement::Prepare(vote);
                    Action::Say { to: To::All, statement, batch: None }
                })
            }
            Action::Say { to: To::All, statement: Statement::Commit(vote), batch: None } => {
                self.other(vote).map(|vote| {
                    let statement = Statement::Commit(vote);
                    Action::Say { to: To::All, statement, batch: None }
                })
            }
            _ => None,
        };
        match lie {
            Some(lie) => self.split(&action, &lie, pass),
            None => pass.push(action),
        }
    }
}

fn run(n: u32, traitors: &[u32], deceived: &[u32], seed: u64) -> Report {
    let options = Options {
        liveness_bound: 5 * SECONDS,
        ..Options::fault_free(seed, usize::try_from(n).unwrap())
    };
    // Traitors are a fault: the exact counts do not hold.
    let options = Options { slow: 1, ..options };
    let plan = Plan::default();
    let mut simulation = Simulation::new(options).unwrap();
    for me in traitors {
        let hook = TwoFaces { n, deceived: deceived.to_vec(), plan: Arc::clone(&plan) };
        simulation = simulation.with_traitor(ReplicaId(*me), Box::new(hook));
    }
    simulation.run()
}

/// SEEDS P2: an equivocating primary; at most one of its two batches is ever decided, whoever it deceives.
#[test]
fn a8_up_to_f_equivocators_never_break_agreement_and_no_honest_replica_is_accused() {
    for seed in 0..10 {
        for deceived in [vec![3], vec![2, 3], vec![1]] {
            let report = run(4, &[0], &deceived, seed);
            let safe = !matches!(report.verdict, Verdict::Violated(_));
            assert!(safe, "seed {seed}, deceived {deceived:?}: {}", report.verdict);
        }
        let report = run(7, &[0, 1], &[5, 6], seed);
        assert!(!matches!(report.verdict, Verdict::Violated(_)), "seed {seed}: {}", report.verdict);
    }
}

/// L9: f + 1 equivocators that collude make two correct replicas execute different batches.
#[test]
fn l9_one_traitor_more_than_f_breaks_agreement_and_the_checker_says_so() {
    let report = run(4, &[0, 3], &[2], 1);
    match report.verdict {
        // Two decisions are found when they are made, before both are executed.
        Verdict::Violated(violation) => {
            let found = violation.property;
            assert!(["INV1 agreement", "INV2 commit stability"].contains(&found), "{found}");
        }
        other => panic!("two traitors of four went unnoticed: {other}"),
    }
}
