//! What a run is made of. All of it follows from the seed, and prints itself.

use std::fmt;
use std::time::Duration;

use pbft_core::limits::{Constants, Limits};
use pbft_core::types::ReplicaId;

use crate::disk::{DiskFaults, Power};
use crate::random::Random;
use crate::traitor::{self, Spec};

/// Simulated microseconds in a millisecond.
pub const MILLIS: u64 = 1_000;
/// Simulated microseconds in a second.
pub const SECONDS: u64 = 1_000_000;

/// The parameters of one simulation. [`Options::from_seed`] draws them; tests set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Seed of everything that happens.
    pub seed: u64,
    /// n.
    pub replicas: usize,
    /// How many clients.
    pub clients: usize,
    /// How many requests each client makes.
    pub requests_per_client: u64,
    /// Operations under one signature, at most.
    pub operations_max: u64,
    /// Requests a client has in flight, at most.
    pub in_flight_max: usize,
    /// The constants of the cluster.
    pub constants: Constants,
    /// Slots the primary keeps in flight.
    pub slots_in_flight_max: usize,
    /// Executed slots kept below h: few of them make a laggard fetch the state.
    pub history_slots_max: usize,
    /// Executors and disks take this many times as long.
    pub slowness: u64,
    /// Executors alone take this many times as long.
    pub execution: u64,
    /// Least and greatest delay of a message, in microseconds.
    pub delay: (u64, u64),
    /// Per mille of messages that take ten times as long.
    pub slow: u64,
    /// Per mille of messages lost.
    pub loss: u64,
    /// Per mille of messages delivered twice.
    pub duplication: u64,
    /// Per mille of messages with a flipped bit.
    pub corruption: u64,
    /// Whether partitions come and go.
    pub partitions: bool,
    /// Whether messages under way on a link vanish now and then.
    pub reconnects: bool,
    /// Whether replicas freeze for a while.
    pub pauses: bool,
    /// Whether replicas become slow for a while.
    pub slowdowns: bool,
    /// Whether clocks run apart and jump.
    pub skews: bool,
    /// Whether replicas stop and start again from their store.
    pub restarts: bool,
    /// Whether a bit flips in the state of one replica now and then, never of more than one.
    pub upsets: bool,
    /// Replicas that stop for good, and when, in microseconds.
    pub crashes: Vec<(u32, u64)>,
    /// A replica that is cut off from all others until the faults end.
    pub outage: Option<u32>,
    /// When that happens, in microseconds.
    pub outage_at: u64,
    /// What is wrong with the disks.
    pub disk: DiskFaults,
    /// What happens to the power.
    pub power: Power,
    /// When all faults but crashes end, in microseconds.
    pub heal_at: u64,
    /// How long after that everything may take, in microseconds.
    pub liveness_bound: u64,
    /// Who is a traitor, and of what kind.
    pub traitors: Vec<(ReplicaId, Spec)>,
    /// Real ed25519 signatures instead of keyed hashes.
    pub ed25519: bool,
}

impl Options {
    /// A run without any fault: every count must be exact.
    pub fn fault_free(seed: u64, replicas: usize) -> Self {
        let constants = Constants {
            checkpoint_interval: 8,
            window: 16,
            client_window: 16,
            batch_requests_max: 2,
            ..Constants::default()
        };
        Options {
            seed,
            replicas,
            clients: 2,
            requests_per_client: 75,
            operations_max: 2,
            in_flight_max: 4,
            constants,
            slots_in_flight_max: 2,
            history_slots_max: 1024,
            slowness: 1,
            execution: 1,
            delay: (200, 5 * MILLIS),
            slow: 0,
            loss: 0,
            duplication: 0,
            corruption: 0,
            partitions: false,
            reconnects: false,
            pauses: false,
            slowdowns: false,
            skews: false,
            restarts: false,
            upsets: false,
            crashes: Vec::new(),
            outage: None,
            outage_at: 100 * MILLIS,
            disk: DiskFaults::default(),
            power: Power::default(),
            heal_at: 0,
            liveness_bound: 60 * SECONDS,
            traitors: Vec::new(),
            ed25519: false,
        }
    }

