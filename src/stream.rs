//! What TCP streams of packets have in common, whatever their framing: listeners, how many there may be and of whom, and
//! what waits for one that is full or slow.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use sfu::rtp::{self, Class};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections accepted before the sockets are read again; the others wait in the kernel until the next turn.
pub(crate) const ACCEPTS_PER_TURN: usize = 32;
/// Connections that the kernel keeps until they are accepted. When full, it ignores further ones, and they come again.
const BACKLOG: i32 = 128;
/// Bytes that wait for one connection. When full, what comes is dropped, whole packets only.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// How much of the queue RTP may fill: what is behind it is for STUN, DTLS and RTCP, without which nothing recovers.
pub(crate) const MEDIA_BYTES_MAX: usize = 56 * 1024;
/// How much of it longer RTP may fill: the rest is for audio.
pub(crate) const VIDEO_BYTES_MAX: usize = 44 * 1024;
/// RTP above this is taken for video: 300 bytes are 120 kbit/s of audio in packets of 20 ms.
const AUDIO_BYTES_MAX: usize = 300;
/// RTP that has waited for so long is dropped: late media is worse than none, and holds up what comes behind it.
pub(crate) const QUEUE_AGE_MAX: Duration = Duration::from_millis(200);
/// Bytes that the kernel may hold unsent: they are not ours to drop any more. Lower costs wakes, higher costs delay.
const KERNEL_UNSENT_BYTES: u32 = 16 * 1024;
/// A connection that has taken nothing for so long is closed; it is as long as the consent of ICE.
pub(crate) const STALLED_MAX: Duration = Duration::from_secs(30);

/// Frames that leave by one write when nothing waits: as many as a run has datagrams.
const GATHERED_MAX: usize = 64;

/// IPv4, IPv6.
pub(crate) type Listeners = [Option<TcpListener>; 2];

