//! Every bound and every time-out, and the relations between them, checked in one place each.
//!
//! [`Constants`] must be equal on all replicas and clients: they are part of the cluster id and so of
//! every signature (PITFALLS C6). [`Limits`] are a replica's own.

use alloc::string::{String, ToString};
use core::time::Duration;

use bincode::Encode;

use crate::cluster::Cluster;

/// The most members a cluster may have: sets of replicas are 128-bit maps.
pub const MEMBERS_MAX: usize = 128;
/// The most client keys a cluster may admit.
pub const CLIENTS_MAX: usize = 4096;
/// The most bytes a frame on the wire may have, whatever the constants say.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// The most bytes one page of replicated state may have (PROTOCOL section 5).
pub const PAGE_BYTES_MAX: usize = 64 << 10;
/// The most bytes of explanation an application may put into a refusal.
pub const REFUSAL_BYTES_MAX: usize = 256;
/// The most bytes a ViewChange or NewView may have: what the lane of votes carries in one frame.
pub const NEW_VIEW_BYTES_MAX: usize = 4 << 20;
/// What one signature costs to check, by which the time to check a NewView is estimated (measured: 30 us
/// on the machine of docs/benchmarks.md).
pub const VERIFY_TIME: Duration = Duration::from_micros(40);
/// The most bodies one [`crate::message::Fetch`] asks for.
pub const FETCH_BODIES_MAX: usize = 64;
/// The longest cluster name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// A setting that cannot be used: which one, what it was, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value}: {remedy}")]
pub struct ConfigError {
    /// Name of the field as the configuration file spells it.
    pub field: String,
    /// The value that was refused.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl ConfigError {
    /// A refusal of `field`, which had `value`, with advice.
    pub fn new(field: impl ToString, value: impl ToString, remedy: impl ToString) -> Self {
        ConfigError {
            field: field.to_string(),
            value: value.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

fn require(
    holds: bool,
    field: &str,
    value: impl ToString,
    remedy: impl ToString,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(field, value, remedy)) }
}

/// What all members must agree on. Part of the cluster id.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Constants {
    /// K: a checkpoint is taken after every `checkpoint_interval` slots.
    pub checkpoint_interval: u64,
    /// L: slots in `(h, h + window]` may be ordered, h being the last stable checkpoint. At least 2K.
    pub window: u64,
    /// W: how many request numbers below a client's highest are told apart and have their replies kept.
    pub client_window: u64,
    /// The most requests in one batch.
    pub batch_requests_max: u32,
    /// The most bytes in one batch, requests encoded.
    pub batch_bytes_max: u32,
    /// The most operations under one client signature.
    pub request_operations_max: u32,
    /// The most bytes in one operation.
    pub operation_bytes_max: u32,
    /// The most bytes of results kept and sent for one request; must fit one page with its header.
    pub results_bytes_max: u32,
}

impl Default for Constants {
    fn default() -> Self {
        Constants {
            checkpoint_interval: 32,
            window: 64,
            client_window: 256,
            batch_requests_max: 1024,
            batch_bytes_max: 2 << 20,
            request_operations_max: 1024,
            operation_bytes_max: 64 << 10,
            results_bytes_max: 48 << 10,
        }
    }
}

impl Constants {
    /// Bytes that a batch adds to its one operation: client, number, lengths, signature, agreed time.
    pub const REQUEST_OVERHEAD_BYTES: u32 = 96;
    /// Bytes that the longest outcome costs when it carries no result: tag, code, length, refusal text.
    pub const OUTCOME_BYTES_MIN: u32 = 16;

