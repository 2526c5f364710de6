//! How much of a track a subscriber gets.

/// An encoding of a track and, within it, the highest spatial and temporal layer that is sent. The order is that of
/// quality: a later encoding is larger, whatever its temporal layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    /// Index into the track's layers (simulcast encodings, smallest first); 0 where there is one.
    pub(crate) layer: u8,
    /// Highest spatial layer of an SVC encoding; 0 where there is one.
    pub(crate) spatial: u8,
    /// Highest temporal layer; 0 is the base.
    pub(crate) temporal: u8,
}

/// One quality that a track can be had in now or, if its publisher is asked, soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) target: Target,
    /// Bits a second of all that this target sends, as measured, or as last known of an encoding that is switched off, or
    /// guessed from its size; never 0.
    pub(crate) bps: u32,
    /// Pixels; 0 where unknown.
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// Packets of it came within the last second.
    pub(crate) active: bool,
}
