use super::*;
use crate::credential;
use proptest::prelude::*;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const ID: TransactionId = TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

/// RFC 5769 §2.1.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// RFC 5769 §2.2.
const RESPONSE_IPV4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769 §2.3.
const RESPONSE_IPV6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

/// RFC 5769 §2.4.
const REQUEST_LONG_TERM: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

/// RFC 8489 Appendix B.1, as its verified erratum has it.
const REQUEST_SHA256: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476 79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

const MATRIX: &str = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|it| it.to_digit(16)).collect();
    digits.chunks(2).map(|it| (it[0] << 4 | it[1]) as u8).collect()
}

fn assert_sealed(message: &Message<'_>) {
    assert!(message.check_integrity(PASSWORD));
    assert!(!message.check_integrity(b"VOkJxbRl1RmTxUk/WvJxBT"));
    assert!(message.check_fingerprint());
    assert_eq!(message.method(), Method::BINDING);
    assert_eq!(message.transaction_id(), ID);
    assert_eq!(message.unknown_comprehension_required().count(), 0);
}

#[test]
fn rfc_5769_request() {
    let bytes = bytes(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_sealed(&message);
    assert_eq!(message.class(), Class::Request);
    assert_eq!(message.attribute(AttributeType::SOFTWARE), Some(&b"STUN test client"[..]));
    assert_eq!(message.priority(), Some(0x6e00_01ff));
    assert_eq!(message.ice_controlled(), Some(0x932f_f9b1_5126_3b36));
    assert_eq!(message.ice_controlling(), None);
    assert_eq!(message.username(), Some("evtj:h6vY"));
    assert!(!message.use_candidate());
}

#[test]
fn rfc_5769_responses() {
    for (hex, address) in
        [(RESPONSE_IPV4, "192.0.2.1:32853"), (RESPONSE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = bytes(hex);
        let message = Message::parse(&bytes).unwrap();
        assert_sealed(&message);
        assert_eq!(message.class(), Class::Success);
        assert_eq!(message.attribute(AttributeType::SOFTWARE), Some(&b"test vector"[..]));
        assert_eq!(message.xor_mapped_address(), Some(address.parse().unwrap()));
    }
}

#[test]
fn rfc_5769_long_term_request() {
    let bytes = bytes(REQUEST_LONG_TERM);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!((message.username(), message.realm()), (Some(MATRIX), Some("example.org")));
    assert_eq!(message.nonce(), Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
    assert!(message.check_integrity(&credential::md5_key(MATRIX, "example.org", "TheMatrIX")));
    assert!(!message.check_integrity(&credential::md5_key(MATRIX, "example.org", "TheMatrix")));
    assert!(!message.has_integrity_sha256());
}

#[test]
fn rfc_8489_sha256_request() {
    let bytes = bytes(REQUEST_SHA256);
    let message = Message::parse(&bytes).unwrap();
    let key = credential::sha256_key(MATRIX, "example.org", "TheMatrIX");
    assert!(message.check_integrity_sha256(&key) && !message.check_integrity(&key));
    assert!(!message.check_integrity_sha256(&credential::md5_key(MATRIX, "example.org", "TheMatrIX")));
    assert_eq!(message.attribute(AttributeType::PASSWORD_ALGORITHM), Some(&[0, 2, 0, 0][..]));
    assert_eq!((message.username(), message.realm()), (None, Some("example.org")));

    let mut again = Vec::new();
    let writer = Writer::request(&mut again, Method::BINDING, message.transaction_id());
    message.attributes().fold(writer, |it, (attribute, value)| it.attribute(attribute, value)).integrity_sha256(&key);
    assert_eq!(again, bytes);
}

#[test]
fn what_follows_a_sha256_seal_is_ignored() {
    let mut out = Vec::new();
    let it = Writer::request(&mut out, Method::ALLOCATE, ID).lifetime(1).integrity(b"a").use_candidate();
    it.integrity_sha256(b"b").integrity(b"c").integrity_sha256(b"d").username("forged").fingerprint();
    let message = Message::parse(&out).unwrap();
    assert!(message.check_integrity(b"a") && message.check_integrity_sha256(b"b") && message.check_fingerprint());
    assert_eq!(message.attributes().map(|(it, _)| it).collect::<Vec<_>>(), [AttributeType::LIFETIME]);

    out.clear();
    Writer::request(&mut out, Method::ALLOCATE, ID).integrity_sha256(b"b").integrity(b"a").lifetime(1);
    let message = Message::parse(&out).unwrap();
    assert!(message.check_integrity_sha256(b"b") && !message.check_integrity(b"a"));
    assert_eq!(message.lifetime(), None);
    for size in [0, 12, 15, 18, 31, 36] {
        out.clear();
        let it = Writer::request(&mut out, Method::ALLOCATE, ID);
        it.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, &vec![0; size]);
        assert!(Message::parse(&out).is_none(), "{size} bytes");
    }
}

#[test]
fn each_peer_of_a_message_is_read() {
    let peers: [SocketAddr; 3] =
        ["192.0.2.1:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap(), "192.0.2.3:3".parse().unwrap()];
    let mut out = Vec::new();
    let it = Writer::request(&mut out, Method::CREATE_PERMISSION, ID).xor_peer_address(peers[0]).lifetime(1);
    it.xor_peer_address(peers[1])
        .attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 3, 1, 2])
        .xor_peer_address(peers[2])
        .integrity(PASSWORD)
        .xor_peer_address("192.0.2.4:4".parse().unwrap());
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.xor_peer_address(), Some(peers[0]));
    let read: Vec<_> = message.xor_peer_addresses().collect();
    assert_eq!(read, [Some(peers[0]), Some(peers[1]), None, Some(peers[2])]);
}

