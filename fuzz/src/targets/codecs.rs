//! STUN, RTP, keyframes.

use sfu::keyframe::{VideoCodec, starts_keyframe};
use sfu::rtp::{self, Class};
use turn_server::stun::{AttributeType, Message, Writer};

const PASSWORD: &[u8] = b"a password of 22 bytes";

/// What parses can be written again, and reads the same; no key but the writer's opens it.
pub fn stun(data: &[u8]) {
    let Some(message) = Message::parse(data) else { return };
    let attributes: Vec<(AttributeType, &[u8])> = message.attributes().collect();
    let bytes: usize = attributes.iter().map(|(_, value)| 4 + value.len()).sum();
    assert!(bytes + 20 <= data.len(), "the attributes lie in the message");
    assert!(message.unknown_comprehension_required().count() <= attributes.len());
    assert!(message.username().is_none_or(|name| name.len() <= turn_server::stun::USERNAME_BYTES_MAX));
    assert!(message.error_code().is_none_or(|(code, _)| (300..700).contains(&code)));
    assert!(!message.check_integrity(PASSWORD) || message.has_integrity());
    assert!(!message.check_integrity_sha256(PASSWORD) || message.has_integrity_sha256());
    let (_, _) = (message.check_fingerprint(), message.priority());
    assert_eq!(message.data_range().map(|it| &data[it]), message.attribute(AttributeType::DATA));
    assert!(message.xor_peer_addresses().count() <= attributes.len());
    // A message at the end of its length field has no room for seals of ours.
    if data.len() > usize::from(u16::MAX) - 68 {
        return;
    }
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again, message.class(), message.method(), message.transaction_id());
    for (attribute, value) in &attributes {
        writer = writer.attribute(*attribute, value);
    }
    writer.integrity(PASSWORD).integrity_sha256(PASSWORD).fingerprint();
    let read = Message::parse(&again).expect("what we write parses");
    assert_eq!((read.class(), read.method()), (message.class(), message.method()));
    assert_eq!(read.transaction_id(), message.transaction_id());
    assert_eq!(read.attributes().collect::<Vec<_>>(), attributes);
    assert_eq!(read.xor_mapped_address(), message.xor_mapped_address());
    assert_eq!((read.ice_controlling(), read.ice_controlled()), (message.ice_controlling(), message.ice_controlled()));
    assert!(read.xor_peer_addresses().eq(message.xor_peer_addresses()));
    assert_eq!((read.channel_number(), read.lifetime()), (message.channel_number(), message.lifetime()));
    assert!(read.check_integrity(PASSWORD) && read.check_integrity_sha256(PASSWORD) && read.check_fingerprint());
    assert!(!read.check_integrity(&PASSWORD[1..]) && !read.check_integrity_sha256(&PASSWORD[1..]));
}

/// Whatever a header says lies in the packet, and its fixed part can be written again.
pub fn rtp(data: &[u8]) {
    let class = rtp::classify(data);
    let Some(header) = rtp::parse(data) else { return };
    assert!(matches!(class, Class::Rtp | Class::Rtcp), "what parses is sorted as such");
    assert!((rtp::FIXED_HEADER_BYTES..=data.len()).contains(&header.header_len));
    let extension_bytes = header.extension.map_or(0, |it| {
        assert_eq!(it.start + it.len, header.header_len);
        4 + it.len
    });
    let csrcs = (header.header_len - extension_bytes - rtp::FIXED_HEADER_BYTES) / 4;
    let flags = 0x80 | u8::from(header.padding) << 5 | u8::from(header.extension.is_some()) << 4 | csrcs as u8;
    let mut fixed = vec![flags, u8::from(header.marker) << 7 | header.payload_type];
    fixed.extend(header.sequence_number.to_be_bytes());
    fixed.extend(header.timestamp.to_be_bytes());
    fixed.extend(header.ssrc.to_be_bytes());
    assert_eq!(data[..rtp::FIXED_HEADER_BYTES], fixed[..]);
    let elements: usize = rtp::extensions(data, &header).map(|(_, value)| 1 + value.len()).sum();
    assert!(elements <= extension_bytes);
    if let Some(payload) = rtp::payload(data, &header) {
        assert!(data[header.header_len..].starts_with(payload));
    }
    let reference = u64::from(header.timestamp) << 16;
    assert_eq!(rtp::extend(reference, header.sequence_number) as u16, header.sequence_number);
}

/// What begins a keyframe does so whatever comes behind.
pub fn keyframe(data: &[u8]) {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
        if starts_keyframe(codec, data) {
            assert!(!data.is_empty());
            for tail in [0x00, 0xff] {
                assert!(starts_keyframe(codec, &[data, &[tail]].concat()), "{codec:?}");
            }
        }
    }
}
