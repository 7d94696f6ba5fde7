//! Checked configuration of the MCP point: what exists here has been validated once and is used as it stands.
//!
//! It must not know where the configuration came from: the application parses files and calls these constructors.
//! It does not cover policy, bindings or identities.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign_gate::credential::Credential;
use countersign_model::id::UpstreamId;
use hyper::Uri;

use super::execute::LinkError;
use super::guard::Guard;
use super::parked::Approvals;

#[cfg(test)]
mod tests;

/// Why a configuration cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The upstream's URL is not `http://` or `https://` with a host, nor a Unix socket.
    #[error(
        "`{url}` is neither an http or https URL with a host and without user information or a fragment, nor \
         `unix:SOCKET:PATH` with two absolute paths"
    )]
    Url {
        /// The text.
        url: String,
    },
    /// The command is empty.
    #[error("the command of upstream `{upstream}` is empty")]
    Command {
        /// Which upstream.
        upstream: String,
    },
    /// A name of a variable that no process can have.
    #[error("`{name}` is not a name of an environment variable")]
    Variable {
        /// The name.
        name: String,
    },
    /// An origin that no browser sends.
    #[error("`{origin}` is not an origin: write `scheme://host` or `scheme://host:port`, without a path")]
    Origin {
        /// The text.
        origin: String,
    },
    /// A host that no client sends.
    #[error("`{host}` is not a host name without a port")]
    Host {
        /// The text.
        host: String,
    },
}

/// Where an HTTP upstream listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// A Unix socket to connect to instead of a host.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Url {
    /// Checks an `http://` or `https://` URL, or `unix:SOCKET:PATH`: the absolute path of a Unix socket, which holds no
    /// colon, and the path of the request, which starts with a slash.
    ///
    /// # Errors
    /// [`ConfigError::Url`] for any other scheme, a missing host, user information or a fragment.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Url { url: text.escape_default().to_string() };
        if let Some(rest) = text.strip_prefix("unix:") {
            return Self::unix(rest).ok_or_else(wrong);
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || text.contains('#') || authority.host().is_empty() {
            return Err(wrong());
        }
        let bare = authority.as_str() == authority.host();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if !bare => return Err(wrong()),
            None if tls => 443,
            None => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            socket: None,
            tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        })
    }
}

impl Url {
    fn unix(text: &str) -> Option<Self> {
        let (socket, path) = text.split_once(':')?;
        let uri: Uri = path.parse().ok()?;
        let is_plain = uri.authority().is_none() && path.starts_with('/') && !path.contains('#');
        if !is_plain || !socket.starts_with('/') || socket.contains('\0') {
            return None;
        }
        Some(Self {
            socket: Some(PathBuf::from(socket)),
            tls: false,
            host: "localhost".to_owned(),
            port: 80,
            authority: "localhost".to_owned(),
            path: path.to_owned(),
        })
    }

    /// Another place at the same origin: an absolute path, a path beside this one, or a whole URL.
    ///
    /// # Errors
    /// [`LinkError::Unreadable`] for another origin, and for what is no URL.
    pub(crate) fn beside(&self, text: &str) -> Result<Self, LinkError> {
        let shown: String = text.escape_default().take(200).collect();
        let wrong = |why: &str| LinkError::Unreadable(format!("its endpoint `{shown}` {why}"));
        let path = if text.contains("://") {
            let other = Self::new(text).map_err(|_| wrong("is no URL"))?;
            let own_name = self.socket.is_some() && other.host == self.host && !other.tls;
            if !own_name && (other.tls, &other.host, other.port) != (self.tls, &self.host, self.port) {
                return Err(wrong("is at another origin"));
            }
            other.path
        } else if text.starts_with('/') && !text.starts_with("//") {
            text.to_owned()
        } else if text.starts_with("//") {
            return Err(wrong("is at another origin"));
        } else {
            let here = self.path.split('?').next().unwrap_or_default();
            let folder = here.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{text}")
        };
        let uri: Uri = path.parse().map_err(|_| wrong("is no path"))?;
        if uri.authority().is_some() || path.contains('#') {
            return Err(wrong("is no path"));
        }
        Ok(Self { path, ..self.clone() })
    }
}

