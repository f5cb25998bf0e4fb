//! LiveKit's RoomService.

use std::time::Duration;

use axum::response::Response;
use confab_control::{RoomOptions, RoomOrigin};
use confab_types::{Identity, RoomName};
use confab_wire::livekit as lk;
use tokio::sync::oneshot;

use super::{Call, Code, TwirpError};
use crate::room::{LeftReason, RoomCommand, RoomHandle};

/// LiveKit's bound.
const MAX_METADATA: usize = 64 * 1024;

/// One method by name.
pub(super) async fn dispatch(method: &str, call: Call) -> Result<Response, TwirpError> {
    match method {
        "CreateRoom" => create_room(&call).await,
        "ListRooms" => list_rooms(&call).await,
        "DeleteRoom" => delete_room(&call).await,
        "ListParticipants" => list_participants(&call).await,
        "GetParticipant" => get_participant(&call).await,
        "RemoveParticipant" => remove_participant(&call).await,
        "MutePublishedTrack" => mute_track(&call).await,
        "UpdateParticipant" => update_participant(&call).await,
        "UpdateSubscriptions" => update_subscriptions(&call).await,
        "SendData" => send_data(&call).await,
        "UpdateRoomMetadata" => update_room_metadata(&call).await,
        other => Err(TwirpError(Code::BadRoute, format!("no method {other:?}"))),
    }
}

fn no_room() -> TwirpError {
    TwirpError(Code::NotFound, "requested room does not exist".into())
}

fn no_participant() -> TwirpError {
    TwirpError(Code::NotFound, "participant does not exist".into())
}

fn invalid(text: &str) -> TwirpError {
    TwirpError(Code::InvalidArgument, text.into())
}

/// The open room of that name.
fn room(call: &Call, name: &str) -> Result<RoomHandle, TwirpError> {
    let name: RoomName = name.parse().map_err(|_| no_room())?;
    call.app.rooms.get(&name).ok_or_else(no_room)
}

async fn ask<T>(room: &RoomHandle, make: impl FnOnce(oneshot::Sender<T>) -> RoomCommand) -> Result<T, TwirpError> {
    room.ask(make).await.map_err(|_| no_room())
}

async fn create_room(call: &Call) -> Result<Response, TwirpError> {
    call.may_create()?;
    let request: lk::CreateRoomRequest = call.request()?;
    let name: RoomName = request
        .name
        .parse()
        .map_err(|_| invalid("the room's name is empty or too long"))?;
    if request.metadata.len() > MAX_METADATA {
        return Err(invalid("metadata is too long"));
    }
    let defaults = RoomOptions::new(RoomOrigin::Service);
    let or = |seconds: u32, default: Duration| {
        if seconds == 0 {
            default
        } else {
            Duration::from_secs(seconds.into())
        }
    };
    let options = RoomOptions {
        empty_timeout: or(request.empty_timeout, defaults.empty_timeout),
        departure_timeout: or(request.departure_timeout, defaults.departure_timeout),
        max_participants: (request.max_participants > 0).then_some(request.max_participants),
        metadata: request.metadata,
        ..defaults
    };
    let room = call.app.rooms.open(&name, options).await?;
    let info = ask(&room, |reply| RoomCommand::Info { reply }).await?;
    Ok(call.answer(&info))
}

async fn list_rooms(call: &Call) -> Result<Response, TwirpError> {
    call.may_list()?;
    let request: lk::ListRoomsRequest = call.request()?;
    let mut rooms = Vec::new();
    for room in call.app.rooms.all() {
        let wanted = request.names.is_empty() || request.names.iter().any(|n| n == room.name().as_str());
        if wanted && let Ok(info) = room.ask(|reply| RoomCommand::Info { reply }).await {
            rooms.push(info);
        }
    }
    Ok(call.answer(&lk::ListRoomsResponse { rooms }))
}

async fn delete_room(call: &Call) -> Result<Response, TwirpError> {
    call.may_create()?;
    let request: lk::DeleteRoomRequest = call.request()?;
    let room = room(call, &request.room)?;
    call.app.rooms.end(room.sid().as_str()).await;
    Ok(call.answer(&lk::DeleteRoomResponse {}))
}

