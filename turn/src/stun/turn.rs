//! What only TURN says in STUN messages (RFC 8656 §18), and what long-term credentials say (RFC 8489 §14).

use std::net::SocketAddr;
use std::ops::Range;

use super::{ATTRIBUTE_HEADER_BYTES, AttributeType, HEADER_BYTES, Message, Writer};

/// The longest REALM, in bytes (RFC 8489 §14.9); a longer one reads as absent.
pub(crate) const REALM_BYTES_MAX: usize = 763;

/// EVEN-PORT's bit that asks for the next port to be kept.
const RESERVE_NEXT: u8 = 0x80;

/// A value of a wrong size reads as absent; [`Message::attribute`] tells whether there was one.
impl<'a> Message<'a> {
    /// REALM; `None` also if it is too long or not UTF-8.
    pub fn realm(&self) -> Option<&'a str> {
        let realm = self.attribute(AttributeType::REALM).filter(|it| it.len() <= REALM_BYTES_MAX)?;
        std::str::from_utf8(realm).ok()
    }

    /// NONCE.
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::NONCE)
    }

    /// CHANNEL-NUMBER: any number, not only those that RFC 8656 §12 allows.
    pub fn channel_number(&self) -> Option<u16> {
        let &[c0, c1, _, _] = self.exactly(AttributeType::CHANNEL_NUMBER)?;
        Some(u16::from_be_bytes([c0, c1]))
    }

    /// LIFETIME, in seconds.
    pub fn lifetime(&self) -> Option<u32> {
        self.exactly(AttributeType::LIFETIME).copied().map(u32::from_be_bytes)
    }

    /// The first XOR-PEER-ADDRESS.
    pub fn xor_peer_address(&self) -> Option<SocketAddr> {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// All XOR-PEER-ADDRESSes, in order; `None` in place of each that cannot be read.
    pub fn xor_peer_addresses(&self) -> impl Iterator<Item = Option<SocketAddr>> + use<'a> {
        let message = *self;
        self.attributes()
            .filter(|(attribute, _)| *attribute == AttributeType::XOR_PEER_ADDRESS)
            .map(move |(_, value)| message.unmask(value))
    }

    /// XOR-RELAYED-ADDRESS.
    pub fn xor_relayed_address(&self) -> Option<SocketAddr> {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// DATA: where it lies in the message's bytes, without padding.
    pub fn data_range(&self) -> Option<Range<usize>> {
        let mut at = HEADER_BYTES;
        for (attribute, value) in self.attributes() {
            let start = at + ATTRIBUTE_HEADER_BYTES;
            if attribute == AttributeType::DATA {
                return Some(start..start + value.len());
            }
            at = start + value.len().next_multiple_of(4);
        }
        None
    }

    /// REQUESTED-ADDRESS-FAMILY: [`super::FAMILY_IPV4`], [`super::FAMILY_IPV6`] or nonsense.
    pub fn requested_address_family(&self) -> Option<u8> {
        self.exactly::<4>(AttributeType::REQUESTED_ADDRESS_FAMILY).map(|it| it[0])
    }

    /// ADDITIONAL-ADDRESS-FAMILY, as above.
    pub fn additional_address_family(&self) -> Option<u8> {
        self.exactly::<4>(AttributeType::ADDITIONAL_ADDRESS_FAMILY).map(|it| it[0])
    }

    /// EVEN-PORT, and whether the next port is to be kept for a later allocation.
    pub fn even_port(&self) -> Option<bool> {
        self.exactly::<1>(AttributeType::EVEN_PORT).map(|it| it[0] & RESERVE_NEXT != 0)
    }

    /// REQUESTED-TRANSPORT: a number of IP's protocols; UDP is 17.
    pub fn requested_transport(&self) -> Option<u8> {
        self.exactly::<4>(AttributeType::REQUESTED_TRANSPORT).map(|it| it[0])
    }

    /// Whether DONT-FRAGMENT is there.
    pub fn dont_fragment(&self) -> bool {
        self.attribute(AttributeType::DONT_FRAGMENT).is_some()
    }

    /// RESERVATION-TOKEN.
    pub fn reservation_token(&self) -> Option<[u8; 8]> {
        self.exactly(AttributeType::RESERVATION_TOKEN).copied()
    }

    /// ADDRESS-ERROR-CODE: the family, and the code.
    pub fn address_error_code(&self) -> Option<(u8, u16)> {
        let (&[family, _, class, number], _) =
            self.attribute(AttributeType::ADDRESS_ERROR_CODE)?.split_first_chunk::<4>()?;
        Some((family, u16::from(class & 0x07) * 100 + u16::from(number)))
    }

    fn exactly<const N: usize>(&self, attribute: AttributeType) -> Option<&'a [u8; N]> {
        self.attribute(attribute)?.try_into().ok()
    }
}

impl Writer<'_> {
    /// REALM.
    pub fn realm(self, realm: &str) -> Self {
        self.attribute(AttributeType::REALM, realm.as_bytes())
    }

    /// NONCE.
    pub fn nonce(self, nonce: &[u8]) -> Self {
        self.attribute(AttributeType::NONCE, nonce)
    }

    /// CHANNEL-NUMBER.
    pub fn channel_number(self, channel: u16) -> Self {
        let [c0, c1] = channel.to_be_bytes();
        self.attribute(AttributeType::CHANNEL_NUMBER, &[c0, c1, 0, 0])
    }

    /// LIFETIME, in seconds.
    pub fn lifetime(self, seconds: u32) -> Self {
        self.attribute(AttributeType::LIFETIME, &seconds.to_be_bytes())
    }

    /// XOR-PEER-ADDRESS; there may be several.
    pub fn xor_peer_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    /// XOR-RELAYED-ADDRESS; two at most, one of each family.
    pub fn xor_relayed_address(self, address: SocketAddr) -> Self {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    /// DATA.
    pub fn data(self, payload: &[u8]) -> Self {
        self.attribute(AttributeType::DATA, payload)
    }

    /// REQUESTED-ADDRESS-FAMILY.
    pub fn requested_address_family(self, family: u8) -> Self {
        self.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    /// ADDITIONAL-ADDRESS-FAMILY.
    pub fn additional_address_family(self, family: u8) -> Self {
        self.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    /// EVEN-PORT, and whether the next port is to be kept.
    pub fn even_port(self, reserve_next: bool) -> Self {
        self.attribute(AttributeType::EVEN_PORT, &[if reserve_next { RESERVE_NEXT } else { 0 }])
    }

    /// REQUESTED-TRANSPORT.
    pub fn requested_transport(self, protocol: u8) -> Self {
        self.attribute(AttributeType::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    /// DONT-FRAGMENT.
    pub fn dont_fragment(self) -> Self {
        self.attribute(AttributeType::DONT_FRAGMENT, &[])
    }

    /// RESERVATION-TOKEN.
    pub fn reservation_token(self, token: [u8; 8]) -> Self {
        self.attribute(AttributeType::RESERVATION_TOKEN, &token)
    }

    /// ADDRESS-ERROR-CODE without a reason; `code` is 300–699.
    pub fn address_error_code(self, family: u8, code: u16) -> Self {
        self.attribute(AttributeType::ADDRESS_ERROR_CODE, &[family, 0, (code / 100) as u8, (code % 100) as u8])
    }
}
