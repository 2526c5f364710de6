//! Requests that come by a proxy which the operator trusts (`[http] trusted_proxies`): for whom it asks, and whether they came to
//! it over TLS. What anybody else says about that is not looked at.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use turn_server::Prefix;

use super::secure::Encrypted;
use crate::origin::FORWARDING;
use crate::socketio::Source;

/// Whom the request is for, each hop adding whom it came from at the end; and how it came.
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Most hops that are read, from the last one on. Who is behind more trusted proxies than that is not known.
const HOPS_MAX: usize = 16;

/// The proxies that are believed. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Arc<[Prefix]>);

impl Proxies {
    /// Those in any of these networks.
    pub(crate) fn new(networks: &[Prefix]) -> Self {
        Proxies(networks.into())
    }

    /// Whether the address is one of theirs.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whom a trusted proxy asks for: the last hop that is no trusted proxy itself, since all before it is what that one says;
    /// or the first hop, if all are trusted. `None` if a hop on the way there is no address, or there is none.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut first = None;
        // Lines of one name are one list (RFC 9110 §5.3).
        let lines = headers.get_all(FOR).iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for (index, hop) in hops.enumerate() {
            let address = address(hop.trim())?;
            if !self.contains(address) {
                return Some(address);
            }
            if index + 1 == HOPS_MAX {
                return None;
            }
            first = Some(address);
        }
        first
    }
}

/// An address as proxies write it: bare, in brackets, or with a port behind it.
fn address(hop: &str) -> Option<IpAddr> {
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6);
    let address = hop.parse().ok().or_else(bracketed);
    address.or_else(|| hop.parse().ok().map(|with_port: SocketAddr| with_port.ip())).map(|it| it.to_canonical())
}

/// Whether the client came to the proxy over TLS. Of several words the last is that of the proxy before us.
fn is_https(headers: &HeaderMap) -> bool {
    let line = headers.get_all(PROTO).iter().next_back().and_then(|line| line.to_str().ok());
    line.and_then(|line| line.rsplit(',').next()).is_some_and(|word| word.trim().eq_ignore_ascii_case("https"))
}

