use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn opus() -> Codec {
    Codec {
        payload_type: 111,
        name: CodecName::Opus,
        clock_rate: 48_000,
        channels: 2,
        fmtp: "minptime=10;useinbandfec=1".into(),
        feedback: Feedback::audio(),
        rtx: None,
    }
}

fn vp8() -> Codec {
    let feedback = Feedback::video();
    Codec {
        payload_type: 96,
        name: CodecName::Vp8,
        clock_rate: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback,
        rtx: Some(97),
    }
}

fn codecs(kind: MediaKind) -> Vec<Codec> {
    match kind {
        MediaKind::Audio => vec![opus()],
        MediaKind::Video => vec![vp8()],
        MediaKind::Application => vec![],
    }
}

fn media(kind: MediaKind, mid: &str, direction: Direction) -> Media {
    Media {
        kind,
        mid: Mid::new(mid).unwrap(),
        rejected: false,
        direction,
        ice_ufrag: Some("ufrag".into()),
        ice_pwd: Some("a password of the client".into()),
        fingerprint: Some([1; 32]),
        setup: None,
        codecs: codecs(kind),
        extensions: vec![(4, Extension::Mid)],
        mixed: false,
        msid: None,
        ssrcs: vec![],
        rtx_ssrcs: vec![],
        rids: vec![],
        rtcp_mux: true,
        sctp_port: None,
        message_bytes_max: None,
    }
}

fn description(media: Vec<Media>) -> Description {
    Description { origin: "one".into(), version: 1, ice_lite: false, bundle: vec![], media }
}

/// A negotiation, and the track ids that it was given.
struct Side {
    negotiation: Negotiation,
    minted: u64,
    now: Instant,
}

impl Side {
    fn new() -> Side {
        let now = Instant::now();
        Side { negotiation: Negotiation::new(7, true, now), minted: 1_000, now }
    }

    fn offered(&mut self, media: Vec<Media>) -> Result<(), Refused> {
        let minted = &mut self.minted;
        self.negotiation.apply_offer(&description(media), &[], || {
            *minted += 1;
            TrackId(*minted)
        })
    }

    fn answered(&mut self, media: Vec<Media>) -> Result<(), Refused> {
        let minted = &mut self.minted;
        self.negotiation.apply_answer(&description(media), &[], false, || {
            *minted += 1;
            TrackId(*minted)
        })
    }

    fn offer(&mut self, wanted: &[(u64, MediaKind)]) -> Vec<TrackId> {
        let lists: Vec<Vec<Codec>> = wanted.iter().map(|(_, kind)| codecs(*kind)).collect();
        let wanted: Vec<Wanted<'_>> = wanted
            .iter()
            .zip(&lists)
            .map(|((track, kind), codecs)| Wanted { track: TrackId(*track), kind: *kind, codecs })
            .collect();
        self.negotiation.make_offer(&wanted, self.now)
    }

    /// Asks and is offered a way once more, and then sends.
    fn answered_after_asking(&mut self, answer: &mut [Media]) {
        self.offer(&[]);
        self.answered(answer.to_vec()).unwrap();
        self.offer(&[]);
        answer[0].direction = Direction::SendRecv;
        self.answered(answer.to_vec()).unwrap();
    }

    /// The answer of a client that takes everything that our offer has.
    fn willing(&self) -> Vec<Media> {
        self.negotiation.offered.as_ref().unwrap().iter().map(|line| answer_to(line, false)).collect()
    }

    fn line(&self, index: usize) -> &Line {
        &self.negotiation.lines[index]
    }

    fn directions(&self) -> Vec<Direction> {
        self.negotiation.lines.iter().map(Line::answered).collect()
    }
}

fn answer_to(line: &Line, sends: bool) -> Media {
    let receives = matches!(line.outbound, Outbound::Track { .. });
    let direction = match (sends, receives) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    };
    let mut media = media(line.kind, line.mid.as_str(), direction);
    media.rejected = line.rejected;
    media.codecs.clone_from(&line.codecs);
    media.extensions.clone_from(&line.extensions);
    media.mixed = line.mixed;
    media
}

const AUDIO: MediaKind = MediaKind::Audio;
const VIDEO: MediaKind = MediaKind::Video;

