//! Descriptions, parsed, and given to an SFU whose room has something to offer.

use std::time::Duration;

use sfu::sdp::{self, CODECS_MAX, MEDIA_MAX, RIDS_MAX, SSRCS_MAX};
use sfu::{Event, Input, Kind, Output, PeerId, Request, RoomId};

use super::RECORD_SEPARATOR;
use crate::hall::Hall;

const STRANGER: PeerId = PeerId(1);
const RECORDS_MAX: usize = 8;

/// Records of one client in order: an offer, or, behind an `a`, an answer.
pub fn sdp(data: &[u8]) {
    play(data);
}

/// What the SFU said: a test sees by it that the seeds still mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Offers of its own.
    pub offers: usize,
    /// Answers.
    pub answers: usize,
    /// Refusals.
    pub refusals: usize,
}

/// As [`sdp`].
pub fn play(data: &[u8]) -> Said {
    let mut said = Said::default();
    let mut hall = Hall::new(1);
    hall.join(&[Kind::Audio, Kind::Video]);
    hall.request(Request::Join {
        peer: STRANGER,
        room: RoomId(1),
        participant: "pa_stranger".into(),
        auto_subscribe: true,
        offer_first: true,
        rights: Default::default(),
        codecs: Default::default(),
        view: Default::default(),
    });
    pass(&mut hall, &mut said);
    for record in data.split(|byte| *byte == RECORD_SEPARATOR).take(RECORDS_MAX) {
        let text = String::from_utf8_lossy(record).into_owned();
        if let Some(answer) = text.strip_prefix('a') {
            check_parse(answer);
            hall.request(Request::Answer { peer: STRANGER, sdp: answer.to_owned(), tracks: Vec::new() });
            check_events(&mut hall, None, &mut said);
        } else {
            check_parse(&text);
            let offer = text.clone();
            hall.request(Request::Offer {
                peer: STRANGER,
                sdp: offer,
                tracks: Vec::new(),
                saw_ours: record.len() % 2 == 0,
            });
            check_events(&mut hall, Some(&text), &mut said);
        }
        pass(&mut hall, &mut said);
    }
    assert_eq!(hall.sfu.counters().peer_panics, 0);
    said
}

/// Long enough for an offer that was due.
fn pass(hall: &mut Hall, said: &mut Said) {
    hall.advance(Duration::from_millis(300));
    hall.sfu.handle(Input::Tick, hall.now);
    check_events(hall, None, said);
}

/// Every list has its limit, and a refusal does not give the input back.
fn check_parse(text: &str) {
    match sdp::parse(text) {
        Ok(description) => {
            assert!(description.media.len() <= MEDIA_MAX && description.bundle.len() <= description.media.len());
            for media in &description.media {
                assert!(media.codecs.len() <= CODECS_MAX && media.rids.len() <= RIDS_MAX);
                assert!(media.ssrcs.len() <= SSRCS_MAX && media.rtx_ssrcs.len() <= SSRCS_MAX);
                assert!(media.rejected || (media.ice_ufrag.is_some() && media.fingerprint.is_some()));
            }
            assert_eq!(sdp::parse(text).as_ref(), Ok(&description));
        }
        Err(sdp::InvalidSdp(message)) => assert!(message.len() <= 512, "{message}"),
    }
}

/// What the SFU says to `offer`, or by itself: descriptions that parse, one reaction at most, of a bounded size.
fn check_events(hall: &mut Hall, offer: Option<&str>, said: &mut Said) {
    let before = *said;
    while let Some(output) = hall.sfu.poll() {
        let Output::Event(event) = output else { continue };
        match event {
            Event::Answer { peer: STRANGER, sdp, .. } => {
                said.answers += 1;
                let offer = offer.expect("an answer to an offer");
                let (ours, theirs) =
                    (sdp::parse(&sdp).expect("our answer parses"), sdp::parse(offer).expect("accepted"));
                assert!(sdp.len() <= 8 * offer.len() + 16_384, "{} bytes for {}", sdp.len(), offer.len());
                assert_eq!(ours.media.len(), theirs.media.len());
                for (our, their) in ours.media.iter().zip(&theirs.media) {
                    assert_eq!(our.kind, their.kind);
                    assert!(our.rejected || our.mid == their.mid);
                    assert!(our.rejected || !their.rejected, "what they reject stays rejected");
                }
            }
            Event::Offer { peer: STRANGER, sdp, .. } => {
                said.offers += 1;
                sdp::parse(&sdp).expect("our offer parses");
            }
            Event::Refused { peer: STRANGER, message, .. } => {
                said.refusals += 1;
                assert!(message.len() <= 512, "{message}");
            }
            Event::Closed { .. } => panic!("a description ends nobody"),
            _ => {}
        }
    }
    assert!(said.answers + said.refusals <= before.answers + before.refusals + 1);
}