/// The middleware, before all others: behind it a request of a trusted proxy looks as if its client had sent it.
pub(crate) async fn read(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    let source = request.extensions().get::<Source>();
    if source.is_some_and(|source| proxies.contains(source.address.ip())) {
        let (client, is_https) = (proxies.client(request.headers()), is_https(request.headers()));
        if let Some(source) = request.extensions_mut().get_mut::<Source>() {
            match client {
                // Of the client's port nothing is known.
                Some(client) => source.address = SocketAddr::new(client, 0),
                None => source.is_unnamed = true,
            }
        }
        if is_https {
            request.extensions_mut().insert(Encrypted);
        }
        let headers = request.headers_mut();
        for name in FORWARDING {
            headers.remove(name);
        }
        headers.remove(PROTO);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tower_service::Service;

    use super::*;

    fn proxies() -> Proxies {
        let network = |address: &str, bits| Prefix { address: address.parse().expect("a literal"), bits };
        Proxies::new(&[network("10.0.0.0", 8), network("2001:db8::", 32)])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    fn client(lines: &[&str]) -> Option<String> {
        let pairs: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        proxies().client(&headers(&pairs)).map(|address| address.to_string())
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_is_the_client() {
        for (lines, expected) in [
            (&["203.0.113.7"][..], Some("203.0.113.7")),
            (&["203.0.113.7, 10.0.0.2,10.1.0.3"], Some("203.0.113.7")),
            // What stands before it is what the client says of itself.
            (&["127.0.0.1, 10.0.0.9, 203.0.113.7, 10.0.0.2"], Some("203.0.113.7")),
            (&["unknown, 203.0.113.7"], Some("203.0.113.7")),
            // Lines are read as one list.
            (&["127.0.0.1", "203.0.113.7, 10.0.0.2", "2001:db8::5"], Some("203.0.113.7")),
            // A machine among the proxies.
            (&["10.0.0.9, 10.0.0.2"], Some("10.0.0.9")),
            (&["203.0.113.7:61234, 10.0.0.2:80"], Some("203.0.113.7")),
            (&["[2001:dead::7]:61234"], Some("2001:dead::7")),
            (&["[2001:dead::7]"], Some("2001:dead::7")),
            (&["2001:dead::7"], Some("2001:dead::7")),
            (&["::ffff:203.0.113.7, ::ffff:10.0.0.2"], Some("203.0.113.7")),
        ] {
            assert_eq!(client(lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn who_is_behind_garbage_is_not_known() {
        for lines in [
            &[][..],
            &[""],
            &["203.0.113.7,"],
            &["203.0.113.7, , 10.0.0.2"],
            &["203.0.113.7, unknown, 10.0.0.2"],
            &["203.0.113.7, _hidden"],
            &["203.0.113.7 10.0.0.2"],
            &["203.0.113.999"],
            &["203.0.113.7:port"],
            &["[203.0.113.7]"],
            &["fe80::1%eth0"],
            &["for=203.0.113.7"],
            &["school.example"],
            &["203.0.113.7", "\u{e9}"],
        ] {
            assert_eq!(client(lines), None, "{lines:?}");
        }
        let trusted = |hops: usize| vec!["10.0.0.2"; hops].join(", ");
        assert!(client(&[&trusted(HOPS_MAX - 1)]).is_some());
        assert_eq!(client(&[&trusted(20_000)]), None);
        assert_eq!(client(&[&format!("203.0.113.7, {}", trusted(HOPS_MAX))]), None);
    }

    #[test]
    fn the_proxy_before_us_says_how_they_came() {
        for (lines, expected) in [
            (&["https"][..], true),
            (&["HTTPS"], true),
            (&["http, https"], true),
            (&["http", "https"], true),
            (&["https, http"], false),
            (&["http"], false),
            (&["https://"], false),
            (&[], false),
        ] {
            let pairs: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
            assert_eq!(is_https(&headers(&pairs)), expected, "{lines:?}");
        }
    }

    /// What a handler sees of a request of `peer`: whose it is, whether that is known, whether it came over TLS, and which of
    /// the proxy's words are left.
    async fn seen(peer: &str, pairs: &[(&'static str, &str)]) -> (String, bool, bool, usize) {
        let handler = |request: Request| async move {
            let source = request.extensions().get::<Source>().expect("the listener puts it there").clone();
            let is_https = request.extensions().get::<Encrypted>().is_some();
            axum::Json((source.address.ip().to_string(), !source.is_unnamed, is_https, request.headers().len()))
        };
        let mut router =
            axum::Router::new().fallback(handler).layer(axum::middleware::from_fn_with_state(proxies(), read));
        let mut request = Request::new(axum::body::Body::empty());
        *request.headers_mut() = headers(pairs);
        let peer = SocketAddr::new(peer.parse().expect("a literal"), 1);
        request.extensions_mut().insert(Source::new(peer, crate::heard::Reads::default()));
        let response = router.call(request).await.unwrap_or_else(|never| match never {});
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn only_a_trusted_proxy_is_believed() {
        let said =
            [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https"), ("via", "1.1 it"), ("x-a", "b")];
        let stranger = ("198.51.100.1".to_owned(), true, false, 4);
        assert_eq!(seen("198.51.100.1", &said).await, stranger);
        assert_eq!(seen("10.0.0.2", &said).await, ("203.0.113.7".to_owned(), true, true, 1));
        assert_eq!(seen("10.0.0.2", &[("x-forwarded-for", "?")]).await, ("10.0.0.2".to_owned(), false, false, 0));
        assert_eq!(seen("10.0.0.2", &[]).await, ("10.0.0.2".to_owned(), false, false, 0));
    }

    proptest! {
        #[test]
        fn whatever_stands_before_it_the_last_hop_is_the_client(said in "[ -~]{0,200}", last: u32) {
            let last = IpAddr::from(last.to_be_bytes());
            prop_assume!(!proxies().contains(last));
            prop_assert_eq!(client(&[&format!("{said},{last}")]), Some(last.to_string()));
        }
    }
}
