//! `campanile doctor`: walks the way between a page and the server, link by link, and names what is
//! wrong.
//!
//! A link looks at one step, and returns an [`Outcome`]. A [`Cause`](finding::Cause) that was found
//! can stop a [`Way`](finding::Way), so that links that would fail for the same reason are skipped:
//! the report names causes, not their consequences.

mod assets;
mod causes;
mod compose;
mod finding;
mod inputs;
mod links;
mod machine;
mod mask;
mod nginx;
mod options;
mod probe;
mod progress;
mod public;
mod report;
mod snippets;

use super::{AddressArgs, ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, print, runtime};
use causes::local;
use clap::Args;
use finding::{Link, Severity, Way};
use hyper::Uri;
use inputs::Inputs;
use probe::Peer;
use progress::Progress;
use public::Public;
use report::{Outcome, Report, Style};
use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

/// Exit code if nothing is broken, but something is doubtful.
const EXIT_DOUBTFUL: u8 = 3;
/// Columns of a report that is not for a terminal, and the most that a terminal gets.
const COLUMNS: usize = 100;

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// The application as a browser opens it
    #[arg(long, value_name = "https://HOST")]
    url: Option<Uri>,
    /// The server as a browser connects to it [default: that of .env]
    #[arg(long, value_name = "wss://HOST:PORT/PATH")]
    ws: Option<Uri>,
    /// The server as it listens, without a proxy [default: the listen address of the configuration]
    #[arg(
        long,
        value_name = "http[s]://HOST:PORT/PATH",
        conflicts_with_all = ["host", "port", "path"],
    )]
    server: Option<Uri>,
    #[command(flatten)]
    address: AddressArgs,
    /// The app to try [default: that of .env, or the first of the configuration]
    #[arg(long, value_name = "ID")]
    app_id: Option<String>,
    /// PEM file with the CA certificates to trust [default: those of this machine]
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// Origin of the page [default: that of --url, or of `APP_URL`]
    #[arg(long, value_name = "https://HOST")]
    origin: Option<String>,
    /// Authentication endpoint of the application, for private and presence channels
    #[arg(long, value_name = "https://HOST/broadcasting/auth")]
    auth_endpoint: Option<Uri>,
    /// Channel that the authentication endpoint is asked for
    #[arg(long, value_name = "CHANNEL", requires = "auth_endpoint")]
    channel: Option<String>,
    /// Cookies of a user, for the authentication endpoint and the page; @FILE reads them from a file
    #[arg(long, value_name = "NAME=VALUE; ...", value_parser = options::text_or_file)]
    cookie: Option<String>,
    /// Header for the authentication endpoint; several are possible; @FILE reads one from a file
    #[arg(long, value_name = "NAME: VALUE", value_parser = options::text_or_file)]
    header: Vec<String>,
    /// Skip what takes longer than a few seconds: idle connections, large publishes
    #[arg(long)]
    quick: bool,
    /// How long an idle connection is held, in seconds [default: 105]
    #[arg(long, value_name = "SECONDS", conflicts_with = "quick")]
    wait_idle: Option<u64>,
    /// Configuration of nginx on this machine [default: /etc/nginx/nginx.conf]
    #[arg(long, value_name = "FILE")]
    nginx_config: Option<PathBuf>,
    #[command(flatten)]
    sources: ConfigArgs,
    /// Print the report as JSON, for programs
    #[arg(long)]
    json: bool,
}

/// The walk along the links: what is known so far.
#[derive(Debug)]
struct Checkup<'a> {
    inputs: Inputs<'a>,
    /// The server at the address that it listens on, once it has answered.
    direct: Option<Peer>,
    /// The address that browsers connect to, once its name has been resolved.
    public: Option<Public>,
    progress: Progress,
    report: Report,
}

