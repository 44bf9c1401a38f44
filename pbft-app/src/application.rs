//! The application trait, re-exported, and a typed layer over it.
//!
//! The framework moves bytes. [`Typed`] turns a [`Service`], whose commands, responses and state are
//! ordinary serde types, into an [`Application`]: for state that fits in memory many times over, such as a
//! counter. Larger applications implement [`Application`] and its pages themselves.

use std::marker::PhantomData;

use bytes::Bytes;
pub use pbft_core::application::{Application, Context};
use pbft_core::limits::PAGE_BYTES_MAX;
pub use pbft_core::message::Refusal;
pub use pbft_core::pages::Pages;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The code of the refusal of an operation that is no command of the service.
pub const REFUSED_UNREADABLE: u32 = u32::MAX;
/// The code of the refusal of a command whose response cannot be encoded.
pub const REFUSED_UNWRITABLE: u32 = u32::MAX - 1;

/// A deterministic service with typed commands. Its state is the value itself.
///
/// Use no hash maps in the state: they are written in an order of their own, and replicas would differ.
pub trait Service: Default + Serialize + DeserializeOwned + Send + 'static {
    /// What clients may ask.
    type Command: Serialize + DeserializeOwned;
    /// What they are told.
    type Response: Serialize + DeserializeOwned;

    /// Applies one command, or refuses it and changes nothing.
    ///
    /// # Errors
    /// A refusal is an outcome like any other, the same on every replica.
    fn execute(
        &mut self,
        context: &Context,
        command: Self::Command,
    ) -> Result<Self::Response, Refusal>;
}

/// Encodes a command of a service as an operation.
///
/// # Errors
/// The value cannot be encoded, such as a sequence of unknown length.
pub fn encode_command<S: Service>(command: &S::Command) -> Result<Bytes, TypedError> {
    encode(command)
}

/// Decodes the result of an operation of a service.
///
/// # Errors
/// The bytes are no response of the service.
pub fn decode_response<S: Service>(result: &[u8]) -> Result<S::Response, TypedError> {
    decode(result)
}

/// Reads the state of a [`Typed`] service, for tests that look inside a replica.
///
/// # Errors
/// The application is no such service.
pub fn read_state<S: Service>(application: &dyn Application) -> Result<S, TypedError> {
    let refused = |refusal: Refusal| TypedError(refusal.to_string());
    decode(&application.query(&[]).map_err(refused)?)
}

/// A value that is not of the service's types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a value of the service's type: {0}")]
pub struct TypedError(String);

const LIMIT: usize = 1 << 30;

fn codec() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, TypedError> {
    let bytes = bincode::serde::encode_to_vec(value, codec());
    bytes.map(Bytes::from).map_err(|error| TypedError(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TypedError> {
    match bincode::serde::decode_from_slice(bytes, codec()) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok(_) => Err(TypedError("bytes follow the value".to_owned())),
        Err(error) => Err(TypedError(error.to_string())),
    }
}

/// A [`Service`] as an [`Application`].
#[derive(Debug, Default)]
pub struct Typed<S> {
    service: S,
    changed: bool,
}

impl<S: Service> Typed<S> {
    /// The service in its default state.
    pub fn new() -> Self {
        Typed { service: S::default(), changed: true }
    }

    /// The service, for reading.
    pub fn service(&self) -> &S {
        &self.service
    }
}

impl<S: Service> Application for Typed<S> {
    fn execute(&mut self, context: &Context, operation: &[u8]) -> Result<Bytes, Refusal> {
        let command = decode::<S::Command>(operation)
            .map_err(|_| Refusal::new(REFUSED_UNREADABLE, "not a command of this service"))?;
        self.changed = true;
        let response = self.service.execute(context, command)?;
        encode(&response)
            .map_err(|_| Refusal::new(REFUSED_UNWRITABLE, "the response cannot be encoded"))
    }

    /// An empty query is answered with the whole state ([`read_state`]); there is no other.
    fn query(&self, query: &[u8]) -> Result<Bytes, Refusal> {
        if !query.is_empty() {
            return Err(Refusal::new(REFUSED_UNREADABLE, "commands of a service are ordered"));
        }
        encode(&self.service)
            .map_err(|_| Refusal::new(REFUSED_UNWRITABLE, "the state cannot be encoded"))
    }

    fn checkpoint(&mut self, pages: &mut Pages) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        // An unencodable state is a defect of the service that every replica has alike; the pages then
        // stay what they were.
        let Ok(bytes) = encode(&self.service) else {
            return;
        };
        let count = bytes.len().div_ceil(PAGE_BYTES_MAX);
        for number in 0..count {
            let start = number * PAGE_BYTES_MAX;
            let page = bytes.slice(start..bytes.len().min(start + PAGE_BYTES_MAX));
            // A slice would keep the whole encoding for as long as this one page stays the same.
            if pages.page(number) != page
                && pages.write(number, Bytes::copy_from_slice(&page)).is_err()
            {
                return;
            }
        }
        pages.truncate(count);
    }

    fn restore(&mut self, pages: &Pages) {
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.iter().copied()).collect();
        self.service =
            if bytes.is_empty() { S::default() } else { decode(&bytes).unwrap_or_default() };
        self.changed = true;
    }
}

/// Names a service's types at a client without holding one.
pub(crate) type Of<S> = PhantomData<fn() -> S>;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Text(String);

    impl Service for Text {
        type Command = String;
        type Response = usize;
        fn execute(&mut self, _: &Context, command: String) -> Result<usize, Refusal> {
            self.0.push_str(&command);
            Ok(self.0.len())
        }
    }

    #[test]
    fn a_state_of_several_pages_comes_back() {
        let mut typed = Typed { service: Text("x".repeat(3 * PAGE_BYTES_MAX)), changed: true };
        let mut pages = Pages::new();
        typed.checkpoint(&mut pages);
        assert_eq!(pages.count(), 4);
        let mut other = Typed::<Text>::new();
        other.restore(&pages);
        assert_eq!(other.service.0, typed.service.0);
        typed.restore(&Pages::new());
        typed.checkpoint(&mut pages);
        assert_eq!(pages.count(), 1);
        assert_eq!(typed.service().0, "");
    }
}
