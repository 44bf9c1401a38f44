//! One run of SM(m), traitors included.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pbft_core::crypto::{Author, Ed25519Signer, Ed25519Verifier, Signer, Verifier};
use pbft_core::generals::chain::{Chain, Occasion};
use pbft_core::generals::signed::{Commander, Heard, Lieutenant, Refusal, VALUES_MAX};
use pbft_core::generals::{General, MESSAGES_MAX, SetChoice, Setting, SettingError, Value};
use pbft_core::types::{ReplicaId, Signature};
use sha2::{Digest as _, Sha256};

use super::Traitors;
use super::checker::{self, Broken};
use super::script::{Impossible, Line, Script, ScriptError};

/// Everyone's keys.
pub struct Keys {
    /// General `k`'s is the `k`-th.
    signers: Vec<Arc<dyn Signer>>,
    verifier: Arc<dyn Verifier>,
}

fn secret(index: u8) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"pbft simulated general");
    hasher.update([index]);
    hasher.finalize().into()
}

impl Keys {
    /// Real ed25519 keys of `n` generals, the same in every run.
    pub fn ed25519(n: u8) -> Self {
        let signers = (0..n).map(|index| Arc::new(Ed25519Signer::from_seed(&secret(index))));
        let signers: Vec<Arc<Ed25519Signer>> = signers.collect();
        let public: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
        let verifier: Arc<dyn Verifier> = match Ed25519Verifier::of_keys(&public) {
            Ok(verifier) => Arc::new(verifier),
            // Hashes of different texts are different keys, none of them weak.
            Err(_) => Arc::new(Keyed::default()),
        };
        let signers = signers.into_iter().map(|signer| signer as Arc<dyn Signer>).collect();
        Keys { signers, verifier }
    }

    /// Keyed hashes in their place, for tests that play many thousand runs.
    pub fn keyed(n: u8) -> Self {
        let keyed = Keyed((0..n).map(secret).collect());
        let alone = |index| Arc::new(Keyed(vec![secret(index)])) as Arc<dyn Signer>;
        Keys { signers: (0..n).map(alone).collect(), verifier: Arc::new(keyed) }
    }

    fn signer(&self, general: General) -> Option<&dyn Signer> {
        let index = usize::from(general.0).checked_sub(1)?;
        self.signers.get(index).map(AsRef::as_ref)
    }
}

#[derive(Default)]
struct Keyed(Vec<[u8; 32]>);

fn keyed(secret: &[u8; 32], preimage: &[u8]) -> Signature {
    let mut hasher = Sha256::new();
    hasher.update(secret);
    hasher.update(preimage);
    let half: [u8; 32] = hasher.finalize().into();
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(half.iter().cycle()).for_each(|(out, byte)| *out = *byte);
    Signature(bytes)
}

impl Signer for Keyed {
    fn sign(&self, preimage: &[u8]) -> Signature {
        keyed(self.0.first().unwrap_or(&[0; 32]), preimage)
    }
}

impl Verifier for Keyed {
    fn verify(&self, author: Author, preimage: &[u8], signature: &Signature) -> bool {
        let Author::Replica(ReplicaId(id)) = author else { return false };
        let secret = usize::try_from(id).ok().and_then(|index| self.0.get(index));
        secret.is_some_and(|secret| keyed(secret, preimage) == *signature)
    }
}

/// What is agreed on, by whom.
#[derive(Clone, Debug)]
pub struct Case<V> {
    /// How many, how many rounds, who commands.
    pub setting: Setting,
    /// Who follows the script.
    pub traitors: Traitors,
    /// The order of a loyal commander.
    pub order: V,
    /// The decision from the set of values.
    pub choice: SetChoice,
    /// What stands for an empty set and for too many values.
    pub default: V,
}

