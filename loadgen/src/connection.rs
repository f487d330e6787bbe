//! The life of one connection: it reads answers, and comes back when it is lost. Requests are written by the
//! core's walk ([`crate::worker`]) through a second handle, so that sending wakes no task.

use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::AsyncReadRent as _;
use monoio::time::sleep;

use crate::answer::{self, ANSWER_BYTES_MAX};
use crate::os;
use crate::outcome::Outcome;
use crate::worker::Core;

/// First pause after a connection that failed or was lost before it gave an answer; doubles up to
/// [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause: a target that comes back is found within a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a connection ended.
struct Lost {
    /// What became of the request that was on it, unless it had timed out.
    outcome: Outcome,
    /// At least one answer came.
    was_useful: bool,
}

/// Connects, reads answers for the core until the connection ends, and again, until the run is over.
pub(crate) async fn live(core: Rc<Core>, lane: usize) {
    let mut buffer = vec![0; ANSWER_BYTES_MAX].into_boxed_slice();
    let mut pause = PAUSE_MIN;
    let mut is_again = false;
    while !core.is_over() {
        if let Ok((mut stream, socket)) = open(&core).await {
            core.opened(lane, socket, is_again);
            is_again = true;
            let lost;
            (lost, buffer) = read_answers(&core, lane, &mut stream, buffer).await;
            core.closed(lane, lost.outcome);
            if lost.was_useful {
                // A server may close after each answer; that is no reason to wait.
                pause = PAUSE_MIN;
                continue;
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn open(core: &Core) -> io::Result<(monoio::net::TcpStream, TcpStream)> {
    let stream = monoio::net::TcpStream::connect_addr(core.plan().target).await?;
    stream.set_nodelay(true)?;
    let socket = os::second_handle(&stream)?;
    Ok((stream, socket))
}

async fn read_answers(
    core: &Core,
    lane: usize,
    stream: &mut monoio::net::TcpStream,
    mut buffer: Box<[u8]>,
) -> (Lost, Box<[u8]>) {
    let mut lost = Lost { outcome: Outcome::Reset, was_useful: false };
    // 0 <= filled <= buffer.len(): bytes of an answer that is not whole yet.
    let mut filled = 0;
    loop {
        let (result, slice) = stream.read(monoio::buf::IoBufMut::slice_mut(buffer, filled..)).await;
        buffer = slice.into_inner();
        let Ok(bytes @ 1..) = result else { break };
        filled += bytes;
        match answer::read(&buffer[..filled]) {
            Ok(Some(answer)) => {
                lost.was_useful = true;
                // More bytes than the answer to the one request: they would be taken for the answer to the
                // next.
                let closes = answer.closes || answer.bytes < filled;
                let was_asked = core.answered(lane, Outcome::of_status(answer.status), closes);
                if closes || !was_asked {
                    break;
                }
                filled = 0;
            }
            Ok(None) if filled < buffer.len() => {}
            Ok(None) | Err(answer::Malformed) => {
                lost.outcome = Outcome::Other;
                break;
            }
        }
    }
    (lost, buffer)
}
