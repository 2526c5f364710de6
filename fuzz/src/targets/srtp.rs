//! SRTP under a real key: nothing forged opens, nothing honest is hurt by it.

use sfu::rtp;
use sfu::srtp::{Opener, Profile, Rejected, Sealer, from_keying_material};

/// The two directions between a server and a client.
fn pair(profile: Profile) -> [(Opener, Sealer); 2] {
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|it| it as u8 ^ 0x5a).collect();
    [true, false].map(|server| from_keying_material(profile, &material, server).expect("material of that length"))
}

/// The first byte chooses the profile, the rest is first a datagram as it came, then one to be sealed.
pub fn srtp(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let profile = [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80][usize::from(choice % 3)];
    let [mut server, mut client] = pair(profile);
    for (opener, sealer) in [(&mut server.0, &mut client.1), (&mut client.0, &mut server.1)] {
        forged(opener, data);
        honest_rtp(opener, sealer, data);
        honest_rtcp(opener, sealer, data);
    }
}

/// Strangers do not have the key.
fn forged(opener: &mut Opener, data: &[u8]) {
    assert!(opener.open_rtcp(&mut data.to_vec()).is_err());
    if let Some(header) = rtp::parse(data) {
        let opened = opener.open_rtp(&mut data.to_vec(), header.header_len, header.ssrc, header.sequence_number);
        assert!(opened.is_err());
    }
    // A caller's header that does not fit the packet.
    assert!(opener.open_rtp(&mut data.to_vec(), data.len() + 1, 7, 7).is_err());
}

fn honest_rtp(opener: &mut Opener, sealer: &Sealer, data: &[u8]) {
    let Some(header) = rtp::parse(data) else { return };
    let (header_len, ssrc, seq) = (header.header_len, header.ssrc, header.sequence_number);
    let mut sealed = data.to_vec();
    sealed.resize(data.len() + sealer.overhead(), 0);
    assert_eq!(sealer.seal_rtp(&mut sealed, header_len, data.len(), ssrc, u64::from(seq)), sealed.len());
    for at in [header_len.min(sealed.len() - 1), sealed.len() - 1, 11] {
        let mut damaged = sealed.clone();
        damaged[at] ^= 0x10;
        // A damaged SSRC may be a new one; it fails all the same.
        let header = rtp::parse(&damaged).expect("the header's form is whole");
        let opened = opener.open_rtp(&mut damaged, header_len, header.ssrc, header.sequence_number);
        assert_eq!(opened, Err(Rejected::Authentication), "byte {at}");
    }
    let mut opened = sealed.clone();
    assert_eq!(opener.open_rtp(&mut opened, header_len, ssrc, seq), Ok((data.len(), u64::from(seq))));
    assert_eq!(opened[..data.len()], *data);
    assert_eq!(opener.open_rtp(&mut sealed, header_len, ssrc, seq), Err(Rejected::Replay));
}

fn honest_rtcp(opener: &mut Opener, sealer: &mut Sealer, data: &[u8]) {
    if data.len() < 8 {
        return;
    }
    let mut sealed = data.to_vec();
    sealer.seal_rtcp(&mut sealed).expect("the first of 2^31");
    let mut damaged = sealed.clone();
    damaged[8] ^= 1;
    assert_eq!(opener.open_rtcp(&mut damaged), Err(Rejected::Authentication));
    let mut opened = sealed.clone();
    assert_eq!(opener.open_rtcp(&mut opened), Ok(data.len()));
    assert_eq!(opened[..data.len()], *data);
    assert_eq!(opener.open_rtcp(&mut sealed), Err(Rejected::Replay));
}
