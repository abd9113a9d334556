//! `campanile listen`: a client that prints received events and reconnects as the usual client
//! libraries do.

use super::{
    EXIT_FAILED, fail, print_error, runtime,
    target::{AppTarget, ServerArgs},
};
use crate::{
    backoff::Backoff,
    escape::{Escaped, json_line},
    http_client::ByteStream,
    protocol::{ResumeToken, SocketId},
};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{
    future,
    io::{self, Write},
    os::fd::AsRawFd,
    process::ExitCode,
    thread,
    time::Duration,
};
use tokio::{sync::oneshot, time};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message},
};

#[derive(Args, Debug)]
pub(super) struct ListenArgs {
    /// The channels; private and presence channels are signed with the app's secret
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// One line of JSON for each event
    #[arg(long)]
    json: bool,
    /// Miss nothing when the connection breaks: resume it by a token (docs/resume.md)
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Why a connection ended.
#[derive(Debug)]
enum ListenEnd {
    /// The server closed the connection with this code and reason.
    Closed(Option<u16>, String),
    /// The connection failed, while it was established or later.
    Failed(tungstenite::Error),
    /// The server did not answer a ping in time.
    PongTimeout,
    /// The reader of the output has closed it.
    OutputClosed,
}

/// What to do after a connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReconnectDecision {
    /// Stop: a new connection would end in the same way.
    Stop,
    /// Reconnect after this time.
    Reconnect(Duration),
}

/// Activity timeout for a server that sends none.
const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the server has to answer a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(30);
/// The delays between attempts while the server is unreachable.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30), jitter: 0.0 };

pub(super) fn listen(args: &ListenArgs) -> ExitCode {
    let (target, runtime) = match (args.server.target(), runtime()) {
        (Ok(target), Ok(runtime)) => (target, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let code = runtime.block_on(async {
        tokio::select! {
            code = run(&target, args) => code,
            _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
            () = output_closed() => ExitCode::SUCCESS,
        }
    });
    // The system may still resolve a name, which is not waited for.
    runtime.shutdown_background();
    code
}

/// Waits until the reader of the output has closed it, as in `listen | head -1`. Never returns for
/// an output that cannot be watched, such as a file.
async fn output_closed() {
    let (closed, is_closed) = oneshot::channel();
    thread::spawn(move || {
        if wait_for_closed_output().is_ok() {
            // The receiver is dropped when the program ends.
            let _ = closed.send(());
        }
    });
    if is_closed.await.is_err() {
        future::pending::<()>().await;
    }
}

/// Blocks until the reading end of the output is closed.
///
/// # Errors
///
/// The output is of a kind that cannot be watched.
fn wait_for_closed_output() -> io::Result<()> {
    let output = io::stdout().as_raw_fd();
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&output), Token(0), Interest::WRITABLE)?;
    let mut events = Events::with_capacity(1);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        if events.iter().any(|event| event.is_error() || event.is_write_closed()) {
            return Ok(());
        }
    }
}

async fn run(target: &AppTarget, args: &ListenArgs) -> ExitCode {
    let mut failures = 0;
    let token = args.resume.then(|| format!("{:032x}", rand::random::<u128>()));
    loop {
        let token = token.as_deref();
        let mut session = ListenSession { target, args, token, is_established: false };
        let ended = session.run().await;
        if session.is_established {
            failures = 0;
        }
        let why = match &ended {
            ListenEnd::OutputClosed => return ExitCode::SUCCESS,
            ListenEnd::Closed(code, reason) => {
                let code = code.map(|code| format!("{code} ")).unwrap_or_default();
                format!("the server closed the connection: {code}{}", Escaped(reason))
            }
            ListenEnd::Failed(error) => format!("no connection to {}: {error}", target.origin),
            ListenEnd::PongTimeout => "the server did not answer a ping".to_owned(),
        };
        match reconnect_decision(&ended, session.is_established, failures) {
            ReconnectDecision::Stop => return fail(EXIT_FAILED, Escaped(&why)),
            ReconnectDecision::Reconnect(pause) => {
                let when = match pause.as_secs() {
                    0 => "now".to_owned(),
                    seconds => format!("in {seconds} s"),
                };
                print_error(format_args!("campanile: {}; connecting again {when}", Escaped(&why)));
                time::sleep(pause).await;
            }
        }
        failures += 1;
    }
}