    /// The swarm: every seed turns some faults on and some off, so that rare mixtures occur.
    pub fn from_seed(seed: u64) -> Self {
        let random = &mut Random::new(seed ^ 0x5eed_0b7a_11ce_5eed);
        let replicas = random.pick(&[4, 4, 5, 6, 7, 10], 4);
        let mut options = Options::fault_free(seed, replicas);
        options.ed25519 = seed % 20 == 19;
        let interval = random.between(2, 16);
        let window = interval * random.between(2, 4);
        options.constants = Constants {
            checkpoint_interval: interval,
            window,
            client_window: random.pick(&[4, 8, 64], 8),
            batch_requests_max: u32::try_from(random.between(1, 4)).unwrap_or(1),
            ..Constants::default()
        };
        options.clients = usize::try_from(random.between(1, 4)).unwrap_or(1);
        options.operations_max = random.between(1, 4);
        options.in_flight_max = usize::try_from(random.between(1, 8)).unwrap_or(1);
        options.slots_in_flight_max = usize::try_from(random.between(1, 8)).unwrap_or(1);
        options.history_slots_max = random.pick(&[1, 1, 16, 1024], 1024);
        // About a hundred slots: batches are half full on average.
        let per_slot = u64::from(options.constants.batch_requests_max).div_ceil(2);
        let clients = u64::try_from(options.clients).unwrap_or(1);
        options.requests_per_client = (100 * per_slot).div_ceil(clients);
        if seed.is_multiple_of(8) {
            return options;
        }
        options.delay = (random.between(50, 2 * MILLIS), random.between(3, 60) * MILLIS);
        options.heal_at = random.between(2, 12) * SECONDS;
        if random.chance(500) {
            options.slow = random.between(1, 100);
        }
        if random.chance(700) {
            options.loss = random.between(1, 300);
        }
        if random.chance(400) {
            options.duplication = random.between(1, 100);
        }
        if random.chance(200) {
            options.corruption = random.between(1, 10);
        }
        options.partitions = random.chance(500);
        options.reconnects = random.chance(300);
        options.pauses = random.chance(300);
        options.slowdowns = random.chance(300);
        options.skews = random.chance(300);
        options.restarts = random.chance(400);
        if random.chance(400) {
            options.crash_some(random);
        }
        // One client that waits for each request takes its time over slow links: ten of their delays for each.
        let in_turn = options.requests_per_client.saturating_mul(10 * options.delay.1);
        options.liveness_bound = options.liveness_bound.max(in_turn);
        // A chance of their own, so that everything else of the seed stays what it was.
        let random = &mut Random::new(seed ^ 0xd15c_fa17);
        if random.chance(400) {
            options.disk = DiskFaults::draw(random);
        }
        if random.chance(400) {
            options.power = Power::draw(random);
        }
        if seed % 3 == 1 {
            let traitors = draw_traitors(seed, replicas);
            return options.with_traitors(traitors);
        }
        options
    }

    /// A run for judging one traitor, or one set of them: every class of fault on and off by turns as in
    /// the swarm, but n given and fewer requests, so that many can be run.
    pub fn for_traitors(seed: u64, replicas: usize, traitors: Vec<(ReplicaId, Spec)>) -> Self {
        let mut options = Options::from_seed(seed);
        options.replicas = replicas;
        options.traitors = Vec::new();
        options.requests_per_client = options.requests_per_client.div_ceil(8);
        options.heal_at = options.heal_at.min(3 * SECONDS);
        let n = u32::try_from(replicas).unwrap_or(4);
        options.crashes.retain(|(replica, _)| *replica < n);
        // Half the seeds see to it that views change.
        if seed % 2 == 1 && traitors.iter().all(|(traitor, _)| traitor.0 != 0) {
            options.outage = Some(0);
            options.heal_at = options.heal_at.max(2 * SECONDS);
        }
        options.with_traitors(traitors)
    }

    /// The same run with these traitors.
    ///
    /// They count towards f, and so do replicas that stop for good: the fewer of those there are.
    #[must_use]
    pub fn with_traitors(mut self, traitors: Vec<(ReplicaId, Spec)>) -> Self {
        if !traitors.is_empty() {
            let f = self.replicas.saturating_sub(1) / 3;
            let is_traitor = |id: u32| traitors.iter().any(|(traitor, _)| traitor.0 == id);
            self.crashes.retain(|(crashed, _)| !is_traitor(*crashed));
            self.crashes.truncate(f.saturating_sub(traitors.len()));
        }
        Options { traitors, ..self }
    }

    fn crash_some(&mut self, random: &mut Random) {
        let n = u64::try_from(self.replicas).unwrap_or(4);
        let f = n.saturating_sub(1) / 3;
        for _ in 0..random.between(1, f) {
            let victim = u32::try_from(random.below(n)).unwrap_or(1);
            let at = random.between(0, 6 * SECONDS);
            if self.crashes.iter().all(|(crashed, _)| *crashed != victim) {
                self.crashes.push((victim, at));
            }
        }
    }

