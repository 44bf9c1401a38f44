//! What is measured: the cluster, the load, and what is done to them. The options of `cluster run`.

use clap::{Args, ValueEnum};
use pbft_app::core::limits::{Constants, Limits};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where a replica keeps what it promised.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    Disk,
    Memory,
}

/// A cluster and a load on it.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Workload {
    /// Replicas, a process each
    #[arg(long, default_value_t = 4)]
    pub replicas: usize,
    /// Clients, each with a key of its own
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// Processes that the clients are spread over
    #[arg(long, default_value_t = 1)]
    pub client_processes: usize,
    /// Threads of each client process
    #[arg(long, default_value_t = 1)]
    pub client_threads: usize,
    /// Callers of each client, one operation under way each; they share envelopes
    #[arg(long, default_value_t = 64)]
    pub callers: usize,
    /// Operations that a caller submits together and waits for
    #[arg(long, default_value_t = 1)]
    #[serde(default = "one")]
    pub together: usize,
    /// Operations begun per second over all clients, whatever becomes of them, instead of a closed loop
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Operations under way at most with --rate; those due later wait, and their waiting is counted
    #[arg(long, default_value_t = 16_384)]
    pub outstanding: usize,
    /// Bytes of each operation
    #[arg(long, default_value_t = 16)]
    pub operation_bytes: usize,
    /// Operations under one signature at most
    #[arg(long, default_value_t = Constants::default().request_operations_max)]
    pub envelope: u32,
    /// Envelopes a client has under way at most; meanwhile operations gather for the next
    #[arg(long, default_value_t = 2)]
    pub envelopes_in_flight: usize,
    /// Requests in one batch at most
    #[arg(long, default_value_t = Constants::default().batch_requests_max)]
    pub batch: u32,
    /// Slots that the primary keeps in flight
    #[arg(long, default_value_t = Limits::default().slots_in_flight_max)]
    pub in_flight: usize,
    /// Where replicas keep what they promised
    #[arg(long, value_enum, default_value_t = Storage::Disk)]
    pub storage: Storage,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds that an operation may take before its outcome is unknown
    #[arg(long, default_value_t = 30.0)]
    pub timeout: f64,
    /// One server that verifies, executes and answers, with nobody to agree with
    #[arg(long)]
    #[serde(default)]
    pub unreplicated: bool,
    /// I=NAME[,KEY=VALUE...]: replica I is this traitor
    #[arg(long, value_name = "I=NAME")]
    #[serde(default)]
    pub traitor: Vec<String>,
    /// Kill the primary so many seconds into the measured time
    #[arg(long, value_name = "SECONDS", visible_alias = "view-change-at")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_primary_at: Option<f64>,
    /// One more client begins so many operations per second; the result is that of the others
    #[arg(long, value_name = "RATE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<f64>,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            replicas: 4,
            clients: 1,
            client_processes: 1,
            client_threads: 1,
            callers: 64,
            together: 1,
            rate: None,
            outstanding: 16_384,
            operation_bytes: 16,
            envelope: Constants::default().request_operations_max,
            envelopes_in_flight: 2,
            batch: Constants::default().batch_requests_max,
            in_flight: Limits::default().slots_in_flight_max,
            storage: Storage::Disk,
            seconds: 5.0,
            warmup: 1.0,
            timeout: 30.0,
            unreplicated: false,
            traitor: Vec::new(),
            kill_primary_at: None,
            flood: None,
        }
    }
}

fn one() -> usize {
    1
}

fn positive(option: &str, value: usize, most: usize) -> Result<(), Failure> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::usage(option, value, format!("take a value from 1 to {most}")))
}

fn duration(option: &str, seconds: f64, least: f64) -> Result<(), Failure> {
    if seconds.is_finite() && seconds >= least && seconds <= 1e6 {
        return Ok(());
    }
    Err(Failure::usage(option, seconds, format!("take seconds from {least} to 1000000")))
}

