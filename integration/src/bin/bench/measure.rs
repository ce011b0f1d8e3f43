//! Taking figures: a command's time, a world's answer, a median with its spread.

use std::fmt;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use world::World;

/// No world takes longer than this, unless something in it hangs.
const WORLD_WITHIN: Duration = Duration::from_secs(600);

/// What was measured in one world.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) figures: Vec<f64>,
    /// What a reader should know besides, such as the backend that was chosen.
    pub(crate) said: Vec<String>,
}

/// Why there are no figures.
#[derive(Debug)]
pub(crate) enum Without {
    /// It cannot be measured here, for this reason.
    Refused(String),
    /// It failed, and its world has said how.
    Failed(String),
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "not measured: {why}"),
            Self::Failed(how) => write!(f, "FAILED: {how}"),
        }
    }
}

/// Prints an answer for [`ask`] to read; the end of what happens in a world.
pub(crate) fn tell(answer: Result<Answer, Without>) -> ExitCode {
    match answer {
        Ok(answer) => {
            let figures: Vec<String> = answer.figures.iter().map(|it| format!("{it:.4}")).collect();
            println!("{}", figures.join(" "));
            answer.said.iter().for_each(|line| println!("{line}"));
        }
        Err(Without::Refused(why)) => println!("refused\n{why}"),
        Err(Without::Failed(how)) => {
            eprintln!("{how}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs this program in a new world with a word, and reads its answer.
pub(crate) fn ask(word: &str) -> Result<Answer, Without> {
    let text = run_in_world(word)?;
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if first == "refused" {
        return Err(Without::Refused(rest.to_owned()));
    }
    let figures: Result<Vec<f64>, _> = first.split(' ').map(str::parse).collect();
    let figures = figures.map_err(|_| Without::Failed(format!("{word}: {text}")))?;
    Ok(Answer { figures, said: rest.lines().map(str::to_owned).collect() })
}

/// Runs this program in a new world with a word, and returns what it printed.
pub(crate) fn run_in_world(word: &str) -> Result<String, Without> {
    let mut child = world::in_new_world(word)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let mut stdout = child.stdout.take().expect("a piped output");
    let (all, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = all.send(read.map(|_| text));
    });
    // The pipe ends with the last process of the world.
    let said = said.recv_timeout(WORLD_WITHIN);
    if said.is_err() {
        // PID 1 of the world dies with this one, and the world with it.
        let _ = child.kill();
    }
    let status = child.wait().expect("a child of ours");
    match said {
        Ok(Ok(text)) if status.success() => Ok(text.trim().to_owned()),
        Ok(Ok(text)) => Err(Without::Failed(format!("{word}: {status}\n{text}"))),
        Ok(Err(cause)) => Err(Without::Failed(format!("{word}: {cause}"))),
        Err(_) => Err(Without::Failed(format!("{word}: no end after {WORLD_WITHIN:?}"))),
    }
}

/// Runs a command that must not fail; returns its milliseconds.
pub(crate) fn timed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("a program");
    let took = milliseconds(start.elapsed());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    took
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Awaits the kernel's cleaner of namespaces, which takes them in order: when
/// it is done with one that is dropped now, it is done with all before.
pub(crate) fn all_namespaces_are_gone(world: &World) {
    world.run("ip netns add last");
    world.run("ip link add last0 type veth peer name last1 netns last");
    world.run("ip netns del last");
    let start = Instant::now();
    while world.link("", "last0").is_some() {
        assert!(start.elapsed() < Duration::from_secs(60), "namespaces that do not go");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Figures of several runs, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Spread(Vec<f64>);

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }
}

impl Spread {
    /// The median; not a number if there was no run.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    /// What all but one in a hundred stay below.
    pub(crate) fn percentile_99(&self) -> f64 {
        self.0.get(self.0.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    }

    /// `median [lowest..highest]`, with so many digits behind the point.
    pub(crate) fn shown(&self, digits: usize) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(lowest), Some(highest)) => {
                format!("{:.digits$} [{lowest:.digits$}..{highest:.digits$}]", self.median())
            }
            _ => "-".to_owned(),
        }
    }
}