/// Which era an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraChoice {
    /// Whichever it speaks. Over HTTP both, where it speaks both; a process speaks one, the modern one first.
    Auto,
    /// The one with a handshake, up to 2025-11-25.
    Legacy,
    /// The one without, from 2026-07-28 on.
    Modern,
}

/// What an upstream may ask a client that it shares with others, where the client can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuestionKind {
    /// `sampling/createMessage`.
    Sampling,
    /// `elicitation/create`.
    Elicitation,
    /// `roots/list`.
    Roots,
}

/// A child process that speaks MCP on its standard input and output.
#[derive(Clone, Debug)]
pub struct Stdio {
    pub(crate) command: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<PathBuf>,
}

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A child process of the gateway.
    Stdio(Stdio),
    /// Streamable HTTP.
    Http {
        /// Where.
        url: Url,
        /// What opens the upstream for the exchanges that are not actions (handshake, listing, ping). Actions use
        /// the credential that their permit carries and never this one.
        credential: Option<Credential>,
    },
    /// The transport of 2024-11-05: a stream of events, and messages that are posted beside it.
    Sse {
        /// Where the stream is.
        url: Url,
        /// See [`Transport::Http`].
        credential: Option<Credential>,
    },
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    pub(crate) id: UpstreamId,
    pub(crate) transport: Transport,
    pub(crate) era: EraChoice,
    pub(crate) questions: BTreeSet<QuestionKind>,
    pub(crate) limits: UpstreamLimits,
    pub(crate) guard: Guard,
}

