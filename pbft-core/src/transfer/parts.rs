//! What crosses the transfer lane: asks, and the parts that answer them. Unsigned: the channel tells who
//! speaks, and every part is proven by what it hangs from.

use alloc::vec::Vec;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use bytes::Bytes;

use super::{ASK_PAGES_MAX, DEPTH};
use crate::limits::PAGE_BYTES_MAX;
use crate::tree::TreeHead;
use crate::types::{Digest, Sequence};
use crate::wire;

/// One of the two trees of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum TreeName {
    /// The framework's own pages.
    Sessions,
    /// The application's pages.
    Application,
}

/// What is asked of a donor. The channel tells who asks; it promises nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Ask {
    /// Of the snapshot after this slot.
    pub sequence: Sequence,
    /// What of it.
    pub what: What,
}

/// What of a snapshot is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The heads of both trees.
    Head,
    /// The nodes [`super::DEPTH`] levels below one, or its leaves if it is lower than that.
    Nodes {
        /// Of which tree.
        tree: TreeName,
        /// The node's height above the leaves.
        height: u8,
        /// Its index at that height.
        index: u32,
    },
    /// Pages.
    Pages {
        /// Of which tree.
        tree: TreeName,
        /// Which, at most [`super::ASK_PAGES_MAX`].
        numbers: Vec<u32>,
    },
}

/// A donor's answer, unproven.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Of the snapshot after this slot.
    pub sequence: Sequence,
    /// What.
    pub what: PartOf,
}

/// What a donor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartOf {
    /// The heads of both trees.
    Head {
        /// Of the framework's own pages.
        sessions: TreeHead,
        /// Of the application's pages.
        application: TreeHead,
    },
    /// Nodes below one, left to right.
    Nodes {
        /// Of which tree.
        tree: TreeName,
        /// The height of the node above.
        height: u8,
        /// Its index.
        index: u32,
        /// The nodes.
        digests: Vec<Digest>,
    },
    /// Pages: the first of those asked for, as many as fit.
    Pages {
        /// Of which tree.
        tree: TreeName,
        /// Number and bytes.
        pages: Vec<(u32, Bytes)>,
    },
    /// The donor does not hold that snapshot (any more).
    Gone,
}

impl Encode for What {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            What::Head => 0_u8.encode(encoder),
            What::Nodes { tree, height, index } => (1_u8, tree, height, index).encode(encoder),
            What::Pages { tree, numbers } => {
                (2_u8, tree).encode(encoder)?;
                wire::encode_list(numbers, encoder)
            }
        }
    }
}

impl<Context> Decode<Context> for What {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            0 => Ok(What::Head),
            1 => {
                let (tree, height, index) = Decode::decode(decoder)?;
                Ok(What::Nodes { tree, height, index })
            }
            2 => {
                let tree = TreeName::decode(decoder)?;
                let numbers: Vec<u32> = wire::decode_list(decoder, 4)?;
                let bounded = (1..=ASK_PAGES_MAX).contains(&numbers.len());
                if bounded { Ok(What::Pages { tree, numbers }) } else { Err(wire::malformed()) }
            }
            _ => Err(wire::malformed()),
        }
    }
}
wire::borrow_decode!(What);

impl Encode for PartOf {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match self {
            PartOf::Head { sessions, application } => (0_u8, sessions, application).encode(encoder),
            PartOf::Nodes { tree, height, index, digests } => {
                (1_u8, tree, height, index).encode(encoder)?;
                wire::encode_list(digests, encoder)
            }
            PartOf::Pages { tree, pages } => {
                (2_u8, tree).encode(encoder)?;
                wire::encode_count(pages.len(), encoder)?;
                pages.iter().try_for_each(|(number, page)| {
                    number.encode(encoder)?;
                    wire::encode_blob(page, encoder)
                })
            }
            PartOf::Gone => 3_u8.encode(encoder),
        }
    }
}

impl<Context> Decode<Context> for PartOf {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        match u8::decode(decoder)? {
            0 => {
                let (sessions, application) = Decode::decode(decoder)?;
                Ok(PartOf::Head { sessions, application })
            }
            1 => {
                let (tree, height, index) = Decode::decode(decoder)?;
                let digests: Vec<Digest> = wire::decode_list(decoder, 32)?;
                if digests.len() > 1 << DEPTH {
                    return Err(wire::malformed());
                }
                Ok(PartOf::Nodes { tree, height, index, digests })
            }
            2 => {
                let tree = TreeName::decode(decoder)?;
                let count = wire::decode_count(decoder, 8)?;
                if count > ASK_PAGES_MAX {
                    return Err(wire::malformed());
                }
                let mut pages = Vec::with_capacity(count);
                for _ in 0..count {
                    let number = u32::decode(decoder)?;
                    let page = wire::decode_blob(decoder)?;
                    if page.len() > PAGE_BYTES_MAX {
                        return Err(wire::malformed());
                    }
                    pages.push((number, page));
                }
                Ok(PartOf::Pages { tree, pages })
            }
            3 => Ok(PartOf::Gone),
            _ => Err(wire::malformed()),
        }
    }
}
wire::borrow_decode!(PartOf);
