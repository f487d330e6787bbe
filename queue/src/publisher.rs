//! The producer as one core sees it: publish, and await the fate.
//!
//! One task a core takes the delivery reports of a burst and completes the waiting orders. A wait that outlives the
//! deadline is ended by [`Publisher::expire`], which the core's sweep calls; its report, when it comes, misses.
//!
//! Orders of a time slot share a request ([`Publisher::hold`]). A request costs Kafka, the consumer and librdkafka's
//! threads more than the orders in it, and `linger.ms` cannot follow the load: with 1 ms the requests are small at 8,000
//! orders/s, and with 5 ms a client with few connections waits for nothing. So an order is held until the end of its slot,
//! which all cores share, or until as many orders are held as are elsewhere on their way (being admitted, or with the
//! broker): half of the orders in flight fill a request while the other half travels, and an order without company leaves
//! at once. Measured in `perf/budget.md`, "Batches".

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shard::waiters::{Ticket, Wait, Waiters};

use crate::held::{HEADERS_MAX, Held};
use crate::native::Client;
use crate::producer::{Delivery, Outgoing, Producer, SendRefused, Topic};
use crate::spread::Turn;

/// A core's share of the producer. Not `Send`.
pub struct Publisher {
    producer: Arc<Producer>,
    /// The client that takes records, and its generation.
    client: RefCell<(u64, Arc<Client>)>,
    core: usize,
    waiters: Rc<Waiters<Delivery>>,
    turn: Turn,
    /// Bounded by the waits, each of which has a record here at most once.
    held: RefCell<Held>,
    /// The task that releases what is held at the end of a slot, while it has nothing to do.
    release_task: RefCell<Option<Waker>>,
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
        let publisher = Rc::new(Self {
            producer,
            client,
            core,
            waiters,
            turn,
            held: RefCell::default(),
            release_task: RefCell::default(),
            expired: Cell::new(0),
        });
        if publisher.producer.hold_ms() > 0 {
            drop(monoio::spawn(Self::release_by_slots(Rc::downgrade(&publisher))));
        }
        publisher
    }

    /// Takes the new client when the producer has replaced it. The former one is still held by the producer's thread,
    /// so it is never dropped here.
    fn renew_client(&self) {
        let mut client = self.client.borrow_mut();
        if client.0 != self.producer.generation() {
            *client = self.producer.client();
        }
    }

    /// Copies one record, to be handed over with others of its time slot, and returns the wait for its fate as
    /// [`Publisher::hand_over`] does. `in_flight` is the number of orders on their way through this core, this one included.
    /// An order without a partition gets that of the slot ([`crate::spread`]). A record with more than [`HEADERS_MAX`] headers is
    /// handed over at once.
    ///
    /// # Errors
    /// The bound is reached. That librdkafka takes no more comes as the fate of the record.
    pub fn hold(
        &self,
        outgoing: &Outgoing<'_>,
        now: Instant,
        in_flight: usize,
    ) -> Result<Wait<Delivery>, SendRefused> {
        if outgoing.headers.len() > HEADERS_MAX {
            return self.hand_over(outgoing, now);
        }
        let wait = self.waiters.open(now).ok_or(SendRefused::QueueFull)?;
        let held_count = {
            let mut held = self.held.borrow_mut();
            held.push(outgoing, wait.ticket());
            held.len()
        };
        if held_count * 2 >= in_flight || self.producer.hold_ms() == 0 {
            self.release();
        } else if let Some(task) = self.release_task.take() {
            task.wake();
        }
        Ok(wait)
    }

    /// Releases what is held at the end of each slot; sleeps while nothing is held and ends with the publisher.
    async fn release_by_slots(weak: Weak<Self>) {
        while let Some(publisher) = Self::holding(&weak).await {
            let slot = Duration::from_millis(publisher.producer.hold_ms());
            let into_slot_ns = publisher.producer.uptime().as_nanos() % slot.as_nanos();
            monoio::time::sleep(slot.saturating_sub(Duration::from_nanos(into_slot_ns as u64))).await;
            publisher.release();
        }
    }

    /// Waits until something is held; `None` when the publisher is gone.
    async fn holding(weak: &Weak<Self>) -> Option<Rc<Self>> {
        std::future::poll_fn(|context| {
            let Some(publisher) = weak.upgrade() else { return Poll::Ready(None) };
            if publisher.held.borrow().len() > 0 {
                return Poll::Ready(Some(publisher));
            }
            *publisher.release_task.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Hands over what is held, except what nobody waits for any more: the order was answered at its deadline.
    fn release(&self) {
        self.renew_client();
        let partition = self.turn.at(self.producer.uptime().as_millis() as u64);
        self.held.borrow_mut().drain(|outgoing, ticket| {
            if !self.waiters.is_waiting(ticket) {
                return;
            }
            let of_slot = partition.filter(|_| outgoing.topic == Topic::Orders);
            let outgoing = Outgoing { partition: outgoing.partition.or(of_slot), ..*outgoing };
            if let Err(refused) = self.produce(&outgoing, ticket) {
                self.waiters.complete(ticket, Delivery::Refused(refused));
            }
        });
    }

    /// Hands one record over, which copies it, and returns the wait for its fate: it ends with the report or with
    /// [`Publisher::expire`].
    ///
    /// # Errors
    /// The record was not taken and will never be delivered.
    pub fn hand_over(&self, outgoing: &Outgoing<'_>, now: Instant) -> Result<Wait<Delivery>, SendRefused> {
        let wait = self.waiters.open(now).ok_or(SendRefused::QueueFull)?;
        self.renew_client();
        self.produce(outgoing, wait.ticket()).map(|()| wait)
    }

    fn produce(&self, outgoing: &Outgoing<'_>, ticket: Ticket) -> Result<(), SendRefused> {
        let opaque = ticket.to_bits() | ((self.core as u64) << 56);
        let produced = self.client.borrow().1.produce(outgoing, opaque).map_err(SendRefused::of);
        if let Err(SendRefused::Other(_)) = produced {
            self.producer.note_refused();
        }
        produced
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