/// Listens on `port`, for IPv4 and, where the machine has it, for IPv6. `port` 0 takes any.
pub(crate) fn listen(port: u16, v6: bool) -> io::Result<Listeners> {
    let v4 = listener(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    let port = v4.local_addr()?.port();
    let v6 = v6.then(|| listener(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))).transpose()?;
    Ok([Some(v4), v6])
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a process that has just ended must not keep the next from its port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Makes a connection fit for packets: none waits for others, and little of what waits lies in the kernel.
pub(crate) fn tune(stream: &TcpStream) {
    // A kernel that knows neither only makes delays longer.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES);
}

/// How many connections there are, and from where.
pub(crate) struct Census {
    /// How many there may be in all, and from one source.
    most: usize,
    most_of_source: usize,
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

impl Census {
    /// `most` in all, `most_of_source` from one IPv4 address or IPv6 /64.
    pub(crate) fn new(most: usize, most_of_source: usize) -> Self {
        Census { most, most_of_source, all: 0, sources: HashMap::new() }
    }

    /// Whether one more may come from there.
    pub(crate) fn has_room(&self, address: IpAddr) -> bool {
        let of_source = self.sources.get(&source_of(address)).copied().unwrap_or(0);
        self.all < self.most && of_source < self.most_of_source
    }

    /// One has come.
    pub(crate) fn enter(&mut self, address: IpAddr) {
        self.all += 1;
        *self.sources.entry(source_of(address)).or_default() += 1;
    }

    /// One that had come has gone.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        let source = source_of(address);
        let Some(of_source) = self.sources.get_mut(&source) else { return };
        self.all -= 1;
        *of_source -= 1;
        if *of_source == 0 {
            self.sources.remove(&source);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn all(&self) -> usize {
        self.all
    }
}

/// Whose connections are counted together.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

/// What a frame carries: by this it finds room, and RTP grows old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// What keeps the connection alive: STUN, DTLS, RTCP.
    Control,
    /// Short RTP.
    Audio,
    /// Longer RTP.
    Video,
}

impl Load {
    /// What a datagram is.
    pub(crate) fn of(datagram: &[u8]) -> Self {
        match rtp::classify(datagram) {
            Class::Rtp if datagram.len() > AUDIO_BYTES_MAX => Load::Video,
            Class::Rtp => Load::Audio,
            _ => Load::Control,
        }
    }

    /// How full the queue may be with one more of these.
    fn most(self) -> usize {
        match self {
            Load::Control => QUEUE_BYTES_MAX,
            Load::Audio => MEDIA_BYTES_MAX,
            Load::Video => VIDEO_BYTES_MAX,
        }
    }
}

/// What waits for one connection, in the order in which it leaves. The shell does not know frames and keyframes: after a
/// drop the client asks again (NACK) or for a keyframe (PLI), as after a loss, and bandwidth estimation sees it as one.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that the kernel has: the rest of it must follow.
    begun: usize,
}

/// A packet in its framing that waits.
struct Frame {
    bytes: usize,
    at: Instant,
    load: Load,
}

impl Outbox {
    /// Whether there is room for a frame: most for what keeps the connection alive, less for audio, least for video.
    fn takes(&self, load: Load, bytes: usize) -> bool {
        self.bytes.len() + bytes <= load.most()
    }

    /// Queues a frame of these parts; room was asked for.
    fn push(&mut self, load: Load, parts: &[&[u8]], now: Instant) {
        let bytes = parts.iter().map(|part| part.len()).sum();
        debug_assert!(self.takes(load, bytes), "room was asked for");
        for part in parts {
            self.bytes.extend(*part);
        }
        self.frames.push_back(Frame { bytes, at: now, load });
    }

    /// Queues a frame of these parts. Where there is no room, `stream` gets what it takes first; how many frames were
    /// dropped, this one among them if there is no room even then.
    pub(crate) fn offer(
        &mut self,
        load: Load,
        parts: &[&[u8]],
        stream: &mut impl Write,
        writable: &mut bool,
        now: Instant,
    ) -> io::Result<u64> {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut dropped = 0;
        if !self.takes(load, bytes) {
            dropped += self.flush(stream, writable, now)?;
        }
        if self.takes(load, bytes) {
            self.push(load, parts, now);
        } else {
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Sends frames. While nothing waits they go straight to `stream` and are copied nowhere; what it does not take is queued.
    /// How many frames were dropped.
    pub(crate) fn send<'a>(
        &mut self,
        frames: impl Iterator<Item = [&'a [u8]; 3]>,
        load: impl Fn(&[u8]) -> Load,
        stream: &mut impl Write,
        writable: &mut bool,
        now: Instant,
    ) -> io::Result<u64> {
        let mut frames = frames.fuse();
        let mut dropped = self.flush(stream, writable, now)?;
        while *writable && self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3 * GATHERED_MAX];
            let mut gathered = [[&[][..]; 3]; GATHERED_MAX];
            let mut count = 0;
            for ((kept, slices), parts) in gathered.iter_mut().zip(slices.chunks_exact_mut(3)).zip(&mut frames) {
                *kept = parts;
                slices.copy_from_slice(&parts.map(IoSlice::new));
                count += 1;
            }
            if count == 0 {
                return Ok(dropped);
            }
            let mut written = write_some(stream, &slices[..3 * count], writable)?;
            for parts in &gathered[..count] {
                let bytes: usize = parts.iter().map(|part| part.len()).sum();
                let gone = written.min(bytes);
                written -= gone;
                match gone {
                    0 => dropped += self.offer(load(parts[1]), parts, stream, writable, now)?,
                    _ if gone < bytes => self.push_rest(load(parts[1]), parts, gone, now),
                    _ => {}
                }
            }
        }
        for parts in frames {
            dropped += self.offer(load(parts[1]), &parts, stream, writable, now)?;
        }
        Ok(dropped + self.flush(stream, writable, now)?)
    }

    /// Queues what is left of a frame of which the kernel has `gone` bytes; nothing else waits.
    fn push_rest(&mut self, load: Load, parts: &[&[u8]], gone: usize, now: Instant) {
        debug_assert!(self.frames.is_empty(), "what waits goes first");
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut skip = gone;
        for part in parts {
            self.bytes.extend(part.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(part.len());
        }
        self.frames.push_back(Frame { bytes, at: now, load });
        self.begun = gone;
    }

    /// Writes what `stream` takes, having dropped what is too old; how many frames that were. `writable` is cleared when
    /// it takes no more.
    pub(crate) fn flush(&mut self, stream: &mut impl Write, writable: &mut bool, now: Instant) -> io::Result<u64> {
        let dropped = self.drop_late(now);
        while *writable {
            let (first, second) = self.bytes.as_slices();
            if first.is_empty() {
                break;
            }
            let written = write_some(stream, &[IoSlice::new(first), IoSlice::new(second)], writable)?;
            self.written(written);
        }
        Ok(dropped)
    }

    /// Drops RTP that has waited for too long, except a frame whose beginning is on its way; how many frames.
    fn drop_late(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        let mut kept = usize::from(self.begun > 0);
        let mut start = self.frames.front().filter(|_| kept > 0).map_or(0, |first| first.bytes - self.begun);
        let is_late = |frame: &&Frame| now.saturating_duration_since(frame.at) > QUEUE_AGE_MAX;
        while let Some(late) = self.frames.get(kept).filter(is_late) {
            let bytes = late.bytes;
            if late.load == Load::Control {
                start += bytes;
                kept += 1;
                continue;
            }
            self.bytes.drain(start..start + bytes);
            self.frames.remove(kept);
            dropped += 1;
        }
        dropped
    }

    fn written(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        self.begun += bytes;
        while let Some(first) = self.frames.front().filter(|first| first.bytes <= self.begun) {
            self.begun -= first.bytes;
            self.frames.pop_front();
        }
    }

    /// Since when the first frame waits.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.frames.front().map(|first| first.at)
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes what `stream` takes at once; `writable` is cleared when it takes no more.
fn write_some(stream: &mut impl Write, slices: &[IoSlice<'_>], writable: &mut bool) -> io::Result<usize> {
    loop {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *writable = false;
                return Ok(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
