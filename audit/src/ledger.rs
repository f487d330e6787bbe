//! The responses to each request id, in a byte, and its final status, in two bits.
//!
//! A core keeps the orders whose number modulo the number of cores is its index; `Ledgers` combines the
//! cores for the audit. 100 million orders cost 100 MB for the responses and 25 MB for the final statuses.

use report::{Outcome, Shard};
use wire::names::Status;

/// Maximum number of ids listed in a violation.
pub const NAMED_MAX: usize = 20;

/// The responses to all sends of one order. All bits clear: never sent, or no response yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Responses(u8);

impl Responses {
    const ACKNOWLEDGED: u8 = 1;
    const INDETERMINATE: u8 = 2;
    const REFUSED: u8 = 4;
    const DUPLICATE: u8 = 8;
    const LIMITED: u8 = 16;

    /// A single response.
    pub fn of(outcome: Outcome) -> Self {
        Self(match outcome {
            Outcome::Accepted => Self::ACKNOWLEDGED,
            Outcome::Invalid | Outcome::SoldOut | Outcome::Mismatch => Self::REFUSED,
            Outcome::Limited => Self::REFUSED | Self::LIMITED,
            Outcome::Duplicate => Self::DUPLICATE,
            Outcome::Failed | Outcome::Unavailable | Outcome::Other | Outcome::Timeout | Outcome::Reset => {
                Self::INDETERMINATE
            }
            Outcome::Unsent => 0,
        })
    }

    /// A 202 was seen.
    pub fn acknowledged(self) -> bool {
        self.0 & Self::ACKNOWLEDGED != 0
    }

    /// A send may have had an effect although its response does not show it.
    pub fn indeterminate(self) -> bool {
        self.0 & Self::INDETERMINATE != 0
    }

    /// 400, 410, 422 or 429 was seen.
    pub fn refused(self) -> bool {
        self.0 & Self::REFUSED != 0
    }

    /// 429 was seen.
    pub fn limited(self) -> bool {
        self.0 & Self::LIMITED != 0
    }

    /// 409 was seen.
    pub fn duplicate(self) -> bool {
        self.0 & Self::DUPLICATE != 0
    }

    /// The order was never sent, or has no response yet.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The first orders that violate a rule, and their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violators {
    /// Number of orders.
    pub count: u64,
    /// The first orders, at most [`NAMED_MAX`].
    pub sequences: Vec<u64>,
}

impl Violators {
    /// Adds an order.
    pub fn push(&mut self, sequence: u64) {
        self.count += 1;
        if self.sequences.len() < NAMED_MAX {
            self.sequences.push(sequence);
        }
    }

    /// Adds the orders of another core.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sequences.extend_from_slice(&other.sequences);
        self.sequences.sort_unstable();
        self.sequences.truncate(NAMED_MAX);
    }
}

/// The responses to the orders of one core.
#[derive(Debug, Clone)]
pub struct Ledger {
    responses: Vec<Responses>,
    worker: u64,
    workers: u64,
    /// Orders that got a second 202.
    pub acknowledged_twice: Violators,
}

impl Ledger {
    /// For the orders of core `worker` of `workers`, out of `buyers` orders.
    pub fn new(buyers: u64, worker: usize, workers: usize) -> Self {
        let (worker, workers) = (worker as u64, workers as u64);
        let own = buyers.saturating_sub(worker).div_ceil(workers);
        Self {
            responses: vec![Responses::default(); own as usize],
            worker,
            workers,
            acknowledged_twice: Violators::default(),
        }
    }

    /// Records the outcome of a send of an order of this core.
    pub fn record(&mut self, sequence: u64, outcome: Outcome) {
        debug_assert_eq!(sequence % self.workers, self.worker);
        if outcome == Outcome::Accepted && self.get(sequence).acknowledged() {
            self.acknowledged_twice.push(sequence);
        }
        self.responses[(sequence / self.workers) as usize].0 |= Responses::of(outcome).0;
    }

    /// The responses to an order of this core.
    pub fn get(&self, sequence: u64) -> Responses {
        self.responses[(sequence / self.workers) as usize]
    }
}

/// The ledgers of all cores.
#[derive(Debug)]
pub struct Ledgers {
    by_core: Vec<Ledger>,
    buyers: u64,
    shard: Shard,
}

impl Ledgers {
    /// `by_core` in the order of their cores, of the orders of one shard.
    pub fn new(by_core: Vec<Ledger>, buyers: u64, shard: Shard) -> Self {
        Self { by_core, buyers, shard }
    }

    /// Whether an order belongs to this shard.
    pub fn has(&self, sequence: u64) -> bool {
        self.shard.has(sequence)
    }

    /// Number of orders in the plan, sent or not.
    pub fn buyers(&self) -> u64 {
        self.buyers
    }

