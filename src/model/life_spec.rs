//! What a topology file says of the life of a node: the keys of `limits:` and
//! `run:`, and what they hold. Beside `spec.rs`, which has the rest of the table.

use serde_json::{Value as Json, json};

use super::holds::{
    Holds, Key, Label, Map, Object, Of, Seconds, Text, Whole, Written, Wrong, key, one_of,
    other_kind, text,
};
use super::life::{Isolation, Limits, Port, Process, Ready, Restart};
use super::names::ProcessName;
use super::problem::{At, Found, Position, quoted};
use super::yaml::{Kind, Tree};

/// What a node has of its own: one word, or all of them.
pub(super) struct IsolationWord(pub(super) Vec<Isolation>);

one_of!(IsolationWord, "what a node has of its own", "`uts`, `mount`, `pid`, `ipc` or `all`",
    "uts" => Self(vec![Isolation::Uts]),
    "mount" => Self(vec![Isolation::Mount]),
    "pid" => Self(vec![Isolation::Pid]),
    "ipc" => Self(vec![Isolation::Ipc]),
    "all" => Self(Isolation::ALL.to_vec()));
one_of!(Restart, "what becomes of a process that ended", "`never`, `on-failure` or `always`",
    "never" => Self::Never,
    "on-failure" => Self::OnFailure,
    "always" => Self::Always);

/// The name of a host.
pub(super) struct HostName(pub(super) String);

impl Written for HostName {
    const WORDS: &'static str = "a host name";
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let ends = |c: char| c.is_ascii_alphanumeric();
        // `__NEW_UTS_LEN` of the kernel is 64.
        if text.len() <= 64
            && text.chars().all(fits)
            && text.starts_with(ends)
            && text.ends_with(ends)
        {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(format!("{} is no host name", quoted(text)))
            .hint("letters, digits, `-` and `.` are allowed, 64 at most"))
    }
}

impl Written for ProcessName {
    const WORDS: &'static str = "the name of a process";
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self::new(text)?)
    }
}

/// A part of the machine's processors.
struct Cpu(u32);

impl Written for Cpu {
    const WORDS: &'static str = "a number of processors, such as 0.5";
    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0.01, "maximum": 1024 })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let permille = (digits(whole) && digits(part) && part.len() <= 3)
            .then(|| {
                Some(
                    whole.parse::<u32>().ok()? * 1000
                        + format!("{part:0<3}").parse::<u32>().ok()?,
                )
            })
            .flatten()
            .filter(|_| whole.len() <= 4)
            .filter(|permille| (10..=1_024_000).contains(permille));
        permille.map(Self).ok_or_else(|| {
            Wrong::new(format!("`cpu` is {}, not {}", Self::WORDS, quoted(text)))
                .hint("from 0.01 to 1024, with three digits behind the point at most")
        })
    }
}

/// An amount of memory.
struct Memory(u64);

impl Written for Memory {
    const WORDS: &'static str = "an amount of memory, such as 256M";
    fn schema() -> Json {
        json!({ "type": ["string", "integer"], "pattern": "^[0-9]+[KMG]?$", "minimum": 1_048_576 })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let bits = match text.as_bytes().last() {
            Some(b'K') => 10,
            Some(b'M') => 20,
            Some(b'G') => 30,
            _ => 0,
        };
        let digits = text.trim_end_matches(['K', 'M', 'G']);
        let alone = digits.len() + usize::from(bits != 0) == text.len();
        let number = digits.parse::<u64>().ok().filter(|_| alone && !digits.starts_with('+'));
        let bytes = number.and_then(|number| number.checked_mul(1 << bits));
        // The kernel counts whole pages, and below a megabyte nothing starts.
        let bytes = bytes.map(|bytes| bytes & !0xfff).filter(|b| (1 << 20..1 << 50).contains(b));
        bytes.map(Self).ok_or_else(|| {
            Wrong::new(format!("`memory` is {}, not {}", Self::WORDS, quoted(text)))
                .hint("write bytes, or a number with K, M or G behind it; 1M at least")
        })
    }
}

/// What a node may use.
#[derive(Default)]
pub(super) struct LimitsSpec(pub(super) Limits);

impl Object for LimitsSpec {
    const NAME: &'static str = "limits";
    const HELP: &'static str = "What all processes of a node may use together.";
    const SAYS_SOMETHING: bool = true;
    const KEYS: &'static [Key<Self>] = &[
        key!("cpu": Text<Cpu>,
            "Processor time, in processors: 0.5 is half of one.",
            |limits, cpu| limits.0.cpu_permille = Some(cpu.value.0)),
        key!("memory": Text<Memory>,
            "Memory, such as 256M.",
            |limits, memory| limits.0.memory_bytes = Some(memory.value.0)),
        key!("processes": Whole<1, 4_194_304>,
            "The number of processes and threads.",
            |limits, most| limits.0.processes = Some(most.value)),
    ];
}