#[test]
fn any_changed_bit_breaks_a_seal() {
    let good = bytes(REQUEST);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let sealed = Message::parse(&bad).is_some_and(|it| it.check_integrity(PASSWORD) && it.check_fingerprint());
        assert!(!sealed, "bit {bit}");
    }
}

#[test]
fn a_request_goes_around() {
    // What is already in the buffer is left alone.
    let mut out = vec![7; 3];
    Writer::request(&mut out, Method::BINDING, ID)
        .username("abcd:efghi")
        .priority(77)
        .ice_controlling(0x0102_0304_0506_0708)
        .use_candidate()
        .software("lyceum")
        .integrity(PASSWORD)
        .fingerprint();
    assert_eq!(out[..3], [7; 3]);
    let message = Message::parse(&out[3..]).unwrap();
    assert_sealed(&message);
    assert_eq!(message.class(), Class::Request);
    assert_eq!(message.username(), Some("abcd:efghi"));
    assert_eq!(message.priority(), Some(77));
    assert_eq!(message.ice_controlling(), Some(0x0102_0304_0506_0708));
    assert!(message.use_candidate());
    assert_eq!(message.attribute(AttributeType::SOFTWARE), Some(&b"lyceum"[..]));
}

#[test]
fn an_error_goes_around() {
    let mut out = Vec::new();
    Writer::error(&mut out, Method::BINDING, ID, 420, "Unknown Attribute")
        .unknown_attributes([0x7001, 0x7002])
        .integrity(PASSWORD)
        .fingerprint();
    let message = Message::parse(&out).unwrap();
    assert_sealed(&message);
    assert_eq!(message.class(), Class::Error);
    assert_eq!(message.error_code(), Some((420, "Unknown Attribute")));
    assert_eq!(message.attribute(AttributeType::UNKNOWN_ATTRIBUTES), Some(&[0x70, 1, 0x70, 2][..]));

    out.clear();
    Writer::error(&mut out, Method::BINDING, ID, 500, &"é".repeat(1000)).fingerprint();
    let (code, reason) = Message::parse(&out).unwrap().error_code().unwrap();
    assert_eq!((code, reason.len()), (500, 762));
}

#[test]
fn unknown_attributes_are_told_apart() {
    let mut out = Vec::new();
    Writer::request(&mut out, Method::BINDING, ID)
        .attribute(AttributeType(0x7001), b"abc")
        .data(b"")
        .attribute(AttributeType(0xf001), b"optional")
        .username("a:b")
        .integrity(PASSWORD)
        .attribute(AttributeType(0x7002), b"unsigned")
        .fingerprint();
    let message = Message::parse(&out).unwrap();
    assert!(message.check_integrity(PASSWORD) && message.check_fingerprint());
    assert_eq!(message.unknown_comprehension_required().collect::<Vec<_>>(), [0x7001, 0x0013]);
    assert_eq!(message.unknown_beyond(&[AttributeType::DATA]).collect::<Vec<_>>(), [0x7001]);
}

