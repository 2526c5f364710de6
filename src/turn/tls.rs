//! TLS over a stream that never blocks: bytes in the clear on our side, records on the client's.

use std::io::{self, ErrorKind, IoSlice, Read, Write};

use rustls::ServerConnection;

/// Most bytes in the clear of one record. The client can read none of a record before it has all of it: longer ones delay
/// media on slow lines, shorter ones cost more of their 22 bytes and a seal each.
const RECORD_BYTES_MAX: usize = 4 * 1024;
/// Most bytes in the clear that are sealed before the stream has taken them. What is sealed can be dropped no more, so it is
/// little; when full, nothing further is taken, and what comes waits where it still can be dropped.
const SEALED_BYTES_MAX: usize = 8 * 1024;
/// Reads of the stream that may bring nothing for us before others get their turn.
const READS_MAX: usize = 16;

/// A TLS connection over `S`, which must not block.
///
/// It reads and writes as its stream would: `WouldBlock` when the stream has, or takes, no more. Differences:
/// - `read` also goes on with the handshake and says `Interrupted` when others should get their turn: try again later,
///   nobody will wake for it. What an adopted connection had received lies in it, unknown to the kernel: read once at first.
/// - `write` takes nothing while something sealed waits. Whoever is told that the stream takes bytes again calls `flush`
///   first, even with nothing to write, for answers of the handshake may wait too.
/// - Dropped, it is cut off; [`TlsStream::close`] says so before.
pub(crate) struct TlsStream<S> {
    stream: S,
    tls: Box<ServerConnection>,
}

impl<S: Read + Write> TlsStream<S> {
    /// A connection that may have its handshake before it, or behind it with something received already.
    pub(crate) fn new(stream: S, mut tls: Box<ServerConnection>) -> Self {
        // It counts what each record costs, too.
        tls.set_buffer_limit(Some(SEALED_BYTES_MAX + RECORD_BYTES_MAX));
        TlsStream { stream, tls }
    }

    /// The stream below, for its registration.
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether the handshake is not yet complete.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Tells the client that nothing follows, as far as the stream takes it at once.
    pub(crate) fn close(&mut self) {
        self.tls.send_close_notify();
        // The connection ends in any case.
        let _ = self.flush();
    }

    /// Seals a record, if what was sealed before leaves room for it or can be written; whether it did.
    fn seal(&mut self, record: &[IoSlice<'_>], sealed: &mut usize, taken: &mut usize) -> io::Result<bool> {
        let bytes: usize = record.iter().map(|slice| slice.len()).sum();
        if *sealed + bytes > SEALED_BYTES_MAX {
            match self.flush() {
                Ok(()) => *sealed = 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let written = self.tls.writer().write_vectored(record)?;
        *taken += written;
        *sealed += written;
        Ok(written == bytes)
    }

    /// Takes what the stream has into TLS.
    fn receive(&mut self) -> io::Result<()> {
        self.tls.read_tls(&mut self.stream)?;
        let processed = self.tls.process_new_packets();
        // Answers of the handshake, or the alert that says what was wrong; what the stream does not take now waits.
        let flushed = self.flush();
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        match flushed {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    /// `Ok(0)` when the client has ended, with or without saying so.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..READS_MAX {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.receive()?,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
        }
        Err(ErrorKind::Interrupted.into())
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        if self.tls.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (mut taken, mut sealed, mut rest) = (0, 0, slices);
        while let [first, ..] = rest {
            let mut goes_on = true;
            if first.len() > RECORD_BYTES_MAX {
                rest = rest.get(1..).unwrap_or_default();
                for part in first.chunks(RECORD_BYTES_MAX) {
                    goes_on = goes_on && self.seal(&[IoSlice::new(part)], &mut sealed, &mut taken)?;
                }
            } else {
                let (record, behind) = rest.split_at(fitting(rest));
                rest = behind;
                goes_on = self.seal(record, &mut sealed, &mut taken)?;
            }
            if !goes_on {
                return Ok(taken);
            }
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Writes what is sealed; `WouldBlock` if the stream does not take all of it.
    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How many of these slices, one at least, go into one record: a packet with its framing is not torn apart.
fn fitting(slices: &[IoSlice<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |slice: &&IoSlice<'_>| {
        bytes += slice.len();
        bytes <= RECORD_BYTES_MAX
    };
    slices.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests;