/// Decides as pusher-js does (`docs/protocol.md#close-codes`). `failures` is the number of
/// consecutive attempts before this one that did not lead to a connection.
fn reconnect_decision(
    ended: &ListenEnd,
    was_established: bool,
    failures: u32,
) -> ReconnectDecision {
    let second = Duration::from_secs(1);
    match ended {
        ListenEnd::OutputClosed | ListenEnd::Closed(Some(4000..=4099 | 4300..), _) => {
            ReconnectDecision::Stop
        }
        // A client that is closed at once again and again must not reconnect without a pause.
        ListenEnd::Closed(Some(4200..=4299), _) if was_established || failures == 0 => {
            ReconnectDecision::Reconnect(Duration::ZERO)
        }
        ListenEnd::Closed(_, _) => ReconnectDecision::Reconnect(second),
        ListenEnd::PongTimeout => ReconnectDecision::Reconnect(Duration::ZERO),
        ListenEnd::Failed(error) if is_final(error) => ReconnectDecision::Stop,
        ListenEnd::Failed(_) if was_established => ReconnectDecision::Reconnect(second),
        ListenEnd::Failed(_) => ReconnectDecision::Reconnect(BACKOFF.delay(failures, 0.0)),
    }
}

/// Whether another attempt would fail as well: the server has answered, but its certificate is not
/// trusted or it does not know the app.
fn is_final(error: &tungstenite::Error) -> bool {
    use tungstenite::Error;

    if let Error::Http(response) = error {
        return response.status().is_client_error() && response.status().as_u16() != 429;
    }
    if let Error::Io(error) = error {
        return matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    }
    matches!(error, Error::Url(_) | Error::HttpFormat(_))
}

/// One connection, from its handshake to its close.
struct ListenSession<'a> {
    target: &'a AppTarget,
    args: &'a ListenArgs,
    token: Option<&'a str>,
    is_established: bool,
}

/// An event as received.
#[derive(Deserialize)]
struct ReceivedEvent<'a> {
    #[serde(rename = "event")]
    name: Option<String>,
    channel: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Established {
    socket_id: String,
    activity_timeout: Option<u64>,
}