#[test]
fn a_first_offer_is_answered_with_no_more_than_it_asks() {
    let mut side = Side::new();
    let lines = vec![
        media(AUDIO, "0", Direction::SendOnly),
        media(VIDEO, "1", Direction::SendRecv),
        media(VIDEO, "2", Direction::RecvOnly),
        media(AUDIO, "3", Direction::Inactive),
        media(MediaKind::Application, "4", Direction::SendRecv),
    ];
    side.offered(lines).unwrap();
    use Direction::{Inactive, RecvOnly};
    assert_eq!(side.directions(), [RecvOnly, RecvOnly, Inactive, Inactive, Inactive]);
    let rejected: Vec<bool> = side.negotiation.lines.iter().map(|line| line.rejected).collect();
    assert_eq!(rejected, [false, false, false, false, true]);
    let sources: Vec<_> =
        side.negotiation.lines.iter().filter_map(|l| l.inbound.as_ref().map(|i| (i.track.0, i.source))).collect();
    assert_eq!(sources, [(1_001, Source::Microphone), (1_002, Source::Camera)]);
}

#[test]
fn hints_name_sources_and_mutes_and_hold_when_they_are_not_repeated() {
    let mut side = Side::new();
    let offer = description(vec![media(VIDEO, "0", Direction::SendOnly)]);
    let hints = [TrackHint { mid: "0".into(), source: Source::Screen, muted: Some(true) }];
    side.negotiation.apply_offer(&offer, &hints, || TrackId(1)).unwrap();
    side.negotiation.apply_offer(&offer, &[], || TrackId(2)).unwrap();
    let inbound = side.line(0).inbound.as_ref().unwrap();
    assert_eq!((inbound.track, inbound.source, inbound.muted), (TrackId(1), Source::Screen, true));
}

#[test]
fn what_is_said_of_muting_holds_until_something_else_is_said() {
    let mut side = Side::new();
    let offer = description(vec![media(VIDEO, "0", Direction::SendOnly)]);
    let hints = |muted| [TrackHint { mid: "0".into(), source: Source::Screen, muted }];
    let offered = |side: &mut Side, hints: &[TrackHint]| {
        side.negotiation.apply_offer(&offer, hints, || TrackId(1)).unwrap();
        side.line(0).inbound.as_ref().unwrap().muted
    };
    assert!(!offered(&mut side, &hints(None)));
    side.negotiation.mute(TrackId(1), true);
    assert!(offered(&mut side, &[]) && offered(&mut side, &hints(None)));
    assert!(!offered(&mut side, &hints(Some(false))));
    side.negotiation.mute(TrackId(2), true);
    assert!(!offered(&mut side, &[]), "of another track");
}

fn simulcast(layers: &[&str]) -> Media {
    let rid = |layer: &&str| Rid { id: layer.trim_start_matches('~').into(), paused: layer.starts_with('~') };
    let mut media = media(VIDEO, "0", Direction::SendOnly);
    media.rids = layers.iter().map(rid).collect();
    media.extensions = vec![
        (4, Extension::Mid),
        (10, Extension::Rid),
        (11, Extension::RepairedRid),
        (12, Extension::DependencyDescriptor),
        (13, Extension::VideoOrientation),
        (15, Extension::TransportCc),
    ];
    media
}

fn taken(line: &Line) -> Vec<String> {
    let layers = line.inbound.as_ref().unwrap().layers();
    layers.iter().map(|rid| format!("{}{}", if rid.paused { "~" } else { "" }, rid.id)).collect()
}

#[test]
fn simulcast_layers_are_taken_with_the_extensions_that_name_them() {
    let mut side = Side::new();
    side.offered(vec![simulcast(&["q", "~h", "f"])]).unwrap();
    assert_eq!(taken(side.line(0)), ["q", "~h", "f"]);
    use Extension::{DependencyDescriptor, Mid, RepairedRid, Rid};
    let extensions = side.line(0).extensions.clone();
    assert_eq!(extensions, [(4, Mid), (10, Rid), (11, RepairedRid), (12, DependencyDescriptor)], "no id above 14");
    // Our own offer repeats all of it, or the browser would stop sending layers; what we send ourselves has no layers.
    side.offer(&[(5, VIDEO)]);
    let offered = side.negotiation.offered.clone().unwrap();
    assert_eq!((taken(&offered[0]), offered[0].extensions.len()), (taken(side.line(0)), 4));
    let names_layers =
        |line: &Line| line.extensions.iter().filter(|(_, e)| matches!(e, Rid | RepairedRid)).count() == 2;
    assert!(offered[1].inbound.is_none() && names_layers(&offered[1]), "Chromium offers no others than we did");
    let mut answer = side.willing();
    answer[0] = simulcast(&["q", "h", "~f"]);
    side.answered(answer).unwrap();
    assert_eq!(taken(side.line(0)), ["q", "h", "~f"]);
}

