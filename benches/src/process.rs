//! Processes of a run, spoken to line by line. They end with the one that started them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// A child: killed when dropped, and it ends by itself when its standard input does.
pub struct Process {
    pub name: String,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Starts this very program with other arguments.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn start(name: &str, arguments: &[String]) -> Result<Process, Failure> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::of(format!("cannot start {name}"), error))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(Failure::Failed(format!("{name} has no pipes")));
        };
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Process { name: name.to_owned(), child, input, lines })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// It is gone.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let said = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        said.map_err(|_| self.ended())
    }

    /// The rest of the next line that begins with `word`, other lines going to `other`.
    ///
    /// # Errors
    /// It ended, or said nothing of the kind in time.
    pub fn hear(
        &mut self,
        word: &str,
        patience: Duration,
        mut other: impl FnMut(&str),
    ) -> Result<String, Failure> {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(' ').unwrap_or((&line, "")) {
                    (first, rest) if first == word => return Ok(rest.to_owned()),
                    _ => other(&line),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) => {
                    let name = &self.name;
                    let sentence = format!("{name} did not say {word:?} within {patience:?}");
                    return Err(Failure::Failed(sentence));
                }
            }
        }
    }

    /// Lines it has said and nobody has heard yet.
    pub fn heard(&self) -> impl Iterator<Item = String> {
        self.lines.try_iter()
    }

    /// Asks and gets an answer that begins with the same word.
    ///
    /// # Errors
    /// As [`Process::say`] and [`Process::hear`].
    pub fn ask(&mut self, word: &str, patience: Duration) -> Result<String, Failure> {
        self.say(word)?;
        self.hear(word, patience, |_| {})
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn ended(&mut self) -> Failure {
        // It has closed its pipe; give it the moment it needs to be gone.
        std::thread::sleep(Duration::from_millis(50));
        let name = &self.name;
        match self.child.try_wait() {
            Ok(Some(status)) => Failure::Failed(format!("the process {name} ended with {status}")),
            _ => Failure::Failed(format!("the process {name} closed its output")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines of standard input, for a child; the process ends when they do, so that nobody is left behind.
pub fn commands() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (give, take) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if give.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    take
}

/// Says one line to the parent.
pub fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone ends this process by its input.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
