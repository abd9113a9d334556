//! A proxy that reads the WebSocket frames of clients, as some gateways do.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What the proxy does with pings of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pings {
    /// It answers them by itself.
    Answered,
    /// It drops them.
    Dropped,
}

const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Starts the proxy in front of a server, and returns its address.
pub(crate) async fn frame_proxy(server: SocketAddr, mode: Pings) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                forward(client, server, mode).await;
            });
        }
    });
    address
}

/// Forwards both directions until one ends.
async fn forward(client: TcpStream, server: TcpStream, mode: Pings) {
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let (sender, mut receiver) = unbounded_channel::<Vec<u8>>();
    let answers = sender.clone();
    let reading = async move {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some(bytes) = receiver.recv().await {
            if to_client.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    // Each of them ends when its side has closed the connection.
    tokio::select! {
        () = reading => {}
        () = writing => {}
        _ended = filter(from_client, to_server, answers, mode) => {}
    }
}

/// Passes the head of the first request on, and then frame after frame, but for pings.
async fn filter(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    answers: UnboundedSender<Vec<u8>>,
    mode: Pings,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    server.write_all(&head).await?;
    if !head.to_ascii_lowercase().windows(18).any(|window| window == b"upgrade: websocket") {
        tokio::io::copy(&mut client, &mut server).await?;
        return Ok(());
    }
    loop {
        let mut frame = vec![0; 2];
        client.read_exact(&mut frame).await?;
        let length = match frame[1] & 0x7f {
            126 => {
                let length = client.read_u16().await?;
                frame.extend(length.to_be_bytes());
                usize::from(length)
            }
            127 => return Err(std::io::ErrorKind::Unsupported.into()),
            length => usize::from(length),
        };
        let head = frame.len();
        // The mask, which each frame of a client has, and the payload.
        frame.resize(head + 4 + length, 0);
        client.read_exact(&mut frame[head..]).await?;
        if frame[0] != PING {
            server.write_all(&frame).await?;
        } else if mode == Pings::Answered {
            let (mask, payload) = frame[head..].split_at(4);
            let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            let mut pong = vec![PONG, frame[1] & 0x7f];
            pong.extend(plain);
            let _client_is_gone = answers.send(pong);
        }
    }
}
