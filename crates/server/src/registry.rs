//! The open rooms by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use confab_control::{Room, RoomError, RoomOptions, StorageError, VoidedAdmission};
use confab_types::{RoomName, RoomSid};
use futures::future::join_all;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::room::{EndReason, LeftReason, RoomCommand, RoomEnv, RoomHandle, spawn_room};

/// Rooms get this long to say good-bye when the server stops.
const GOODBYE: Duration = Duration::from_secs(3);

/// Every open room. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    env: RoomEnv,
    rooms: Mutex<HashMap<RoomName, RoomHandle>>,
    stopping: AtomicBool,
}

impl Rooms {
    /// None yet.
    pub fn new(env: RoomEnv) -> Self {
        Self {
            inner: Arc::new(Inner {
                env,
                rooms: Mutex::default(),
                stopping: AtomicBool::new(false),
            }),
        }
    }

    /// Brings back the rooms that an older run of the server left open.
    pub async fn restore(&self) -> Result<(), RoomError> {
        for room in self.inner.env.control.list_rooms().await? {
            info!(room = %room.name, "room restored");
            self.start(room, true);
        }
        Ok(())
    }

    /// The running room of this row; started if need be.
    pub fn ensure(&self, room: Room) -> RoomHandle {
        self.start(room, false)
    }

    fn start(&self, room: Room, restored: bool) -> RoomHandle {
        let mut rooms = self.inner.rooms.lock();
        if let Some(handle) = rooms.get(&room.name).filter(|h| *h.sid() == room.sid) {
            return handle.clone();
        }
        let (name, sid) = (room.name.clone(), room.sid.clone());
        let inner = Arc::downgrade(&self.inner);
        let (over_name, over_sid) = (name.clone(), sid);
        let handle = spawn_room(room, restored, self.inner.env.clone(), move || {
            let Some(inner) = inner.upgrade() else { return };
            let mut rooms = inner.rooms.lock();
            // A newer run may have taken the name.
            if rooms.get(&over_name).is_some_and(|h| *h.sid() == over_sid) {
                rooms.remove(&over_name);
            }
        });
        rooms.insert(name, handle.clone());
        handle
    }

    /// The running room of that name.
    pub fn get(&self, name: &RoomName) -> Option<RoomHandle> {
        self.inner.rooms.lock().get(name).cloned()
    }

    /// The room of that name or sid.
    pub fn find(&self, who: &str) -> Option<RoomHandle> {
        let rooms = self.inner.rooms.lock();
        rooms
            .values()
            .find(|h| h.name().as_str() == who || h.sid().as_str() == who)
            .cloned()
    }

    /// Every running room, by name.
    pub fn all(&self) -> Vec<RoomHandle> {
        let mut all: Vec<_> = self.inner.rooms.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name().as_str().cmp(b.name().as_str()));
        all
    }

    /// The room of that name, opened if need be (a join with a backend's token, CreateRoom).
    pub async fn open(&self, name: &RoomName, options: RoomOptions) -> Result<RoomHandle, RoomError> {
        let opened = self.inner.env.control.open_room(name, options).await?;
        Ok(self.ensure(opened.room))
    }

    /// The running room with this very sid, if it is still open.
    pub async fn with_sid(&self, name: &RoomName, sid: &RoomSid) -> Result<Option<RoomHandle>, RoomError> {
        if let Some(handle) = self.get(name).filter(|h| h.sid() == sid && !h.is_over()) {
            return Ok(Some(handle));
        }
        let row = self.inner.env.control.room(name).await?.filter(|row| row.sid == *sid);
        Ok(row.map(|row| self.ensure(row)))
    }

    /// Disconnects those whose admission was voided.
    pub async fn disconnect(&self, voided: &[VoidedAdmission], reason: LeftReason) {
        for gone in voided {
            let Some(participant) = &gone.participant else { continue };
            if let Some(room) = self.find(gone.room.as_str()) {
                let who = participant.to_string();
                let _ = room.ask(|reply| RoomCommand::Remove { who, reason, reply }).await;
            }
        }
    }

    /// Ends a room for everyone. `false`: there is none.
    pub async fn end(&self, who: &str) -> bool {
        let Some(room) = self.find(who) else { return false };
        let _ = room
            .ask(|reply| RoomCommand::End {
                reason: EndReason::Deleted,
                reply,
            })
            .await;
        room.closed().await;
        true
    }

    /// Whether the server stops: nobody is let in.
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Relaxed)
    }

    /// Tells everyone that the server stops.
    pub async fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        let goodbyes = self.all().into_iter().map(|room| async move {
            let _ = room
                .ask(|reply| RoomCommand::End {
                    reason: EndReason::ServerShutdown,
                    reply,
                })
                .await;
            room.closed().await;
        });
        if tokio::time::timeout(GOODBYE, join_all(goodbyes)).await.is_err() {
            warn!("some rooms did not end in time");
        }
    }

    /// Voids in the database what departed for good.
    pub async fn sweep(&self) -> Result<(), StorageError> {
        self.inner.env.control.sweep().await.map(|_| ())
    }
}
