//! The vectors of RFC 3711 appendix B and RFC 7714 §16 and §17, and what must be refused.

use proptest::prelude::*;

use super::keys::{self, PRF_SALT_LEN, SessionKeys};
use super::*;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn pair(profile: Profile) -> (Opener, Sealer) {
    let (key, salt) = ([7; 16], [9; 14]);
    let salt = &salt[..profile.salt_len()];
    (Opener::new(profile, &key, salt).unwrap(), Sealer::new(profile, &key, salt).unwrap())
}

/// A plain packet with a payload that tells its number.
fn rtp(ssrc: u32, index: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&index.to_be_bytes());
    packet
}

fn sealed(sealer: &Sealer, ssrc: u32, index: u64) -> Vec<u8> {
    let mut packet = rtp(ssrc, index);
    let plain_len = packet.len();
    packet.resize(plain_len + 16, 0);
    let sealed_len = sealer.seal_rtp(&mut packet, 12, plain_len, ssrc, index);
    packet.truncate(sealed_len);
    packet
}

fn open(opener: &mut Opener, mut packet: Vec<u8>) -> Result<u64, Rejected> {
    let (ssrc, seq) = (u32_at(&packet, 8), u16::from_be_bytes([packet[2], packet[3]]));
    let (plain_len, index) = opener.open_rtp(&mut packet, 12, ssrc, seq)?;
    assert_eq!(packet[..plain_len], rtp(ssrc, index));
    Ok(index)
}

/// RFC 3711 appendix B.2.
#[test]
fn aes_cm_keystream() {
    let mut session = SessionKeys { key: [0; 16], auth: [0; 20], salt: [0; 14] };
    session.key.copy_from_slice(&hex("2B7E151628AED2A6ABF7158809CF4F3C"));
    session.salt.copy_from_slice(&hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"));
    let mut stream = vec![0; 16 * 0xff02];
    Cm::new(&session).unwrap().apply_keystream(&mut stream, 0, 0);
    for (block, expected) in [
        (0, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (1, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (2, "41E95B3BB0A2E8DD477901E4FCA894C0"),
        (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        assert_eq!(stream[16 * block..16 * (block + 1)], hex(expected), "block {block:x}");
    }
}

/// RFC 3711 appendix B.3.
#[test]
fn key_derivation() {
    let mut salt = [0; PRF_SALT_LEN];
    salt.copy_from_slice(&hex("0EC675AD498AFEEBB6960B3AABE6"));
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let stream = hex(concat!(
        "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE",
        "E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25",
        "6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2DC68",
    ));
    assert_eq!(keys::prf::<96>(&keys::aes_ctr(&key).unwrap(), &salt, 1).unwrap()[..], stream);
    let (rtp, rtcp) = keys::derive(Profile::Aes128CmSha1_80, &key, &salt).unwrap();
    assert_eq!(rtp.key[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(rtp.salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(rtp.auth[..], stream[..20]);
    assert_ne!(rtp.key, rtcp.key);
}

/// The session keys of RFC 7714 §16 and §17.
fn rfc7714() -> (Opener, Sealer) {
    let keys = || {
        let mut keys = SessionKeys { key: [0; 16], auth: [0; 20], salt: [0; 14] };
        keys.key.copy_from_slice(&hex("000102030405060708090a0b0c0d0e0f"));
        keys.salt[..12].copy_from_slice(&hex("517569642070726f2071756f"));
        keys
    };
    let profile = Profile::AeadAes128Gcm;
    (
        Opener::from_session_keys(profile, &keys(), &keys()).unwrap(),
        Sealer::from_session_keys(profile, &keys(), &keys()).unwrap(),
    )
}

/// RFC 7714 §16.1.1 and §16.1.2.
#[test]
fn gcm_rtp() {
    let (mut opener, sealer) = rfc7714();
    let plain = hex(concat!(
        "8040f17b8041f8d35501a0b2",
        "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573",
    ));
    let expected = hex(concat!(
        "8040f17b8041f8d35501a0b2",
        "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833",
        "899d7f27beb16a9152cf765ee4390cce",
    ));
    let mut packet = plain.clone();
    packet.resize(plain.len() + 16, 0);
    assert_eq!(sealer.seal_rtp(&mut packet, 12, plain.len(), 0x5501a0b2, 0xf17b), expected.len());
    assert_eq!(packet, expected);
    assert_eq!(opener.open_rtp(&mut packet, 12, 0x5501a0b2, 0xf17b), Ok((plain.len(), 0xf17b)));
    assert_eq!(packet[..plain.len()], plain);
}

/// RFC 7714 §17.1; §17.3, tagged but in the clear, is refused.
#[test]
fn gcm_rtcp() {
    let (mut opener, mut sealer) = rfc7714();
    let plain = hex(concat!(
        "81c8000d4d617273",
        "4e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    ));
    let expected = hex(concat!(
        "81c8000d4d617273",
        "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b",
        "c84aa45896cf4d2fc5abf87245d9eade800005d4",
    ));
    sealer.rtcp_index = 0x5d4;
    let mut packet = plain.clone();
    sealer.seal_rtcp(&mut packet).unwrap();
    assert_eq!(packet, expected);
    assert_eq!(opener.open_rtcp(&mut packet), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);

    let mut in_the_clear = plain;
    in_the_clear.extend_from_slice(&hex("841dd9683dd78ec92ae58790125f62b3000005d4"));
    assert_eq!(rfc7714().0.open_rtcp(&mut in_the_clear), Err(Rejected::Malformed));
}

#[test]
fn keying_material_is_split_by_role() {
    for profile in PROFILES {
        let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
        let (mut server_opener, server_sealer) = from_keying_material(profile, &material, true).unwrap();
        let (mut client_opener, client_sealer) = from_keying_material(profile, &material, false).unwrap();
        assert_eq!(open(&mut client_opener, sealed(&server_sealer, 1, 1)), Ok(1));
        assert_eq!(open(&mut server_opener, sealed(&client_sealer, 1, 1)), Ok(1));
        assert_eq!(open(&mut server_opener, sealed(&server_sealer, 1, 2)), Err(Rejected::Authentication));
        let salt = &material[32..][..profile.salt_len()];
        let mut from_client = Opener::new(profile, &material[..16], salt).unwrap();
        assert_eq!(open(&mut from_client, sealed(&client_sealer, 1, 3)), Ok(3));
        assert!(from_keying_material(profile, &material[1..], true).is_none());
        assert!(Opener::new(profile, &material[..15], salt).is_none());
        assert!(Sealer::new(profile, &material[..16], &salt[1..]).is_none());
    }
}

#[test]
fn replays_and_packets_behind_the_window_are_refused() {
    for profile in PROFILES {
        let (mut opener, sealer) = pair(profile);
        let newest = RTP_WINDOW as u64 + 10;
        assert_eq!(open(&mut opener, sealed(&sealer, 1, newest)), Ok(newest));
        assert_eq!(open(&mut opener, sealed(&sealer, 1, newest)), Err(Rejected::Replay));
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 11)), Ok(11));
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 11)), Err(Rejected::Replay));
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 10)), Err(Rejected::Replay));
        assert_eq!(open(&mut opener, sealed(&sealer, 2, 10)), Ok(10), "each SSRC has its own window");
    }
}

