//! The commands of the page: thin, one line each where possible. The page is not
//! trusted: every argument is checked again by the action it reaches.

use tauri::State;
use tauri::ipc::Response;

use crate::dto::{AppState, DeviceKindDto, FramesEndpoint, HostOptions, LobbyChoice, ModerateAction, SignIn, TileWish};
use crate::shell::{Answer, Shell};

/// Forwards a command to an action on the calls' runtime.
macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) => $action:ident;)*) => {$(
        $(#[$doc])*
        #[tauri::command]
        pub async fn $name(shell: State<'_, Shell>, $($arg: $kind),*) -> Answer<()> {
            let doer = shell.inner().clone();
            shell.run(async move { doer.$action($($arg),*).await }).await
        }
    )*};
}

forward! {
    /// Hosts a throw-away server and meets a companion.
    try_a_call() => try_a_call;
    /// Hosts on this computer.
    host_start(options: HostOptions) => host_start;
    /// Stops hosting.
    host_stop() => host_stop;
    /// Signs in.
    sign_in(credentials: SignIn) => sign_in;
    /// Signs out.
    sign_out() => sign_out;
    /// Decides on a certificate.
    accept_certificate(accept: bool) => accept_certificate;
    /// Joins the room of the form.
    join() => join_call;
    /// Leaves.
    leave() => leave;
    /// Joins the last room again.
    rejoin() => rejoin;
    /// Chooses a device.
    choose_device(kind: DeviceKindDto, id: String) => choose_device;
    /// Plays a short sound.
    test_speaker() => test_speaker;
    /// Moderates.
    moderate(action: ModerateAction) => moderate;
}

/// Everything the page shows.
#[tauri::command]
pub fn get_state(shell: State<'_, Shell>) -> AppState {
    shell.state()
}

/// Opens the joining form.
#[tauri::command]
pub async fn open_lobby(shell: State<'_, Shell>, room: Option<String>) -> Answer<()> {
    shell.open_lobby(room);
    Ok(())
}

/// Leaves the joining form.
#[tauri::command]
pub async fn leave_lobby(shell: State<'_, Shell>) -> Answer<()> {
    shell.leave_lobby();
    Ok(())
}

/// Changes the joining form.
#[tauri::command]
pub async fn set_lobby(shell: State<'_, Shell>, choice: LobbyChoice) -> Answer<()> {
    shell.set_lobby(choice);
    Ok(())
}

/// Closes the page after a call.
#[tauri::command]
pub async fn dismiss_summary(shell: State<'_, Shell>) -> Answer<()> {
    shell.dismiss_summary();
    Ok(())
}

/// Microphone on or off.
#[tauri::command]
pub fn set_microphone(shell: State<'_, Shell>, on: bool) {
    shell.set_microphone(on);
}

/// Camera on or off.
#[tauri::command]
pub fn set_camera(shell: State<'_, Shell>, on: bool) {
    shell.set_camera(on);
}

/// Sends a chat message.
#[tauri::command]
pub fn send_chat(shell: State<'_, Shell>, text: String) -> Answer<()> {
    shell.send_chat(&text)
}

/// Hand up or down.
#[tauri::command]
pub fn raise_hand(shell: State<'_, Shell>, up: bool) {
    shell.raise_hand(up);
}

/// Sends a reaction.
#[tauri::command]
pub fn react(shell: State<'_, Shell>, emoji: String) -> Answer<()> {
    shell.react(&emoji)
}

/// Own volume for someone.
#[tauri::command]
pub fn set_volume(shell: State<'_, Shell>, sid: String, volume: f32) -> Answer<()> {
    shell.set_volume(&sid, volume)
}

/// Where pictures come from.
#[tauri::command]
pub async fn frames_endpoint(shell: State<'_, Shell>) -> Answer<FramesEndpoint> {
    let inner = shell.inner().clone();
    shell
        .run(async move {
            let none = FramesEndpoint {
                url: None,
                token: String::new(),
            };
            Ok(inner.frames().await.map_or(none, crate::frames::FrameSocket::endpoint))
        })
        .await
}

/// Pictures without the socket.
#[tauri::command]
pub fn poll_frames(shell: State<'_, Shell>, tiles: Vec<TileWish>) -> Response {
    shell.hub.set_wishes(&crate::frames::wishes(&tiles));
    Response::new(shell.hub.poll())
}

/// Puts text on the clipboard.
#[tauri::command]
pub fn copy_text(shell: State<'_, Shell>, text: String) -> Answer<()> {
    shell.copy_text(text)
}

/// Version, system and state without secrets, to send to a helper.
#[tauri::command]
pub fn diagnostics(shell: State<'_, Shell>) -> String {
    shell.diagnostics()
}

/// Hides the window.
#[tauri::command]
pub fn close_to_tray(window: tauri::WebviewWindow) {
    let _ = window.hide();
}