#[test]
fn layers_are_taken_under_whatever_ids_name_them_and_not_without() {
    let mut side = Side::new();
    let mut offer = simulcast(&["q", "h", "f"]);
    offer.extensions = vec![(4, Extension::Mid), (16, Extension::Rid), (200, Extension::RepairedRid)];
    side.offered(vec![offer.clone()]).unwrap();
    assert_eq!((taken(side.line(0)).len(), side.line(0).extensions.len()), (3, 3));
    offer.extensions.truncate(1);
    let mut side = Side::new();
    side.offered(vec![offer]).unwrap();
    assert_eq!(taken(side.line(0)).len(), 0);
}

#[test]
fn simulcast_that_goes_or_grows_keeps_the_track() {
    let mut side = Side::new();
    side.offered(vec![simulcast(&["a", "b", "c", "d", "e", "f"])]).unwrap();
    assert_eq!(taken(side.line(0)), ["a", "b", "c", "d"], "further ones are left out");
    let track = side.line(0).inbound.as_ref().unwrap().track;
    side.offered(vec![simulcast(&[])]).unwrap();
    let inbound = side.line(0).inbound.as_ref().unwrap();
    assert_eq!((inbound.track, inbound.rids.len(), inbound.sending), (track, 0, true));
    side.offered(vec![simulcast(&["x"])]).unwrap();
    assert_eq!((taken(side.line(0)), side.line(0).inbound.as_ref().unwrap().track), (vec!["x".to_owned()], track));
    let mut silent = simulcast(&["x"]);
    silent.direction = Direction::Inactive;
    side.offered(vec![silent]).unwrap();
    assert_eq!(taken(side.line(0)), [""; 0], "what does not send has no layers");
    let mut audio = simulcast(&["x", "y"]);
    audio.kind = AUDIO;
    audio.mid = Mid::new("1").unwrap();
    audio.codecs = codecs(AUDIO);
    side.offered(vec![simulcast(&["x"]), audio]).unwrap();
    assert_eq!(taken(side.line(1)), [""; 0], "audio has one encoding");
}

#[test]
fn mixed_extension_elements_need_both_sides() {
    let mut side = Side::new();
    let mut mixed = media(VIDEO, "0", Direction::RecvOnly);
    mixed.mixed = true;
    side.offered(vec![mixed, media(VIDEO, "1", Direction::RecvOnly)]).unwrap();
    assert_eq!((side.line(0).mixed, side.line(1).mixed), (true, false));
    side.offer(&[(5, VIDEO), (6, VIDEO)]);
    let mut answer = side.willing();
    assert_eq!(answer.iter().map(|media| media.mixed).collect::<Vec<_>>(), [true, false, true, true]);
    answer[3].mixed = false;
    side.answered(answer).unwrap();
    assert_eq!((side.line(2).mixed, side.line(3).mixed), (true, false));
}

#[test]
fn a_codec_that_nobody_can_forward_rejects_its_line() {
    let mut side = Side::new();
    let mut line = media(VIDEO, "0", Direction::SendOnly);
    line.codecs.clear();
    side.offered(vec![line, media(AUDIO, "1", Direction::SendOnly)]).unwrap();
    assert!(side.line(0).rejected && !side.line(1).rejected);
    // What was rejected stays so while it keeps its mid, and may come back under another.
    side.offered(vec![media(VIDEO, "7", Direction::SendOnly), media(AUDIO, "1", Direction::SendOnly)]).unwrap();
    assert_eq!((side.line(0).mid.as_str(), side.line(0).rejected), ("7", false));
}

