//! Joins many futures of one core in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures concurrently and returns their outputs in order. Each wake-up polls every unfinished future, so this is
/// for tens or hundreds of them.
pub async fn all<F: Future>(mut futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_ready = true;
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn outputs_keep_the_order_when_the_last_is_ready_first() {
        let step = Cell::new(3);
        let futures = (0..3).map(|number| {
            Box::pin(poll_fn({
                let step = &step;
                move |context| {
                    if step.get() == number + 1 {
                        step.set(number);
                        return Poll::Ready(number);
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }))
        });
        let futures: Vec<_> = futures.collect();
        let mut joined = std::pin::pin!(all(futures));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let outputs = loop {
            if let Poll::Ready(outputs) = joined.as_mut().poll(&mut context) {
                break outputs;
            }
        };
        assert_eq!(outputs, [0, 1, 2]);
    }
}
