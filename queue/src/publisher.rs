//! The producer as one core sees it: publish, and await the delivery.
//!
//! One task per core takes the delivery reports of a burst and completes the waiting orders.
//! [`Publisher::expire`], which the core's sweep calls, ends waits that exceed the deadline; their reports
//! are ignored when they come.
//!
//! Orders of a time slot share a request ([`Publisher::hold`]). A request costs Kafka, the consumer and librdkafka's threads
//! more than the orders in it, and a fixed `linger.ms` does not adapt to the load: 1 ms gives small requests at 8,000 orders/s,
//! and 5 ms delays a client with few connections although no other order can arrive. So a core holds an order until its slot
//! ends (all cores share the slots). It releases earlier if, when an order arrives, at least half of the core's orders in flight
//! are held. An order that is alone in flight is released at once. Measurements: `perf/budget.md`, "Batches".

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shard::waiters::{Ticket, Wait, Waiters};

use crate::held::{HEADERS_MAX, Held, OrderRecord};
use crate::native::Client;
use crate::outgoing::{Outgoing, Topic};
use crate::partitioner::SlotPartition;
use crate::producer::{Delivery, Producer, SendRefused};

/// A core's share of the producer. Not `Send`.
pub struct Publisher {
    producer: Arc<Producer>,
    /// The client that accepts records, and its generation.
    client: RefCell<(u64, Arc<Client>)>,
    core: usize,
    waiters: Rc<Waiters<Delivery>>,
    slot_partition: SlotPartition,
    /// At most one order per open wait, plus those whose wait expired since the last release.
    held: RefCell<Held>,
    /// Wakes [`Publisher::release_by_slots`]; set while that task sleeps because nothing is held.
    release_task: RefCell<Option<Waker>>,
    expired: Cell<u64>,
}

impl Publisher {
    /// Opens the share of core `core` and starts its task; must run inside the core's runtime. At most
    /// `in_flight_max` records wait at once.
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
        let slot_partition = SlotPartition::new(producer.led_partitions());
        let client = RefCell::new(producer.client());
        let publisher = Rc::new(Self {
            producer,
            client,
            core,
            waiters,
            slot_partition,
            held: RefCell::default(),
            release_task: RefCell::default(),
            expired: Cell::new(0),
        });
        if publisher.producer.hold_ms() > 0 {
            drop(monoio::spawn(Self::release_by_slots(Rc::downgrade(&publisher))));
        }
        publisher
    }

    /// Switches to the new client if the producer has replaced it. The producer's thread still holds the
    /// former one, so it is never dropped here.
    fn renew_client(&self) {
        let mut client = self.client.borrow_mut();
        if client.0 != self.producer.generation() {
            *client = self.producer.client();
        }
    }

    /// Copies one order and holds it, to hand it over together with the others of its time slot, and returns the wait for
    /// its delivery. `in_flight` is the number of orders in flight on this core, this one included. It goes to `ORDERS_TOPIC`,
    /// to the partition of the slot in which it is released ([`crate::partitioner`]).
    ///
    /// # Errors
    /// The maximum number of records is already waiting. If librdkafka rejects a held order, the wait returns
    /// [`Delivery::Refused`].
    pub fn hold(
        &self,
        order: &OrderRecord<'_>,
        now: Instant,
        in_flight: usize,
    ) -> Result<Wait<Delivery>, SendRefused> {
        let wait = self.waiters.open(now).ok_or(SendRefused::QueueFull)?;
        let held_count = {
            let mut held = self.held.borrow_mut();
            held.push(order, wait.ticket());
            held.len()
        };
        if held_count * 2 >= in_flight || self.producer.hold_ms() == 0 {
            self.release();
        } else if let Some(task) = self.release_task.take() {
            task.wake();
        }
        Ok(wait)
    }

    /// Releases the held orders at the end of each slot. Sleeps while nothing is held; ends when the publisher is dropped.
    async fn release_by_slots(weak: Weak<Self>) {
        while let Some(publisher) = Self::wait_until_held(&weak).await {
            let slot = Duration::from_millis(publisher.producer.hold_ms());
            let into_slot_ns = publisher.producer.uptime().as_nanos() % slot.as_nanos();
            monoio::time::sleep(slot.saturating_sub(Duration::from_nanos(into_slot_ns as u64))).await;
            publisher.release();
        }
    }

    /// Waits until an order is held; `None` once the publisher is dropped.
    async fn wait_until_held(weak: &Weak<Self>) -> Option<Rc<Self>> {
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

    /// Hands over all held orders, except those that were already answered at their deadline.
    fn release(&self) {
        self.renew_client();
        let slot = self.producer.uptime().as_millis() as u64 / self.producer.hold_ms().max(1);
        let partition = self.slot_partition.at(slot);
        self.held.borrow_mut().drain(|order, ticket| {
            if !self.waiters.is_waiting(ticket) {
                return;
            }
            let mut headers: [(&CStr, Option<&[u8]>); HEADERS_MAX] = [(c"", None); HEADERS_MAX];
            let mut count = 0;
            for (name, value) in order.headers.into_iter().flatten() {
                headers[count] = (name, Some(value));
                count += 1;
            }
            let outgoing = Outgoing {
                topic: Topic::Orders,
                key: Some(order.key),
                partition,
                value: Some(order.value),
                headers: &headers[..count],
                timestamp_ms: Some(order.timestamp_ms),
            };
            if let Err(refused) = self.produce(&outgoing, ticket) {
                self.waiters.complete(ticket, Delivery::Refused(refused));
            }
        });
    }

    /// Passes one record to librdkafka, which copies it, and returns the wait for its delivery: the wait ends
    /// with the report or with [`Publisher::expire`].
    ///
    /// # Errors
    /// The record was not accepted and will never be delivered.
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

    /// Passes one record to librdkafka and waits for its delivery.
    pub async fn publish(&self, outgoing: &Outgoing<'_>, now: Instant) -> Delivery {
        match self.hand_over(outgoing, now) {
            Ok(wait) => wait.await,
            Err(refused) => Delivery::Refused(refused),
        }
    }

    /// Ends every wait that began before `began_before`: it is unknown whether the broker has those records.
    pub fn expire(&self, began_before: Instant) {
        // Also needed without orders: a core would otherwise keep a replaced client alive.
        self.renew_client();
        let expired = self.waiters.expire(began_before, || Delivery::PossiblyPersisted { code: 0 });
        self.expired.set(self.expired.get() + expired as u64);
    }

    /// Number of records of this core that wait for their delivery.
    pub fn in_flight(&self) -> usize {
        self.waiters.open_count()
    }

    /// Number of waits ended by the deadline since startup.
    pub fn expired(&self) -> u64 {
        self.expired.get()
    }

    /// The shared producer.
    pub fn producer(&self) -> &Arc<Producer> {
        &self.producer
    }
}