#[test]
fn our_offer_is_a_copy_until_it_is_answered() {
    let mut side = Side::new();
    side.offered(vec![media(AUDIO, "0", Direction::SendOnly)]).unwrap();
    let agreed = side.negotiation.lines.clone();
    assert_eq!(side.offer(&[(5, VIDEO)]), []);
    assert_eq!(side.negotiation.lines, agreed);
    side.negotiation.offered = None;
    side.offer(&[(5, VIDEO), (6, AUDIO)]);
    let answer = side.willing();
    side.answered(answer).unwrap();
    assert_eq!(side.line(1).sends(), Some(TrackId(5)));
    assert_eq!((side.line(2).sends(), side.line(2).answered()), (Some(TrackId(6)), Direction::SendOnly));
    assert_eq!(side.line(1).codecs[0].payload_type, 96, "the client's own payload types where it named them");
    assert_eq!(side.line(0).inbound.as_ref().unwrap().track, TrackId(1_001), "its own line is as it was");
}

#[test]
fn an_answer_to_nothing_or_of_another_shape_is_refused() {
    let mut side = Side::new();
    assert!(side.answered(vec![]).is_err());
    side.offer(&[(5, VIDEO), (6, AUDIO)]);
    let good = side.willing();
    let mut renamed = good.clone();
    renamed[0].mid = Mid::new("other").unwrap();
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    let mut more = good.clone();
    more.push(media(AUDIO, "9", Direction::SendOnly));
    for bad in [vec![], good[..1].to_vec(), renamed, swapped, more] {
        assert!(side.answered(bad).is_err());
        assert!(side.negotiation.offered.is_some() && side.negotiation.lines.is_empty(), "nothing changed");
    }
    side.answered(good).unwrap();
}

#[test]
fn m_lines_keep_their_places_in_offers() {
    let mut side = Side::new();
    side.offered(vec![media(AUDIO, "0", Direction::SendOnly), media(VIDEO, "1", Direction::SendOnly)]).unwrap();
    let before = side.negotiation.lines.clone();
    for bad in [
        vec![],
        vec![media(AUDIO, "0", Direction::SendOnly)],
        vec![media(VIDEO, "1", Direction::SendOnly), media(AUDIO, "0", Direction::SendOnly)],
        vec![media(AUDIO, "0", Direction::SendOnly), media(AUDIO, "1", Direction::SendOnly)],
    ] {
        assert!(side.offered(bad).is_err());
        assert_eq!(side.negotiation.lines, before);
    }
}

#[test]
fn a_client_may_send_on_a_line_of_ours() {
    let mut side = Side::new();
    side.offer(&[(5, VIDEO)]);
    let answer = side.willing();
    side.answered(answer).unwrap();
    assert!(side.line(0).inbound.is_none(), "an answer to sendonly cannot send");
    side.offered(vec![media(VIDEO, side.line(0).mid.to_string().as_str(), Direction::SendRecv)]).unwrap();
    assert_eq!(side.directions(), [Direction::SendRecv]);
    assert_eq!(
        (side.line(0).sends(), side.line(0).inbound.as_ref().map(|i| i.track.0)),
        (Some(TrackId(5)), Some(1_001))
    );
    // Our track ends: the line lives on for what the client sends.
    side.negotiation.retire(TrackId(5));
    side.offer(&[(6, VIDEO)]);
    let offered = side.negotiation.offered.as_ref().unwrap();
    assert_eq!((offered[0].rejected, offered[0].offered(Sources::ALL)), (false, Direction::RecvOnly));
    assert_eq!((offered.len(), offered[1].sends()), (2, Some(TrackId(6))), "a mid never changes its track");
}

#[test]
fn an_answer_that_names_a_track_our_offer_left_no_way_for_gets_one() {
    let mut side = Side::new();
    side.offer(&[(1, VIDEO)]);
    let mut answer = side.willing();
    answer[0].msid = Some(("stream".into(), "track".into()));
    side.answered(answer.clone()).unwrap();
    assert!(side.line(0).asks_to_send && side.line(0).inbound.is_none());
    assert!(side.negotiation.wants_offer, "the next offer makes a way");

    side.offer(&[]);
    assert_eq!(side.negotiation.offered.as_ref().unwrap()[0].offered(Sources::ALL), Direction::SendRecv);
    // Who still does not send is not asked for ever.
    side.answered(answer.clone()).unwrap();
    assert!(!side.line(0).asks_to_send);

    side.answered_after_asking(&mut answer);
    assert!(side.line(0).inbound.as_ref().is_some_and(|inbound| inbound.sending));
    assert_eq!(side.line(0).sends(), Some(TrackId(1)), "and ours goes on");
}

