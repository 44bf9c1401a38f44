//! Which instances can hear each other in a round, and how that is written.

use pbft_core::limits::ConfigError;
use pbft_core::types::ReplicaId;

use super::world::REPLICAS;

/// The instances of a round in sides: only those on one side hear each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// On which side each instance is. Sides are numbered in order of their first instance, so that every
    /// partition has one spelling.
    sides: Vec<usize>,
}

impl Partition {
    /// All partitions of `instances` instances into at most `sides` sides, the undivided one first.
    pub(super) fn all(instances: usize, sides: usize) -> Vec<Partition> {
        let mut partitions: Vec<Vec<usize>> = vec![Vec::new()];
        for _ in 0..instances {
            let longer = partitions.iter().flat_map(|partition| {
                let used = partition.iter().max().map_or(0, |last| last + 1);
                (0..(used + 1).min(sides)).map(|side| {
                    let mut longer = partition.clone();
                    longer.push(side);
                    longer
                })
            });
            partitions = longer.collect();
        }
        partitions.into_iter().map(|sides| Partition { sides }).collect()
    }

    /// Whether two instances are on one side.
    pub(super) fn joins(&self, one: usize, other: usize) -> bool {
        self.sides.get(one) == self.sides.get(other)
    }

    /// The sides with the names of their instances, separated by dashes.
    pub(super) fn show(&self, instances: &[ReplicaId]) -> String {
        let count = self.sides.iter().max().map_or(0, |last| last + 1);
        let side = |side: usize| -> String {
            let members = self.sides.iter().enumerate().filter(|(_, theirs)| **theirs == side);
            members.map(|(index, _)| name(instances, index)).collect()
        };
        (0..count).map(side).collect::<Vec<_>>().join("-")
    }

    /// Reads what [`Partition::show`] wrote.
    pub(super) fn read(text: &str, instances: &[ReplicaId]) -> Result<Self, ConfigError> {
        let refuse = || {
            let names: String = (0..instances.len()).map(|index| name(instances, index)).collect();
            let remedy = format!("name each of {names} once, with dashes between the sides");
            ConfigError::new("round", text, remedy)
        };
        let mut sides = Vec::with_capacity(instances.len());
        let mut numbers: Vec<usize> = Vec::new();
        for index in 0..instances.len() {
            let name = name(instances, index);
            let spoken = text.split('-').position(|side| side.contains(name)).ok_or_else(refuse)?;
            let known = numbers.iter().position(|number| *number == spoken);
            sides.push(known.unwrap_or(numbers.len()));
            if known.is_none() {
                numbers.push(spoken);
            }
        }
        let partition = Partition { sides };
        let letters = |text: &str| text.chars().filter(|letter| *letter != '-').count();
        if letters(text) == instances.len() { Ok(partition) } else { Err(refuse()) }
    }
}

/// A replica's first instance is called by its number, its copy by a letter: `a` for the copy of replica 0.
pub(super) fn name(instances: &[ReplicaId], index: usize) -> char {
    let is_copy = u32::try_from(index).is_ok_and(|index| index >= REPLICAS);
    let id = instances.get(index).map_or(u32::MAX, |id| id.0);
    let letter = if is_copy { id.saturating_add(10) } else { id };
    char::from_digit(letter, 16).unwrap_or('?')
}
