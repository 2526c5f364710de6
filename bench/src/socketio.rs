//! A small Socket.IO v5 client over Engine.IO v4, websocket transport only: enough to join a session and negotiate.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::dial::{self, Stream, Trust};

/// The longest message taken from a server, in bytes; a longer one ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes asked of the kernel at once.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// How long connecting may take in all.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What an Engine.IO text frame holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Engine.IO handshake (`0`).
    Open,
    /// Engine.IO ping (`2`), to be answered at once.
    Ping,
    /// The server closes (`1`, or Socket.IO `41`).
    Close,
    /// The namespace is joined (`40`).
    Connected,
    /// The namespace refused us (`44`), with the server's code.
    Refused(String),
    /// An event (`42`).
    Event {
        /// Its name.
        name: String,
        /// Its first argument, or null.
        payload: Value,
    },
    /// An acknowledgement (`43`).
    Ack {
        /// Of which emit.
        id: u64,
        /// Its first argument, or null.
        payload: Value,
    },
    /// Anything else: binary events, other namespaces, noise.
    Other,
}

impl Frame {
    /// Reads a text frame; never fails, what it cannot read is [`Frame::Other`].
    pub fn parse(text: &str) -> Frame {
        let Some((kind, rest)) = text.split_at_checked(1) else { return Frame::Other };
        match kind {
            "0" => Frame::Open,
            "1" => Frame::Close,
            "2" => Frame::Ping,
            "4" => Frame::parse_packet(rest),
            _ => Frame::Other,
        }
    }

    fn parse_packet(packet: &str) -> Frame {
        let Some((kind, rest)) = packet.split_at_checked(1) else { return Frame::Other };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, json) = rest.split_at(digits);
        let json = || serde_json::from_str::<Value>(json).unwrap_or(Value::Null);
        match kind {
            "0" => Frame::Connected,
            "1" => Frame::Close,
            "2" => match json() {
                Value::Array(mut arguments) if arguments.first().is_some_and(Value::is_string) => {
                    let payload = arguments.get_mut(1).map(Value::take).unwrap_or_default();
                    let name = arguments[0].as_str().unwrap_or_default().to_owned();
                    Frame::Event { name, payload }
                }
                _ => Frame::Other,
            },
            "3" => match (id.parse(), json()) {
                (Ok(id), Value::Array(mut arguments)) => {
                    Frame::Ack { id, payload: arguments.get_mut(0).map(Value::take).unwrap_or_default() }
                }
                _ => Frame::Other,
            },
            "4" => Frame::Refused(json()["message"].as_str().unwrap_or("refused").to_owned()),
            _ => Frame::Other,
        }
    }
}

/// A connected client.
pub struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    next_id: u64,
}

impl Client {
    /// Connects to `http://host:port` and joins the namespace `/`.
    pub async fn connect(url: &str) -> io::Result<Client> {
        Client::connect_with(url, None, &Trust::default()).await
    }

    /// The same with a join token, to a server whose certificate may be believed.
    pub async fn connect_with(url: &str, token: Option<&str>, trust: &Trust) -> io::Result<Client> {
        Client::connect_from(url, token, None, trust).await
    }

    /// The same from an address of ours, for servers that take only so many from one.
    pub async fn connect_from(
        url: &str,
        token: Option<&str>,
        source: Option<IpAddr>,
        trust: &Trust,
    ) -> io::Result<Client> {
        tokio::time::timeout(CONNECT_TIMEOUT, Client::handshake(url, token, source, trust))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the server did not let us in in time")))
    }

    async fn handshake(url: &str, token: Option<&str>, source: Option<IpAddr>, trust: &Trust) -> io::Result<Client> {
        let (is_tls, authority, _) = dial::split(url)?;
        let scheme = if is_tls { "wss" } else { "ws" };
        let address = format!("{scheme}://{authority}/socket.io/?EIO=4&transport=websocket");
        let config = tungstenite::protocol::WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX));
        // Ten thousand of these fit in one tester.
        let config = config.read_buffer_size(READ_BUFFER_BYTES);
        let stream = dial::connect(url, source, trust).await?;
        let (socket, _) = tokio_tungstenite::client_async_with_config(address, stream, Some(config))
            .await
            .map_err(io::Error::other)?;
        let mut client = Client { socket, next_id: 0 };
        loop {
            match client.next().await? {
                Frame::Open => {
                    let auth = token.map(|token| serde_json::json!({ "token": token }).to_string());
                    client.send(format!("40{}", auth.unwrap_or_default())).await?;
                }
                Frame::Connected => return Ok(client),
                Frame::Refused(code) => return Err(io::Error::new(io::ErrorKind::PermissionDenied, code)),
                Frame::Close => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
    }

    /// Emits an event; the returned id comes back in its [`Frame::Ack`].
    pub async fn emit(&mut self, name: &str, payload: Value) -> io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(format!("42{id}{}", Value::Array(vec![name.into(), payload]))).await?;
        Ok(id)
    }

    /// The next frame; pings are answered here and not handed out. Safe to cancel.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            let message = match self.socket.next().await {
                Some(message) => message.map_err(io::Error::other)?,
                None => return Ok(Frame::Close),
            };
            match message {
                Message::Text(text) => match Frame::parse(&text) {
                    Frame::Ping => self.send("3".to_owned()).await?,
                    frame => return Ok(frame),
                },
                Message::Close(_) => return Ok(Frame::Close),
                _ => {}
            }
        }
    }

    /// Leaves the namespace and closes.
    pub async fn close(mut self) {
        // The server may have gone first, which is all the same by now.
        let _ = self.send("41".to_owned()).await;
        let _ = self.socket.close(None).await;
    }

    async fn send(&mut self, text: String) -> io::Result<()> {
        self.socket.send(Message::Text(text.into())).await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_read() {
        assert_eq!(Frame::parse(r#"0{"sid":"x"}"#), Frame::Open);
        assert_eq!(Frame::parse("2"), Frame::Ping);
        assert_eq!(Frame::parse(r#"40{"sid":"y"}"#), Frame::Connected);
        assert_eq!(Frame::parse(r#"44{"message":"auth/missing"}"#), Frame::Refused("auth/missing".into()));
        assert_eq!(
            Frame::parse(r#"42["offer",{"a":1}]"#),
            Frame::Event { name: "offer".into(), payload: json!({"a": 1}) }
        );
        assert_eq!(Frame::parse(r#"4217["x"]"#), Frame::Event { name: "x".into(), payload: Value::Null });
        assert_eq!(Frame::parse(r#"4312[{"ok":true}]"#), Frame::Ack { id: 12, payload: json!({"ok": true}) });
    }

    #[test]
    fn noise_is_other() {
        for text in ["", "4", "42", "42{}", "42[1]", "43[]", "43x[1]", "451-[\"b\"]", "é", "4é"] {
            assert_eq!(Frame::parse(text), Frame::Other, "{text}");
        }
    }
}
