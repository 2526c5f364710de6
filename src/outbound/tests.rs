use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::target::{Target, is_public};
use super::*;

/// ABUSE T1 and W1: what leads into a machine or a network, in every disguise.
const SPECIAL: [&str; 33] = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "::ffff:0.0.0.0",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "::ffff:192.168.0.1",
    "100.64.0.1",
    "192.0.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "168.63.129.16",
    "fd00:ec2::254",
    "::ffff:10.0.0.1",
];

#[test]
fn only_public_addresses_are_public() {
    for text in SPECIAL {
        assert!(!is_public(text.parse().expect("an address"), &[]), "{text}");
    }
    for text in ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"] {
        assert!(is_public(text.parse().expect("an address"), &[]), "{text}");
    }
    let listed = [Prefix { address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0)), bits: 16 }];
    assert!(is_public("10.1.2.3".parse().expect("an address"), &listed));
    assert!(!is_public("10.2.2.3".parse().expect("an address"), &listed));
    assert!(!is_public("::ffff:10.1.2.3".parse().expect("an address"), &listed), "listed in the one form only");
}

#[test]
fn odd_urls_are_refused_before_anything_is_looked_up() {
    for url in [
        "",
        "/path",
        "example.com",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "http://",
        "http://user@example.com/",
        "http://user:pass@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://1.2.3.4.5/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1/",
        "http://exa mple.com/",
        "http://example.com:99999/",
        "http://example.com:/",
        "http://example..com/",
        "http://example.com./",
        "http://ex%61mple.com/",
        "http://example.com\\@127.0.0.1/",
    ] {
        assert!(Target::parse(url).is_err(), "{url}: {:?}", Target::parse(url));
    }
    assert!(Target::parse(&format!("http://example.com/{}", "a".repeat(3_000))).is_err());
}

#[test]
fn usual_urls_are_read() {
    let it = Target::parse("https://hooks.example.com/a?b=c").expect("good");
    assert_eq!((it.is_tls, &*it.host, it.port, &*it.path), (true, "hooks.example.com", 443, "/a?b=c"));
    let it = Target::parse("http://[2001:db8::1]:8080").expect("good");
    assert_eq!((&*it.host, it.port, &*it.authority, &*it.path), ("2001:db8::1", 8080, "[2001:db8::1]:8080", "/"));
    assert_eq!(Target::parse("http://127.0.0.1:9/x").expect("good").host, "127.0.0.1");
}

/// Answers one connection with these bytes, after the request's head, and then does as `hold` says.
async fn server(answer: &'static [u8], holds: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let mut buffer = [0; 4096];
        let _ = tcp.read(&mut buffer).await;
        let _ = tcp.write_all(answer).await;
        if holds {
            std::future::pending::<()>().await;
        }
    });
    url
}

fn post(url: String) -> Call {
    let (headers, deadline) =
        (vec![("content-type".into(), "application/json".to_owned())], Duration::from_millis(500));
    Call { method: "POST", url, headers, body: b"{}".to_vec(), reach: Reach::Configured, deadline }
}

#[tokio::test]
async fn an_answer_is_read_whole_and_no_redirect_followed() {
    let outbound = Outbound::new(&[]);
    let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await;
    let answer = outbound.call(Call { deadline: TOTAL_MAX, ..post(url) }).await.expect("an answer");
    assert_eq!((answer.status, &*answer.body, answer.is_cut), (200, &b"ok"[..], false));
    let url = server(
        b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
        false,
    )
    .await;
    let answer = outbound.call(Call { deadline: TOTAL_MAX, ..post(url) }).await.expect("an answer");
    assert_eq!((answer.status, answer.retry_after_s), (307, Some(7)));
}

#[tokio::test]
async fn receivers_that_do_not_end_are_left() {
    let outbound = Outbound::new(&[]);
    for slow in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\no"] {
        let failure = outbound.call(post(server(slow, true).await)).await.expect_err("no answer");
        assert_eq!(failure.word, "timeout", "{failure:?}");
    }
    let failure = outbound.call(post(server(b"", false).await)).await.expect_err("closed");
    assert_eq!(failure.word, "protocol", "{failure:?}");
    let cut = outbound.call(post(server(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\no", false).await)).await;
    assert!(cut.expect("the head came").is_cut);
}

#[tokio::test]
async fn no_more_is_read_than_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let sender = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let block = vec![b'x'; 64 * 1024];
        let mut sent = 0_usize;
        while sent < 1 << 30 && tcp.write_all(&block).await.is_ok() {
            sent += block.len();
        }
        sent
    });
    let answer = Outbound::new(&[]).call(Call { deadline: TOTAL_MAX, ..post(url) }).await.expect("an answer");
    assert_eq!((answer.body.len(), answer.is_cut), (ANSWER_BYTES_MAX, true));
    assert!(sender.await.expect("it ends") < 64 << 20, "it was cut off, not read to its end");
}

#[tokio::test]
async fn endless_headers_end_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while tcp.write_all(b"x-more: and more of it\r\n").await.is_ok() {}
    });
    let failure = Outbound::new(&[]).call(Call { deadline: TOTAL_MAX, ..post(url) }).await.expect_err("no answer");
    assert_eq!(failure.word, "protocol", "{failure:?}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_ends_the_call() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await;
        tls.is_ok()
    });
    let call = Call { deadline: TOTAL_MAX, ..post(format!("https://localhost:{port}/")) };
    let failure = Outbound::new(&[]).call(call).await.expect_err("not trusted");
    assert_eq!(failure.word, "tls", "{failure:?}");
    assert!(!server.await.expect("it ends"), "nothing was sent to it");
}

#[tokio::test]
async fn a_name_that_leads_into_the_machine_is_refused_unless_listed() {
    let url = server(b"HTTP/1.1 204 x\r\n\r\n", false).await;
    let call = Call { reach: Reach::Public, deadline: TOTAL_MAX, ..post(url) };
    let failure = Outbound::new(&[]).call(call.clone()).await.expect_err("refused");
    assert_eq!(failure.word, "forbidden");
    let named = Call { url: call.url.replace("127.0.0.1", "localhost"), ..call.clone() };
    assert_eq!(Outbound::new(&[]).call(named).await.expect_err("refused").word, "forbidden");
    let listed = [Prefix { address: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 32 }];
    assert_eq!(Outbound::new(&listed).call(call).await.expect("listed").status, 204);
}