impl ListenSession<'_> {
    async fn run(&mut self) -> ListenEnd {
        match connect(self.target, self.token).await {
            Ok(mut socket) => self.run_session(&mut socket).await.unwrap_or_else(ListenEnd::Failed),
            Err(error) => ListenEnd::Failed(error),
        }
    }

    /// Listens until the connection ends.
    async fn run_session(
        &mut self,
        socket: &mut WebSocketStream<Box<dyn ByteStream>>,
    ) -> Result<ListenEnd, tungstenite::Error> {
        let mut activity_timeout = ACTIVITY_TIMEOUT;
        loop {
            let message = match time::timeout(activity_timeout, socket.next()).await {
                Ok(message) => message,
                Err(_silence) => {
                    socket.send(Message::text(r#"{"event":"pusher:ping","data":{}}"#)).await?;
                    match time::timeout(PONG_TIMEOUT, socket.next()).await {
                        Ok(message) => message,
                        Err(_silence) => return Ok(ListenEnd::PongTimeout),
                    }
                }
            };
            let text = match message.transpose()? {
                Some(Message::Text(text)) => text,
                Some(Message::Close(Some(frame))) => {
                    return Ok(ListenEnd::Closed(
                        Some(frame.code.into()),
                        frame.reason.to_string(),
                    ));
                }
                Some(Message::Close(None)) => {
                    return Ok(ListenEnd::Closed(None, "without a reason".to_owned()));
                }
                None => return Ok(ListenEnd::Closed(None, "without a close frame".to_owned())),
                Some(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                ) => continue,
            };
            let Ok(event) = serde_json::from_str::<ReceivedEvent<'_>>(&text) else { continue };
            match event.name.as_deref() {
                Some("pusher:connection_established") => {
                    let established = data_of(&event)
                        .and_then(|data| serde_json::from_str::<Established>(&data).ok());
                    let Some(established) = established else { continue };
                    self.is_established = true;
                    if let Some(seconds) = established.activity_timeout.filter(|&s| 0 < s) {
                        activity_timeout = Duration::from_secs(seconds).min(ACTIVITY_TIMEOUT);
                    }
                    for channel in &self.args.channels {
                        let subscribe = subscribe(self.target, channel, &established.socket_id);
                        socket.send(Message::text(subscribe.to_string())).await?;
                    }
                }
                Some("pusher:ping") => {
                    socket.send(Message::text(r#"{"event":"pusher:pong","data":{}}"#)).await?;
                }
                Some("pusher:pong") | None => {}
                Some(name) => {
                    if print(name, &text, &event, self.args.json).is_err() {
                        return Ok(ListenEnd::OutputClosed);
                    }
                }
            }
        }
    }
}

async fn connect(
    target: &AppTarget,
    token: Option<&str>,
) -> Result<WebSocketStream<Box<dyn ByteStream>>, tungstenite::Error> {
    let stream = target.connect().await.map_err(tungstenite::Error::Io)?;
    // The stream is there already, and the URL is for the request alone.
    let resume = token.map(|token| format!("/app/{}{token}", ResumeToken::SEGMENT_PREFIX));
    let url = format!(
        "ws://{}{}{}/app/{}?protocol=7&client=campanile&version={}",
        target.origin.authority(),
        target.prefix,
        resume.unwrap_or_default(),
        target.key,
        env!("CARGO_PKG_VERSION"),
    );
    client_async(url, stream).await.map(|(socket, _response)| socket)
}

/// The data of an event as text: usually JSON within a string.
fn data_of(event: &ReceivedEvent<'_>) -> Option<String> {
    let raw = event.data?.get();
    Some(serde_json::from_str(raw).unwrap_or_else(|_no_string| raw.to_owned()))
}

/// A subscription, signed for this connection. On presence channels, the user id is this program's
/// name.
fn subscribe(target: &AppTarget, channel: &str, socket_id: &str) -> Value {
    let is_presence = channel.starts_with("presence-");
    let channel_data =
        is_presence.then(|| r#"{"user_id":"campanile-listen","user_info":{}}"#.to_owned());
    let auth = SocketId::parse(socket_id).ok().flatten().map(|socket_id| {
        let data = channel_data.as_deref();
        let text = crate::signature::channel_string_to_sign(socket_id, channel, data);
        format!("{}:{}", target.key, target.signer.sign(&text))
    });
    let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
    json!({"event": "pusher:subscribe", "data": data})
}

/// Prints an event, escaped so that a terminal interprets none of it.
///
/// # Errors
///
/// The reader of the output has closed it.
fn print(name: &str, text: &str, event: &ReceivedEvent<'_>, as_json: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if as_json {
        writeln!(output, "{}", json_line(text))?;
        return output.flush();
    }
    let channel = event.channel.as_deref().unwrap_or("-");
    let data = data_of(event).unwrap_or_default();
    let line = format!("{channel} {name} {data}");
    if name == "pusher:error" {
        print_error(Escaped(&line));
        return Ok(());
    }
    writeln!(output, "{}", Escaped(&line))?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16) -> ListenEnd {
        ListenEnd::Closed(Some(code), String::new())
    }

    #[test]
    fn listen_reconnects_as_the_close_code_requires() {
        let after = |s| ReconnectDecision::Reconnect(Duration::from_secs(s));
        for code in [4000, 4001, 4009, 4099, 4300, 4999] {
            assert_eq!(
                reconnect_decision(&closed(code), true, 0),
                ReconnectDecision::Stop,
                "{code}"
            );
        }
        for code in [1000, 1001, 1006, 1009, 1011, 3999, 4100, 4199] {
            assert_eq!(reconnect_decision(&closed(code), true, 0), after(1), "{code}");
        }
        for code in [4200, 4201, 4299] {
            assert_eq!(reconnect_decision(&closed(code), true, 0), after(0), "{code}");
            assert_eq!(reconnect_decision(&closed(code), false, 0), after(0), "{code}");
            assert_eq!(
                reconnect_decision(&closed(code), false, 1),
                after(1),
                "{code}, again and again"
            );
        }
    }

    #[test]
    fn reconnects_to_an_unreachable_server_back_off() {
        let rejected = || tungstenite::Error::Io(io::ErrorKind::ConnectionRefused.into());
        let pauses = (0..8).map(|failures| {
            match reconnect_decision(&ListenEnd::Failed(rejected()), false, failures) {
                ReconnectDecision::Reconnect(pause) => pause.as_secs(),
                ReconnectDecision::Stop => panic!("stops"),
            }
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 30, 30, 30]);
        let untrusted = tungstenite::Error::Io(io::ErrorKind::InvalidData.into());
        assert_eq!(
            reconnect_decision(&ListenEnd::Failed(untrusted), false, 0),
            ReconnectDecision::Stop
        );
    }
}
