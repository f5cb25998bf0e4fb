//! A whole server: opens the data, starts engine and rooms, listens, stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use confab_control::{Control, ControlConfig, OpenError};
use hyper_util::rt::TokioTimer;
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::ServerConfig;
use crate::engine::MediaEngine;
use crate::engine::embedded::{EmbeddedEngine, EngineConfig, StartError};
use crate::http::{App, router};
use crate::registry::Rooms;
use crate::room::{RoomEnv, RoomEvent};
use crate::tls::{self, Tls, TlsError};

/// How often departed admissions are voided in the database. They are over at their time anyway;
/// this only frees their seats, so a second's delay is a second in which a full room stays full.
const SWEEP: Duration = Duration::from_secs(1);
/// Requests in progress get this long when the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// A connection that has not sent a whole request head by then is closed: silent ones cost a descriptor each.
const REQUEST_HEAD: Duration = Duration::from_secs(30);
/// Observers that fall behind by more events miss some and are told so.
const EVENTS: usize = 1024;

/// The server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Demo accounts have known passwords.
    #[error("--demo has known passwords and works on loopback only; {0} is not")]
    DemoBeyondLoopback(SocketAddr),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// Rooms of an older run cannot be read.
    #[error(transparent)]
    Rooms(#[from] confab_control::RoomError),
    /// The port is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The media engine did not start.
    #[error("the media engine did not start")]
    Engine(#[from] StartError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The console socket cannot be made.
    #[error("cannot make the console's socket in the data folder")]
    Console(#[source] io::Error),
}

/// Starts servers.
pub struct Server;

/// A server that serves. Dropping it stops it without good-byes; [`RunningServer::shutdown`] says them.
pub struct RunningServer {
    address: SocketAddr,
    media_port: u16,
    fingerprint: Option<String>,
    control: Control,
    rooms: Rooms,
    events: broadcast::Sender<Arc<RoomEvent>>,
    embedded: Option<Arc<EmbeddedEngine>>,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl Server {
    /// Starts a server; it serves when this returns.
    pub async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
        if config.demo && !config.listen.ip().is_loopback() {
            return Err(ServerError::DemoBeyondLoopback(config.listen));
        }
        let control = Control::open(control_config(&config)).await?;
        let tls = tls::set_up(&config.tls, config.listen, &config.data, &names(&config))?;
        let listen_error = |source| ServerError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let (engine, embedded, media_port) = engine(&config)?;
        let (events, _) = broadcast::channel(EVENTS);
        let rooms = Rooms::new(RoomEnv {
            engine,
            control: control.clone(),
            events: events.clone(),
        });
        rooms.restore().await?;
        let stop = CancellationToken::new();
        #[cfg(unix)]
        crate::console::serve(&config.data, control.clone(), rooms.clone(), stop.clone())
            .map_err(ServerError::Console)?;
        tokio::spawn(sweep(rooms.clone(), stop.clone()));
        let app = Arc::new(App {
            control: control.clone(),
            rooms: rooms.clone(),
            secure: tls.is_some(),
            address,
        });
        let handle = Handle::new();
        let fingerprint = tls.as_ref().map(|t| t.fingerprint.clone());
        let serving = serve(listener, tls, app, handle.clone()).map_err(listen_error)?;
        info!(%address, media_port, "serving");
        Ok(RunningServer {
            address,
            media_port,
            fingerprint,
            control,
            rooms,
            events,
            embedded,
            handle,
            serving,
            stop,
        })
    }
}

fn control_config(config: &ServerConfig) -> ControlConfig {
    let mut control = ControlConfig {
        demo: config.demo,
        keys: config.keys.clone(),
        ..ControlConfig::new(config.data.clone())
    };
    if let Some(change) = &config.control {
        change(&mut control);
    }
    control
}

/// Names for the certificate. Clients pin its key, so these are for people who look at it.
fn names(config: &ServerConfig) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), config.listen.ip().to_string()];
    names.extend(config.public_address.map(|a| a.to_string()));
    names
}

type Engines = (Arc<dyn MediaEngine>, Option<Arc<EmbeddedEngine>>, u16);

fn engine(config: &ServerConfig) -> Result<Engines, ServerError> {
    if let Some(engine) = &config.engine {
        return Ok((engine.clone(), None, config.media_port));
    }
    let settings = EngineConfig {
        bind: config.listen.ip(),
        media_port: config.media_port,
        public_address: config.public_address,
        shards: 0,
    };
    let (engine, port) = EmbeddedEngine::start(&settings)?;
    let engine = Arc::new(engine);
    Ok((engine.clone(), Some(engine), port))
}

fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: Arc<App>,
    handle: Handle<SocketAddr>,
) -> io::Result<JoinHandle<()>> {
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let mut server = axum_server::from_tcp(listener)?.handle(handle);
    let mut http1 = server.http_builder().http1();
    http1.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD);
    let done = |outcome: io::Result<()>| {
        if let Err(e) = outcome {
            error!(error = %e, "listening ended");
        }
    };
    Ok(match tls {
        Some(tls) => {
            let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls.config)).acceptor(NoDelayAcceptor::new());
            let server = server.acceptor(acceptor);
            tokio::spawn(async move { done(server.serve(service).await) })
        }
        None => {
            let server = server.acceptor(NoDelayAcceptor::new());
            tokio::spawn(async move { done(server.serve(service).await) })
        }
    })
}

async fn sweep(rooms: Rooms, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(e) = rooms.sweep().await {
            warn!(error = %e, "sweep");
        }
    }
}

impl RunningServer {
    /// `http://` or `https://`, with the port it listens on.
    pub fn url(&self) -> String {
        let scheme = if self.fingerprint.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// UDP and TCP port of all media.
    pub fn media_port(&self) -> u16 {
        self.media_port
    }

    /// SHA-256 of the certificate's key, where TLS is on.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Accounts, keys, rooms.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The live rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// What happens in the rooms from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<RoomEvent>> {
        self.events.subscribe()
    }

    /// The embedded engine, unless another was given.
    pub fn embedded_engine(&self) -> Option<&Arc<EmbeddedEngine>> {
        self.embedded.as_ref()
    }

    /// Tells everyone to come back later, finishes what is in progress, and closes the data.
    pub async fn shutdown(mut self) {
        info!("stopping");
        self.rooms.shutdown().await;
        self.handle.graceful_shutdown(Some(DRAIN));
        let _ = (&mut self.serving).await;
        self.stop.cancel();
        if let Some(engine) = self.embedded.take() {
            let _ = tokio::task::spawn_blocking(move || engine.shutdown()).await;
        }
        self.control.close().await;
        info!("stopped");
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.stop.cancel();
        self.serving.abort();
    }
}

/// The default data folder of `confab-server`: `./confab-data`.
pub(crate) fn default_data() -> PathBuf {
    PathBuf::from("confab-data")
}