    /// Whether nothing can go wrong in this run.
    pub fn is_fault_free(&self) -> bool {
        // A round trip beyond the repair delay looks like loss to those who wait for an answer.
        let quick = self.delay.1 <= 20 * MILLIS;
        quick
            && self.loss + self.duplication + self.corruption + self.slow == 0
            && !self.has_events()
            && self.crashes.is_empty()
            && self.traitors.is_empty()
            && self.outage.is_none()
            && self.power == Power::default()
    }

    /// Whether something happens to links or replicas now and then.
    pub fn has_events(&self) -> bool {
        self.partitions
            || self.reconnects
            || self.pauses
            || self.slowdowns
            || self.skews
            || self.restarts
            || self.upsets
            || self.disk.any()
            || self.power.has_events()
    }

    /// The bounds and time-outs of the replicas.
    pub fn limits(&self) -> Limits {
        Limits {
            slots_in_flight_max: self.slots_in_flight_max,
            history_slots_max: self.history_slots_max,
            view_timeout_max: Duration::from_secs(8),
            ..Limits::default()
        }
    }

    /// INV14: within this long after all faults have ended a waiting request is executed, in microseconds:
    /// `T(2^(f+1)) + (f+1)(6D + c)`, T being the largest time-out then, D the longest way of a message and c
    /// what disk, executor and the client's resend take. To it comes what a replica takes that has to
    /// fetch the state first.
    pub fn recovery_bound(&self, largest_timeout: u64) -> u64 {
        let f = u32::try_from(self.replicas.saturating_sub(1) / 3).unwrap_or(1);
        let cap = u64::try_from(self.limits().view_timeout_max.as_micros()).unwrap_or(u64::MAX);
        let mut views = 0_u64;
        for failed in 0..=f + 1 {
            views = views.saturating_add(largest_timeout.saturating_mul(1 << failed).min(cap));
        }
        let resend = 5 * SECONDS;
        let each = 6 * self.delay.1 + SECONDS;
        views + u64::from(f + 1) * each + resend + 4 * SECONDS
    }
}

/// One to f traitors of any kind, some of them changing kind as they go, or a colluding set.
fn draw_traitors(seed: u64, replicas: usize) -> Vec<(ReplicaId, Spec)> {
    // A chance of its own, so that everything else of the seed stays what it was.
    let random = &mut Random::new(seed ^ 0x7ea1_7042);
    let f = u64::try_from(replicas.saturating_sub(1) / 3).unwrap_or(1);
    let names: Vec<&'static str> = traitor::names().collect();
    let count = random.between(1, f);
    let mut ids: Vec<u32> = (0..u32::try_from(replicas).unwrap_or(4)).collect();
    let mut traitors = Vec::new();
    for _ in 0..count {
        let at = usize::try_from(random.below(u64::try_from(ids.len()).unwrap_or(1))).unwrap_or(0);
        let id = ids.swap_remove(at.min(ids.len().saturating_sub(1)));
        let mut words = random.pick(&names, "silent").to_owned();
        if random.chance(250) {
            words = format!("{words}+{}", random.pick(&names, "silent"));
        }
        if random.chance(250) {
            words.push_str(
                random.pick(
                    &[",per_mille=300", ",when=primary", ",when=backup", ",from_ms=1000"],
                    "",
                ),
            );
        }
        // Names of the catalogue and settings that all have always parse.
        traitors.extend(words.parse().ok().map(|spec| (ReplicaId(id), spec)));
    }
    traitors
}

impl fmt::Display for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let constants = &self.constants;
        write!(
            formatter,
            "n {}, {} clients x {} requests of up to {} operations, {} in flight; K {}, L {}, W {}, \
             batches of up to {}, {} slots in flight, {} kept below h; delay {}..{} us, slow {}, loss {}, duplication {}, \
             corruption {} per mille; partitions {}, reconnects {}, pauses {}, slowdowns {}, skews {}, \
             restarts {}, upsets {}; disks: {}; power: {}; crashes {:?}; outage {:?}; heal at {} ms; {}{}",
            self.replicas,
            self.clients,
            self.requests_per_client,
            self.operations_max,
            self.in_flight_max,
            constants.checkpoint_interval,
            constants.window,
            constants.client_window,
            constants.batch_requests_max,
            self.slots_in_flight_max,
            self.history_slots_max,
            self.delay.0,
            self.delay.1,
            self.slow,
            self.loss,
            self.duplication,
            self.corruption,
            self.partitions,
            self.reconnects,
            self.pauses,
            self.slowdowns,
            self.skews,
            self.restarts,
            self.upsets,
            self.disk,
            self.power,
            self.crashes,
            self.outage,
            self.heal_at / MILLIS,
            if self.ed25519 { "ed25519" } else { "keyed hashes" },
            self.traitors
                .iter()
                .map(|(id, spec)| format!("; traitor r{id} {spec}"))
                .collect::<String>(),
        )
    }
}
