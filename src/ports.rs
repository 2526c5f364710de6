//! Port numbers that are taken for UDP and TCP at once.

use crate::error::Failure;
use crate::stream::{self, Listeners};
use crate::udp::{self, Sockets};

/// How often another port is tried where any will do: the number must be free for UDP and TCP.
const PORT_TRIES: usize = 16;

/// Takes a port for UDP and, if it is to be, for TCP; 0 takes any. `choose` says how to choose another.
pub(crate) fn bind(port: u16, tcp: bool, choose: &'static str) -> Result<(Sockets, Listeners), Failure> {
    let failed =
        |protocol: &str, error| Failure::Bind { address: format!("{protocol} port {port}"), port, choose, error };
    for tries in 1.. {
        let sockets = udp::bind(port).map_err(|error| failed("UDP", error))?;
        if !tcp {
            return Ok((sockets, Listeners::default()));
        }
        match stream::listen(sockets.port(), sockets.v6.is_some()) {
            Ok(listeners) => return Ok((sockets, listeners)),
            Err(_) if port == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(failed("TCP", error)),
        }
    }
    unreachable!("the last try returns");
}