    /// Checks every bound and the relations between them.
    ///
    /// # Errors
    /// The first field that does not hold, with the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (k, l, w) = (self.checkpoint_interval, self.window, self.client_window);
        require((1..=1024).contains(&k), "checkpoint_interval", k, "take a value from 1 to 1024")?;
        require(
            l >= 2 * k && l <= 4096,
            "window",
            l,
            "take at least twice the checkpoint_interval and at most 4096",
        )?;
        require((1..=4096).contains(&w), "client_window", w, "take a value from 1 to 4096")?;
        let requests = self.batch_requests_max;
        let in_range = (1..=65_536).contains(&requests);
        require(in_range, "batch_requests_max", requests, "take a value from 1 to 65536")?;
        let operations = self.request_operations_max;
        let in_range = (1..=2048).contains(&operations);
        require(in_range, "request_operations_max", operations, "take a value from 1 to 2048")?;
        let results = self.results_bytes_max;
        let room = operations.saturating_mul(Self::OUTCOME_BYTES_MIN);
        let page = u32::try_from(PAGE_BYTES_MAX).unwrap_or(u32::MAX) - 1024;
        require(
            results >= room && results <= page,
            "results_bytes_max",
            results,
            alloc::format!("take a value from {room} (request_operations_max x 16) to {page}"),
        )?;
        let batch = self.batch_bytes_max;
        let frame = u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX) - (64 << 10);
        require(batch <= frame, "batch_bytes_max", batch, alloc::format!("take at most {frame}"))?;
        let operation = self.operation_bytes_max;
        let fits = operation >= 1
            && operation.checked_add(Self::REQUEST_OVERHEAD_BYTES).is_some_and(|all| all <= batch);
        require(fits, "operation_bytes_max", operation, "one operation must fit batch_bytes_max")
    }
}

/// A replica's own bounds and time-outs. They change when things happen, never what is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often a replica tells its peers what it holds, so that they send what it lacks.
    pub status_interval: Duration,
    /// How long after saying something a replica waits before it says it again to one who lacks it:
    /// longer than a round trip, so that nothing is repeated while it is merely under way.
    pub repair_delay: Duration,
    /// The most slots one answer to a status repairs.
    pub repair_slots_max: usize,
    /// The most bytes of batches one answer to a status carries (one batch is always allowed).
    pub repair_bytes_max: usize,
    /// How long the oldest request may wait for its execution before the primary is suspected; also how
    /// long the first new primary may take. Doubles per failed view.
    pub view_timeout: Duration,
    /// The time-out doubles up to this.
    pub view_timeout_max: Duration,
    /// How long a replica below the stable checkpoint waits for the missing slots from others' logs
    /// before it has the state transferred.
    pub catch_up_patience: Duration,
    /// How far a fresh proposal's agreed time may lie from the own wall clock.
    pub clock_tolerance: Duration,
    /// How many slots the primary keeps in flight; further requests wait and form the next batch.
    pub slots_in_flight_max: usize,
    /// The most verified requests waiting to be ordered, over all clients.
    pub pending_requests_max: usize,
    /// The most bytes of requests waiting to be ordered, over all clients.
    pub pending_bytes_max: usize,
    /// How many executed slots below the stable checkpoint are kept to repair others from the log.
    pub history_slots_max: usize,
    /// The most bytes of batches kept below the stable checkpoint.
    pub history_bytes_max: usize,
    /// The most pieces of evidence kept.
    pub evidence_max: usize,
    /// The most bytes of evidence kept, of each replica an equal share.
    pub evidence_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            status_interval: Duration::from_millis(200),
            repair_delay: Duration::from_millis(100),
            repair_slots_max: 64,
            repair_bytes_max: 4 << 20,
            view_timeout: Duration::from_secs(1),
            view_timeout_max: Duration::from_secs(32),
            catch_up_patience: Duration::from_secs(1),
            clock_tolerance: Duration::from_secs(30),
            slots_in_flight_max: 4,
            pending_requests_max: 16_384,
            pending_bytes_max: 64 << 20,
            history_slots_max: 1024,
            history_bytes_max: 64 << 20,
            evidence_max: 256,
            evidence_bytes_max: 16 << 20,
        }
    }
}