impl Workload {
    /// Checks what nobody else checks: the deployment checks its own constants.
    ///
    /// # Errors
    /// The first option that does not hold.
    pub fn check(&self) -> Result<(), Failure> {
        positive("--replicas", self.replicas, 128)?;
        positive("--clients", self.clients, 4000)?;
        positive("--client-processes", self.client_processes, self.clients)?;
        positive("--client-threads", self.client_threads, 64)?;
        positive("--callers", self.callers, 1 << 20)?;
        positive("--together", self.together, self.envelope as usize)?;
        if self.together > 1 && self.rate.is_some() {
            let remedy = "operations of an open loop are due one by one: leave one of the two out";
            return Err(Failure::usage("--together", self.together, remedy));
        }
        positive("--outstanding", self.outstanding, 1 << 20)?;
        positive("--operation-bytes", self.operation_bytes, 1 << 20)?;
        positive("--envelopes-in-flight", self.envelopes_in_flight, 256)?;
        duration("--seconds", self.seconds, 0.1)?;
        duration("--warmup", self.warmup, 0.0)?;
        duration("--timeout", self.timeout, 0.1)?;
        self.constants().check().map_err(|error| {
            let option = match error.field.as_str() {
                "request_operations_max" => "--envelope",
                "batch_requests_max" => "--batch",
                "operation_bytes_max" => "--operation-bytes",
                other => other,
            };
            Failure::usage(option, &error.value, &error.remedy)
        })?;
        positive("--in-flight", self.in_flight, 4096)?;
        for (option, rate) in [("--rate", self.rate), ("--flood", self.flood)] {
            if let Some(rate) = rate.filter(|rate| !(1.0..=1e8).contains(rate)) {
                return Err(Failure::usage(option, rate, "take 1 to 100000000 per second"));
            }
        }
        if let Some(at) = self.kill_primary_at {
            if !(at >= 0.0 && at < self.seconds) {
                let remedy = format!("take less than the {} --seconds measured", self.seconds);
                return Err(Failure::usage("--kill-primary-at", at, remedy));
            }
            if self.replicas < 4 {
                let remedy = "fewer than four replicas cannot go on without one: take 4 or more";
                return Err(Failure::usage("--replicas", self.replicas, remedy));
            }
        }
        if self.unreplicated && (self.kill_primary_at.is_some() || !self.traitor.is_empty()) {
            let remedy = "a single server has no fault to survive: leave one of the two out";
            return Err(Failure::usage("--unreplicated", "with a fault", remedy));
        }
        self.traitors().map(|_| ())
    }

    /// Which replica is which traitor.
    ///
    /// # Errors
    /// No number, no such replica, no such traitor.
    pub fn traitors(&self) -> Result<Vec<(u32, String)>, Failure> {
        let mut traitors: Vec<(u32, String)> = Vec::new();
        for text in &self.traitor {
            let parts = text.split_once('=').and_then(|(id, name)| Some((id.parse().ok()?, name)));
            let Some((id, name)) = parts else {
                return Err(Failure::usage("--traitor", text, "write it as I=NAME[,KEY=VALUE...]"));
            };
            let id: u32 = id;
            if id as usize >= self.replicas || traitors.iter().any(|(other, _)| *other == id) {
                let last = self.replicas - 1;
                let remedy = format!("name each of the replicas 0 to {last} at most once");
                return Err(Failure::usage("--traitor", text, remedy));
            }
            if let Err(error) = name.parse::<pbft_sim::Spec>() {
                return Err(Failure::usage("--traitor", text, error));
            }
            traitors.push((id, name.to_owned()));
        }
        Ok(traitors)
    }

    /// Whether something was asked for that may leave outcomes unknown.
    pub fn is_faulty(&self) -> bool {
        self.kill_primary_at.is_some() || !self.traitor.is_empty()
    }

    /// What all members agree on.
    pub fn constants(&self) -> Constants {
        let defaults = Constants::default();
        Constants {
            batch_requests_max: self.batch,
            request_operations_max: self.envelope,
            operation_bytes_max: defaults
                .operation_bytes_max
                .max(u32::try_from(self.operation_bytes).unwrap_or(u32::MAX)),
            ..defaults
        }
    }

    /// In one line.
    pub fn describe(&self) -> String {
        format!(
            "{}; {} bytes, envelopes of {} at most, batches of {} requests at most",
            self.title(),
            self.operation_bytes,
            self.envelope,
            self.batch
        )
    }

    /// In a few words.
    pub fn title(&self) -> String {
        let server = if self.unreplicated {
            "unreplicated".to_owned()
        } else {
            let storage = match self.storage {
                Storage::Disk => "disk",
                Storage::Memory => "memory",
            };
            format!("n = {}, {storage}", self.replicas)
        };
        let clients = |count: usize, what: &str| {
            if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
        };
        let load = match self.rate {
            None => format!(
                "{} x {}{}, closed loop",
                clients(self.clients, "client"),
                clients(self.callers, "caller"),
                if self.together > 1 {
                    format!(" x {} operations", self.together)
                } else {
                    String::new()
                }
            ),
            Some(rate) => {
                format!("{}, open loop of {rate:.0}/s", clients(self.clients, "client"))
            }
        };
        format!("{server}; {load}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_option_value_and_remedy() {
        let bad = Workload { client_processes: 2, ..Workload::default() };
        let Failure::Usage(error) = bad.check().unwrap_err() else { panic!("usage") };
        assert_eq!((error.field.as_str(), error.value.as_str()), ("--client-processes", "2"));
        let bad = Workload { kill_primary_at: Some(5.0), ..Workload::default() };
        assert!(matches!(bad.check(), Err(Failure::Usage(_))));
        for traitor in ["silent", "4=silent", "x=silent", "1=nobody"] {
            let bad = Workload { traitor: vec![traitor.to_owned()], ..Workload::default() };
            assert!(matches!(bad.check(), Err(Failure::Usage(_))), "{traitor}");
        }
        let good = Workload { traitor: vec!["1=silent".to_owned()], ..Workload::default() };
        assert_eq!(good.traitors().unwrap(), [(1, "silent".to_owned())]);
    }
}