#[test]
fn an_offer_that_comes_first_keeps_clear_of_the_ids_that_chromium_numbers_by_place() {
    // toffset, orientation, playout delay, content type, timing, colour space, layers' allocation; 9 to 12 are as in ours
    let by_place = [1, 3, 5, 6, 7, 8, 13];
    let mut side = Side::new();
    side.offer(&[(1, AUDIO), (2, VIDEO)]);
    for (line, count) in side.negotiation.offered.as_ref().unwrap().iter().zip([4, 6]) {
        assert_eq!(line.extensions.len(), count);
        assert!(line.extensions.iter().all(|(id, _)| !by_place.contains(id)), "{:?}", line.extensions);
    }
}

/// It gives 14 and 13 to what its audio displaced as soon as it adds a camera.
#[test]
fn an_offer_behind_chromiums_audio_keeps_clear_of_what_its_video_will_use() {
    let mut side = Side::new();
    let mut microphone = media(MediaKind::Audio, "0", Direction::Inactive);
    let audio = [Extension::AudioLevel, Extension::AbsSendTime, Extension::TransportCc, Extension::Mid];
    microphone.extensions = (1..).zip(audio).collect();
    side.offered(vec![microphone]).unwrap();
    side.offer(&[(2, MediaKind::Video)]);
    let offered = side.negotiation.offered.as_ref().unwrap();
    let ids: Vec<u8> = offered[1].extensions.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [4, 2, 3, 12, 10, 11]);
}

/// Chromium refuses whole offers in which one number has two meanings.
#[test]
fn numbers_of_an_offer_that_was_rolled_back_give_way_to_the_clients() {
    let mut side = Side::new();
    side.offer(&[(1, MediaKind::Audio), (2, MediaKind::Video)]);
    side.negotiation.offered = None;
    let mut microphone = media(MediaKind::Audio, "0", Direction::SendOnly);
    microphone.codecs[0].payload_type = 96;
    microphone.extensions = vec![(1, Extension::AudioLevel), (3, Extension::TransportCc), (4, Extension::Mid)];
    side.offered(vec![microphone]).unwrap();
    side.offer(&[(1, MediaKind::Audio), (2, MediaKind::Video)]);
    let (mut ids, mut numbers) = (HashMap::new(), HashMap::new());
    for line in side.negotiation.offered.iter().flatten() {
        for (id, extension) in &line.extensions {
            assert_eq!(ids.entry(*id).or_insert(*extension), extension, "extension {id}");
        }
        for codec in &line.codecs {
            assert_eq!(*numbers.entry(codec.payload_type).or_insert(codec.name), codec.name, "{}", codec.payload_type);
        }
    }
    assert_eq!((ids[&4], numbers[&96]), (Extension::Mid, CodecName::Opus), "the client's");
}

#[test]
fn an_offer_takes_tracks_away_until_it_is_made() {
    let mut side = Side::new();
    side.offer(&[(1, VIDEO)]);
    side.answered(side.willing()).unwrap();
    assert!(!side.negotiation.removes());
    side.negotiation.retire(TrackId(1));
    assert!(side.negotiation.removes());
    side.offer(&[]);
    side.answered(side.willing()).unwrap();
    assert!(!side.negotiation.removes(), "what is gone holds up nothing that begins");
}

#[test]
fn the_line_of_a_track_that_ended_is_closed_and_then_used_under_another_mid() {
    let mut side = Side::new();
    side.offer(&[(5, VIDEO), (6, AUDIO)]);
    let answer = side.willing();
    side.answered(answer).unwrap();
    let mid = side.line(0).mid;
    side.negotiation.retire(TrackId(5));
    assert_eq!((side.line(0).sends(), side.negotiation.wants_offer), (None, true));
    side.offer(&[(7, VIDEO)]);
    let offered = side.negotiation.offered.clone().unwrap();
    assert!(offered[0].rejected && offered[0].mid == mid, "port 0");
    assert_eq!(offered.len(), 3, "nobody has let go of the line yet");
    let answer = side.willing();
    side.answered(answer).unwrap();
    side.offer(&[(8, AUDIO), (9, VIDEO)]);
    let offered = side.negotiation.offered.clone().unwrap();
    assert_eq!(offered.len(), 4);
    assert_eq!((offered[0].sends(), offered[3].sends()), (Some(TrackId(9)), Some(TrackId(8))));
    assert_ne!(offered[0].mid, mid);
}

