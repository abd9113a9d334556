//! Database servers of one test, and their tables of apps.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use kit::tls::Certificate;
use kit::{DEADLINE, Directory, free_port};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// The user and the group that servers run as if the tests run as root: `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
const PASSWORD: &str = "pass:word@/";
const PASSWORD_IN_URL: &str = "pass%3Aword%40%2F";

/// A database with an empty table `apps` in soketi's layout.
#[derive(Debug)]
pub(crate) enum Database {
    /// A server of PostgreSQL, with TLS.
    Postgres(DatabaseServer),
    /// A server of MariaDB.
    MariaDb(DatabaseServer),
    /// A file.
    Sqlite(Directory),
}

/// A running or stopped server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct DatabaseServer {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    child: Option<Child>,
    /// The folder of its files.
    pub(crate) directory: Directory,
    start: fn(&Path, u16) -> Command,
    _template: Arc<Directory>,
}

const SQLITE_TABLE: &str = include_str!("tables/sqlite.sql");
const POSTGRES_TABLE: &str = include_str!("tables/postgres.sql");
const MARIADB_TABLE: &str = include_str!("tables/mariadb.sql");

impl Database {
    /// Starts a server of PostgreSQL.
    pub(crate) async fn postgres() -> Self {
        let database = Self::Postgres(DatabaseServer::start(postgres_template(), start_postgres));
        database.wait_until_it_answers().await;
        database.execute(POSTGRES_TABLE).await;
        database
    }

    /// Starts a server of MariaDB.
    pub(crate) async fn mariadb() -> Self {
        let database = Self::MariaDb(DatabaseServer::start(mariadb_template(), start_mariadb));
        database.wait_until_it_answers().await;
        database.execute(MARIADB_TABLE).await;
        database
    }

    /// Makes a file.
    pub(crate) async fn sqlite() -> Self {
        let database = Self::Sqlite(Directory::new());
        database.execute(SQLITE_TABLE).await;
        database
    }

