//! Our SRTP against that of `rtc-srtp`: what one seals the other opens, and both seal to the same bytes.

use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_srtp::crypto::providers::AwsLcRsProvider;
use rtc_srtp::protection_profile::ProtectionProfile;
use sfu::srtp::{Opener, Profile, RTP_WINDOW, Rejected, Sealer};

const PROFILES: [(Profile, ProtectionProfile); 2] = [
    (Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (Profile::Aes128CmSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
];
const KEY: [u8; 16] = *b"a key of 16 byte";
const SALT: [u8; 14] = *b"salt of 14 byt";
const RTP_HEADER_LEN: usize = 20;

/// Ours and theirs with one key; `Context` is either end.
fn ends((ours, theirs): (Profile, ProtectionProfile)) -> (Opener, Sealer, Context) {
    let salt = &SALT[..ours.salt_len()];
    assert_eq!(theirs.rtp_auth_tag_len() + theirs.aead_auth_tag_len(), ours.rtp_overhead());
    let context = Context::new(&KEY, salt, theirs, None, None, AwsLcRsProvider::new().crypto()).unwrap();
    (Opener::new(ours, &KEY, salt).unwrap(), Sealer::new(ours, &KEY, salt).unwrap(), context)
}

/// A packet with a one-byte header extension of four bytes.
fn rtp(ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, 0xe0];
    packet.extend_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x12, 7, 8, 9]);
    assert_eq!(packet.len(), RTP_HEADER_LEN);
    packet.extend_from_slice(payload);
    packet
}

fn seal(sealer: &Sealer, profile: Profile, plain: &[u8], ssrc: u32, index: u64) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + profile.rtp_overhead(), 0);
    assert_eq!(sealer.seal_rtp(&mut packet, RTP_HEADER_LEN, plain.len(), ssrc, index), packet.len());
    packet
}

fn open(opener: &mut Opener, sealed: &[u8], ssrc: u32, index: u64) -> Result<(Vec<u8>, u64), Rejected> {
    let mut packet = sealed.to_vec();
    let (plain_len, opened) = opener.open_rtp(&mut packet, RTP_HEADER_LEN, ssrc, index as u16)?;
    packet.truncate(plain_len);
    Ok((packet, opened))
}

fn rtcp(ssrc: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 204, 0, 1 + (body.len() / 4) as u8];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&body[..body.len() / 4 * 4]);
    packet
}

/// In order over three rollovers, with gaps, two SSRCs at once.
#[test]
fn rtp_over_rollovers() {
    for profiles in PROFILES {
        let (mut opener, sealer, mut seals) = ends(profiles);
        let (_, _, mut opens) = ends(profiles);
        for index in (100u64..3 << 16).step_by(379) {
            for ssrc in [1, 0xffff_fffe] {
                let plain = rtp(ssrc, index, &index.to_be_bytes());
                let ours = seal(&sealer, profiles.0, &plain, ssrc, index);
                assert_eq!(seals.encrypt_rtp(&plain).unwrap(), ours);
                assert_eq!(opens.decrypt_rtp(&ours).unwrap(), plain);
                assert_eq!(open(&mut opener, &ours, ssrc, index), Ok((plain, index)));
            }
        }
    }
}

/// Each burst is opened backwards, with every packet of the last burst again; bursts cross rollovers.
#[test]
fn rtp_reordered_and_replayed() {
    const BURST: u64 = RTP_WINDOW as u64 / 2;
    for profiles in PROFILES {
        let (mut opener, sealer, mut seals) = ends(profiles);
        let (_, _, mut opens) = ends(profiles);
        // Begin half a burst before a multiple of it, so that the rollover lies within one.
        let start = (1 << 16) - BURST * 9 / 2;
        let mut last = Vec::new();
        for burst in 0..9 {
            let mut packets = Vec::new();
            for index in (start + burst * BURST..).take(BURST as usize) {
                let plain = rtp(5, index, b"frame");
                let sealed = seals.encrypt_rtp(&plain).unwrap();
                assert_eq!(sealed, seal(&sealer, profiles.0, &plain, 5, index));
                packets.push((index, plain, sealed));
            }
            for (index, plain, sealed) in packets.iter().rev() {
                assert_eq!(opens.decrypt_rtp(sealed).unwrap(), plain);
                assert_eq!(open(&mut opener, sealed, 5, *index), Ok((plain.clone(), *index)));
            }
            for (index, _, sealed) in last.iter().chain(&packets) {
                assert_eq!(open(&mut opener, sealed, 5, *index), Err(Rejected::Replay));
            }
            last = packets;
        }
    }
}