#[test]
fn what_the_client_rejects_stays_rejected() {
    let mut side = Side::new();
    side.offer(&[(5, VIDEO), (6, AUDIO)]);
    let mut answer = side.willing();
    answer[0].rejected = true;
    side.answered(answer).unwrap();
    assert_eq!((side.line(0).sends(), side.line(1).sends()), (None, Some(TrackId(6))));
    side.offer(&[]);
    assert!(side.negotiation.offered.as_ref().unwrap()[0].rejected);
    // A transceiver that the client stops by an offer of its own.
    side.negotiation.offered = None;
    let mut offer: Vec<Media> = side.negotiation.lines.iter().map(|line| answer_to(line, false)).collect();
    offer[1].rejected = true;
    side.offered(offer).unwrap();
    assert_eq!(side.line(1).sends(), None);
}

#[test]
fn a_new_connection_in_an_answer_mints_new_tracks() {
    let mut side = Side::new();
    side.offered(vec![media(AUDIO, "0", Direction::SendOnly)]).unwrap();
    side.offer(&[]);
    let mut answer = description(vec![answer_to(side.line(0), true)]);
    answer.origin = "two".into();
    side.negotiation.apply_answer(&answer, &[], true, || TrackId(77)).unwrap();
    assert_eq!(side.line(0).inbound.as_ref().unwrap().track, TrackId(77));
    assert_eq!(side.negotiation.origin.as_deref(), Some("two"));
}

#[test]
fn tracks_beyond_the_last_m_line_are_left_out_and_named() {
    let mut side = Side::new();
    let wanted: Vec<(u64, MediaKind)> = (0..MEDIA_MAX as u64 + 3).map(|n| (n, AUDIO)).collect();
    let left_out = side.offer(&wanted);
    assert_eq!(left_out, [256, 257, 258].map(TrackId));
    let offered = side.negotiation.offered.as_ref().unwrap();
    assert_eq!(offered.len(), MEDIA_MAX);
    let mut mids: Vec<Mid> = offered.iter().map(|line| line.mid).collect();
    mids.sort_unstable();
    mids.dedup();
    assert_eq!(mids.len(), MEDIA_MAX);
    assert!(mids.iter().all(|mid| mid.as_str().len() == 4), "all of one width");
}

#[test]
fn offers_wait_for_their_interval_and_for_the_answer() {
    let mut side = Side::new();
    let now = side.now;
    assert_eq!(side.negotiation.offer_due(), None, "nothing is wanted");
    side.negotiation.wants_offer = true;
    assert_eq!(side.negotiation.offer_due(), Some(now + FIRST_OFFER_DELAY));
    side.offer(&[(5, AUDIO)]);
    side.negotiation.wants_offer = true;
    assert_eq!(side.negotiation.offer_due(), None, "one at a time");
    let answer = side.willing();
    side.answered(answer).unwrap();
    assert_eq!(side.negotiation.offer_due(), Some(now + OFFER_INTERVAL));
    let mut waits = Negotiation::new(1, false, now);
    waits.wants_offer = true;
    assert_eq!(waits.offer_due(), None, "the client offers first");
}

/// A codec that the client never named gets payload types that collide with none of its own.
#[test]
fn payload_types_and_extension_ids_mean_one_thing() {
    let mut side = Side::new();
    let mut line = media(AUDIO, "0", Direction::SendOnly);
    line.codecs[0].payload_type = 96;
    line.extensions = vec![(1, Extension::Mid), (2, Extension::AudioLevel)];
    side.offered(vec![line]).unwrap();
    side.offer(&[(5, VIDEO), (6, AUDIO)]);
    let offered = side.negotiation.offered.as_ref().unwrap();
    let video = &offered[1].codecs[0];
    assert!(video.payload_type != 96 && video.rtx.is_some_and(|rtx| rtx != 96 && rtx != video.payload_type));
    assert_eq!(offered[2].codecs[0].payload_type, 96);
    let mut ids = HashMap::new();
    for (id, extension) in offered.iter().flat_map(|line| &line.extensions) {
        assert_eq!(*ids.entry(*id).or_insert(*extension), *extension);
        assert!((1..=14).contains(id));
    }
    assert_eq!(ids[&1], Extension::Mid);
}

