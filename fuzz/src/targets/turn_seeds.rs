//! Where the corpora of the TURN server and of its streams begin.

use turn_server::stun::{FAMILY_IPV6, Method, TransactionId, Writer};

use super::{sctp, turn};

/// Attributes as they lie on the wire.
fn attributes(with: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    with(Writer::request(&mut out, Method::BINDING, TransactionId([1; 12])));
    out.split_off(20)
}

fn message(indication: bool, method: Method, with: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let (mut out, id) = (Vec::new(), TransactionId([1; 12]));
    with(if indication { Writer::indication(&mut out, method, id) } else { Writer::request(&mut out, method, id) });
    out
}

fn channel_data(channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = [channel.to_be_bytes(), (payload.len() as u16).to_be_bytes()].concat();
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Clients of a TURN server, with and without credentials.
pub fn relays() -> Vec<(&'static str, Vec<u8>)> {
    let [media, media_ipv6, listed, loopback] = turn::peers();
    let (raw, sealed, peer, time, input) =
        (turn::step::FROM_CLIENT, turn::step::SEALED, turn::step::FROM_PEER, turn::step::TIME, turn::step::INPUT);
    let from = |client: u8, bytes: Vec<u8>| (raw, [vec![client], bytes].concat());
    let ask = |client: u8, holder: u8, method: Method, attributes: Vec<u8>| {
        (sealed, [vec![client, holder, method.0 as u8, 1], attributes].concat())
    };
    let scene = |listed: u8, steps: &[(u8, Vec<u8>)]| {
        let mut out = vec![listed];
        steps.iter().for_each(|(kind, bytes)| sctp::write_step(&mut out, *kind, bytes));
        out
    };
    let allocate = || attributes(|it| it.requested_transport(17));
    let bare = |client| from(client, message(false, Method::ALLOCATE, |it| it.requested_transport(17)));
    let send = |client, peer, payload: &'static [u8]| {
        from(client, message(true, Method::SEND, |it| it.xor_peer_address(peer).data(payload)))
    };
    let bind = |client, peer| {
        ask(client, 0, Method::CHANNEL_BIND, attributes(|it| it.channel_number(0x4001).xor_peer_address(peer)))
    };
    let permit = |client, peer| ask(client, 0, Method::CREATE_PERMISSION, attributes(|it| it.xor_peer_address(peer)));
    let media_scene = scene(
        0,
        &[
            bare(0),
            ask(0, 0, Method::ALLOCATE, allocate()),
            permit(0, media),
            send(0, media, b"a check"),
            (peer, vec![0, 1, 0, 0]),
            bind(0, media),
            from(0, channel_data(0x4001, b"hello")),
            (peer, vec![0, 20, 0, 0, 0]),
            bare(2),
            ask(
                2,
                0,
                Method::ALLOCATE,
                attributes(|it| it.requested_transport(17).requested_address_family(FAMILY_IPV6)),
            ),
            bind(2, media_ipv6),
            from(2, channel_data(0x4001, b"by a stream")),
            ask(2, 0, Method::REFRESH, attributes(|it| it.lifetime(600))),
            (time, vec![0x02, 0x59]),
            ask(0, 0, Method::REFRESH, attributes(|it| it.lifetime(0))),
            (input, vec![turn::input::STREAM_CLOSED, 2]),
        ],
    );
    let listed_scene = scene(
        1,
        &[
            bare(0),
            ask(0, 0, Method::ALLOCATE, attributes(|it| it.requested_transport(17).even_port(true).dont_fragment())),
            permit(0, listed),
            send(0, listed, b"to a peer"),
            (peer, vec![2, 3, 0, 0, 0, 0]),
            permit(0, loopback),
            send(0, loopback, b"to ourselves"),
            (time, vec![0x01, 0x2d]),
            send(0, listed, b"too late"),
            (input, vec![turn::input::REVOKE, 0]),
        ],
    );
    let binds = scene(
        1,
        &[
            (input, vec![turn::input::BINDS, 1]),
            bare(3),
            ask(3, 1, Method::ALLOCATE, allocate()),
            (input, vec![turn::input::BINDS, 0]),
            ask(3, 1, Method::ALLOCATE, allocate()),
            ask(3, 2, Method::REFRESH, attributes(|it| it.lifetime(600))),
            ask(3, 1, Method::ALLOCATE, attributes(|it| it.requested_transport(6))),
        ],
    );
    let quotas = scene(
        0,
        &[
            bare(0),
            bare(1),
            bare(2),
            ask(0, 0, Method::ALLOCATE, allocate()),
            ask(1, 0, Method::ALLOCATE, allocate()),
            ask(2, 0, Method::ALLOCATE, allocate()),
            ask(2, 3, Method::ALLOCATE, allocate()),
            ask(2, 1, Method::ALLOCATE, allocate()),
        ],
    );
    let strangers = scene(
        0,
        &[
            from(0, message(false, Method::BINDING, |it| it)),
            from(1, message(false, Method::BINDING, |it| it.software("a stranger"))),
            bare(0),
            bare(1),
            from(0, channel_data(0x4001, b"no channel")),
            send(1, media_ipv6, b"no permission"),
            from(0, message(false, Method::BINDING, |it| it.username("a:b").priority(1).integrity(b"key"))),
            from(0, message(false, Method::REFRESH, |it| it.username("a").realm("b").nonce(b"c").integrity(b"d"))),
        ],
    );
    let scenes = [media_scene, listed_scene, binds, quotas, strangers];
    ["media", "listed_peer", "binds", "quotas", "strangers"].into_iter().zip(scenes).collect()
}

/// Streams of clients; the first byte says in which pieces they come.
pub fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let check = message(false, Method::ALLOCATE, |it| it.requested_transport(17));
    let mixed = [&[7][..], &check, &channel_data(0x4001, b"hello"), &check, &channel_data(0x4fff, b"")].concat();
    let lost = [&[1][..], &channel_data(0x4001, b"hello"), b"GET / HTTP/1.1\r\n"].concat();
    let long = [&[200][..], &channel_data(0x4000, &[1; 2_048]), &check, &[0x40, 0, 0xff, 0xff, 0]].concat();
    vec![("mixed", mixed), ("lost", lost), ("long", long)]
}
