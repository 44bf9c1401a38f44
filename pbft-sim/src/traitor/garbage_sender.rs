//! Sends bytes that are no message: random ones, spoilt ones, cut ones, and lengths that lie.

use bytes::Bytes;
use pbft_core::message::Message;
use pbft_core::replica::Input;
use pbft_core::types::{Instant, ReplicaId};
use pbft_core::wire;

use super::spec::{Settings, SpecError};
use super::{Behaviour, World};

pub(super) struct GarbageSender {
    every_micros: u64,
    next: Option<Instant>,
}

impl GarbageSender {
    pub(super) fn new(settings: &mut Settings) -> Result<GarbageSender, SpecError> {
        let every_micros = settings.number("every_ms", 5)?.max(1).saturating_mul(1000);
        Ok(GarbageSender { every_micros, next: None })
    }

    fn garbage(world: &mut World<'_>) -> Bytes {
        let valid = world.notes.statements.back().map(|signed| Message::Statement(signed.clone()));
        let valid = valid.map_or_else(Vec::new, |message| wire::encode(&message).to_vec());
        let length = u64::try_from(valid.len()).unwrap_or(0);
        let any = |world: &mut World<'_>| {
            let length = world.random.below(512);
            (0..length).map(|_| u8::try_from(world.random.below(256)).unwrap_or(0)).collect()
        };
        let mut bytes: Vec<u8> = if valid.is_empty() { any(world) } else { valid };
        match world.random.below(4) {
            0 => bytes = any(world),
            1 => {
                let at = usize::try_from(world.random.below(length)).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << world.random.below(8);
                }
            }
            2 => bytes.truncate(usize::try_from(world.random.below(length)).unwrap_or(0)),
            _ => {
                // Four bytes that claim a list of two to the thirty-second, wherever they land.
                let at = usize::try_from(world.random.below(length)).unwrap_or(0);
                bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff);
            }
        }
        Bytes::from(bytes)
    }
}

impl Behaviour for GarbageSender {
    fn hear(
        &mut self,
        world: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        self.next.get_or_insert(world.now());
        inputs.push(input);
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn wake(&mut self, world: &mut World<'_>) {
        self.next = Some(Instant(world.now().0.saturating_add(self.every_micros)));
        for to in world.others() {
            let frame = Self::garbage(world);
            world.bytes(to, frame);
        }
    }
}
