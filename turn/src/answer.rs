//! What requests are answered with.

use std::net::SocketAddr;

use crate::Refusal;
use crate::allocation::{Allocation, Opening};
use crate::auth::IntegrityKey;
use crate::stun::{FAMILY_IPV6, Method, TransactionId, Writer};

/// What an authenticated request is answered with when it cannot be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// An attribute is missing, broken, or goes not with another; or the method is none of ours.
    Request,
    /// The credential is expired, or its holder has no seat.
    NotGranted,
    /// Policy refuses the peer.
    Forbidden,
    /// There are attributes that we must understand and do not.
    UnknownAttribute,
    /// The client has no allocation, or has one already.
    Mismatch,
    /// We have no relayed address of that family.
    Family,
    /// The allocation is another holder's.
    Credentials,
    /// Only UDP is relayed.
    Transport,
    /// The peer's address is not of the relayed address's family.
    PeerFamily,
    /// The holder has all that it may have.
    HolderQuota,
    /// We have given all that we may give.
    Capacity,
}

impl Bad {
    /// Code and reason (RFC 8656 §19).
    fn words(self) -> (u16, &'static str) {
        match self {
            Bad::Request => (400, "Bad Request"),
            Bad::NotGranted => (401, "Unauthenticated"),
            Bad::Forbidden => (403, "Forbidden"),
            Bad::UnknownAttribute => (420, "Unknown Attribute"),
            Bad::Mismatch => (437, "Allocation Mismatch"),
            Bad::Family => (440, "Address Family not Supported"),
            Bad::Credentials => (441, "Wrong Credentials"),
            Bad::Transport => (442, "Unsupported Transport Protocol"),
            Bad::PeerFamily => (443, "Peer Address Family Mismatch"),
            Bad::HolderQuota => (486, "Allocation Quota Reached"),
            Bad::Capacity => (508, "Insufficient Capacity"),
        }
    }

    /// How it is counted.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Bad::Request => Refusal::BadRequest,
            Bad::NotGranted => Refusal::NotGranted,
            Bad::Forbidden => Refusal::Forbidden,
            Bad::UnknownAttribute => Refusal::UnknownAttribute,
            Bad::Mismatch => Refusal::Mismatch,
            Bad::Family | Bad::Transport | Bad::PeerFamily => Refusal::Unsupported,
            Bad::Credentials => Refusal::WrongCredentials,
            Bad::HolderQuota => Refusal::HolderQuota,
            Bad::Capacity => Refusal::Capacity,
        }
    }

    /// Begins the answer.
    pub(crate) fn write(self, out: &mut Vec<u8>, method: Method, transaction: TransactionId) -> Writer<'_> {
        let (code, reason) = self.words();
        Writer::error(out, method, transaction, code, reason)
    }
}

/// Writes the good answer to Allocate (RFC 8656 §7.3). Written again, it is the same.
pub(crate) fn allocated(out: &mut Vec<u8>, allocation: &Allocation, key: &IntegrityKey) {
    let Opening { transaction, lifetime_s, token, additional } = allocation.opening;
    let mut writer = Writer::success(out, Method::ALLOCATE, transaction)
        .xor_relayed_address(allocation.relayed)
        .lifetime(lifetime_s)
        .xor_mapped_address(allocation.client.remote());
    if let Some(token) = token {
        writer = writer.reservation_token(token);
    }
    if additional {
        // One allocation has one relayed address: whoever wants both families makes two.
        writer = writer.address_error_code(FAMILY_IPV6, 440);
    }
    key.seal(writer).fingerprint();
}

/// Writes the answer to Binding (RFC 8489 §7.3.1).
pub(crate) fn bound(out: &mut Vec<u8>, transaction: TransactionId, client: SocketAddr) {
    Writer::success(out, Method::BINDING, transaction).xor_mapped_address(client).fingerprint();
}
