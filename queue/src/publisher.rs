//! The producer as one core sees it: publish, and await the fate.
//!
//! One task a core takes the delivery reports of a burst and completes the waiting orders. A wait that outlives the
//! deadline is ended by [`Publisher::expire`], which the core's sweep calls; its report, when it comes, misses.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use shard::waiters::{Wait, Waiters};

use crate::native::Client;
use crate::producer::{Delivery, Outgoing, Producer, SendRefused};
use crate::spread::Turn;

/// A core's share of the producer. Not `Send`.
pub struct Publisher {
    producer: Arc<Producer>,
    /// The client that takes records, and its generation.
    client: RefCell<(u64, Arc<Client>)>,
    core: usize,
    waiters: Rc<Waiters<Delivery>>,
    turn: Turn,
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
        let turn = Turn::new(producer.spread());
        let client = RefCell::new(producer.client());
        Rc::new(Self { producer, client, core, waiters, turn, expired: Cell::new(0) })
    }

    /// Takes the new client when the producer has replaced it. The former one is still held by the producer's thread,
    /// so it is never dropped here.
    fn renew_client(&self) {
        let mut client = self.client.borrow_mut();
        if client.0 != self.producer.generation() {
            *client = self.producer.client();
        }
    }

    /// The partition of `ORDERS_TOPIC` for what is sent at this time; `None` leaves it to the key ([`crate::spread`]).
    pub fn partition_at(&self, unix_ms: u64) -> Option<i32> {
        self.turn.at(unix_ms)
    }

    /// Hands one record over, which copies it, and returns the wait for its fate: it ends with the report or with
    /// [`Publisher::expire`].
    ///
    /// # Errors
    /// The record was not taken and will never be delivered.
    pub fn hand_over(&self, outgoing: &Outgoing<'_>, now: Instant) -> Result<Wait<Delivery>, SendRefused> {
        let wait = self.waiters.open(now).ok_or(SendRefused::QueueFull)?;
        self.renew_client();
        let opaque = wait.ticket().to_bits() | ((self.core as u64) << 56);
        let handed_over = self.client.borrow().1.produce(outgoing, opaque).map_err(SendRefused::of);
        if let Err(SendRefused::Other(_)) = handed_over {
            self.producer.note_refused();
        }
        handed_over.map(|()| wait)
    }

    /// Hands one record over and waits for its fate.
    pub async fn publish(&self, outgoing: &Outgoing<'_>, now: Instant) -> Delivery {
        match self.hand_over(outgoing, now) {
            Ok(wait) => wait.await,
            Err(refused) => Delivery::Refused(refused),
        }
    }

    /// Ends every wait that began before `began_before`: nobody knows whether the broker has those.
    pub fn expire(&self, began_before: Instant) {
        // Also without orders: a core that keeps a replaced client would keep it alive.
        self.renew_client();
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