    /// The URL for the configuration of a node.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => {
                format!("postgres://tester:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres", server.port)
            }
            Self::MariaDb(server) => {
                format!("mysql://tester:{PASSWORD_IN_URL}@127.0.0.1:{}/main", server.port)
            }
            Self::Sqlite(directory) => format!("sqlite://{}/apps.db", directory.path().display()),
        }
    }

    /// The server process.
    pub(crate) fn server(&mut self) -> &mut DatabaseServer {
        match self {
            Self::Postgres(server) | Self::MariaDb(server) => server,
            Self::Sqlite(_) => panic!("a file has no server"),
        }
    }

    /// Whether texts are compared without letter case.
    pub(crate) fn ignores_case(&self) -> bool {
        matches!(self, Self::MariaDb(_))
    }

    /// Executes statements. The names `"key"` and `"enabled"` are quoted as in PostgreSQL.
    pub(crate) async fn execute(&self, sql: &str) {
        let executed = self.try_execute(sql).await;
        executed.unwrap_or_else(|error| panic!("{error} in {sql}"));
    }

    async fn try_execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(_) => {
                let mut connection = sqlx::PgConnection::connect(&self.url()).await?;
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
            }
            Self::MariaDb(_) => {
                let mut connection = sqlx::MySqlConnection::connect(&self.url()).await?;
                let sql = sql.replace(r#""key""#, "`key`").replace(r#""enabled""#, "`enabled`");
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            }
            Self::Sqlite(_) => {
                let options: sqlx::sqlite::SqliteConnectOptions = self.url().parse()?;
                let options = options.create_if_missing(true);
                let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
            }
        }
        Ok(())
    }

    /// Waits until the server executes a statement.
    pub(crate) async fn wait_until_it_answers(&self) {
        let start = Instant::now();
        while let Err(error) = self.try_execute("SELECT 1").await {
            assert!(start.elapsed() < DEADLINE, "no answer: {error}\n{}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Starts a killed server again, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        self.server().run();
        self.wait_until_it_answers().await;
    }

    fn log(&self) -> String {
        match self {
            Self::Postgres(server) | Self::MariaDb(server) => {
                let log = server.directory.path().join("server.log");
                std::fs::read_to_string(log).unwrap_or_default()
            }
            Self::Sqlite(_) => String::new(),
        }
    }
}

impl DatabaseServer {
    fn start(template: Arc<Directory>, start: fn(&Path, u16) -> Command) -> Self {
        let directory = copy_of(&template);
        let mut server =
            Self { port: free_port(), child: None, directory, start, _template: template };
        server.run();
        server
    }

    /// Starts the server on its port.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("server.log"));
        let log = log.expect("the folder is ours");
        let mut command = (self.start)(self.directory.path(), self.port);
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("there are file descriptors"))
            .stderr(log);
        self.child = Some(command.spawn().expect("the server is installed"));
    }

    /// Ends the server at once, without closing connections in order, and waits for its end.
    pub(crate) fn kill(&mut self) {
        if self.child.is_some() {
            // PostgreSQL's immediate shutdown, which ends the processes of its connections too. MariaDB dumps core at it,
            // which is none here, and ends as well.
            self.signal("QUIT");
            let mut child = self.child.take().expect("it was there a moment ago");
            let start = Instant::now();
            while child.try_wait().expect("the child is ours").is_none() {
                // Later than PostgreSQL itself kills the processes of its connections.
                if DEADLINE / 2 < start.elapsed() {
                    let _already_gone = child.kill();
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }

    /// Pauses the server: its connections remain open, and no query is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Resumes a paused server.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let kill = format!("kill -{name} {}", child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{kill}: {status}");
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of PostgreSQL. Debian has them in a folder of each version.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} of PostgreSQL is not installed"))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|of_this_process| of_this_process.uid() == 0)
}

/// A command that does not run as root.
fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", "/").env_remove("PGPASSWORD");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Gives a folder with its content to the user that servers run as.
fn give_away(folder: &Path) {
    if is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        run(Command::new("chown").args(["-R", &owner]).arg(folder));
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
}

/// A new folder with the content of a template.
fn copy_of(template: &Directory) -> Directory {
    let directory = Directory::new();
    run(Command::new("cp").arg("-a").arg(template.path().join(".")).arg(directory.path()));
    give_away(directory.path());
    directory
}

fn start_postgres(folder: &Path, port: u16) -> Command {
    let mut command = unprivileged(postgres_program("postgres"));
    command.arg("-D").arg(folder.join("data")).args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command.arg("-k").arg(folder);
    for setting in ["fsync=off", "shared_buffers=8MB", "max_connections=30", "ssl=on"] {
        command.args(["-c", setting]);
    }
    command.args(["-c", "ssl_cert_file=../cert.pem", "-c", "ssl_key_file=../key.pem"]);
    command
}

/// The files of a new server, made by `make` and shared by the servers that run at the same time. The last of
/// them removes the files.
fn shared(template: &Mutex<Weak<Directory>>, make: fn() -> Directory) -> Arc<Directory> {
    let mut template = template.lock().unwrap_or_else(PoisonError::into_inner);
    template.upgrade().unwrap_or_else(|| {
        let directory = Arc::new(make());
        *template = Arc::downgrade(&directory);
        directory
    })
}

/// The files of a new PostgreSQL.
fn postgres_template() -> Arc<Directory> {
    static TEMPLATE: Mutex<Weak<Directory>> = Mutex::new(Weak::new());
    shared(&TEMPLATE, || {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = Directory::new();
        Certificate::new().write(&directory);
        let key = directory.path().join("key.pem");
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        let password = directory.write("password", PASSWORD);
        give_away(directory.path());
        run(unprivileged(postgres_program("initdb"))
            .arg("-D")
            .arg(directory.path().join("data"))
            .args(["-U", "tester", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"])
            .arg("--pwfile")
            .arg(password)
            .current_dir(directory.path()));
        directory
    })
}

fn start_mariadb(folder: &Path, port: u16) -> Command {
    // A server that is not in the path of ordinary users.
    let program = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("mariadbd");
    let mut command = unprivileged(program);
    let inside = |name: &str| folder.join(name).display().to_string();
    command
        .args(["--no-defaults", "--bind-address=127.0.0.1", &format!("--port={port}")])
        .args([
            format!("--datadir={}", inside("data")),
            format!("--socket={}", inside("s")),
            format!("--pid-file={}", inside("pid")),
            format!("--tmpdir={}", folder.display()),
            format!("--init-file={}", inside("init.sql")),
        ])
        .args([
            "--innodb-buffer-pool-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--skip-name-resolve",
            "--performance-schema=OFF",
        ]);
    command
}

/// The files of a new MariaDB.
fn mariadb_template() -> Arc<Directory> {
    static TEMPLATE: Mutex<Weak<Directory>> = Mutex::new(Weak::new());
    shared(&TEMPLATE, || {
        let directory = Directory::new();
        let user = format!("'tester'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'");
        let statements = [
            "CREATE DATABASE IF NOT EXISTS main;".to_owned(),
            format!("CREATE USER IF NOT EXISTS {user};"),
            "GRANT ALL ON main.* TO 'tester'@'127.0.0.1';\n".to_owned(),
        ];
        directory.write("init.sql", &statements.join("\n"));
        give_away(directory.path());
        run(unprivileged("mariadb-install-db")
            .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
            .arg(format!("--datadir={}", directory.path().join("data").display()))
            .arg(format!("--tmpdir={}", directory.path().display()))
            .current_dir(directory.path()));
        directory
    })
}
