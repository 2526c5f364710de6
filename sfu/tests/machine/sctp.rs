//! A client's SCTP as somebody else wrote it, and packets of SCTP by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Protocol, ReliabilityType, StreamEvent,
};
use rtc::shared::TransportProtocol;

const MESSAGE_BYTES_MAX: usize = 262_144;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) stream: u16,
    pub(crate) text: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Came {
    pub(crate) fn text(stream: u16, text: &str) -> Came {
        Came { stream, text: true, bytes: text.into() }
    }
}

/// The association of a tab.
pub(crate) struct Sctp {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    pub(crate) came: Vec<Came>,
    /// Channels that the server acknowledged.
    pub(crate) opened: Vec<u16>,
    /// The association is over.
    pub(crate) lost: bool,
    /// How many in a hundred packets are lost, each way.
    pub(crate) loss: u32,
    /// It takes no packet and sends none by itself: a test speaks in its place.
    pub(crate) mute: bool,
    /// Packets that came while it is mute.
    pub(crate) raw: Vec<Vec<u8>>,
    rng: StdRng,
}

impl Sctp {
    pub(crate) fn new(seed: u64, now: Instant) -> Sctp {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut endpoint = Endpoint::new(address(5_000), TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let (handle, association) = endpoint.connect(now, ClientConfig::default(), address(5_001)).unwrap();
        Sctp {
            endpoint,
            handle,
            association,
            came: Vec::new(),
            opened: Vec::new(),
            lost: false,
            loss: 0,
            mute: false,
            raw: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.random_range(0..100) < self.loss
    }

    pub(crate) fn take(&mut self, packet: &[u8], now: Instant) {
        if self.mute {
            return self.raw.push(packet.to_vec());
        }
        if self.is_lost() {
            return;
        }
        let remote = SocketAddr::from(([127, 0, 0, 1], 5_001));
        if let Some((_, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, remote, None, packet.to_vec().into())
        {
            self.association.handle_event(event);
        }
        self.read();
    }

    fn read(&mut self) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::AssociationLost { .. } | Event::HandshakeFailed { .. } => self.lost = true,
                Event::Stream(StreamEvent::Readable { id }) => self.read_stream(id),
                _ => {}
            }
        }
    }

    fn read_stream(&mut self, id: u16) {
        let Ok(mut stream) = self.association.stream(id) else { return };
        while let Ok(Some(chunks)) = stream.read_sctp() {
            let bytes = chunks.to_payload(MESSAGE_BYTES_MAX).unwrap().to_vec();
            match chunks.ppi {
                Protocol::Dcep => self.opened.push(id),
                Protocol::String => self.came.push(Came { stream: id, text: true, bytes }),
                Protocol::Binary => self.came.push(Came { stream: id, text: false, bytes }),
                other => panic!("{other:?} came"),
            }
        }
    }

    /// Does what is due; what it sends.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.mute {
            return Vec::new();
        }
        if self.association.poll_timeout().is_some_and(|due| due <= now) {
            self.association.handle_timeout(now);
        }
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(raw) = transmit.message {
                packets.extend(raw.iter().map(|packet| packet.to_vec()));
            }
        }
        while let Some(event) = self.association.poll_endpoint_event() {
            self.endpoint.handle_event(self.handle, event);
        }
        self.read();
        packets.retain(|_| !self.is_lost());
        packets
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.association.poll_timeout().filter(|_| !self.mute)
    }

    /// Opens a channel, reliable and ordered or neither (`maxRetransmits: 0`).
    pub(crate) fn open(&mut self, stream: u16, label: &str, lossy: bool, now: Instant) {
        self.open_silently(stream, lossy);
        let mut message = vec![3, if lossy { 0x81 } else { 0 }, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0];
        message.extend(label.bytes());
        // RFC 8832 §6: it is sent reliably and in order, whatever the channel is.
        let mut handle = self.association.stream(stream).unwrap();
        handle.set_reliability_params(false, ReliabilityType::Reliable, 0).unwrap();
        handle.write_with_ppi(now, &message, Protocol::Dcep).unwrap();
        if lossy {
            handle.set_reliability_params(true, ReliabilityType::Rexmit, 0).unwrap();
        }
    }

    /// Opens a channel as one that was negotiated: the server is not told.
    pub(crate) fn open_silently(&mut self, stream: u16, lossy: bool) {
        let mut handle = self.association.open_stream(stream, Protocol::Binary).unwrap();
        if lossy {
            handle.set_reliability_params(true, ReliabilityType::Rexmit, 0).unwrap();
        }
    }

    pub(crate) fn text(&mut self, stream: u16, text: &str, now: Instant) {
        self.association.stream(stream).unwrap().write_with_ppi(now, text.as_bytes(), Protocol::String).unwrap();
    }

    pub(crate) fn binary(&mut self, stream: u16, bytes: &[u8], now: Instant) {
        self.association.stream(stream).unwrap().write_with_ppi(now, bytes, Protocol::Binary).unwrap();
    }

    /// Closes a channel on its side.
    pub(crate) fn close(&mut self, stream: u16, now: Instant) {
        self.association.stream(stream).unwrap().close(now).unwrap();
    }

    /// Whether a stream is still there.
    pub(crate) fn has(&self, stream: u16) -> bool {
        self.association.stream_ids().contains(&stream)
    }
}

/// A packet of SCTP by hand, with the right checksum.
pub(crate) fn packet(tag: u32, chunks: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0x13, 0x88, 0x13, 0x88];
    out.extend(tag.to_be_bytes());
    out.extend([0; 4]);
    for (kind, flags, body) in chunks {
        out.extend([*kind, *flags]);
        out.extend((body.len() as u16 + 4).to_be_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    seal(&mut out);
    out
}

/// Writes the checksum.
pub(crate) fn seal(packet: &mut [u8]) {
    packet[8..12].fill(0);
    let crc = packet.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}