impl UpstreamConfig {
    /// An upstream that is a child process. Its environment is `env` and the gateway's `PATH`, nothing else.
    ///
    /// # Errors
    /// Refuses an empty command and impossible names of variables.
    pub fn stdio(
        id: UpstreamId,
        command: impl Into<PathBuf>,
        args: Vec<String>,
        env: Vec<(String, String)>,
        cwd: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let command = command.into();
        if command.as_os_str().is_empty() {
            return Err(ConfigError::Command { upstream: id.to_string() });
        }
        if let Some((name, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(ConfigError::Variable { name: name.escape_default().to_string() });
        }
        let transport = Transport::Stdio(Stdio { command, args, env, cwd });
        Ok(Self::new(id, transport, EraChoice::Legacy))
    }

    /// An upstream behind streamable HTTP. `credential` opens it for handshake and listing only.
    #[must_use]
    pub fn http(id: UpstreamId, url: Url, credential: Option<Credential>) -> Self {
        Self::new(id, Transport::Http { url, credential }, EraChoice::Auto)
    }

    /// An upstream on the transport of 2024-11-05. `credential` opens it for handshake and listing only.
    #[must_use]
    pub fn sse(id: UpstreamId, url: Url, credential: Option<Credential>) -> Self {
        Self::new(id, Transport::Sse { url, credential }, EraChoice::Legacy)
    }

    fn new(id: UpstreamId, transport: Transport, era: EraChoice) -> Self {
        Self {
            id,
            transport,
            era,
            questions: BTreeSet::new(),
            limits: UpstreamLimits::default(),
            guard: Guard::default(),
        }
    }

    /// The same upstream, spoken to in another era. One on the transport of 2024-11-05 is always legacy.
    #[must_use]
    pub fn with_era(mut self, era: EraChoice) -> Self {
        if !matches!(self.transport, Transport::Sse { .. }) {
            self.era = era;
        }
        self
    }

    /// What a legacy process may ask the clients that share it. Over HTTP each client says itself what it can answer.
    #[must_use]
    pub fn with_questions(mut self, questions: &[QuestionKind]) -> Self {
        self.questions = questions.iter().copied().collect();
        self
    }

    /// The capabilities that the gateway declares for the clients of a process, raw.
    pub(crate) fn offers(&self) -> String {
        let members: Vec<&str> = self
            .questions
            .iter()
            .map(|kind| match kind {
                QuestionKind::Sampling => r#""sampling":{}"#,
                QuestionKind::Elicitation => r#""elicitation":{"form":{},"url":{}}"#,
                QuestionKind::Roots => r#""roots":{"listChanged":true}"#,
            })
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// The same upstream under other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: UpstreamLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same upstream behind a guard.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// The upstream's id.
    #[must_use]
    pub const fn id(&self) -> &UpstreamId {
        &self.id
    }
}

/// What one upstream may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// The longest line or answer of the upstream, in bytes.
    pub line_bytes_max: usize,
    /// Requests in flight towards the upstream.
    pub in_flight_max: usize,
    /// Pages of one listing of tools.
    pub pages_max: usize,
    /// Tools of one listing.
    pub tools_max: usize,
    /// Sessions of clients, and streams that they listen on, at once.
    pub sessions_max: usize,
    /// How long an upstream may take to say whether it speaks the modern era; a process is starting meanwhile.
    pub probe_timeout: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long an exchange that is not an action may take.
    pub exchange_timeout: Duration,
    /// How long an action may take; then its outcome is unknown.
    pub call_timeout: Duration,
    /// How long an idle HTTP connection is kept.
    pub idle: Duration,
    /// The first wait before a lost upstream is reached again; doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest wait before a lost upstream is reached again.
    pub backoff_max: Duration,
    /// How often in a row a child may fail quickly before it is left alone. Quickly is within `backoff_max`.
    pub failures_max: u32,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            line_bytes_max: 16 * 1024 * 1024,
            in_flight_max: 1024,
            pages_max: 100,
            tools_max: 10_000,
            sessions_max: 1024,
            probe_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            exchange_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(300),
            idle: Duration::from_secs(15),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            failures_max: 10,
        }
    }
}

/// What the front lets one client, and all of them, take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body in bytes.
    pub body_bytes_max: usize,
    /// The deepest nesting of a body.
    pub depth_max: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// Protocol sessions at once, over all callers.
    pub sessions_max: usize,
    /// Protocol sessions at once of one caller; the one idle longest makes room.
    pub sessions_per_caller_max: usize,
    /// How long a protocol session stays that nobody uses and nobody listens in.
    pub session_idle: Duration,
    /// Calls in flight of one protocol session.
    pub calls_per_session_max: usize,
    /// Calls in flight over all sessions.
    pub calls_max: usize,
    /// Calls in flight of one token, so that it leaves room for others.
    pub calls_per_caller_max: usize,
    /// Listening streams at once of one protocol session.
    pub streams_per_session_max: usize,
    /// Streams of changes at once, of all clients without a handshake.
    pub follows_max: usize,
    /// Resources in those streams at once, over all callers. Each is an action in flight, so calls need room beside them.
    pub followed_max: usize,
    /// Resources in those streams at once of one token.
    pub followed_per_caller_max: usize,
    /// How long an upstream may take to acknowledge such a stream.
    pub acknowledge_timeout: Duration,
    /// How long a session with a legacy upstream stays open that no request without a handshake uses.
    pub lodging_idle: Duration,
    /// How long a client may take to answer a question of an upstream.
    pub question_timeout: Duration,
    /// How long a client may take for the headers of a request; also the longest idle time of a connection.
    pub header_read_timeout: Duration,
    /// How long a client may take for the body of a request.
    pub body_read_timeout: Duration,
    /// How often a quiet stream gets a comment.
    pub keep_alive: Duration,
    /// How long a shutdown waits for calls in flight.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 * 1024 * 1024,
            depth_max: 64,
            connections_max: 1024,
            sessions_max: 1024,
            sessions_per_caller_max: 64,
            session_idle: Duration::from_secs(60 * 60),
            calls_per_session_max: 64,
            calls_max: 1024,
            calls_per_caller_max: 256,
            streams_per_session_max: 4,
            follows_max: 1024,
            followed_max: 512,
            followed_per_caller_max: 64,
            acknowledge_timeout: Duration::from_secs(10),
            lodging_idle: Duration::from_secs(600),
            question_timeout: Duration::from_secs(300),
            header_read_timeout: Duration::from_secs(30),
            body_read_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(10),
        }
    }
}

