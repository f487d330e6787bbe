//! Reads statuses through pipelined `GET /orders/{request_id}`, for targets whose store cannot be read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::TcpStream;
use monoio::time::{sleep, timeout};
use serde::Deserialize;
use wire::names::Status;
use wire::response;

use crate::sale::Sale;

/// Requests in flight: 64 of about 100 bytes fit any socket buffer, so writing never waits for reading.
const PIPELINED_MAX: usize = 64;
/// Retry interval while the target is unreachable.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Holds 64 responses of about 300 bytes; longer ones take several reads.
const BUFFER_BYTES: usize = 64 * 1024;

/// One connection to the target, opened when it is needed.
#[derive(Debug)]
pub struct HttpOrders {
    target: SocketAddr,
    host: String,
    stream: Option<TcpStream>,
}

/// The fields read from a response body.
#[derive(Deserialize)]
struct Order<'a> {
    status: &'a str,
}

impl HttpOrders {
    pub fn new(sale: &Sale) -> Self {
        Self { target: sale.target, host: sale.host.clone(), stream: None }
    }

    /// Statuses in the order of `ids`; retries on a new connection for up to `wait_max`.
    pub async fn statuses(
        &mut self,
        ids: &[String],
        wait_max: Duration,
    ) -> Result<Vec<Option<Status>>, String> {
        let mut statuses = Vec::with_capacity(ids.len());
        for some in ids.chunks(PIPELINED_MAX) {
            let began = Instant::now();
            loop {
                // A failed or late exchange leaves the connection in an unknown state, so it is dropped.
                let result = match timeout(wait_max, self.exchange(some)).await {
                    Ok(Ok(more)) => {
                        statuses.extend(more);
                        break;
                    }
                    Ok(Err(reason)) => reason,
                    Err(_) => "no response in time".to_owned(),
                };
                self.stream = None;
                if began.elapsed() > wait_max {
                    return Err(format!("GET /orders of {}: {result}", self.target));
                }
                sleep(RETRY_EVERY).await;
            }
        }
        Ok(statuses)
    }

    async fn exchange(&mut self, ids: &[String]) -> Result<Vec<Option<Status>>, String> {
        let mut requests = String::with_capacity(ids.len() * 96);
        for id in ids {
            // Run ids and base 36 need no escapes in a path.
            requests.extend(["GET /orders/", id, " HTTP/1.1\r\nHost: ", &self.host, "\r\n\r\n"]);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                none.insert(TcpStream::connect_addr(self.target).await.map_err(|error| error.to_string())?)
            }
        };
        let (written, _) = stream.write_all(requests.into_bytes()).await;
        written.map_err(|error| error.to_string())?;

        let mut statuses = Vec::with_capacity(ids.len());
        let mut buffer = vec![0; BUFFER_BYTES];
        // 0 <= filled <= buffer.len(): bytes of responses not yet parsed.
        let mut filled = 0;
        while statuses.len() < ids.len() {
            let (result, slice) = stream.read(monoio::buf::IoBufMut::slice_mut(buffer, filled..)).await;
            buffer = slice.into_inner();
            match result {
                Ok(0) => return Err("the connection ended before the response".to_owned()),
                Ok(bytes) => filled += bytes,
                Err(error) => return Err(error.to_string()),
            }
            let mut taken = 0;
            while let Some(answer) =
                response::read(&buffer[taken..filled]).map_err(|_| "not an HTTP/1.1 response".to_owned())?
            {
                statuses.push(status_of(answer.status, &buffer[taken..][answer.body])?);
                taken += answer.bytes;
                if answer.closes && statuses.len() < ids.len() {
                    return Err("the target closes between pipelined requests".to_owned());
                }
            }
            if taken == 0 && filled == buffer.len() {
                return Err("a response longer than the buffer".to_owned());
            }
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
        }
        Ok(statuses)
    }
}

fn status_of(code: u16, body: &[u8]) -> Result<Option<Status>, String> {
    match code {
        404 => Ok(None),
        200 => {
            let order: Order<'_> =
                serde_json::from_slice(body).map_err(|error| format!("unexpected response body: {error}"))?;
            let status =
                order.status.parse().map_err(|_| format!("{:?} is not an order status", order.status))?;
            Ok(Some(status))
        }
        other => Err(format!("status {other}")),
    }
}
