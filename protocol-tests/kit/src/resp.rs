//! A minimal client of the Redis protocol, so that tests are independent of the client library that the server uses.

use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::within;

/// A reply of Redis. Bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resp {
    /// A simple or bulk string.
    Text(String),
    /// An error with its code.
    Error(String),
    /// An integer.
    Number(i64),
    /// A null reply.
    Null,
    /// An array.
    List(Vec<Resp>),
}

impl Resp {
    /// The text of a string, empty for other replies.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Error(_) | Self::Number(_) | Self::Null | Self::List(_) => "",
        }
    }

    /// The texts of a list, including nested lists.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            Self::Error(_) | Self::Number(_) | Self::Null => Vec::new(),
        }
    }
}

/// A connection to Redis.
#[derive(Debug)]
pub struct RedisClient(BufReader<TcpStream>);

impl RedisClient {
    /// Connects to a server, if it listens.
    pub async fn connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).await.ok().map(|stream| Self(BufReader::new(stream)))
    }

    /// Sends a command and returns the reply, which must not be an error.
    pub async fn command<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Resp {
        let answer = self.try_command(words).await.expect("Redis answers");
        assert!(!matches!(answer, Resp::Error(_)), "{answer:?}");
        answer
    }

    /// Sends all commands, then reads the replies. No reply may be an error unless it contains `allowed`.
    pub async fn commands(&mut self, commands: &[Vec<String>], allowed: &str) {
        for (words, answer) in commands.iter().zip(self.pipeline(commands).await) {
            if let Resp::Error(error) = answer {
                assert!(!allowed.is_empty() && error.contains(allowed), "{words:?}: {error}");
            }
        }
    }

    /// Sends all commands, then reads the replies.
    pub async fn pipeline(&mut self, commands: &[Vec<String>]) -> Vec<Resp> {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        within("Redis to read", self.0.write_all(&bytes)).await.expect("Redis reads");
        let mut answers = Vec::with_capacity(commands.len());
        for _ in commands {
            let answer = within("an answer of Redis", self.next()).await;
            answers.push(answer.expect("Redis answers"));
        }
        answers
    }

    /// Sends a command and returns the reply, if the connection stays open.
    pub async fn try_command<T: AsRef<[u8]>>(&mut self, words: &[T]) -> Option<Resp> {
        within("Redis to read", self.0.write_all(&encode(words))).await.ok()?;
        within("an answer of Redis", self.next()).await
    }

    /// The next reply or, after `MONITOR`, the next reported command.
    pub async fn next(&mut self) -> Option<Resp> {
        self.read().await
    }

    fn read(&mut self) -> Pin<Box<dyn Future<Output = Option<Resp>> + Send + '_>> {
        Box::pin(async move {
            let mut line = Vec::new();
            self.0.read_until(b'\n', &mut line).await.ok()?;
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned();
            let (kind, rest) = line.split_at_checked(1)?;
            Some(match kind {
                "+" => Resp::Text(rest.to_owned()),
                "-" => Resp::Error(rest.to_owned()),
                ":" => Resp::Number(rest.parse().ok()?),
                _ if rest == "-1" => Resp::Null,
                "$" => {
                    let mut bytes = vec![0; rest.parse::<usize>().ok()? + 2];
                    self.0.read_exact(&mut bytes).await.ok()?;
                    bytes.truncate(bytes.len() - 2);
                    Resp::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                "*" => {
                    let mut items = Vec::new();
                    for _ in 0..rest.parse::<usize>().ok()? {
                        items.push(self.read().await?);
                    }
                    Resp::List(items)
                }
                _ => panic!("Redis sent {line:?}"),
            })
        })
    }
}

fn encode<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words.iter().map(T::as_ref) {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