/// Where the front listens, and whom it believes to be talking to it.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) methods: Vec<String>,
    pub(crate) extensions: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) meta_allow: Vec<String>,
    pub(crate) approvals: Option<Approvals>,
    pub(crate) limits: Limits,
}

impl FrontConfig {
    /// Whether the configuration lets a method of this name through.
    pub(crate) fn has_method(&self, name: &str) -> bool {
        self.methods.iter().any(|method| method == name)
    }

    /// A front that lets in no browser and answers to loopback names only.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            socket: None,
            methods: Vec::new(),
            extensions: Vec::new(),
            origins: Vec::new(),
            hosts: Vec::new(),
            meta_allow: Vec::new(),
            approvals: None,
            limits: Limits::default(),
        }
    }

    /// Lets in browsers' requests from these origins, e.g. `https://console.example:8443`.
    ///
    /// # Errors
    /// [`ConfigError::Origin`] for what is not `scheme://host[:port]`.
    pub fn with_origins(mut self, origins: &[String]) -> Result<Self, ConfigError> {
        for origin in origins {
            let wrong = || ConfigError::Origin { origin: origin.escape_default().to_string() };
            let uri: Uri = origin.parse().map_err(|_| wrong())?;
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
            if !origin.eq_ignore_ascii_case(&format!("{scheme}://{authority}")) {
                return Err(wrong());
            }
            self.origins.push(origin.to_ascii_lowercase());
        }
        Ok(self)
    }

    /// Answers to these host names besides the loopback ones.
    ///
    /// # Errors
    /// [`ConfigError::Host`] for what is not a bare host name.
    pub fn with_hosts(mut self, hosts: &[String]) -> Result<Self, ConfigError> {
        for host in hosts {
            let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
            if !plain {
                return Err(ConfigError::Host { host: host.escape_default().to_string() });
            }
            self.hosts.push(host.to_ascii_lowercase());
        }
        Ok(self)
    }

    /// Members of a call's `_meta` that belong to the action and so to its digest. All others pass unjudged.
    #[must_use]
    pub fn with_meta_allow(mut self, members: &[String]) -> Self {
        self.meta_allow = members.to_vec();
        self.meta_allow.sort();
        self.meta_allow.dedup();
        self
    }

    /// The page to which a client that can open pages is sent with what waits.
    #[must_use]
    pub fn with_approvals(mut self, approvals: Option<Approvals>) -> Self {
        self.approvals = approvals;
        self
    }

    /// The page on which humans look at what waits.
    #[must_use]
    pub const fn approvals(&self) -> Option<&Approvals> {
        self.approvals.as_ref()
    }

    /// Listens on a Unix socket as well.
    #[must_use]
    pub fn with_socket(mut self, socket: PathBuf) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Lets these methods pass, as actions, that are not on the point's own list.
    #[must_use]
    pub fn with_methods(mut self, methods: &[String]) -> Self {
        self.methods = methods.to_vec();
        self
    }

    /// Lets clients of one upstream hear of these extensions of it, besides those of which each method is known.
    #[must_use]
    pub fn with_extensions(mut self, extensions: &[String]) -> Self {
        self.extensions = extensions.to_vec();
        self
    }

    /// The same front under other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where it listens.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        self.listen
    }
}
