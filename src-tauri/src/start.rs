//! The start of the app: environment, arguments, runtime, window, and what the
//! command line asks for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use confab_types::Secret;
use tauri::{AppHandle, WebviewUrl, WebviewWindowBuilder, WindowEvent};

use crate::args::Args;
use crate::dto::SignIn;
use crate::shell::Shell;
use crate::{commands, platform, tray};

/// How long open calls get to say good-bye when the app ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the app until its window closes.
pub fn run(args: Vec<OsString>) -> ExitCode {
    platform::fix_environment();
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    match open(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Confab could not start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn open(args: Args) -> anyhow::Result<()> {
    // One provider of cryptography for every TLS connection of the process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("confab-call")
        .build()?;
    let own_folder = args.data.is_some();
    let data = args.data.clone().unwrap_or_else(default_data);
    let shell = Shell::open(args, data, runtime.handle().clone())?;
    let mut builder = tauri::Builder::default().plugin(tauri_plugin_clipboard_manager::init());
    if !own_folder {
        // A window with a folder of its own is an instance of its own (testers, a second user).
        builder = builder.plugin(tauri_plugin_single_instance::init(|app, _args, _folder| {
            tray::show_window(app)
        }));
    }
    let for_setup = shell.clone();
    let app = builder
        .manage(shell.clone())
        .invoke_handler(tauri::generate_handler![
            commands::get_state,
            commands::try_a_call,
            commands::host_start,
            commands::host_stop,
            commands::sign_in,
            commands::sign_out,
            commands::accept_certificate,
            commands::open_lobby,
            commands::leave_lobby,
            commands::set_lobby,
            commands::join,
            commands::leave,
            commands::dismiss_summary,
            commands::rejoin,
            commands::set_microphone,
            commands::set_camera,
            commands::choose_device,
            commands::test_speaker,
            commands::send_chat,
            commands::raise_hand,
            commands::react,
            commands::set_volume,
            commands::moderate,
            commands::frames_endpoint,
            commands::poll_frames,
            commands::copy_text,
            commands::diagnostics,
            commands::close_to_tray,
        ])
        .setup(move |app| {
            set_up(app.handle(), &for_setup)?;
            Ok(())
        })
        .build(tauri::generate_context!())?;
    app.run(|_, _| {});
    runtime.block_on(async {
        let _ = tokio::time::timeout(FAREWELL, shell.sign_off()).await;
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

fn set_up(app: &AppHandle, shell: &Shell) -> tauri::Result<()> {
    let window = WebviewWindowBuilder::new(app, "main", WebviewUrl::default())
        .title("Confab")
        .inner_size(1280.0, 800.0)
        .min_inner_size(480.0, 600.0)
        .background_color(tauri::window::Color(17, 18, 20, 255))
        .theme(platform::theme())
        .initialization_script(platform::theme_script())
        .build()?;
    shell.attach(app.clone());
    if let Err(error) = tray::install(app, shell) {
        tracing::info!(%error, "no tray here");
    }
    let (hidden, keeper) = (window.clone(), shell.clone());
    window.on_window_event(move |event| {
        if let WindowEvent::CloseRequested { api, .. } = event
            && keeper.hide_instead_of_closing()
        {
            api.prevent_close();
            let _ = hidden.hide();
        }
    });
    let starter = shell.clone();
    shell.spawn(async move { starter.begin_as_asked().await });
    Ok(())
}

/// `confab` in the system's folder for application data.
fn default_data() -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    #[cfg(target_os = "macos")]
    let base = home().join("Library/Application Support");
    #[cfg(windows)]
    let base = std::env::var_os("APPDATA").map(PathBuf::from).unwrap_or_else(home);
    #[cfg(not(any(target_os = "macos", windows)))]
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| home().join(".local/share"));
    base.join("confab")
}

impl Shell {
    /// What the command line asks for, else the last sign-in.
    async fn begin_as_asked(&self) {
        let args = self.args.clone();
        if args.try_a_call {
            if let Err(error) = self.try_a_call().await {
                self.toast(format!("{} {}", error.message, error.next), true);
            }
            return;
        }
        if let Some(server) = args.server.clone() {
            let user = args.user.clone();
            self.update(|m| {
                m.settings.servers.retain(|s| s.url != server);
                m.settings.servers.insert(
                    0,
                    crate::dto::KnownServer {
                        url: server.clone(),
                        user: user.clone(),
                    },
                );
                m.screen = crate::dto::Screen::SignIn;
            });
            let password = std::env::var("CONFAB_PASSWORD").ok().map(Secret::new);
            if let (Some(user), Some(password)) = (user, password) {
                let form = SignIn {
                    server,
                    user,
                    password: password.expose().to_owned(),
                };
                match self.sign_in(form).await {
                    Ok(()) if args.join => self.join_as_asked().await,
                    Ok(()) => {}
                    Err(error) => self.toast(format!("{} {}", error.message, error.next), true),
                }
            }
            return;
        }
        self.restore_session().await;
    }

    async fn join_as_asked(&self) {
        if let Err(error) = self.join_call().await {
            self.toast(format!("{} {}", error.message, error.next), true);
        }
    }

    /// In a call, closing the window hides it; the tray brings it back.
    fn hide_instead_of_closing(&self) -> bool {
        let in_call = self.read(|m| m.call.is_some());
        let has_tray = self.app().is_some_and(|app| app.tray_by_id("confab").is_some());
        // Under WebDriver the driver closes windows, and means it.
        if !in_call || !has_tray || std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some() {
            return false;
        }
        if !self.read(|m| m.settings.tray_notice_shown) {
            self.remember(|s| s.tray_notice_shown = true);
            platform::notify(
                "The call goes on",
                "Confab is in the tray. Open it or leave the call from there.",
            );
        }
        true
    }

    /// Leaves the call, stops hosting, ends every task.
    async fn sign_off(&self) {
        self.leave_now().await;
        let _ = self.host_stop().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
