//! What a participant's task hands back at the end.

use serde::Serialize;

use super::stamp::Track;
use super::truth::Stay;

/// How long each step of a join took since it began, ms; the last two since there was something to hear or see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct JoinTimes {
    /// Socket.IO let us in.
    pub socket: Option<f64>,
    /// The join was acknowledged.
    pub ack: Option<f64>,
    /// A connectivity check was answered.
    pub ice: Option<f64>,
    /// DTLS was done: media can flow.
    pub dtls: Option<f64>,
    /// The first packet of audio came.
    pub first_audio: Option<f64>,
    /// The first picture could be shown.
    pub first_frame: Option<f64>,
}

/// What a participant's task hands back.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Which.
    pub number: u32,
    /// Who.
    pub user: String,
    /// Its room.
    pub room: usize,
    /// Of its first join.
    pub times: JoinTimes,
    /// From a cut connection to the acknowledged resumed join, ms each.
    pub reconnects: Vec<f64>,
    /// From blocked UDP to an answered check over TCP, ms each.
    pub switches: Vec<f64>,
    /// Tracks that it published packets of.
    pub published: Vec<Track>,
    /// What it heard and saw: publisher and track.
    pub heard: Vec<(u32, Track)>,
    /// Frames that the tester was too late to send.
    pub skipped: u64,
    /// What went wrong, in sentences.
    pub failures: Vec<String>,
    /// When it was there.
    pub stays: Vec<Stay>,
}
