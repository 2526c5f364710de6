//! STUN messages (RFC 8489): a view of a received one, checked once and then read in place, and a [`Writer`] of new
//! ones. Nothing on the reading side allocates or panics. What only TURN says lies in `turn.rs`.

mod turn;
mod types;
mod writer;

#[cfg(test)]
mod tests;

pub use types::{AttributeType, Class, Method, TransactionId};
pub use writer::Writer;
pub(crate) use writer::masked;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};

/// The longest USERNAME, in bytes (RFC 8489 §14.3); a longer one reads as absent.
pub const USERNAME_BYTES_MAX: usize = 508;

const HEADER_BYTES: usize = 20;
pub(crate) const MAGIC_COOKIE: u32 = 0x2112_A442;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const INTEGRITY_BYTES: usize = 20;
const INTEGRITY_SHA256_BYTES: usize = 32;
/// What MESSAGE-INTEGRITY-SHA256 may be cut to where a usage of STUN allows it (RFC 8489 §14.6); TURN does not.
const INTEGRITY_SHA256_BYTES_MIN: usize = 16;
const FINGERPRINT_BYTES: usize = 4;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// IPv4 in addresses and in REQUESTED-ADDRESS-FAMILY.
pub const FAMILY_IPV4: u8 = 1;
/// IPv6 in addresses and in REQUESTED-ADDRESS-FAMILY.
pub const FAMILY_IPV6: u8 = 2;

/// The attributes that STUN and ICE together require a receiver to understand.
const UNDERSTOOD: &[AttributeType] = &[
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::PRIORITY,
    AttributeType::USE_CANDIDATE,
];

/// A received message whose length, cookie and attribute bounds hold. Its values are not checked until they are asked
/// for, and it is nobody's word until [`Message::check_integrity`] says so.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    transaction_id: TransactionId,
    /// Where the attributes end that count: at MESSAGE-INTEGRITY, at MESSAGE-INTEGRITY-SHA256, at FINGERPRINT, or with
    /// the message.
    attributes_end: usize,
    integrity: Option<Seal<'a>>,
    integrity_sha256: Option<Seal<'a>>,
    fingerprint: Option<Seal<'a>>,
}

