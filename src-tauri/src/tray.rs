//! The tray: microphone, camera, leave, open, quit. Where no tray is available the
//! app goes on without one, and closing the window in a call asks nothing of it.

use tauri::menu::{Menu, MenuItem};
use tauri::tray::TrayIconBuilder;
use tauri::{AppHandle, Manager as _};

use crate::shell::Shell;

/// Makes the tray icon and its menu.
pub fn install(app: &AppHandle, shell: &Shell) -> tauri::Result<()> {
    let item = |id: &str, text: &str| MenuItem::with_id(app, id, text, true, None::<&str>);
    let menu = Menu::with_items(
        app,
        &[
            &item("open", "Open Confab")?,
            &item("microphone", "Microphone on or off")?,
            &item("camera", "Camera on or off")?,
            &item("leave", "Leave the call")?,
            &item("quit", "Quit")?,
        ],
    )?;
    let mut tray = TrayIconBuilder::with_id("confab").menu(&menu).tooltip("Confab");
    if let Some(icon) = app.default_window_icon() {
        tray = tray.icon(icon.clone());
    }
    let shell = shell.clone();
    tray.on_menu_event(move |app, event| match event.id().as_ref() {
        "open" => show_window(app),
        "microphone" => shell.toggle_microphone(),
        "camera" => shell.toggle_camera(),
        "leave" => {
            let leaving = shell.clone();
            shell.spawn(async move {
                let _ = leaving.leave().await;
            });
            show_window(app);
        }
        "quit" => app.exit(0),
        _ => {}
    })
    .build(app)?;
    Ok(())
}

/// Brings the window back.
pub fn show_window(app: &AppHandle) {
    if let Some(window) = app.get_webview_window("main") {
        let _ = window.show();
        let _ = window.unminimize();
        let _ = window.set_focus();
    }
}
