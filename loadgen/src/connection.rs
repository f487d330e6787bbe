//! Task of one connection: reads responses, and reconnects when the connection is lost. The core
//! ([`crate::core`]) writes the requests through a second handle, so that sending wakes no task.

use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::AsyncReadRent as _;
use monoio::time::sleep;
use report::Outcome;
use wire::response::{self, ANSWER_BYTES_MAX};

use crate::core::Core;
use crate::os;

/// First pause after a connection that failed or was lost before its first response; doubles up to
/// [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause, so that a recovered target is found within a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a connection ended.
struct ClosedConnection {
    /// Outcome of the request that was in flight, unless it had timed out.
    outcome: Outcome,
    /// At least one response was read.
    was_useful: bool,
}

/// Connects and reads responses until the connection ends, and repeats this until the run is over.
pub(crate) async fn run(core: Rc<Core>, connection: usize) {
    let mut buffer = vec![0; ANSWER_BYTES_MAX].into_boxed_slice();
    let mut pause = PAUSE_MIN;
    let mut is_reconnect = false;
    while !core.is_over() {
        if let Ok((mut stream, socket)) = open(&core).await {
            core.opened(connection, socket, is_reconnect);
            is_reconnect = true;
            let lost;
            (lost, buffer) = read_responses(&core, connection, &mut stream, buffer).await;
            core.closed(connection, lost.outcome);
            if lost.was_useful {
                // A server may close after each response; that needs no pause.
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

async fn read_responses(
    core: &Core,
    connection: usize,
    stream: &mut monoio::net::TcpStream,
    mut buffer: Box<[u8]>,
) -> (ClosedConnection, Box<[u8]>) {
    let mut lost = ClosedConnection { outcome: Outcome::Reset, was_useful: false };
    // 0 <= filled <= buffer.len(): bytes of an incomplete response.
    let mut filled = 0;
    loop {
        let (result, slice) = stream.read(monoio::buf::IoBufMut::slice_mut(buffer, filled..)).await;
        buffer = slice.into_inner();
        let Ok(bytes @ 1..) = result else { break };
        filled += bytes;
        match response::read(&buffer[..filled]) {
            Ok(Some(answer)) => {
                lost.was_useful = true;
                // Bytes beyond this response belong to no request: they would be read as the response to the
                // next one.
                let closes = answer.closes || answer.bytes < filled;
                let was_asked = core.answered(connection, Outcome::of_status(answer.status), closes);
                if closes || !was_asked {
                    break;
                }
                filled = 0;
            }
            Ok(None) if filled < buffer.len() => {}
            Ok(None) | Err(response::Malformed) => {
                lost.outcome = Outcome::Other;
                break;
            }
        }
    }
    (lost, buffer)
}