/// An attribute that vouches for all bytes in front of it.
#[derive(Clone, Copy, Debug)]
struct Seal<'a> {
    /// The message's bytes between its length field and the attribute.
    covered: &'a [u8],
    value: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a whole datagram (RFC 8489 §6.3). `None` if the top bits, the cookie or the length are wrong, an attribute
    /// would end behind the message, MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 or FINGERPRINT has a wrong size, or
    /// FINGERPRINT is not last.
    ///
    /// What follows MESSAGE-INTEGRITY is ignored, except MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5); what
    /// follows MESSAGE-INTEGRITY-SHA256, except FINGERPRINT (§14.6).
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[t0, _, l0, l1, c0, c1, c2, c3, id @ ..], attributes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if t0 & 0xc0 != 0 || u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || len != attributes.len() {
            return None;
        }
        let mut message = Message {
            bytes,
            transaction_id: TransactionId(id),
            attributes_end: bytes.len(),
            integrity: None,
            integrity_sha256: None,
            fingerprint: None,
        };
        let mut rest = attributes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let (attribute, value, behind) = split_attribute(rest)?;
            rest = behind;
            let (seal, sizes) = match attribute {
                AttributeType::FINGERPRINT if rest.is_empty() => {
                    (&mut message.fingerprint, FINGERPRINT_BYTES..=FINGERPRINT_BYTES)
                }
                AttributeType::FINGERPRINT => return None,
                AttributeType::MESSAGE_INTEGRITY if !message.has_integrity() => {
                    (&mut message.integrity, INTEGRITY_BYTES..=INTEGRITY_BYTES)
                }
                AttributeType::MESSAGE_INTEGRITY_SHA256 if message.integrity_sha256.is_none() => {
                    (&mut message.integrity_sha256, INTEGRITY_SHA256_BYTES_MIN..=INTEGRITY_SHA256_BYTES)
                }
                _ => continue,
            };
            if !sizes.contains(&value.len()) || value.len() % 4 != 0 {
                return None;
            }
            *seal = Some(Seal { covered: bytes.get(4..at)?, value });
            message.attributes_end = message.attributes_end.min(at);
        }
        Some(message)
    }

    /// All of it.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether this is a request, an indication or an answer.
    pub fn class(&self) -> Class {
        match self.message_type() & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        }
    }

    /// What it is about.
    pub fn method(&self) -> Method {
        let it = self.message_type();
        Method(it & 0x000f | (it & 0x00e0) >> 1 | (it & 0x3e00) >> 2)
    }

    /// What ties an answer to its request.
    pub fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// The value of the first attribute of this type, without padding.
    pub fn attribute(&self, wanted: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find_map(|(attribute, value)| (attribute == wanted).then_some(value))
    }

    /// All attributes in front of MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, in order.
    pub fn attributes(&self) -> impl Iterator<Item = (AttributeType, &'a [u8])> + use<'a> {
        let mut rest = self.bytes.get(HEADER_BYTES..self.attributes_end).unwrap_or_default();
        std::iter::from_fn(move || {
            let (attribute, value, behind) = split_attribute(rest)?;
            rest = behind;
            Some((attribute, value))
        })
    }

    /// USERNAME; `None` if absent, longer than [`USERNAME_BYTES_MAX`] or not UTF-8.
    pub fn username(&self) -> Option<&'a str> {
        let name = self.attribute(AttributeType::USERNAME).filter(|it| it.len() <= USERNAME_BYTES_MAX)?;
        std::str::from_utf8(name).ok()
    }

    /// Whether the sender nominates this path (RFC 8445 §7.1.2).
    pub fn use_candidate(&self) -> bool {
        self.attribute(AttributeType::USE_CANDIDATE).is_some()
    }

    /// PRIORITY of the sender's candidate, should it turn out to be new (RFC 8445 §7.1.1).
    pub fn priority(&self) -> Option<u32> {
        self.attribute(AttributeType::PRIORITY)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The tie-breaker of a sender that holds itself for the controlling side (RFC 8445 §7.1.3).
    pub fn ice_controlling(&self) -> Option<u64> {
        self.attribute(AttributeType::ICE_CONTROLLING)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The tie-breaker of a sender that holds itself for the controlled side (RFC 8445 §7.1.3).
    pub fn ice_controlled(&self) -> Option<u64> {
        self.attribute(AttributeType::ICE_CONTROLLED)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The address that the answering server saw.
    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    /// An address in the form of XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub fn xor_address(&self, attribute: AttributeType) -> Option<SocketAddr> {
        self.unmask(self.attribute(attribute)?)
    }

    fn unmask(&self, value: &[u8]) -> Option<SocketAddr> {
        let (&[_, family, p0, p1], address) = value.split_first_chunk()?;
        let port = u16::from_be_bytes([p0, p1]) ^ (MAGIC_COOKIE >> 16) as u16;
        let ip = match family {
            FAMILY_IPV4 => {
                let address = u32::from_be_bytes(address.try_into().ok()?);
                IpAddr::V4(Ipv4Addr::from_bits(address ^ MAGIC_COOKIE))
            }
            FAMILY_IPV6 => {
                let address = u128::from_be_bytes(address.try_into().ok()?);
                IpAddr::V6(Ipv6Addr::from_bits(address ^ ipv6_mask(self.transaction_id)))
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The code, 300–699, and the reason of an error answer (RFC 8489 §14.8). A reason that is not UTF-8 reads as empty.
    pub fn error_code(&self) -> Option<(u16, &'a str)> {
        let (&[_, _, class, number], reason) = self.attribute(AttributeType::ERROR_CODE)?.split_first_chunk()?;
        let class = class & 0x07;
        if !(3..=6).contains(&class) || number > 99 {
            return None;
        }
        Some((u16::from(class) * 100 + u16::from(number), std::str::from_utf8(reason).unwrap_or_default()))
    }

    /// The types of attributes that a receiver must understand and that are none of STUN's and ICE's own, in order and
    /// as often as they occur; any of them makes a request a 420 (RFC 8489 §6.3.1).
    pub fn unknown_comprehension_required(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.unknown_beyond(&[])
    }

    /// As [`Message::unknown_comprehension_required`], for a server that understands these types as well.
    pub fn unknown_beyond(&self, also_understood: &'a [AttributeType]) -> impl Iterator<Item = u16> + use<'a> {
        self.attributes().map(|(attribute, _)| attribute).filter_map(move |it| {
            let known = UNDERSTOOD.contains(&it) || also_understood.contains(&it);
            (it.comprehension_required() && !known).then_some(it.0)
        })
    }

    /// Whether MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 is there.
    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some() || self.integrity_sha256.is_some()
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 is there.
    pub fn has_integrity_sha256(&self) -> bool {
        self.integrity_sha256.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with `key` (RFC 8489 §14.5): for short-term credentials and ICE
    /// the password itself. Takes the same time whether it fails early or late.
    pub fn check_integrity(&self, key: &[u8]) -> bool {
        self.verify(self.integrity, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 is there, not cut short, and was made with `key` (RFC 8489 §14.6). Takes the same
    /// time whether it fails early or late.
    pub fn check_integrity_sha256(&self, key: &[u8]) -> bool {
        self.verify(self.integrity_sha256, hmac::HMAC_SHA256, key)
    }

    fn verify(&self, seal: Option<Seal<'_>>, algorithm: hmac::Algorithm, key: &[u8]) -> bool {
        seal.is_some_and(|seal| {
            let tag = integrity(algorithm, key, self.message_type(), seal.covered);
            constant_time::verify_slices_are_equal(tag.as_ref(), seal.value).is_ok()
        })
    }

    /// Whether FINGERPRINT is there.
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Whether FINGERPRINT is there and right (RFC 8489 §14.7).
    pub fn check_fingerprint(&self) -> bool {
        self.fingerprint.is_some_and(|seal| fingerprint(self.message_type(), seal.covered).to_be_bytes() == *seal.value)
    }

    fn message_type(&self) -> u16 {
        self.bytes.first_chunk().copied().map_or(0, u16::from_be_bytes)
    }
}

/// The first attribute's type and value, and what lies behind its padding; `None` where that is behind the end.
fn split_attribute(bytes: &[u8]) -> Option<(AttributeType, &[u8], &[u8])> {
    let (&[t0, t1, l0, l1], rest) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>()?;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let (padded, behind) = rest.split_at_checked(len.next_multiple_of(4))?;
    Some((AttributeType(u16::from_be_bytes([t0, t1])), padded.get(..len)?, behind))
}

/// The length field that a seal of `seal_bytes` covers: as if the message ended with it. `covered` starts behind the
/// length field, so 16 bytes of it belong to the header.
fn sealed_length(covered: &[u8], seal_bytes: usize) -> u16 {
    (covered.len() + ATTRIBUTE_HEADER_BYTES + seal_bytes - (HEADER_BYTES - 4)) as u16
}

/// The HMAC over a message whose length field ends with the attribute that holds it, uncut (RFC 8489 §14.5 and §14.6).
fn integrity(algorithm: hmac::Algorithm, key: &[u8], message_type: u16, covered: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    context.update(&message_type.to_be_bytes());
    context.update(&sealed_length(covered, algorithm.digest_algorithm().output_len()).to_be_bytes());
    context.update(covered);
    context.sign()
}

/// CRC-32 over a message whose length field ends with FINGERPRINT, masked (RFC 8489 §14.7).
fn fingerprint(message_type: u16, covered: &[u8]) -> u32 {
    let head = message_type.to_be_bytes().into_iter().chain(sealed_length(covered, FINGERPRINT_BYTES).to_be_bytes());
    let crc = head.chain(covered.iter().copied()).fold(!0, |crc: u32, byte| {
        // The index is a byte and the table has an entry for each, so the fallback is never taken.
        let entry = CRC_TABLE.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or_default();
        crc >> 8 ^ entry
    });
    !crc ^ FINGERPRINT_XOR
}

/// The remainders of all bytes by the polynomial of ITU V.42, bits reversed.
static CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// What an IPv6 address is masked with: the cookie, then the transaction id (RFC 8489 §14.2).
fn ipv6_mask(TransactionId(id): TransactionId) -> u128 {
    id.into_iter().fold(u128::from(MAGIC_COOKIE), |mask, byte| mask << 8 | u128::from(byte))
}
