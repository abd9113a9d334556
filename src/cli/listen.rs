//! `campanile listen`: a client that prints what it hears.

use super::{
    EXIT_FAILED,
    client::{Connected, ServerArgs, Target},
    escape::{Escaped, json_line},
    fail, runtime, say, say_error,
};
use crate::protocol::SocketId;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::process::ExitCode;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

#[derive(Args, Debug)]
pub(super) struct ListenArgs {
    /// The channels; private and presence channels are signed with the app's secret
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// One line of JSON for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// How the listening came to its end.
enum Stopped {
    /// The server closed the connection.
    Closed(String),
    /// The connection could not be made, or broke.
    Broken(Error),
}

pub(super) fn listen(args: &ListenArgs) -> ExitCode {
    let (target, runtime) = match (args.server.target(), runtime()) {
        (Ok(target), Ok(runtime)) => (target, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let stopped = runtime.block_on(async {
        tokio::select! {
            stopped = run(&target, args) => Some(stopped),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    match stopped {
        None => ExitCode::SUCCESS,
        Some(Stopped::Closed(why)) => {
            fail(EXIT_FAILED, format_args!("the server closed the connection: {why}"))
        }
        Some(Stopped::Broken(error)) => {
            fail(EXIT_FAILED, format_args!("no connection to {}: {error}", target.origin()))
        }
    }
}

async fn run(target: &Target, args: &ListenArgs) -> Stopped {
    match connect(target).await {
        Err(error) => Stopped::Broken(error),
        Ok(mut socket) => match converse(&mut socket, target, args).await {
            Ok(why) => Stopped::Closed(why),
            Err(error) => Stopped::Broken(error),
        },
    }
}

async fn connect(target: &Target) -> Result<WebSocketStream<Connected>, Error> {
    let stream = target.connect().await.map_err(Error::Io)?;
    // The stream is there already, and the URL is for the request alone.
    let url = format!(
        "ws://{}{}/app/{}?protocol=7&client=campanile&version={}",
        target.authority(),
        target.prefix,
        target.key,
        env!("CARGO_PKG_VERSION"),
    );
    client_async(url, stream).await.map(|(socket, _response)| socket)
}

/// Listens until the server closes, and says why it did.
async fn converse(
    socket: &mut WebSocketStream<Connected>,
    target: &Target,
    args: &ListenArgs,
) -> Result<String, Error> {
    while let Some(message) = socket.next().await {
        let text = match message? {
            Message::Text(text) => text,
            Message::Close(frame) => {
                return Ok(
                    frame.map_or_else(|| "without a reason".into(), |frame| frame.to_string())
                );
            }
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                continue;
            }
        };
        let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
        match event["event"].as_str() {
            Some("pusher:connection_established") => {
                for subscribe in subscriptions(target, args, &event) {
                    socket.send(Message::text(subscribe.to_string())).await?;
                }
            }
            Some("pusher:ping") => {
                let pong = json!({"event": "pusher:pong", "data": {}});
                socket.send(Message::text(pong.to_string())).await?;
            }
            Some(name) => print(name, &text, &event, args.json),
            None => {}
        }
    }
    Ok("without a close frame".into())
}

fn subscriptions(target: &Target, args: &ListenArgs, established: &Value) -> Vec<Value> {
    let data: Value =
        serde_json::from_str(established["data"].as_str().unwrap_or_default()).unwrap_or_default();
    let socket_id = data["socket_id"].as_str().map(SocketId::parse);
    let socket_id = socket_id.and_then(Result::ok).flatten();
    args.channels.iter().map(|channel| subscribe(target, channel, socket_id)).collect()
}

/// On presence channels, the member is called after this program.
fn subscribe(target: &Target, channel: &str, socket_id: Option<SocketId>) -> Value {
    let is_presence = channel.starts_with("presence-");
    let channel_data =
        is_presence.then(|| r#"{"user_id":"campanile-listen","user_info":{}}"#.to_owned());
    let auth = socket_id.map(|socket_id| {
        let data = channel_data.as_deref();
        let text = crate::signature::channel_string(socket_id, channel, data);
        format!("{}:{}", target.key, target.signer.sign(&text))
    });
    let data = json!({"channel": channel, "auth": auth, "channel_data": channel_data});
    json!({"event": "pusher:subscribe", "data": data})
}

fn print(name: &str, text: &str, event: &Value, as_json: bool) {
    if as_json {
        return say(json_line(text));
    }
    let channel = event["channel"].as_str().unwrap_or("-");
    let data = event["data"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned);
    let line = format!("{channel} {name} {data}");
    if name == "pusher:error" {
        say_error(Escaped(&line));
    } else {
        say(Escaped(&line));
    }
}