/// A message, and what its receiver made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<V> {
    /// The round, from 1.
    pub round: u8,
    /// Who sent it.
    pub sender: General,
    /// To whom.
    pub receiver: General,
    /// The value.
    pub value: V,
    /// Whose signatures are under it.
    pub signers: Vec<General>,
    /// What a loyal lieutenant made of it; `None` if it went to a traitor or to the commander.
    pub verdict: Option<Result<Heard, Refusal>>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome<V> {
    /// What loyal lieutenants decided.
    pub decisions: BTreeMap<General, V>,
    /// V of the loyal lieutenants, ascending.
    pub values: BTreeMap<General, Vec<V>>,
    /// Messages of each round, whoever sent them.
    pub sent: Vec<u64>,
    /// How many ill-formed or wrong-length chains reached loyal lieutenants.
    pub dropped: u64,
    /// Everything that was sent, in the order of rounds, senders and receivers.
    pub deliveries: Vec<Delivery<V>>,
    /// Whether IC1 held.
    pub ic1: Result<(), Broken<V>>,
    /// Whether IC2 held.
    pub ic2: Result<(), Broken<V>>,
}

/// Why a run was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// Its shape or size.
    Setting(SettingError),
    /// Its script.
    Script(ScriptError),
}

impl std::error::Error for RunError {}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Setting(error) => error.fmt(formatter),
            RunError::Script(error) => error.fmt(formatter),
        }
    }
}

impl From<SettingError> for RunError {
    fn from(error: SettingError) -> Self {
        RunError::Setting(error)
    }
}

/// The most messages a run can take: the script's, the commander's, and one relay of each different value by
/// every lieutenant to every other.
pub fn messages_at_most<V: Value>(setting: &Setting, script: &Script<V>) -> u128 {
    let lines: Vec<&Line<V>> = script.0.values().flatten().collect();
    let values: std::collections::BTreeSet<&V> = lines.iter().map(|line| &line.value).collect();
    let values = values.len().saturating_add(1).min(VALUES_MAX + 1);
    let wide = |count: usize| u128::try_from(count).unwrap_or(u128::MAX);
    let lieutenants = u128::from(setting.n().saturating_sub(1));
    let relays = wide(values) * lieutenants * lieutenants.saturating_sub(1);
    let relays = if setting.m() == 0 { 0 } else { relays };
    wide(lines.len()).saturating_add(lieutenants).saturating_add(relays)
}

/// The chains that some traitor has heard, by value and signers: what a script may build on.
type Pool<V> = BTreeMap<(V, Vec<General>), Chain<V>>;

/// Plays `case` with the traitors' `script`. Rounds of the script after the last are not played.
///
/// # Errors
/// A script that wants what its traitors cannot do, or more messages than the bound.
pub fn run<V: Value>(
    case: &Case<V>,
    script: &Script<V>,
    keys: &Keys,
) -> Result<Outcome<V>, RunError> {
    let predicted = messages_at_most(&case.setting, script);
    if predicted > MESSAGES_MAX {
        let bound = MESSAGES_MAX;
        return Err(SettingError::TooManyMessages { predicted, bound }.into());
    }
    Run::new(case, script, keys)?.play()
}

struct Run<'a, V> {
    case: &'a Case<V>,
    script: &'a Script<V>,
    keys: &'a Keys,
    occasion: Occasion,
    lieutenants: BTreeMap<General, Lieutenant<V>>,
    heard: Pool<V>,
    sent: Vec<u64>,
    dropped: u64,
    deliveries: Vec<Delivery<V>>,
}