    /// The responses to an order; empty for orders of other shards.
    pub fn get(&self, sequence: u64) -> Responses {
        if !self.shard.has(sequence) {
            return Responses::default();
        }
        let index = sequence / self.shard.count;
        self.by_core[(index % self.by_core.len() as u64) as usize].get(sequence)
    }

    /// Orders that got a second 202.
    pub fn acknowledged_twice(&self) -> Violators {
        let mut all = Violators::default();
        for ledger in &self.by_core {
            all.join(&ledger.acknowledged_twice);
        }
        all
    }
}

/// The first final status seen of each order, in two bits. Query only orders whose final status was recorded.
#[derive(Debug)]
pub struct FinalStatuses {
    pairs: Vec<u8>,
}

impl FinalStatuses {
    /// For this many orders.
    pub fn new(buyers: u64) -> Self {
        Self { pairs: vec![0; buyers.div_ceil(4) as usize] }
    }

    /// Records a final status; PENDING is ignored.
    pub fn record(&mut self, sequence: u64, status: Status) {
        let bits = match status {
            Status::Pending => return,
            Status::Completed => 0,
            Status::FailedSoldOut => 1,
            Status::FailedPayment => 2,
            Status::FailedUnknownItem => 3,
        };
        let shift = sequence % 4 * 2;
        let pair = &mut self.pairs[(sequence / 4) as usize];
        *pair = *pair & !(3 << shift) | bits << shift;
    }

    /// The recorded final status.
    pub fn get(&self, sequence: u64) -> Status {
        match self.pairs[(sequence / 4) as usize] >> (sequence % 4 * 2) & 3 {
            0 => Status::Completed,
            1 => Status::FailedSoldOut,
            2 => Status::FailedPayment,
            _ => Status::FailedUnknownItem,
        }
    }
}

/// A rule about one order. Checks and violations in the report have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every order with a 202 has a final status; broken if its status stays PENDING or is missing.
    AcknowledgedHasFinalStatus,
    /// A final status never changes.
    FinalStatusNeverChanges,
    /// A request id gets 202 at most once.
    AcknowledgedOnce,
    /// A refused order has no status.
    RefusedLeavesNothing,
    /// An order gets 409 only if there was an earlier send with the same id.
    DuplicateHasFirst,
    /// An order that was never sent has no status.
    UnsentIsUnknown,
    /// Every order with a 202 has a record in the topic.
    AcknowledgedIsRecorded,
    /// A refused order has no record in the topic.
    RefusedIsNotRecorded,
    /// Orders have a dead letter exactly if their final status requires one.
    DeadLettersMatchStatuses,
}

impl Rule {
    /// Rules that need the topics.
    pub const OF_TOPICS: [Self; 3] =
        [Self::AcknowledgedIsRecorded, Self::RefusedIsNotRecorded, Self::DeadLettersMatchStatuses];

    /// All other rules.
    pub const ALL: [Self; 6] = [
        Self::AcknowledgedHasFinalStatus,
        Self::FinalStatusNeverChanges,
        Self::AcknowledgedOnce,
        Self::RefusedLeavesNothing,
        Self::DuplicateHasFirst,
        Self::UnsentIsUnknown,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgedHasFinalStatus => "every_202_ends_once",
            Self::FinalStatusNeverChanges => "ends_never_change",
            Self::AcknowledgedOnce => "no_id_acknowledged_twice",
            Self::RefusedLeavesNothing => "refused_leaves_nothing",
            Self::DuplicateHasFirst => "every_409_has_a_first",
            Self::UnsentIsUnknown => "unsent_is_unknown",
            Self::AcknowledgedIsRecorded => "every_202_is_in_the_topic",
            Self::RefusedIsNotRecorded => "refused_is_not_in_the_topic",
            Self::DeadLettersMatchStatuses => "letters_match_ends",
        }
    }

    /// Description of the violation, for reports.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::AcknowledgedHasFinalStatus => "orders answered 202 that have no final status",
            Self::FinalStatusNeverChanges => "orders whose final status changed between drain and audit",
            Self::AcknowledgedOnce => "request ids answered 202 more than once",
            Self::RefusedLeavesNothing => "refused orders that have a status",
            Self::DuplicateHasFirst => {
                "orders answered 409 although no send got 202, 429 or an unclear response"
            }
            Self::UnsentIsUnknown => "orders that were never sent and have a status",
            Self::AcknowledgedIsRecorded => "orders answered 202 that have no record in the topic",
            Self::RefusedIsNotRecorded => "refused orders that have a record in the topic",
            Self::DeadLettersMatchStatuses => {
                "failed payments or unknown items without a dead letter, or other orders with one"
            }
        }
    }
}