#[derive(Clone, Debug)]
enum Move {
    /// Somebody else publishes, or the n-th of those tracks ends.
    Publish(bool),
    End(usize),
    /// The client adds a line, stops sending on its n-th, or stops the transceiver of any line.
    Add(bool),
    Mute(usize),
    Stop(usize),
    /// The client offers; `saw` if our offer came before.
    Offer {
        saw: bool,
    },
    /// We offer; the client rejects the n-th line, if there is one.
    Ours {
        reject: usize,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => any::<bool>().prop_map(Move::Publish),
        2 => (0usize..20).prop_map(Move::End),
        2 => any::<bool>().prop_map(Move::Add),
        1 => (0usize..20).prop_map(Move::Mute),
        1 => (0usize..20).prop_map(Move::Stop),
        3 => any::<bool>().prop_map(|saw| Move::Offer { saw }),
        4 => (0usize..60).prop_map(|reject| Move::Ours { reject }),
    ];
    prop::collection::vec(one, 1..60)
}

/// An m-line as a simple client keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Theirs {
    kind: MediaKind,
    mid: Mid,
    rejected: bool,
    sends: bool,
    /// Changed since the last description, with nothing agreed on it.
    stopped: bool,
}

struct Model {
    side: Side,
    lines: Vec<Theirs>,
    wanted: Vec<(u64, MediaKind)>,
    refused: Vec<u64>,
    next_track: u64,
    next_mid: u32,
    tracks_of_mids: HashMap<Mid, TrackId>,
}

impl Model {
    fn ours_crosses(&self) -> bool {
        self.side.negotiation.offered.is_some()
    }

    fn make_offer(&mut self) {
        let live: Vec<u64> = self.wanted.iter().map(|(track, _)| *track).collect();
        self.side.negotiation.retire_gone(|track| live.contains(&track.0));
        let lines = &self.side.negotiation.lines;
        let has_line = |track: u64| lines.iter().any(|line| line.sends() == Some(TrackId(track)));
        let missing: Vec<(u64, MediaKind)> =
            self.wanted.iter().copied().filter(|(t, _)| !has_line(*t) && !self.refused.contains(t)).collect();
        assert_eq!(self.side.offer(&missing), []);
        for line in self.side.negotiation.offered.as_ref().unwrap() {
            if let Some(track) = line.sends() {
                let known = *self.tracks_of_mids.entry(line.mid).or_insert(track);
                assert_eq!(known, track, "a mid never changes its track");
            }
        }
    }

    /// The client takes our offer, which it can always apply, and answers.
    fn answer(&mut self, reject: usize) {
        let offered = self.side.negotiation.offered.clone().unwrap();
        assert!(offered.len() >= self.lines.len(), "m-lines never go");
        let mut answer = Vec::new();
        for (index, line) in offered.iter().enumerate() {
            let own = self.lines.get(index);
            if let Some(own) = own.filter(|own| !own.rejected && !line.rejected) {
                assert_eq!((own.mid, own.kind), (line.mid, line.kind), "a live line keeps its mid and kind");
            }
            let recycled = own.is_none_or(|own| own.mid != line.mid);
            let stopped = !recycled && own.is_some_and(|own| own.stopped);
            let sends = own.is_some_and(|own| !recycled && own.sends) && line.inbound.is_some() && !line.rejected;
            let mut media = answer_to(line, sends);
            media.rejected |= stopped || index == reject;
            let theirs = Theirs {
                kind: line.kind,
                mid: line.mid,
                rejected: media.rejected,
                sends: sends && !media.rejected,
                stopped: false,
            };
            if media.rejected
                && let Some(track) = line.sends()
            {
                self.refused.push(track.0);
            }
            answer.push(media);
            if index < self.lines.len() { self.lines[index] = theirs } else { self.lines.push(theirs) }
        }
        self.side.answered(answer).unwrap();
    }