#[test]
fn rollovers_are_followed_out_of_order() {
    for profile in PROFILES {
        let (mut opener, sealer) = pair(profile);
        for index in [0x7000, 0xe000, 0xffff, 0x1_0001, 0xfffe, 0x1_0000, 0x1_7000, 0x1_e000, 0x2_0003, 0x1_ffff] {
            assert_eq!(open(&mut opener, sealed(&sealer, 1, index)), Ok(index));
        }
        assert_eq!(
            open(&mut opener, sealed(&sealer, 1, 0x4_0004)),
            Err(Rejected::Authentication),
            "a jump of rollovers"
        );
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 0x2_0004)), Ok(0x2_0004));
    }
}

#[test]
fn a_forged_packet_changes_nothing() {
    for profile in PROFILES {
        let (mut opener, sealer) = pair(profile);
        for ssrc in 0..1000 {
            let mut forged = sealed(&sealer, ssrc, 1);
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(open(&mut opener, forged), Err(Rejected::Authentication));
        }
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 1)), Ok(1));
        let mut forged = sealed(&sealer, 1, 30_000);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(open(&mut opener, forged), Err(Rejected::Authentication));
        assert_eq!(open(&mut opener, sealed(&sealer, 1, 0)), Ok(0), "the window has not moved");
    }
}

#[test]
fn streams_are_limited() {
    for profile in PROFILES {
        let (mut opener, mut sealer) = pair(profile);
        for ssrc in 0..STREAMS_MAX as u32 {
            assert_eq!(open(&mut opener, sealed(&sealer, ssrc, 1)), Ok(1));
        }
        assert_eq!(open(&mut opener, sealed(&sealer, 1000, 1)), Err(Rejected::TooManyStreams));
        assert_eq!(open(&mut opener, sealed(&sealer, 5, 2)), Ok(2));
        for ssrc in 0..=STREAMS_MAX as u32 {
            let mut packet = vec![0x80, 201, 0, 1];
            packet.extend_from_slice(&ssrc.to_be_bytes());
            sealer.seal_rtcp(&mut packet).unwrap();
            let expected = if ssrc < STREAMS_MAX as u32 { Ok(8) } else { Err(Rejected::TooManyStreams) };
            assert_eq!(opener.open_rtcp(&mut packet), expected);
        }
    }
}

