//! Why a room could not do what it was told.

use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SfuError {
    /// No such participant.
    #[error("the participant is not in the room")]
    NoParticipant,
    /// No such track, or its owner left.
    #[error("the track is not in the room")]
    NoTrack,
    /// The grants forbid it.
    #[error("the grants do not allow it")]
    NotAllowed,
    /// The SDP is no SDP.
    #[error("the session description is malformed")]
    MalformedSdp,
    /// The SDP cannot be applied to the connection.
    #[error("the session description does not fit the connection")]
    UnusableSdp(#[source] str0m::RtcError),
    /// More tracks or connections than the room takes from one participant.
    #[error("too many tracks")]
    TooManyTracks,
}
