//! A bounded number of places, taken in the order of asking: payments under way, commands at the store.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Places of one core. Not `Send`.
#[derive(Debug)]
pub struct Desk {
    places: usize,
    free: Cell<usize>,
    next_number: Cell<u64>,
    /// Who waits, first come first; bounded by the records in flight, each of which waits here at most once.
    queue: RefCell<VecDeque<(u64, Waker)>>,
}

/// Places at the desk; leaving frees them.
#[derive(Debug)]
pub struct Seat {
    desk: Rc<Desk>,
    places: usize,
}

/// Somebody who waits; going away leaves the queue.
struct Waiting<'a> {
    desk: &'a Rc<Desk>,
    places: usize,
    number: Option<u64>,
}

impl Desk {
    /// So many places.
    pub fn new(places: usize) -> Rc<Self> {
        Rc::new(Self {
            places,
            free: Cell::new(places),
            next_number: Cell::new(0),
            queue: RefCell::default(),
        })
    }

    /// Waits for `places` at once; who wants more than there are waits for all of them.
    pub async fn seat(self: &Rc<Self>, places: usize) -> Seat {
        let mut waiting = Waiting { desk: self, places: places.min(self.places), number: None };
        std::future::poll_fn(|context| waiting.poll(context)).await
    }

    /// Places taken now.
    pub fn taken(&self) -> usize {
        self.places - self.free.get()
    }

    fn wake_first(&self) {
        if let Some((_, waker)) = self.queue.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Waiting<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Seat> {
        let desk = self.desk;
        let is_first = {
            let queue = desk.queue.borrow();
            queue.front().is_none_or(|&(number, _)| Some(number) == self.number)
        };
        if is_first && desk.free.get() >= self.places {
            desk.free.set(desk.free.get() - self.places);
            self.leave();
            return Poll::Ready(Seat { desk: Rc::clone(desk), places: self.places });
        }
        let mut queue = desk.queue.borrow_mut();
        if let Some(entry) = queue.iter_mut().find(|entry| Some(entry.0) == self.number) {
            entry.1.clone_from(context.waker());
        } else {
            let number = desk.next_number.get();
            desk.next_number.set(number + 1);
            self.number = Some(number);
            queue.push_back((number, context.waker().clone()));
        }
        Poll::Pending
    }

    /// Out of the queue; the next one may fit.
    fn leave(&mut self) {
        let Some(number) = self.number.take() else { return };
        let mut queue = self.desk.queue.borrow_mut();
        // Who is served stands first; only who goes away unserved is looked for among thousands.
        if queue.front().is_some_and(|first| first.0 == number) {
            queue.pop_front();
        } else {
            queue.retain(|entry| entry.0 != number);
        }
        drop(queue);
        self.desk.wake_first();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.free.set(self.desk.free.get() + self.places);
        self.desk.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn places_are_taken_in_the_order_of_asking_and_given_back() {
        let desk = Desk::new(3);
        let two = poll(pin!(desk.seat(2))).expect("free");
        let mut large = pin!(desk.seat(9));
        let mut small = pin!(desk.seat(1));
        assert!(poll(large.as_mut()).is_none(), "wants all three");
        assert!(poll(small.as_mut()).is_none(), "would fit, but came later");
        drop(two);
        let all = poll(large.as_mut()).expect("all are free");
        assert!(poll(small.as_mut()).is_none());
        drop(all);
        assert!(poll(small.as_mut()).is_some());
        assert_eq!(desk.free.get(), 3, "the seat was dropped with the assertion");
    }

    #[test]
    fn who_goes_away_holds_up_nobody() {
        let desk = Desk::new(1);
        let seat = poll(pin!(desk.seat(1))).expect("free");
        let mut last = Box::pin(desk.seat(1));
        {
            let mut gone = Box::pin(desk.seat(1));
            assert!(poll(gone.as_mut()).is_none());
            assert!(poll(last.as_mut()).is_none());
        }
        drop(seat);
        assert!(poll(last.as_mut()).is_some());
    }
}
