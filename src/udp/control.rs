//! Control messages of a send, as the kernel reads them (cmsg(3)): from which of our addresses, and how long each datagram
//! of a GSO send is. Written by hand, because the library that receives and sends for us takes no gathered payload.

use std::net::IpAddr;

/// `SOL_UDP` and `UDP_SEGMENT` (linux/udp.h).
const UDP_SEGMENT: (i32, i32) = (17, 103);
/// `IPPROTO_IP` and `IP_PKTINFO` (linux/in.h).
const IP_PKTINFO: (i32, i32) = (0, 8);
/// `IPPROTO_IPV6` and `IPV6_PKTINFO` (linux/in6.h).
const IPV6_PKTINFO: (i32, i32) = (41, 50);

/// `struct cmsghdr`: a length of the size of a pointer, level and type.
const HEAD_BYTES: usize = WORD + 8;
/// Each begins at a multiple of this.
const WORD: usize = size_of::<usize>();
/// Room for an address of IPv6 and a size.
const BYTES_MAX: usize = 80;

/// The control messages of one send.
pub(super) struct Message {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl Message {
    /// From `local`, if it is an address, and cut into datagrams of `segment` bytes, if it is to be.
    pub(super) fn new(local: IpAddr, segment: Option<usize>) -> Self {
        let mut message = Message { bytes: [0; BYTES_MAX], len: 0 };
        match local {
            _ if local.is_unspecified() => {}
            // in_pktinfo: an interface, the address to send from, and one that only matters when receiving.
            IpAddr::V4(v4) => message.add(IP_PKTINFO, &[&[0; 4], &v4.octets(), &[0; 4]]),
            // in6_pktinfo: the address and an interface.
            IpAddr::V6(v6) => message.add(IPV6_PKTINFO, &[&v6.octets(), &[0; 4]]),
        }
        if let Some(segment) = segment {
            message.add(UDP_SEGMENT, &[&u16::try_from(segment).unwrap_or(u16::MAX).to_ne_bytes()]);
        }
        message
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn add(&mut self, (level, kind): (i32, i32), data: &[&[u8]]) {
        let len = HEAD_BYTES + data.iter().map(|part| part.len()).sum::<usize>();
        let start = self.len;
        self.len += len.next_multiple_of(WORD);
        let mut at = start;
        for part in [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].iter().chain(data) {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
}
