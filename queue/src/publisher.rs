//! The producer as one core sees it: publish, and await the fate.
//!
//! One task a core takes the delivery reports of a burst and completes the waiting orders. A wait that outlives the
//! deadline is ended by [`Publisher::expire`], which the core's sweep calls; its report, when it comes, misses.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use shard::waiters::Waiters;

use crate::producer::{Delivery, Outgoing, Producer, SendRefused};

/// A core's share of the producer. Not `Send`.
pub struct Publisher {
    producer: Arc<Producer>,
    core: usize,
    waiters: Rc<Waiters<Delivery>>,
    expired: Cell<u64>,
}

impl Publisher {
    /// Opens core `core`'s share and starts its task; must run inside the core's runtime. At most `in_flight_max`
    /// records wait at once.
    pub fn open(producer: Arc<Producer>, core: usize, in_flight_max: usize) -> Rc<Self> {
        let mailbox = producer.mailbox(core);
        let waiters = Waiters::new(in_flight_max);
        let taker = Rc::clone(&waiters);
        drop(monoio::spawn(async move {
            let mut acks = Vec::new();
            loop {
                mailbox.take(&mut acks).await;
                for ack in acks.drain(..) {
                    taker.complete(ack.ticket, ack.delivery);
                }
            }
        }));
        Rc::new(Self { producer, core, waiters, expired: Cell::new(0) })
    }

    /// Publishes one record and waits for its fate. Never waits before the hand-over; the wait after it ends with the
    /// report or with [`Publisher::expire`].
    pub async fn publish(&self, outgoing: &Outgoing<'_>, now: Instant) -> Delivery {
        let Some(wait) = self.waiters.open(now) else { return Delivery::Refused(SendRefused::QueueFull) };
        if let Err(refused) = self.producer.send(self.core, wait.ticket(), outgoing) {
            return Delivery::Refused(refused);
        }
        wait.await
    }

    /// Ends every wait that began before `began_before`: nobody knows whether the broker has those.
    pub fn expire(&self, began_before: Instant) {
        let expired = self.waiters.expire(began_before, || Delivery::PossiblyPersisted { code: 0 });
        self.expired.set(self.expired.get() + expired as u64);
    }

    /// Records that wait for their fate on this core.
    pub fn in_flight(&self) -> usize {
        self.waiters.open_count()
    }

    /// Waits ended by the deadline since the start.
    pub fn expired(&self) -> u64 {
        self.expired.get()
    }

    /// The producer behind it.
    pub fn producer(&self) -> &Arc<Producer> {
        &self.producer
    }
}