/// The rule that an order's status breaks, given the responses. An indeterminate order may or may not have a
/// status.
pub fn broken_rule(responses: Responses, status: Option<Status>) -> Option<Rule> {
    if responses.acknowledged() {
        let has_final_status = status.is_some_and(Status::is_final);
        return (!has_final_status).then_some(Rule::AcknowledgedHasFinalStatus);
    }
    if responses.indeterminate() {
        return None;
    }
    // A send that is being refused with 429 holds the id briefly; a concurrent send then gets 409.
    if responses.duplicate() && !responses.limited() {
        return Some(Rule::DuplicateHasFirst);
    }
    if responses.is_empty() {
        return status.map(|_| Rule::UnsentIsUnknown);
    }
    status.map(|_| Rule::RefusedLeavesNothing)
}

/// Whether an order with this status must have a dead letter (contract, "Kafka").
pub fn needs_dead_letter(status: Option<Status>) -> bool {
    matches!(status, Some(Status::FailedPayment | Status::FailedUnknownItem))
}

/// The rules about topics that an order breaks.
pub fn broken_topic_rules(
    responses: Responses,
    status: Option<Status>,
    has_record: bool,
    has_dead_letter: bool,
) -> impl Iterator<Item = Rule> {
    let is_refused = responses.refused() && !responses.acknowledged() && !responses.indeterminate();
    [
        (responses.acknowledged() && !has_record, Rule::AcknowledgedIsRecorded),
        (is_refused && has_record, Rule::RefusedIsNotRecorded),
        (needs_dead_letter(status) != has_dead_letter, Rule::DeadLettersMatchStatuses),
    ]
    .into_iter()
    .filter_map(|(is_broken, rule)| is_broken.then_some(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(outcomes: &[Outcome]) -> Responses {
        outcomes
            .iter()
            .fold(Responses::default(), |all, &outcome| Responses(all.0 | Responses::of(outcome).0))
    }

    #[test]
    fn topics_must_match_the_responses() {
        use Outcome::{Accepted, SoldOut, Timeout};
        type Case<'a> = (&'a [Outcome], Option<Status>, bool, bool, &'a [Rule]);
        let paid = Some(Status::Completed);
        let failed = Some(Status::FailedPayment);
        let cases: &[Case<'_>] = &[
            (&[Accepted], paid, true, false, &[]),
            (&[Accepted], failed, true, true, &[]),
            (&[Accepted], paid, false, false, &[Rule::AcknowledgedIsRecorded]),
            (&[Accepted], failed, true, false, &[Rule::DeadLettersMatchStatuses]),
            (&[Accepted], paid, true, true, &[Rule::DeadLettersMatchStatuses]),
            (&[SoldOut], None, false, false, &[]),
            (&[SoldOut], None, true, false, &[Rule::RefusedIsNotRecorded]),
            (&[Timeout], paid, true, false, &[]),
            (&[Timeout], None, false, false, &[]),
        ];
        for &(outcomes, status, has_record, has_dead_letter, broken) in cases {
            let found: Vec<Rule> =
                broken_topic_rules(responses(outcomes), status, has_record, has_dead_letter).collect();
            assert_eq!(found, broken, "{outcomes:?} {status:?} {has_record} {has_dead_letter}");
        }
    }

    #[test]
    fn each_rule_is_broken_only_by_what_it_forbids() {
        use Outcome::{Accepted, Duplicate, Limited, SoldOut, Timeout, Unavailable, Unsent};
        let pending = Some(Status::Pending);
        let sold = Some(Status::Completed);
        let cases: &[(&[Outcome], Option<Status>, Option<Rule>)] = &[
            (&[Accepted], sold, None),
            (&[Accepted], Some(Status::FailedSoldOut), None),
            (&[Accepted], pending, Some(Rule::AcknowledgedHasFinalStatus)),
            (&[Accepted], None, Some(Rule::AcknowledgedHasFinalStatus)),
            (&[Accepted, Duplicate], sold, None),
            (&[SoldOut, Accepted], sold, None),
            (&[Timeout], None, None),
            (&[Timeout], pending, None),
            (&[Timeout], sold, None),
            (&[Timeout, Duplicate], sold, None),
            (&[Unavailable], sold, None),
            (&[SoldOut], None, None),
            (&[SoldOut], sold, Some(Rule::RefusedLeavesNothing)),
            (&[Limited], pending, Some(Rule::RefusedLeavesNothing)),
            (&[Duplicate], None, Some(Rule::DuplicateHasFirst)),
            (&[Duplicate, SoldOut], sold, Some(Rule::DuplicateHasFirst)),
            (&[Duplicate, Limited], None, None),
            (&[Duplicate, Limited], sold, Some(Rule::RefusedLeavesNothing)),
            (&[Unsent], None, None),
            (&[Unsent], sold, Some(Rule::UnsentIsUnknown)),
        ];
        for (outcomes, status, rule) in cases {
            assert_eq!(broken_rule(responses(outcomes), *status), *rule, "{outcomes:?} {status:?}");
        }
    }
}