#[test]
fn what_follows_the_integrity_is_ignored() {
    let mut out = Vec::new();
    Writer::request(&mut out, Method::BINDING, ID).integrity(PASSWORD).use_candidate().username("forged").fingerprint();
    let message = Message::parse(&out).unwrap();
    assert!(message.check_integrity(PASSWORD) && message.check_fingerprint());
    assert_eq!((message.use_candidate(), message.username()), (false, None));
}

#[test]
fn lies_about_the_form_are_refused() {
    let good = bytes(REQUEST);
    for len in 0..good.len() {
        assert!(Message::parse(&good[..len]).is_none(), "cut to {len}");
    }
    let refused = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        Message::parse(&bad).is_none()
    };
    assert!(refused(0, 0x80), "top bits");
    assert!(refused(3, 0x54), "length");
    assert!(refused(4, 0x22), "cookie");
    assert!(refused(23, 0xff), "attribute length");
    assert!(refused(good.len() - 5, 3), "fingerprint's size");
    let at = good.len() - 8 - 21;
    assert!(refused(at, 19), "integrity's size");

    let mut behind = Vec::new();
    Writer::request(&mut behind, Method::BINDING, ID).attribute(AttributeType::FINGERPRINT, &[0; 4]).use_candidate();
    assert!(Message::parse(&behind).is_none(), "an attribute behind the fingerprint");
}

#[test]
fn values_of_a_wrong_size_read_as_absent() {
    let mut out = Vec::new();
    Writer::success(&mut out, Method::BINDING, ID)
        .attribute(AttributeType::XOR_MAPPED_ADDRESS, &[0, 2, 1, 2, 1, 2, 3, 4])
        .attribute(AttributeType::ERROR_CODE, &[0, 0, 4, 100])
        .attribute(AttributeType::PRIORITY, &[1, 2, 3])
        .attribute(AttributeType::ICE_CONTROLLING, &[0; 9])
        .attribute(AttributeType::USERNAME, &[b'a'; USERNAME_BYTES_MAX + 1])
        .attribute(AttributeType::CHANNEL_NUMBER, &[0x40, 0])
        .attribute(AttributeType::LIFETIME, &[0; 5])
        .attribute(AttributeType::EVEN_PORT, &[])
        .attribute(AttributeType::REQUESTED_TRANSPORT, &[17])
        .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0])
        .attribute(AttributeType::RESERVATION_TOKEN, &[0; 7])
        .attribute(AttributeType::REALM, &[0xff])
        .attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0, 0, 1, 2, 3]);
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.xor_mapped_address(), None);
    assert_eq!(message.error_code(), None);
    assert_eq!(message.priority(), None);
    assert_eq!(message.ice_controlling(), None);
    assert_eq!(message.username(), None);
    assert_eq!((message.channel_number(), message.lifetime(), message.even_port()), (None, None, None));
    assert_eq!((message.requested_transport(), message.requested_address_family()), (None, None));
    assert_eq!((message.reservation_token(), message.realm(), message.xor_peer_address()), (None, None, None));
    assert!(!message.has_integrity() && !message.check_integrity(PASSWORD) && !message.check_fingerprint());
}

#[test]
fn a_message_that_is_full_leaves_out_what_does_not_fit() {
    let mut out = Vec::new();
    Writer::request(&mut out, Method::BINDING, ID)
        .attribute(AttributeType::SOFTWARE, &[0; 0xfff0])
        .attribute(AttributeType(0x7001), &[0; 70_000])
        .username("abcde");
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.attributes().count(), 1);
}

