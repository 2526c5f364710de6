use std::collections::VecDeque;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, SupportedProtocolVersion};

use super::*;
use crate::tls::tests::{Issued, client, issue};

/// What one record costs beside its content; more than any cipher of ours.
const RECORD_COST: usize = 64;

/// A stream without a kernel.
#[derive(Default)]
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    /// Bytes taken before it blocks.
    room: usize,
    /// Most bytes of one read.
    most: usize,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = buffer.len().min(self.most);
        match self.incoming.read(&mut buffer[..end])? {
            0 if !self.ended => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= taken;
        self.outgoing.extend(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn server(issued: &Issued) -> Box<ServerConnection> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.expect("versions that the provider knows").with_no_client_auth();
    let config = builder.with_single_cert(chain.expect("PEM"), key).expect("they belong together");
    Box::new(ServerConnection::new(Arc::new(config)).expect("a good configuration"))
}

/// A client and a server with nothing but memory between them.
struct Pair {
    client: ClientConnection,
    server: TlsStream<Pipe>,
}

impl Pair {
    /// Before the handshake; `most` is how much the server reads at once.
    fn new(version: &'static SupportedProtocolVersion, most: usize) -> Pair {
        let issued = issue(2020..2090);
        let name = ServerName::try_from("localhost").expect("a name");
        let config = Arc::new(client(&issued.root, &[version]));
        let client = ClientConnection::new(config, name).expect("a good configuration");
        let pipe = Pipe { room: usize::MAX, most, ..Pipe::default() };
        Pair { client, server: TlsStream::new(pipe, server(&issued)) }
    }

    fn connected(version: &'static SupportedProtocolVersion, most: usize) -> Pair {
        let mut pair = Pair::new(version, most);
        for _ in 0..5 {
            assert_eq!(pair.serve(), b"");
            pair.carry();
        }
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        pair
    }

    /// Carries bytes both ways and gives those that the client can read.
    fn carry(&mut self) -> Vec<u8> {
        let sent = std::mem::take(&mut self.server.stream.outgoing);
        let mut sent = &sent[..];
        let mut heard = Vec::new();
        while !sent.is_empty() {
            self.client.read_tls(&mut sent).expect("there is room");
            self.client.process_new_packets().expect("good TLS");
            match self.client.reader().read_to_end(&mut heard) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
        }
        let mut wire = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire).expect("a vector takes all");
        }
        self.server.stream.incoming.extend(wire);
        heard
    }

    /// What the server reads until it would block.
    fn serve(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut buffer = [0; 1_000];
        loop {
            match self.server.read(&mut buffer) {
                Ok(0) => panic!("no end"),
                Ok(read) => heard.extend(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

#[test]
fn both_versions_split_at_every_byte() {
    for version in [&TLS12, &TLS13] {
        for most in [1, 2, 7, usize::MAX] {
            let mut pair = Pair::connected(version, most);
            pair.client.writer().write_all(&text(3_000)).expect("there is room");
            pair.carry();
            assert_eq!(pair.serve(), text(3_000));
            // And a stream that takes a byte now and then.
            pair.server.stream.room = 0;
            assert_eq!(pair.server.write(&text(3_000)).expect("it seals"), 3_000);
            let mut heard = Vec::new();
            while pair.server.flush().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                pair.server.stream.room = 1;
                heard.extend(pair.carry());
            }
            heard.extend(pair.carry());
            assert_eq!(heard, text(3_000));
        }
    }
}

#[test]
fn records_of_any_length_arrive() {
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    // Longest records, many in one flight, and frames of all lengths across their ends.
    pair.client.set_buffer_limit(None);
    pair.client.writer().write_all(&text(200_000)).expect("there is room");
    pair.carry();
    assert_eq!(pair.serve(), text(200_000));
    let (first, second) = (text(100_000), text(5));
    let taken = pair.server.write_vectored(&[IoSlice::new(&first), IoSlice::new(&second)]).expect("it takes all");
    assert_eq!(taken, 100_005);
    let longest = longest_record(&pair.server.stream.outgoing);
    assert!(longest <= RECORD_BYTES_MAX + RECORD_COST, "{longest}");
    assert_eq!(pair.carry(), [first, second].concat());
}

/// The longest record of a flight (RFC 8446 §5.1).
fn longest_record(mut flight: &[u8]) -> usize {
    let mut longest = 0;
    while let Some((head, rest)) = flight.split_at_checked(5) {
        let bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
        longest = longest.max(bytes);
        flight = &rest[bytes..];
    }
    assert!(flight.is_empty());
    longest
}

#[test]
fn a_slow_reader_leaves_little_sealed() {
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    pair.server.stream.room = 0;
    let all = text(300_000);
    let mut taken = pair.server.write(&all).expect("some is sealed");
    assert!((RECORD_BYTES_MAX..=SEALED_BYTES_MAX).contains(&taken), "{taken}");
    let blocked = pair.server.write(&all[taken..]).expect_err("nothing leaves");
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
    // From now on the stream takes a kilobyte at a time.
    let (mut heard, mut most) = (Vec::new(), 0);
    while heard.len() < all.len() {
        pair.server.stream.room = 1_000;
        match pair.server.write(&all[taken..]) {
            Ok(more) => taken += more,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        heard.extend(pair.carry());
        most = most.max(taken - heard.len());
    }
    assert_eq!(heard, all);
    assert!(most <= SEALED_BYTES_MAX + RECORD_BYTES_MAX, "{most} bytes were neither here nor there");
}

#[test]
fn nothing_is_taken_before_the_handshake() {
    let mut pair = Pair::new(&TLS13, usize::MAX);
    assert!(pair.server.is_handshaking());
    assert_eq!(pair.server.write(b"early").expect_err("not yet").kind(), ErrorKind::WouldBlock);
    pair.carry();
    // What answers the client may have to wait too.
    pair.server.stream.room = 10;
    assert_eq!(pair.serve(), b"");
    assert_eq!(pair.server.flush().expect_err("it has more").kind(), ErrorKind::WouldBlock);
    pair.server.stream.room = usize::MAX;
    pair.server.flush().expect("it takes all");
    pair.carry();
    assert_eq!(pair.serve(), b"");
    pair.server.write_all(b"at last").expect("it is connected");
    assert_eq!(pair.carry(), b"at last");
}

#[test]
fn what_is_not_tls_is_refused_with_an_alert() {
    for bytes in
        [&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0]]
    {
        let mut pair = Pair::new(&TLS13, usize::MAX);
        pair.server.stream.incoming.extend(bytes);
        let error = pair.server.read(&mut [0; 100]).expect_err("no TLS");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        assert_eq!(pair.server.stream.outgoing.first(), Some(&21), "an alert");
    }
    // Bits that flip on the way.
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    pair.client.writer().write_all(&text(100)).expect("there is room");
    pair.carry();
    pair.server.stream.incoming[50] ^= 1;
    assert_eq!(pair.server.read(&mut [0; 100]).expect_err("a forgery").kind(), ErrorKind::InvalidData);
}

#[test]
fn others_get_their_turn() {
    let mut pair = Pair::connected(&TLS13, 1);
    pair.client.writer().write_all(&text(100)).expect("there is room");
    pair.carry();
    let before = pair.server.stream.incoming.len();
    assert_eq!(pair.server.read(&mut [0; 100]).expect_err("a drop at a time").kind(), ErrorKind::Interrupted);
    assert_eq!(before - pair.server.stream.incoming.len(), READS_MAX);
    assert_eq!(pair.serve(), text(100));
}

#[test]
fn ends_are_heard_on_both_sides() {
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    pair.server.write_all(b"goodbye").expect("it is connected");
    pair.server.close();
    assert_eq!(pair.carry(), b"goodbye");
    assert_eq!(pair.client.reader().read(&mut [0; 10]).expect("a clean end"), 0);

    let mut buffer = [0; 100];
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    pair.client.writer().write_all(b"goodbye").expect("there is room");
    pair.client.send_close_notify();
    pair.carry();
    assert_eq!(pair.server.read(&mut buffer).expect("the last words"), 7);
    assert_eq!(pair.server.read(&mut buffer).expect("a clean end"), 0);

    // Cut off, in the handshake or later.
    for mut pair in [Pair::new(&TLS13, usize::MAX), Pair::connected(&TLS13, usize::MAX)] {
        pair.server.stream.ended = true;
        assert_eq!(pair.server.read(&mut buffer).expect("an end"), 0);
    }
}

#[test]
fn what_came_before_the_adoption_is_read() {
    let mut pair = Pair::connected(&TLS13, usize::MAX);
    pair.client.writer().write_all(b"early and more").expect("there is room");
    pair.carry();
    // Whoever accepted it has read all that the kernel had.
    let TlsStream { mut stream, mut tls } = pair.server;
    tls.read_tls(&mut stream).expect("it was carried");
    tls.process_new_packets().expect("good TLS");
    assert!(stream.incoming.is_empty());
    let mut pair = Pair { client: pair.client, server: TlsStream::new(stream, tls) };
    let mut buffer = [0; 5];
    assert_eq!(pair.server.read(&mut buffer).expect("what came early"), 5);
    assert_eq!(&buffer, b"early");
    assert_eq!(pair.serve(), b" and more");
}
