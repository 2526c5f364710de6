//! Writes STUN messages.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

use super::{
    ATTRIBUTE_HEADER_BYTES, AttributeType, Class, FAMILY_IPV4, FAMILY_IPV6, HEADER_BYTES, MAGIC_COOKIE, Method,
    TransactionId, fingerprint, integrity, ipv6_mask,
};

/// The longest message, in bytes: what its 16-bit length field can say in words of four.
const MESSAGE_BYTES_MAX: usize = HEADER_BYTES + 0xfffc;

/// Appends a message to a buffer, attribute by attribute; what is there is a whole message after each. Attributes come
/// first, then [`Writer::integrity`], then [`Writer::integrity_sha256`], then [`Writer::fingerprint`].
///
/// An attribute that would make the message longer than its length field can say is left out.
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    message_type: u16,
    transaction_id: TransactionId,
}

impl<'a> Writer<'a> {
    /// A request.
    pub fn request(out: &'a mut Vec<u8>, method: Method, transaction_id: TransactionId) -> Self {
        Writer::new(out, Class::Request, method, transaction_id)
    }

    /// An indication.
    pub fn indication(out: &'a mut Vec<u8>, method: Method, transaction_id: TransactionId) -> Self {
        Writer::new(out, Class::Indication, method, transaction_id)
    }

    /// The good answer to the request with this method and transaction id.
    pub fn success(out: &'a mut Vec<u8>, method: Method, transaction_id: TransactionId) -> Self {
        Writer::new(out, Class::Success, method, transaction_id)
    }

    /// The bad answer to the request with this method and transaction id. `code` is 300–699; the reason is for people.
    pub fn error(out: &'a mut Vec<u8>, method: Method, transaction_id: TransactionId, code: u16, reason: &str) -> Self {
        Writer::new(out, Class::Error, method, transaction_id).error_code(code, reason)
    }

    /// A message of any class.
    pub fn new(out: &'a mut Vec<u8>, class: Class, Method(method): Method, transaction_id: TransactionId) -> Self {
        let class = match class {
            Class::Request => 0x0000,
            Class::Indication => 0x0010,
            Class::Success => 0x0100,
            Class::Error => 0x0110,
        };
        let message_type = class | method & 0x000f | (method & 0x0070) << 1 | (method & 0x0f80) << 2;
        let start = out.len();
        out.extend(message_type.to_be_bytes());
        out.extend([0, 0]);
        out.extend(MAGIC_COOKIE.to_be_bytes());
        out.extend(transaction_id.0);
        Writer { out, start, message_type, transaction_id }
    }

    /// Any attribute; pads the value with zeros.
    pub fn attribute(self, AttributeType(attribute): AttributeType, value: &[u8]) -> Self {
        let end = self.out.len() + ATTRIBUTE_HEADER_BYTES + value.len().next_multiple_of(4);
        if end - self.start > MESSAGE_BYTES_MAX {
            return self;
        }
        self.out.extend(attribute.to_be_bytes());
        self.out.extend((value.len() as u16).to_be_bytes());
        self.out.extend(value);
        self.out.resize(end, 0);
        let len = (end - self.start - HEADER_BYTES) as u16;
        if let Some([_, _, length @ ..]) = self.out.get_mut(self.start..).and_then(|it| it.first_chunk_mut::<4>()) {
            *length = len.to_be_bytes();
        }
        self
    }

    /// USERNAME.
    pub fn username(self, name: &str) -> Self {
        self.attribute(AttributeType::USERNAME, name.as_bytes())
    }

    /// SOFTWARE.
    pub fn software(self, name: &str) -> Self {
        self.attribute(AttributeType::SOFTWARE, name.as_bytes())
    }

    /// PRIORITY (RFC 8445 §7.1.1).
    pub fn priority(self, priority: u32) -> Self {
        self.attribute(AttributeType::PRIORITY, &priority.to_be_bytes())
    }

    /// USE-CANDIDATE (RFC 8445 §7.1.2).
    pub fn use_candidate(self) -> Self {
        self.attribute(AttributeType::USE_CANDIDATE, &[])
    }