#[test]
fn rtcp_is_opened_once_and_within_its_window() {
    for profile in PROFILES {
        let (mut opener, mut sealer) = pair(profile);
        let plain = [0x81, 201, 0, 2, 0, 0, 0, 1, 1, 2, 3, 4];
        let packets: Vec<Vec<u8>> = (0..=RTCP_WINDOW)
            .map(|_| {
                let mut packet = plain.to_vec();
                sealer.seal_rtcp(&mut packet).unwrap();
                assert_eq!(packet.len(), plain.len() + profile.rtcp_overhead());
                packet
            })
            .collect();
        for at in [RTCP_WINDOW, 1, 2] {
            let mut packet = packets[at].clone();
            assert_eq!(opener.open_rtcp(&mut packet), Ok(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
            assert_eq!(opener.open_rtcp(&mut packets[at].clone()), Err(Rejected::Replay));
        }
        assert_eq!(opener.open_rtcp(&mut packets[0].clone()), Err(Rejected::Replay));
    }
}

#[test]
fn the_last_rtcp_index_is_the_end() {
    for profile in PROFILES {
        let (mut opener, mut sealer) = pair(profile);
        sealer.rtcp_index = (1 << 31) - 1;
        let plain = vec![0x80, 201, 0, 1, 0, 0, 0, 1];
        let mut packet = plain.clone();
        sealer.seal_rtcp(&mut packet).unwrap();
        assert_eq!(opener.open_rtcp(&mut packet), Ok(8));
        let mut packet = plain.clone();
        assert_eq!(sealer.seal_rtcp(&mut packet), None);
        assert_eq!(packet, plain);
    }
}

/// Also one who holds the keys must not make us reach behind the end of a packet.
#[test]
fn packets_shorter_than_their_parts_are_malformed() {
    for profile in PROFILES {
        let (mut opener, sealer) = pair(profile);
        for len in 0..8 + profile.rtcp_overhead() {
            assert_eq!(opener.open_rtcp(&mut vec![0xff; len]), Err(Rejected::Malformed), "{len} bytes");
        }
        for len in 0..12 + profile.rtp_overhead() {
            assert_eq!(opener.open_rtp(&mut vec![0xff; len], 12, 1, 1), Err(Rejected::Malformed), "{len} bytes");
        }
        let mut packet = sealed(&sealer, 1, 1);
        assert_eq!(opener.open_rtp(&mut packet.clone(), 21, 1, 1), Err(Rejected::Malformed), "a header into the tag");
        assert_eq!(opener.open_rtp(&mut packet.clone(), 11, 1, 1), Err(Rejected::Malformed), "half a header");
        assert_eq!(opener.open_rtp(&mut packet.clone(), usize::MAX, 1, 1), Err(Rejected::Malformed));
        assert_eq!(opener.open_rtp(&mut packet, 12, 1, 1), Ok((20, 1)));
    }
}

#[test]
#[should_panic(expected = "48 bits")]
fn an_index_is_never_wrapped() {
    sealed(&pair(Profile::AeadAes128Gcm).1, 1, 1 << 48);
}

#[test]
fn openers_and_sealers_may_move_to_another_thread() {
    fn is_send<T: Send>(_: T) {}
    is_send(pair(Profile::AeadAes128Gcm));
    is_send(pair(Profile::Aes128CmSha1_80));
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(gcm: bool, index in 0u64..1 << 16, at: prop::sample::Index) {
        let (mut opener, sealer) = pair(if gcm { PROFILES[0] } else { PROFILES[1] });
        let mut packet = sealed(&sealer, 77, index);
        let bit = at.index(packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open(&mut opener, packet), Err(Rejected::Authentication));
    }

    #[test]
    fn any_flipped_bit_of_rtcp_is_refused(gcm: bool, body: Vec<u8>, at: prop::sample::Index) {
        let (mut opener, mut sealer) = pair(if gcm { PROFILES[0] } else { PROFILES[1] });
        let mut packet = vec![0x81, 201, 0, 1, 0, 0, 0, 1];
        packet.extend_from_slice(&body);
        sealer.seal_rtcp(&mut packet).unwrap();
        let bit = at.index(packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        // A cleared E flag is malformed before it is forged.
        let rejected = opener.open_rtcp(&mut packet).unwrap_err();
        prop_assert!(matches!(rejected, Rejected::Authentication | Rejected::Malformed));
    }

    #[test]
    fn arbitrary_bytes_never_panic(gcm: bool, mut bytes: Vec<u8>, header_len in 0usize..200, ssrc: u32, seq: u16) {
        let (mut opener, _) = pair(if gcm { PROFILES[0] } else { PROFILES[1] });
        prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        prop_assert!(opener.open_rtp(&mut bytes, header_len, ssrc, seq).is_err());
    }
}