proptest! {
    #[test]
    fn types_and_addresses_go_around(method in 0u16..0x1000, id: [u8; 12], ip: std::net::IpAddr, port: u16) {
        let address = SocketAddr::new(ip, port);
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let mut out = Vec::new();
            Writer::new(&mut out, class, Method(method), TransactionId(id)).xor_mapped_address(address);
            let message = Message::parse(&out).unwrap();
            prop_assert_eq!((message.class(), message.method()), (class, Method(method)));
            prop_assert_eq!(message.transaction_id(), TransactionId(id));
            prop_assert_eq!(message.xor_mapped_address(), Some(address));
        }
    }

    #[test]
    fn what_turn_says_goes_around(
        peers in prop::collection::vec((any::<std::net::IpAddr>(), any::<u16>()), 0..5),
        (channel, lifetime, family, transport) in any::<(u16, u32, u8, u8)>(),
        (reserve_next, token) in any::<(bool, [u8; 8])>(),
        payload in prop::collection::vec(any::<u8>(), 0..40),
        nonce in prop::collection::vec(any::<u8>(), 0..40),
        realm in "[a-z]{0,20}",
    ) {
        let peers: Vec<SocketAddr> = peers.into_iter().map(SocketAddr::from).collect();
        let mut out = Vec::new();
        let writer = Writer::request(&mut out, Method::ALLOCATE, ID)
            .realm(&realm).nonce(&nonce).channel_number(channel).lifetime(lifetime).requested_transport(transport)
            .requested_address_family(family).additional_address_family(family).even_port(reserve_next)
            .reservation_token(token).address_error_code(family, 440);
        peers.iter().fold(writer, |it, peer| it.xor_peer_address(*peer)).data(&payload).integrity_sha256(PASSWORD);
        let message = Message::parse(&out).unwrap();
        prop_assert!(message.check_integrity_sha256(PASSWORD));
        prop_assert_eq!((message.realm(), message.nonce()), (Some(&realm[..]), Some(&nonce[..])));
        prop_assert_eq!((message.channel_number(), message.lifetime()), (Some(channel), Some(lifetime)));
        prop_assert_eq!((message.requested_transport(), message.even_port()), (Some(transport), Some(reserve_next)));
        prop_assert_eq!(message.requested_address_family(), Some(family));
        prop_assert_eq!(message.additional_address_family(), Some(family));
        prop_assert_eq!(message.address_error_code(), Some((family, 440)));
        prop_assert_eq!(message.reservation_token(), Some(token));
        prop_assert_eq!(message.xor_peer_addresses().collect::<Option<Vec<_>>>(), Some(peers));
        prop_assert_eq!(message.data_range().map(|it| &out[it]), Some(&payload[..]));
        prop_assert!(!message.dont_fragment());
    }

    #[test]
    fn strangers_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        attributes in prop::collection::vec((0u16..0x30, prop::collection::vec(any::<u8>(), 0..24)), 0..6),
        cut in 0usize..8,
    ) {
        read_all(&bytes);
        if let Some(head) = bytes.first_chunk_mut::<8>() {
            head[0] &= 0x3f;
            head[4..].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        }
        if let Some(len) = bytes.len().checked_sub(20) {
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        read_all(&bytes);
        let mut out = Vec::new();
        let writer = Writer::request(&mut out, Method::BINDING, ID);
        attributes.iter().fold(writer, |it, (attribute, value)| it.attribute(AttributeType(*attribute), value));
        read_all(&out);
        out.truncate(out.len() - cut);
        read_all(&out);
    }
}

fn read_all(bytes: &[u8]) {
    let Some(message) = Message::parse(bytes) else {
        return;
    };
    message.class();
    message.method();
    message.username();
    message.priority();
    message.ice_controlled();
    message.ice_controlling();
    message.xor_mapped_address();
    message.error_code();
    message.check_integrity(PASSWORD);
    message.check_integrity_sha256(PASSWORD);
    message.check_fingerprint();
    read_turn(&message, bytes);
    let values: usize = message.attributes().map(|(_, value)| value.len()).sum();
    assert!(values <= bytes.len());
    assert!(message.unknown_comprehension_required().count() <= bytes.len() / 4);
}

fn read_turn(message: &Message<'_>, bytes: &[u8]) {
    message.realm();
    message.channel_number();
    message.lifetime();
    message.requested_transport();
    message.requested_address_family();
    message.additional_address_family();
    message.address_error_code();
    message.even_port();
    message.reservation_token();
    message.xor_relayed_address();
    assert!(message.xor_peer_addresses().count() <= bytes.len() / 4);
    assert_eq!(message.data_range().map(|it| &bytes[it]), message.attribute(AttributeType::DATA));
    assert_eq!(
        message.xor_peer_addresses().next(),
        message.attribute(AttributeType::XOR_PEER_ADDRESS).map(|_| message.xor_peer_address())
    );
}