impl Limits {
    /// Checks everything that [`Limits::check`] does, and that checking the largest NewView of this
    /// cluster takes no more than a quarter of the first time-out: else checking it ends the view.
    ///
    /// # Errors
    /// The first field that does not hold, with the remedy.
    pub fn check_for(&self, cluster: &Cluster) -> Result<(), ConfigError> {
        self.check()?;
        let needed = Self::view_timeout_min(cluster);
        require(
            self.view_timeout >= needed,
            "view_timeout",
            alloc::format!("{:?}", self.view_timeout),
            alloc::format!(
                "checking a new view of {} replicas may take {:?}: take at least {needed:?}, or a smaller window",
                cluster.n(),
                needed / 4
            ),
        )
    }

    /// The shortest first time-out for a cluster: four times what its largest NewView takes to check.
    pub fn view_timeout_min(cluster: &Cluster) -> Duration {
        let window = u32::try_from(cluster.constants().window).unwrap_or(u32::MAX);
        let quorum = u32::try_from(cluster.quorum()).unwrap_or(u32::MAX);
        let of_one = window.saturating_mul(quorum).saturating_add(quorum).saturating_add(1);
        VERIFY_TIME.saturating_mul(of_one.saturating_mul(quorum)).saturating_mul(4)
    }

    /// Checks every bound and the relations between them.
    ///
    /// # Errors
    /// The first field that does not hold, with the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive =
            |count: usize, field: &str| require(count > 0, field, count, "must not be 0");
        positive(self.repair_slots_max, "repair_slots_max")?;
        positive(self.slots_in_flight_max, "slots_in_flight_max")?;
        positive(self.pending_requests_max, "pending_requests_max")?;
        positive(self.pending_bytes_max, "pending_bytes_max")?;
        positive(self.evidence_max, "evidence_max")?;
        positive(self.evidence_bytes_max, "evidence_bytes_max")?;
        let interval = self.status_interval;
        require(
            interval >= Duration::from_millis(1),
            "status_interval",
            alloc::format!("{interval:?}"),
            "take at least 1ms",
        )?;
        let (first, most) = (self.view_timeout, self.view_timeout_max);
        require(
            first >= interval.saturating_mul(2) && first <= most,
            "view_timeout",
            alloc::format!("{first:?}"),
            alloc::format!(
                "take at least twice the status_interval of {interval:?} and at most view_timeout_max ({most:?})"
            ),
        )?;
        require(
            self.repair_delay <= interval,
            "repair_delay",
            alloc::format!("{:?}", self.repair_delay),
            alloc::format!("take at most the status_interval of {interval:?}"),
        )
    }
}

/// A client's own time-outs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// After this long without an answer a request goes to all replicas; doubles per resend.
    pub resend_interval: Duration,
    /// The resend interval doubles up to this.
    pub resend_interval_max: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            resend_interval: Duration::from_millis(300),
            resend_interval_max: Duration::from_secs(5),
        }
    }
}

impl ClientLimits {
    /// Checks every bound and the relations between them.
    ///
    /// # Errors
    /// The first field that does not hold, with the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let first = self.resend_interval;
        require(
            first >= Duration::from_millis(1) && first <= self.resend_interval_max,
            "resend_interval",
            alloc::format!("{first:?}"),
            alloc::format!("take 1ms to resend_interval_max ({:?})", self.resend_interval_max),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold() {
        Constants::default().check().unwrap();
        Limits::default().check().unwrap();
        ClientLimits::default().check().unwrap();
    }

    #[test]
    fn c6_a_window_below_two_checkpoint_intervals_is_refused_with_field_value_and_remedy() {
        let constants = Constants { window: 63, ..Constants::default() };
        let error = constants.check().unwrap_err();
        assert_eq!((error.field.as_str(), error.value.as_str()), ("window", "63"));
        assert!(error.remedy.contains("twice the checkpoint_interval"));
    }

    #[test]
    fn results_must_fit_a_page_and_hold_every_outcome() {
        for bytes in [16 * 1024 - 1, (64 << 10) - 1023] {
            let constants = Constants { results_bytes_max: bytes, ..Constants::default() };
            assert_eq!(constants.check().unwrap_err().field, "results_bytes_max");
        }
    }
}
