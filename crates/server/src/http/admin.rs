//! What an administrator sees and does over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use confab_control::{Account, NewAccount};
use confab_types::{Role, Secret, UserName};
use confab_wire::rest::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::extract::{Administrator, Body};
use super::{ApiError, App};
use crate::room::{LeftReason, RoomCommand, RoomView};

#[derive(Serialize)]
pub(super) struct RoomsAnswer {
    rooms: Vec<RoomView>,
}

/// Every live room with its people, tracks and forwarding counters.
pub(super) async fn rooms(State(app): State<Arc<App>>, _: Administrator) -> Json<RoomsAnswer> {
    let mut rooms = Vec::new();
    for room in app.rooms.all() {
        if let Ok(view) = room.ask(|reply| RoomCommand::View { reply }).await {
            rooms.push(view);
        }
    }
    Json(RoomsAnswer { rooms })
}

/// Ends a room, by name or sid.
pub(super) async fn end_room(
    State(app): State<Arc<App>>,
    _: Administrator,
    Path(room): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    if app.rooms.end(&room).await {
        Ok(Json(json!({})))
    } else {
        Err(ApiError::new(ErrorCode::RoomNotFound, "There is no such room."))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    user: UserName,
    role: Role,
    administrator: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
}

impl From<Account> for UserView {
    fn from(a: Account) -> Self {
        Self {
            user: a.name,
            role: a.role,
            administrator: a.administrator,
            created_at: a.created_at,
        }
    }
}

/// Every account.
pub(super) async fn users(State(app): State<Arc<App>>, _: Administrator) -> Result<Json<Vec<UserView>>, ApiError> {
    let accounts = app.control.list_accounts().await?;
    Ok(Json(accounts.into_iter().map(UserView::from).collect()))
}

#[derive(Deserialize)]
pub(super) struct AddUser {
    user: UserName,
    pass: Secret,
    role: Role,
    #[serde(default)]
    administrator: bool,
}

/// Adds an account.
pub(super) async fn add_user(
    State(app): State<Arc<App>>,
    _: Administrator,
    Body(new): Body<AddUser>,
) -> Result<Json<UserView>, ApiError> {
    let new = NewAccount {
        name: new.user,
        password: new.pass,
        role: new.role,
        administrator: new.administrator,
    };
    Ok(Json(app.control.add_account(new).await?.into()))
}

/// Removes an account, its sessions, and the person from calls.
pub(super) async fn remove_user(
    State(app): State<Arc<App>>,
    _: Administrator,
    Path(user): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let name: UserName = user
        .parse()
        .map_err(|_| ApiError::new(ErrorCode::NotFound, "There is no such user."))?;
    let removed = app.control.remove_account(&name).await?;
    app.rooms
        .disconnect(&removed.voided, LeftReason::ForceDisconnected)
        .await;
    Ok(Json(json!({})))
}