/// A program and its arguments.
pub(super) struct Command;

/// Words that only a shell understands.
const OF_A_SHELL: [&str; 10] = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1"];

impl Holds for Command {
    type Value = Vec<String>;
    fn words() -> String {
        "a command, such as `[iperf3, -s]` or `iperf3 -s`".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Vec<String>> {
        let words = match &tree.kind {
            Kind::List(items) => {
                let words: Vec<Option<String>> = items
                    .iter()
                    .map(|item| text::<Self>(item, key, found).map(str::to_owned))
                    .collect();
                words.into_iter().collect::<Option<Vec<_>>>()?
            }
            Kind::Scalar { .. } => split(text::<Self>(tree, key, found)?, tree, key, found)?,
            Kind::Map(_) => {
                other_kind::<Self>(tree, key, found);
                return None;
            }
        };
        if words.first().is_none_or(String::is_empty) {
            found.add(tree.at, format!("`{key}` names no program")).hint("write `[sleep, 10]`");
            return None;
        }
        if words.iter().any(|word| word.contains('\0')) {
            found.add(tree.at, format!("a word of `{key}` has a zero byte in it"));
            return None;
        }
        Some(words)
    }
    fn schema() -> Json {
        json!({
            "type": ["string", "array"],
            "minLength": 1,
            "minItems": 1,
            "items": { "type": ["string", "number"] },
        })
    }
}

/// A line as a shell splits it into words. Nothing in it is expanded, and no
/// shell is run.
fn split(line: &str, tree: &Tree, key: &str, found: &mut Found) -> Option<Vec<String>> {
    let Some(words) = shlex::split(line) else {
        found
            .add(tree.at, format!("`{key}` has a quote that does not end"))
            .hint("write its words as a list: `[echo, \"it's\"]`");
        return None;
    };
    if let Some(word) = words.iter().find(|word| OF_A_SHELL.contains(&word.as_str())) {
        found
            .add(tree.at, format!("`{word}` in `{key}` is for a shell, and none is run"))
            .hint(format!("if you want one: `{key}: [sh, -c, {}]`", quoted_line(line)));
        return None;
    }
    Some(words)
}

fn quoted_line(line: &str) -> String {
    serde_json::to_string(line).expect("a text is JSON")
}

/// A port with its protocol.
struct ReadyPort(Port);

impl Written for ReadyPort {
    const WORDS: &'static str = "a port, such as `80/tcp`";
    fn schema() -> Json {
        json!({ "type": ["string", "integer"], "pattern": "^[0-9]{1,5}(/(tcp|udp))?$" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse::<u16>().ok().filter(|n| *n != 0 && !text.starts_with('+'));
        let udp = match protocol {
            "tcp" => Some(false),
            "udp" => Some(true),
            _ => None,
        };
        match (number, udp) {
            (Some(number), Some(udp)) => Ok(Self(Port { number, udp })),
            _ => Err(Wrong::new(format!("{} is no port", quoted(text)))
                .hint("write it like `80/tcp` or `53/udp`")),
        }
    }
}

/// By what a process is known to be ready.
#[derive(Default)]
pub(super) struct ReadySpec {
    port: Option<At<Port>>,
    command: Option<At<Vec<String>>>,
    flawed: bool,
}

impl Object for ReadySpec {
    const NAME: &'static str = "ready";
    const HELP: &'static str = "By what a process is known to be ready: one of these.";
    const KEYS: &'static [Key<Self>] = &[
        key!("port": Text<ReadyPort>,
        "Somebody in the node listens at this port, such as `80/tcp`.",
        |ready, port| ready.port = Some(At { at: port.at, value: port.value.0 })),
        key!("command": Command,
            "This command, run in the node again and again, ends with status 0.",
            |ready, command| ready.command = Some(command)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// A variable of an environment.
struct Variable;

impl Label for Variable {
    type Name = String;
    fn pattern() -> String {
        "^[A-Za-z_][A-Za-z0-9_]*$".to_owned()
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = &key.value;
        if !name.is_empty()
            && name.chars().all(fits)
            && !name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Some(name.clone());
        }
        found
            .add(key.at, format!("{} cannot be in an environment", quoted(name)))
            .hint("letters, digits and `_` are allowed");
        None
    }
}

/// What a variable is set to.
struct Value(String);

impl Written for Value {
    const WORDS: &'static str = "a text or a number";
    fn schema() -> Json {
        json!({ "type": ["string", "number"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.contains('\0') {
            return Err(Wrong::new("a zero byte cannot be in an environment"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A directory.
struct Directory(String);

impl Written for Directory {
    const WORDS: &'static str = "a path from `/` on";
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^/" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.starts_with('/') && !text.contains('\0') {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(format!("{} is not {}", quoted(text), Self::WORDS)))
    }
}

/// The name of a user.
struct User(String);

impl Written for User {
    const WORDS: &'static str = "the name of a user";
    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[^:/\\s]{1,32}$" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let odd = |c: char| matches!(c, ':' | '/') || c.is_whitespace() || c.is_control();
        if !text.is_empty() && text.len() <= 32 && !text.contains(odd) {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(format!("{} is no {}", quoted(text), Self::WORDS)))
    }
}

/// A process of a node.
#[derive(Default)]
pub(super) struct ProcessSpec {
    name: Option<At<ProcessName>>,
    command: Vec<String>,
    ready: Option<At<ReadySpec>>,
    timeout: Option<u32>,
    restart: Restart,
    environment: Vec<(At<String>, String)>,
    directory: Option<String>,
    user: Option<String>,
    flawed: bool,
}

impl Object for ProcessSpec {
    const NAME: &'static str = "process";
    const HELP: &'static str = "A process that runs in a node.";
    const KEYS: &'static [Key<Self>] = &[
        key!("name": Text<ProcessName>,
            "Its name, unique in the node; without it, the program's.",
            |process, name| process.name = Some(name)),
        key!(needed "command": Command,
            "The program and its arguments, as a list or in one line. No shell reads it, unless it \
             is `[sh, -c, ...]`.",
            |process, command| process.command = command.value),
        key!("ready": Of<ReadySpec>,
            "When it is ready, and the next one starts; without it, at once.",
            |process, ready| process.ready = Some(ready)),
        key!("timeout": Seconds<1, 86_400>,
            "How long it may take to be ready, in seconds (default: 30).",
            |process, timeout| process.timeout = Some(timeout.value)),
        key!("restart": Text<Restart>,
            "Whether it is started again when it ends: `never` (the default), `on-failure` or \
             `always`.",
            |process, restart| process.restart = restart.value),
        key!("environment": Map<Variable, Text<Value>>,
        "Variables that are added to its environment.",
        |process, variables| {
            let variables = variables.value.into_iter().map(|(name, value)| (name, value.0));
            process.environment.extend(variables);
        }),
        key!("directory": Text<Directory>,
            "The directory that it runs in (default: `/`).",
            |process, directory| process.directory = Some(directory.value.0)),
        key!("user": Text<User>,
            "The user that it runs as (default: whoever runs `ovsns`, as a rule root).",
            |process, user| process.user = Some(user.value.0)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

impl ProcessSpec {
    /// The process, if all of it could be read.
    fn meant(&self, at: Position, found: &mut Found) -> Option<Process> {
        if self.flawed {
            return None;
        }
        let name = match &self.name {
            Some(name) => name.value.clone(),
            None => {
                let program = self.command.first()?.rsplit('/').next().unwrap_or_default();
                let named = ProcessName::new(program).map_err(|_| {
                    found
                        .add(at, format!("{} cannot be the name of a process", quoted(program)))
                        .hint("give it one: `name: ...`");
                });
                named.ok()?
            }
        };
        let ready = match &self.ready {
            None => None,
            Some(At { value: ReadySpec { port: Some(port), command: None, .. }, .. }) => {
                Some(Ready::Port(port.value))
            }
            Some(At { value: ReadySpec { port: None, command: Some(command), .. }, .. }) => {
                Some(Ready::Command(command.value.clone()))
            }
            Some(At { at, value }) if !value.flawed => {
                found.add(*at, "`ready` is either a `port` or a `command`");
                return None;
            }
            Some(_) => return None,
        };
        Some(Process {
            name,
            command: self.command.clone(),
            ready,
            timeout_s: self.timeout.unwrap_or(Process::TIMEOUT_S_DEFAULT),
            restart: self.restart,
            environment: self
                .environment
                .iter()
                .map(|(k, v)| (k.value.clone(), v.clone()))
                .collect(),
            directory: self.directory.clone(),
            user: self.user.clone(),
        })
    }
}

/// The processes of a node.
pub(super) fn processes(specs: &[At<ProcessSpec>], found: &mut Found) -> Vec<Process> {
    let mut processes: Vec<Process> = Vec::new();
    for At { at, value: spec } in specs {
        let Some(process) = spec.meant(*at, found) else { continue };
        if processes.iter().any(|other| other.name == process.name) {
            let at = spec.name.as_ref().map_or(*at, |name| name.at);
            found
                .add(at, format!("a second process `{}` in this node", process.name))
                .hint("give each a `name` of its own");
        }
        processes.push(process);
    }
    processes
}