pub(super) fn doctor(args: &DoctorArgs) -> ExitCode {
    let inputs = Inputs::read(args);
    if let Err(why) = options::check(&inputs) {
        return fail(EXIT_USAGE, inputs.mask().apply(&why));
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let mut checkup = Checkup::new(inputs);
    runtime.block_on(checkup.run());
    // The system may still resolve a name, which is not waited for.
    runtime.shutdown_background();
    let report = &checkup.report;
    let printed = if args.json {
        print(format_args!("{:#}", report.to_json()))
    } else {
        print(report.to_text(&checkup.heading(), style()))
    };
    match report.worst() {
        _ if printed != ExitCode::SUCCESS => printed,
        None => ExitCode::SUCCESS,
        Some(Severity::Broken) => ExitCode::from(EXIT_FAILED),
        Some(Severity::Doubtful) => ExitCode::from(EXIT_DOUBTFUL),
    }
}

/// How to print on the standard output.
fn style() -> Style {
    let is_terminal = std::io::stdout().is_terminal();
    let has_colors = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let columns = ratatui::crossterm::terminal::size().ok().filter(|_| is_terminal);
    let width = columns.map_or(COLUMNS, |(columns, _rows)| usize::from(columns));
    Style { width: width.clamp(40, COLUMNS), has_colors }
}

impl<'a> Checkup<'a> {
    fn new(inputs: Inputs<'a>) -> Self {
        let mut report = Report::default();
        report.mask = inputs.mask();
        Self { inputs, direct: None, public: None, progress: Progress::new(), report }
    }

    /// Checks all links.
    async fn run(&mut self) {
        for link in Link::ALL {
            self.progress.show(format_args!("checking {}", link.name()));
            let outcome = match self.stopped(link) {
                Some(cause) => Outcome::Skipped(format!("not tried, because of {cause}")),
                None => self.check(link).await,
            };
            self.report.add(link, outcome);
        }
        self.progress.clear();
    }

    /// The cause because of which a link is not tried.
    fn stopped(&self, link: Link) -> Option<&'static str> {
        let way = link.way();
        self.report.stopped(way).or_else(|| {
            // What the application does not reach, browsers do not either, if it is one address.
            let is_one = way == Way::Public
                && self.inputs.publish_address().is_some_and(|of_application| {
                    let of_browsers = self.inputs.public_address();
                    of_browsers.is_some_and(|browsers| browsers.is_same(&of_application))
                });
            let host_unreachable = local::HOST_UNREACHABLE.id;
            (is_one && self.report.has(host_unreachable)).then_some(host_unreachable)
        })
    }

    async fn check(&mut self, link: Link) -> Outcome {
        match link {
            Link::Configuration => links::configuration::check(&self.inputs),
            Link::Assets => links::assets::check(&self.inputs),
            Link::Redis => links::redis::check(&self.inputs).await,
            Link::Server => links::server::check(self).await,
            Link::Health => links::health::check(self).await,
            Link::Direct => links::direct::check(self).await,
            Link::Host => links::host::check(&self.inputs).await,
            Link::Dns => links::reach::dns(self).await,
            Link::Tcp => links::reach::tcp(self).await,
            Link::Tls => links::reach::tls(self).await,
            Link::Proxy => match links::proxy::check(self).await {
                well @ Outcome::Well(_) => {
                    links::client::other_addresses(self).await.unwrap_or(well)
                }
                other @ (Outcome::Found(_) | Outcome::Skipped(_)) => other,
            },
            Link::Origin => links::client::origin(self).await,
            Link::Key => links::client::key(self),
            Link::Ping => links::client::ping(self).await,
            Link::Api => links::api::check(self).await,
            Link::Auth => links::auth::check(self).await,
            Link::Nodes => links::nodes::check(self).await,
            Link::Delivery => links::cluster::delivery(self).await,
            Link::Presence => links::cluster::presence(self).await,
            Link::Idle => links::idle::check(self).await,
            Link::Upstream => links::upstream::check(self).await,
            Link::Queue => links::queue::check(&self.inputs),
            Link::Limits => links::limits::check(self).await,
        }
    }

    /// What was looked at, in a line.
    fn heading(&self) -> String {
        let server = self.inputs.direct_peer().ok().map(|peer| peer.origin());
        let public = self.inputs.public_address().map(|address| address.url());
        let parts = [server, public].into_iter().flatten().collect::<Vec<_>>();
        format!("campanile doctor  {}", parts.join("  "))
    }
}
