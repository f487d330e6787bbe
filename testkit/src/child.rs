//! Child processes that cannot outlive this process.
//!
//! `Drop` covers normal exit and panics. For all other cases (abort, SIGKILL, `process::exit` with a server in a
//! `static`) the kernel kills the child when its parent dies (`PR_SET_PDEATHSIG`, prctl(2)). That setting is bound
//! to the parent *thread*: a server started by the thread of one test and shared by others would die with the first
//! test. Therefore one thread, which lives as long as the process, forks all children.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{OnceLock, mpsc};

/// A running child, killed (SIGKILL, by pid) and reaped on `Drop`.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

/// Starts `command` in its own process group, so that Ctrl-C in a terminal reaches this process and
/// not the child.
///
/// # Errors
/// Those of [`Command::spawn`]: the program is missing or not executable, or the fork fails.
///
/// # Panics
/// When the forking thread cannot be started.
pub fn spawn(command: Command) -> io::Result<Guarded> {
    static FORKER: OnceLock<mpsc::Sender<SpawnRequest>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<SpawnRequest>();
        std::thread::Builder::new()
            .name("testkit-forker".into())
            .spawn(move || {
                for request in requests {
                    // Cannot fail: the caller waits for this message.
                    drop(request.reply.send(fork_guarded(request.command)));
                }
            })
            .expect("a thread can be started");
        sender
    });
    let (reply, response) = mpsc::channel();
    forker.send(SpawnRequest { command, reply }).expect("the forker thread runs until the process exits");
    response.recv().expect("the forker responds to every request")
}

struct SpawnRequest {
    command: Command,
    reply: mpsc::Sender<io::Result<Guarded>>,
}

#[expect(unsafe_code, reason = "pre_exec is the only way to run prctl(2) in the child")]
fn fork_guarded(mut command: Command) -> io::Result<Guarded> {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec in a copy of a multi-threaded process, where only
    // async-signal-safe calls are allowed. It makes two bare system calls, prctl(2) and getppid(2), allocates
    // nothing (`from_raw_os_error` stores the number in place) and touches no memory but its own captured
    // integer.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died between fork and prctl; then the signal would never come.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command.spawn().map(|child| Guarded { child })
}

/// The signals tests send to their servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: request to terminate.
    Terminate,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGKILL: terminates at once, without cleanup.
    Kill,
    /// SIGSTOP: the process keeps its sockets but does not respond.
    Stop,
    /// SIGCONT: continues after [`Signal::Stop`].
    Continue,
    /// SIGUSR1: soft stop of haproxy.
    User1,
}

impl Guarded {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status if the child has exited, else `None`. Does not block.
    ///
    /// # Panics
    /// When the kernel does not know the child; this cannot happen, because only this type reaps it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be queried")
    }

    /// Waits until the child exits and returns its exit status.
    ///
    /// # Errors
    /// Those of [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Sends a signal to this child alone.
    ///
    /// # Errors
    /// `ESRCH` when it has already been reaped, as its pid may then belong to another process.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        self.send(signal, false)
    }

    /// Sends a signal to the child and all processes it has started (its process group).
    ///
    /// # Errors
    /// As [`Guarded::signal`].
    pub fn signal_group(&mut self, signal: Signal) -> io::Result<()> {
        self.send(signal, true)
    }

    #[expect(unsafe_code, reason = "kill(2) has no safe form in std for signals other than SIGKILL")]
    fn send(&mut self, signal: Signal, group: bool) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
            Signal::User1 => libc::SIGUSR1,
        };
        let pid = self.child.id() as libc::pid_t;
        // SAFETY: kill(2) takes two integers and touches no memory. The pid is ours: the child was not reaped
        // a line above, and only `&mut self` can reap it. It leads its own process group (`process_group(0)`
        // at the fork).
        let result = unsafe { libc::kill(if group { -pid } else { pid }, number) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The whole group: a child that started others must not leave them behind. Already gone is fine.
        drop(self.signal_group(Signal::Kill));
        drop(self.child.wait());
    }
}

/// Describes an exit status for messages.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown exit status".to_owned(),
    }
}