/// The two count SRTCP indices from different ends (we from 0, RFC 3711 §3.2.1; they from 1), so bytes differ by one packet.
#[test]
fn rtcp_both_ways() {
    for profiles in PROFILES {
        let (mut opener, mut sealer, mut seals) = ends(profiles);
        let (_, _, mut opens) = ends(profiles);
        for round in 0..300u32 {
            let plain = rtcp(9, &[round as u8; 40]);
            let mut ours = plain.clone();
            sealer.seal_rtcp(&mut ours).unwrap();
            assert_eq!(opens.decrypt_rtcp(&ours).unwrap(), plain);

            let theirs = seals.encrypt_rtcp(&plain).unwrap();
            let mut packet = theirs.to_vec();
            let plain_len = opener.open_rtcp(&mut packet).unwrap();
            assert_eq!(packet[..plain_len], plain);
            assert_eq!(opener.open_rtcp(&mut theirs.to_vec()), Err(Rejected::Replay));
        }
    }
}

#[test]
fn rtcp_bytes_agree() {
    for profiles in PROFILES {
        let (_, mut sealer, mut seals) = ends(profiles);
        let plain = rtcp(9, &[1; 24]);
        sealer.seal_rtcp(&mut plain.clone()).unwrap();
        for _ in 0..5 {
            let mut ours = plain.clone();
            sealer.seal_rtcp(&mut ours).unwrap();
            assert_eq!(seals.encrypt_rtcp(&plain).unwrap(), ours);
        }
    }
}

proptest! {
    /// Any payload, number and SSRC; whoever opens after a flipped bit refuses.
    #[test]
    fn any_rtp(
        gcm: bool,
        ssrc: u32,
        seq: u16,
        payload in prop::collection::vec(any::<u8>(), 0..1200),
        at: prop::sample::Index,
    ) {
        let profiles = PROFILES[usize::from(gcm)];
        let (mut opener, sealer, mut context) = ends(profiles);
        let plain = rtp(ssrc, u64::from(seq), &payload);
        let mut sealed = seal(&sealer, profiles.0, &plain, ssrc, u64::from(seq));
        prop_assert_eq!(&context.encrypt_rtp(&plain).unwrap()[..], &sealed[..]);
        prop_assert_eq!(open(&mut opener, &sealed, ssrc, u64::from(seq)), Ok((plain, u64::from(seq))));
        let bit = at.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        let (mut opener, _, _) = ends(profiles);
        prop_assert_eq!(open(&mut opener, &sealed, ssrc, u64::from(seq)), Err(Rejected::Authentication));
    }

    #[test]
    fn any_rtcp(gcm: bool, ssrc: u32, body in prop::collection::vec(any::<u8>(), 0..600)) {
        let profiles = PROFILES[usize::from(gcm)];
        let (mut opener, mut sealer, mut context) = ends(profiles);
        let plain = rtcp(ssrc, &body);
        let mut ours = plain.clone();
        sealer.seal_rtcp(&mut ours).unwrap();
        prop_assert_eq!(&context.decrypt_rtcp(&ours).unwrap()[..], &plain[..]);
        let plain_len = opener.open_rtcp(&mut ours).unwrap();
        prop_assert_eq!(&ours[..plain_len], &plain[..]);
    }
}
