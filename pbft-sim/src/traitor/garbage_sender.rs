//! Sends bytes that are no message: random ones, spoilt ones, cut ones, and lengths that lie.

use bytes::Bytes;
use pbft_core::message::Message;
use pbft_core::wire;

use super::World;
use super::beat::OnBeat;

pub(super) struct GarbageSender;

impl GarbageSender {
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

impl OnBeat for GarbageSender {
    fn beat(&mut self, world: &mut World<'_>) {
        for to in world.others() {
            let frame = Self::garbage(world);
            world.bytes(to, frame);
        }
    }
}
