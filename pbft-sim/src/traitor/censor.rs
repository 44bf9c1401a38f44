//! Never hears a request of one client, so as primary it orders none.

use pbft_core::message::Message;
use pbft_core::replica::Input;
use pbft_core::types::{ClientId, ReplicaId};

use super::spec::{Settings, SpecError};
use super::{Behaviour, World};

pub(super) struct Censor {
    client: ClientId,
}

impl Censor {
    pub(super) fn new(settings: &mut Settings) -> Result<Censor, SpecError> {
        let client = settings.number("client", 0)?;
        Ok(Censor { client: ClientId(u32::try_from(client).unwrap_or(u32::MAX)) })
    }
}

impl Behaviour for Censor {
    fn hear(
        &mut self,
        _: &mut World<'_>,
        _: Option<ReplicaId>,
        input: Input,
        inputs: &mut Vec<Input>,
    ) {
        let hated = matches!(&input, Input::Deliver(verified)
            if matches!(verified.message(), Message::Request(request) if request.client() == self.client));
        if !hated {
            inputs.push(input);
        }
    }
}