impl<'a, V: Value> Run<'a, V> {
    fn new(case: &'a Case<V>, script: &'a Script<V>, keys: &'a Keys) -> Result<Self, RunError> {
        let occasion = Occasion { setting: case.setting, number: 0 };
        let mut lieutenants = BTreeMap::new();
        for id in case.setting.lieutenants().filter(|id| !case.traitors.contains(id)) {
            let lieutenant = Lieutenant::new(occasion, id, case.choice, case.default.clone())?;
            lieutenants.insert(id, lieutenant);
        }
        let (heard, sent, deliveries) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Run { case, script, keys, occasion, lieutenants, heard, sent, dropped: 0, deliveries })
    }

    fn play(mut self) -> Result<Outcome<V>, RunError> {
        for round in 1..=self.case.setting.rounds() {
            let post = self.post(round)?;
            self.sent.push(u64::try_from(post.len()).unwrap_or(u64::MAX));
            for (sender, receiver, chain) in post {
                self.deliver(round, sender, receiver, chain);
            }
            self.lieutenants.values_mut().for_each(Lieutenant::end_round);
        }
        let Run { case, lieutenants, sent, dropped, deliveries, .. } = self;
        let decided = |(id, it): (&General, &Lieutenant<V>)| Some((*id, it.decision()?));
        let decisions = lieutenants.iter().filter_map(decided).collect();
        let values = |(id, it): (&General, &Lieutenant<V>)| (*id, it.values().cloned().collect());
        let values = lieutenants.iter().map(values).collect();
        let ic1 = checker::ic1(&decisions);
        let commander = case.setting.commander();
        let ic2 = checker::ic2(commander, &case.order, &case.traitors, &decisions);
        Ok(Outcome { decisions, values, sent, dropped, deliveries, ic1, ic2 })
    }

    /// Everything that is sent in a round, before anyone hears any of it.
    fn post(&self, round: u8) -> Result<Vec<(General, General, Chain<V>)>, RunError> {
        let mut post = Vec::new();
        let commander = self.case.setting.commander();
        if round == 1 && !self.case.traitors.contains(&commander) {
            let loyal = Commander::new(self.occasion, self.case.order.clone());
            let orders = self.keys.signer(commander).map(|signer| loyal.outgoing(signer));
            let orders = orders.into_iter().flatten();
            post.extend(orders.map(|(receiver, chain)| (commander, receiver, chain)));
        }
        for (id, lieutenant) in &self.lieutenants {
            let relays = self.keys.signer(*id).map(|signer| lieutenant.outgoing(signer));
            let relays = relays.into_iter().flatten();
            post.extend(relays.map(|(receiver, chain)| (*id, receiver, chain)));
        }
        for (index, line) in self.script.0.get(&round).into_iter().flatten().enumerate() {
            let chain = self
                .sign(line)
                .map_err(|why| RunError::Script(ScriptError { round, line: index + 1, why }))?;
            post.push((line.sender, line.receiver, chain));
        }
        post.sort_by_key(|(sender, receiver, _)| (*sender, *receiver));
        Ok(post)
    }

    /// The chain of a script's line, from the traitors' keys and what they have heard.
    fn sign(&self, line: &Line<V>) -> Result<Chain<V>, Impossible> {
        line.check(&self.case.setting, &self.case.traitors)?;
        let mut chain = Chain::unsigned(line.value.clone());
        for (after, signer) in line.chain.iter().enumerate() {
            let signer = *signer;
            if self.case.traitors.contains(&signer) {
                let key = self.keys.signer(signer).ok_or(Impossible::NobodysKey(signer))?;
                chain = chain.signed(&self.occasion, signer, key);
                continue;
            }
            let signers: Vec<General> = line.chain.iter().take(after + 1).copied().collect();
            let heard = self.heard.get(&(line.value.clone(), signers));
            chain = heard.cloned().ok_or(Impossible::Unsigned { signer, after })?;
        }
        Ok(chain)
    }

    fn deliver(&mut self, round: u8, sender: General, receiver: General, chain: Chain<V>) {
        let value = chain.value.clone();
        let signers: Vec<General> = chain.signers().collect();
        if self.case.traitors.contains(&receiver) {
            // With a chain come all shorter ones that it was made from.
            for length in 1..=chain.links.len() {
                let links: Vec<_> = chain.links.iter().take(length).copied().collect();
                let signers = links.iter().map(|(signer, _)| *signer).collect();
                self.heard.insert((value.clone(), signers), Chain { value: value.clone(), links });
            }
        }
        let verdict = self
            .lieutenants
            .get_mut(&receiver)
            .map(|lieutenant| lieutenant.receive(sender, chain, self.keys.verifier.as_ref()));
        self.dropped += u64::from(matches!(verdict, Some(Err(Refusal::Chain(_)))));
        self.deliveries.push(Delivery { round, sender, receiver, value, signers, verdict });
    }
}

#[cfg(test)]
#[path = "signed_test.rs"]
mod tests;