    /// ICE-CONTROLLING with its tie-breaker (RFC 8445 §7.1.3).
    pub fn ice_controlling(self, tie_breaker: u64) -> Self {
        self.attribute(AttributeType::ICE_CONTROLLING, &tie_breaker.to_be_bytes())
    }

    /// ICE-CONTROLLED with its tie-breaker (RFC 8445 §7.1.3).
    pub fn ice_controlled(self, tie_breaker: u64) -> Self {
        self.attribute(AttributeType::ICE_CONTROLLED, &tie_breaker.to_be_bytes())
    }

    /// XOR-MAPPED-ADDRESS.
    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    /// An address in the form of XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub fn xor_address(self, attribute: AttributeType, address: SocketAddr) -> Self {
        let (value, len) = masked(address, self.transaction_id);
        self.attribute(attribute, value.get(..len).unwrap_or_default())
    }

    /// ERROR-CODE (RFC 8489 §14.8); `code` is 300–699. A reason is cut to the 763 bytes that the RFC allows.
    pub fn error_code(self, code: u16, reason: &str) -> Self {
        const REASON_BYTES_MAX: usize = 763;
        let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default();
        let mut value = [0; 4 + REASON_BYTES_MAX];
        let value = value.get_mut(..4 + reason.len()).unwrap_or_default();
        if let Some((head, tail)) = value.split_at_mut_checked(4) {
            head.copy_from_slice(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
            tail.copy_from_slice(reason.as_bytes());
        }
        self.attribute(AttributeType::ERROR_CODE, value)
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 §14.13): the first 32 of them, which is more than an honest client ever sends.
    pub fn unknown_attributes(self, types: impl IntoIterator<Item = u16>) -> Self {
        const TYPES_MAX: usize = 32;
        let mut value = [0; 2 * TYPES_MAX];
        let mut len = 0;
        for (slot, it) in value.chunks_exact_mut(2).zip(types) {
            slot.copy_from_slice(&it.to_be_bytes());
            len += 2;
        }
        self.attribute(AttributeType::UNKNOWN_ATTRIBUTES, value.get(..len).unwrap_or_default())
    }

    /// MESSAGE-INTEGRITY over all that was written (RFC 8489 §14.5). For short-term credentials and ICE the key is the
    /// password itself.
    pub fn integrity(self, key: &[u8]) -> Self {
        let tag = integrity(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, self.message_type, self.covered());
        self.attribute(AttributeType::MESSAGE_INTEGRITY, tag.as_ref())
    }

    /// MESSAGE-INTEGRITY-SHA256, uncut, over all that was written (RFC 8489 §14.6).
    pub fn integrity_sha256(self, key: &[u8]) -> Self {
        let tag = integrity(hmac::HMAC_SHA256, key, self.message_type, self.covered());
        self.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, tag.as_ref())
    }

    /// FINGERPRINT over all that was written (RFC 8489 §14.7); nothing may follow it.
    pub fn fingerprint(self) {
        let crc = fingerprint(self.message_type, self.covered());
        self.attribute(AttributeType::FINGERPRINT, &crc.to_be_bytes());
    }

    /// What a seal covers behind the length field.
    fn covered(&self) -> &[u8] {
        self.out.get(self.start + 4..).unwrap_or_default()
    }
}

/// The value of XOR-MAPPED-ADDRESS, and how many of these bytes it has (RFC 8489 §14.2).
pub(crate) fn masked(address: SocketAddr, transaction_id: TransactionId) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    let (head, ip) = value.split_at_mut(4);
    let family = if address.is_ipv6() { FAMILY_IPV6 } else { FAMILY_IPV4 };
    let [p0, p1] = (address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
    head.copy_from_slice(&[0, family, p0, p1]);
    let mask = ipv6_mask(transaction_id);
    let (masked, len) = match address.ip() {
        // The mask of IPv4 is where that of IPv6 begins.
        IpAddr::V4(it) => (u128::from(it.to_bits()) << 96 ^ mask, 8),
        IpAddr::V6(it) => (it.to_bits() ^ mask, 20),
    };
    ip.copy_from_slice(&masked.to_be_bytes());
    (value, len)
}