async fn list_participants(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::ListParticipantsRequest = call.request()?;
    call.admin_of(&request.room)?;
    let participants = ask(&room(call, &request.room)?, |reply| RoomCommand::List { reply }).await?;
    Ok(call.answer(&lk::ListParticipantsResponse { participants }))
}

async fn get_participant(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::RoomParticipantIdentity = call.request()?;
    call.admin_of(&request.room)?;
    let everyone = ask(&room(call, &request.room)?, |reply| RoomCommand::List { reply }).await?;
    let found = everyone
        .into_iter()
        .find(|p| p.identity == request.identity || p.sid == request.identity);
    found.map(|p| call.answer(&p)).ok_or_else(no_participant)
}

async fn remove_participant(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::RoomParticipantIdentity = call.request()?;
    call.admin_of(&request.room)?;
    let room = room(call, &request.room)?;
    let everyone = ask(&room, |reply| RoomCommand::List { reply }).await?;
    let by_sid = everyone
        .into_iter()
        .find(|p| p.sid == request.identity)
        .map(|p| p.identity);
    let text = by_sid.unwrap_or(request.identity);
    let identity: Identity = text.parse().map_err(|_| no_participant())?;
    // Void first, so that nobody slips back in between.
    let voided = call
        .app
        .control
        .remove_participant(room.sid(), &identity)
        .await
        .map_err(|e| match e {
            confab_control::AdmissionError::Storage(e) => e.into(),
            _ => no_participant(),
        })?;
    let who = identity.to_string();
    let removed = ask(&room, |reply| RoomCommand::Remove {
        who,
        reason: LeftReason::ForceDisconnected,
        reply,
    })
    .await?;
    if !removed && voided.is_empty() {
        return Err(no_participant());
    }
    Ok(call.answer(&lk::RemoveParticipantResponse {}))
}

async fn mute_track(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::MuteRoomTrackRequest = call.request()?;
    call.admin_of(&request.room)?;
    if !request.muted {
        // Nobody's microphone is switched on from afar (LiveKit: `enable_remote_unmute` is off).
        return Err(invalid("remote unmute not enabled"));
    }
    let room = room(call, &request.room)?;
    let (who, track) = (request.identity, request.track_sid);
    let track = ask(&room, |reply| RoomCommand::MuteTrack {
        who,
        track,
        muted: true,
        reply,
    })
    .await?;
    let track = track.ok_or_else(|| TwirpError(Code::NotFound, "track does not exist".into()))?;
    Ok(call.answer(&lk::MuteRoomTrackResponse { track: Some(track) }))
}

async fn update_participant(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::UpdateParticipantRequest = call.request()?;
    call.admin_of(&request.room)?;
    let room = room(call, &request.room)?;
    let change = Box::new(request);
    let info = ask(&room, |reply| RoomCommand::UpdateParticipant { change, reply }).await?;
    info.map(|p| call.answer(&p)).ok_or_else(no_participant)
}

async fn update_subscriptions(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::UpdateSubscriptionsRequest = call.request()?;
    call.admin_of(&request.room)?;
    let room = room(call, &request.room)?;
    let mut tracks = request.track_sids;
    tracks.extend(request.participant_tracks.into_iter().flat_map(|p| p.track_sids));
    let (who, on) = (request.identity, request.subscribe);
    let found = ask(&room, |reply| RoomCommand::UpdateSubscriptions {
        who,
        tracks,
        on,
        reply,
    })
    .await?;
    if found {
        Ok(call.answer(&lk::UpdateSubscriptionsResponse {}))
    } else {
        Err(no_participant())
    }
}

async fn send_data(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::SendDataRequest = call.request()?;
    call.admin_of(&request.room)?;
    let room = room(call, &request.room)?;
    let request = Box::new(request);
    ask(&room, |reply| RoomCommand::SendData { request, reply }).await?;
    Ok(call.answer(&lk::SendDataResponse {}))
}

async fn update_room_metadata(call: &Call) -> Result<Response, TwirpError> {
    let request: lk::UpdateRoomMetadataRequest = call.request()?;
    call.admin_of(&request.room)?;
    if request.metadata.len() > MAX_METADATA {
        return Err(invalid("metadata is too long"));
    }
    let room = room(call, &request.room)?;
    let metadata = request.metadata;
    let info = ask(&room, |reply| RoomCommand::SetMetadata { metadata, reply }).await?;
    Ok(call.answer(&info))
}