    fn offer(&mut self) {
        let media = self.lines.iter().zip(0..).map(|(line, index): (&Theirs, usize)| {
            let receives =
                self.side.negotiation.lines.get(index).is_some_and(|l| l.mid == line.mid && l.sends().is_some());
            let direction = match (line.sends, receives) {
                (true, true) => Direction::SendRecv,
                (true, false) => Direction::SendOnly,
                (false, true) => Direction::RecvOnly,
                (false, false) => Direction::Inactive,
            };
            let mut media = media(line.kind, line.mid.as_str(), direction);
            media.rejected = line.rejected || line.stopped;
            media
        });
        let media: Vec<Media> = media.collect();
        for (line, ours) in media.iter().zip(&self.side.negotiation.lines) {
            if line.rejected
                && !ours.rejected
                && let Some(track) = ours.sends()
            {
                self.refused.push(track.0);
            }
        }
        self.side.offered(media).unwrap();
        for (line, ours) in self.lines.iter_mut().zip(&self.side.negotiation.lines) {
            line.rejected = ours.rejected;
            line.stopped = false;
            line.sends &= !line.rejected;
        }
    }

    fn step(&mut self, step: Move) {
        match step {
            Move::Publish(video) => {
                self.next_track += 1;
                self.wanted.push((self.next_track, if video { VIDEO } else { AUDIO }));
            }
            Move::End(n) if !self.wanted.is_empty() => {
                let (track, _) = self.wanted.remove(n % self.wanted.len());
                self.side.negotiation.retire(TrackId(track));
            }
            Move::Add(video) => {
                self.next_mid += 1;
                let mid = Mid::new(&format!("c{}", self.next_mid)).unwrap();
                let kind = if video { VIDEO } else { AUDIO };
                let line = Theirs { kind, mid, rejected: false, sends: true, stopped: false };
                // An offer of ours that crosses would put its lines where this one is: the client adds it afterwards.
                if !self.ours_crosses() {
                    match self.lines.iter().position(|line| line.rejected) {
                        Some(free) => self.lines[free] = line,
                        None => self.lines.push(line),
                    }
                    self.offer();
                }
            }
            Move::Mute(n) if !self.lines.is_empty() => {
                let index = n % self.lines.len();
                self.lines[index].sends = false;
            }
            Move::Stop(n) if !self.lines.is_empty() => {
                let index = n % self.lines.len();
                self.lines[index].stopped = !self.lines[index].rejected;
            }
            Move::Offer { saw } => {
                if self.ours_crosses() && saw {
                    // Ours stands: the polite side takes its own back, answers, and offers again.
                    self.answer(usize::MAX);
                } else {
                    self.side.negotiation.offered = None;
                }
                self.offer();
            }
            Move::Ours { reject } => {
                if !self.ours_crosses() {
                    self.make_offer();
                }
                // Half of the time it is still on its way when something else happens.
                if reject % 2 == 0 {
                    self.answer(reject);
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_end_with_the_same_lines(moves in moves()) {
        let mut model = Model {
            side: Side::new(),
            lines: vec![],
            wanted: vec![],
            refused: vec![],
            next_track: 0,
            next_mid: 0,
            tracks_of_mids: HashMap::new(),
        };
        for step in moves {
            model.step(step);
        }
        // What is under way comes to its end: closing takes one offer, using anew what was closed another.
        if model.ours_crosses() {
            model.answer(usize::MAX);
        }
        for _ in 0..2 {
            model.make_offer();
            model.answer(usize::MAX);
        }
        let ours: Vec<_> = model.side.negotiation.lines.iter().map(|l| (l.mid, l.kind, l.rejected)).collect();
        let theirs: Vec<_> = model.lines.iter().map(|l| (l.mid, l.kind, l.rejected)).collect();
        prop_assert_eq!(ours, theirs);
        for (line, theirs) in model.side.negotiation.lines.iter().zip(&model.lines) {
            prop_assert_eq!(line.inbound.as_ref().is_some_and(|i| i.sending), theirs.sends);
        }
        let mut sent: Vec<u64> = model.side.negotiation.lines.iter().filter_map(|l| l.sends().map(|t| t.0)).collect();
        sent.sort_unstable();
        let mut wanted: Vec<u64> = model.wanted.iter().map(|w| w.0).filter(|t| !model.refused.contains(t)).collect();
        wanted.sort_unstable();
        prop_assert_eq!(sent, wanted, "each live track has one line, and no other has");
    }
}
