//! What was answered to each request id, in four bits, and how it ended, in two.
//!
//! A core keeps the orders whose number leaves its index when divided by the number of cores; [`Books`] puts
//! the cores together for the audit. 100 million orders cost 50 MB for the answers and 25 MB for the ends.

use wire::names::Status;

use crate::outcome::Outcome;
use crate::part::Shard;

/// Most ids that an offence names.
pub const NAMED_MAX: usize = 20;

/// What was answered to one order, over its one or two sends. All false: never sent, or never answered yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers(u8);

impl Answers {
    const ACKNOWLEDGED: u8 = 1;
    const INDETERMINATE: u8 = 2;
    const REFUSED: u8 = 4;
    const DUPLICATE: u8 = 8;
    const LIMITED: u8 = 16;

    /// Only this answer.
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

    /// A send may have had an effect that we were not told of.
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

    /// Nothing was ever sent.
    pub fn nothing(self) -> bool {
        self.0 == 0
    }
}

/// The first offenders and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offenders {
    /// All of them.
    pub count: u64,
    /// The first, at most [`NAMED_MAX`].
    pub sequences: Vec<u64>,
}

impl Offenders {
    /// One more.
    pub fn push(&mut self, sequence: u64) {
        self.count += 1;
        if self.sequences.len() < NAMED_MAX {
            self.sequences.push(sequence);
        }
    }

    /// Those of another core as well.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sequences.extend_from_slice(&other.sequences);
        self.sequences.sort_unstable();
        self.sequences.truncate(NAMED_MAX);
    }
}

/// The answers of one core.
#[derive(Debug, Clone)]
pub struct Ledger {
    answers: Vec<Answers>,
    worker: u64,
    workers: u64,
    /// Orders that got a second 202.
    pub acknowledged_twice: Offenders,
}

impl Ledger {
    /// For the part of `buyers` orders that falls to `worker` of `workers`.
    pub fn new(buyers: u64, worker: usize, workers: usize) -> Self {
        let (worker, workers) = (worker as u64, workers as u64);
        let own = buyers.saturating_sub(worker).div_ceil(workers);
        Self {
            answers: vec![Answers::default(); own as usize],
            worker,
            workers,
            acknowledged_twice: Offenders::default(),
        }
    }

    /// Notes what was answered to a send of an order of this core.
    pub fn note(&mut self, sequence: u64, outcome: Outcome) {
        debug_assert_eq!(sequence % self.workers, self.worker);
        if outcome == Outcome::Accepted && self.get(sequence).acknowledged() {
            self.acknowledged_twice.push(sequence);
        }
        self.answers[(sequence / self.workers) as usize].0 |= Answers::of(outcome).0;
    }

    /// What was answered to an order of this core.
    pub fn get(&self, sequence: u64) -> Answers {
        self.answers[(sequence / self.workers) as usize]
    }
}

/// The ledgers of all cores.
#[derive(Debug)]
pub struct Books {
    ledgers: Vec<Ledger>,
    buyers: u64,
    shard: Shard,
}

impl Books {
    /// `ledgers` in the order of their cores, of the orders of one shard.
    pub fn new(ledgers: Vec<Ledger>, buyers: u64, shard: Shard) -> Self {
        Self { ledgers, buyers, shard }
    }

    /// Whether an order is one of this shard.
    pub fn has(&self, sequence: u64) -> bool {
        self.shard.has(sequence)
    }

    /// Orders of the plan, sent or not.
    pub fn buyers(&self) -> u64 {
        self.buyers
    }

    /// What was answered to an order; nothing to those of other shards.
    pub fn get(&self, sequence: u64) -> Answers {
        if !self.shard.has(sequence) {
            return Answers::default();
        }
        let index = sequence / self.shard.count;
        self.ledgers[(index % self.ledgers.len() as u64) as usize].get(sequence)
    }

    /// Orders that got a second 202.
    pub fn acknowledged_twice(&self) -> Offenders {
        let mut all = Offenders::default();
        for ledger in &self.ledgers {
            all.join(&ledger.acknowledged_twice);
        }
        all
    }
}

/// How orders ended, as first seen: two bits each. Only asked of orders that were seen to end.
#[derive(Debug)]
pub struct Ends {
    pairs: Vec<u8>,
}

impl Ends {
    /// For this many orders.
    pub fn new(buyers: u64) -> Self {
        Self { pairs: vec![0; buyers.div_ceil(4) as usize] }
    }

    /// Notes an end. PENDING is none and is not noted.
    pub fn note(&mut self, sequence: u64, end: Status) {
        let bits = match end {
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

    /// The end that was noted.
    pub fn get(&self, sequence: u64) -> Status {
        match self.pairs[(sequence / 4) as usize] >> (sequence % 4 * 2) & 3 {
            0 => Status::Completed,
            1 => Status::FailedSoldOut,
            2 => Status::FailedPayment,
            _ => Status::FailedUnknownItem,
        }
    }
}

/// A rule about one order. The names are those of checks and offences in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every 202 has exactly one end: it is PENDING for ever, or unknown.
    AcknowledgedEnds,
    /// An end never changes.
    EndsStay,
    /// A request id gets 202 once.
    AcknowledgedOnce,
    /// What was refused leaves nothing behind.
    RefusedLeavesNothing,
    /// 409 is only said when there is a first.
    DuplicateHasFirst,
    /// What was never sent is never seen.
    UnsentIsUnknown,
    /// 202 is only said when the broker has the order.
    AcknowledgedIsRecorded,
    /// What was refused never reached the broker.
    RefusedIsNotRecorded,
    /// An end that is a dead letter has one, and no other end has.
    LettersMatchEnds,
}

impl Rule {
    /// Those that need the topics.
    pub const OF_TOPICS: [Self; 3] =
        [Self::AcknowledgedIsRecorded, Self::RefusedIsNotRecorded, Self::LettersMatchEnds];

    /// All others.
    pub const ALL: [Self; 6] = [
        Self::AcknowledgedEnds,
        Self::EndsStay,
        Self::AcknowledgedOnce,
        Self::RefusedLeavesNothing,
        Self::DuplicateHasFirst,
        Self::UnsentIsUnknown,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgedEnds => "every_202_ends_once",
            Self::EndsStay => "ends_never_change",
            Self::AcknowledgedOnce => "no_id_acknowledged_twice",
            Self::RefusedLeavesNothing => "refused_leaves_nothing",
            Self::DuplicateHasFirst => "every_409_has_a_first",
            Self::UnsentIsUnknown => "unsent_is_unknown",
            Self::AcknowledgedIsRecorded => "every_202_is_in_the_topic",
            Self::RefusedIsNotRecorded => "refused_is_not_in_the_topic",
            Self::LettersMatchEnds => "letters_match_ends",
        }
    }

    /// What it demands.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::AcknowledgedEnds => "202 answers without exactly one end",
            Self::EndsStay => "orders whose end changed between drain and audit",
            Self::AcknowledgedOnce => "request ids that got 202 twice",
            Self::RefusedLeavesNothing => "refused orders that have a status",
            Self::DuplicateHasFirst => {
                "orders answered 409 although no send was accepted, unresolved or answered 429"
            }
            Self::UnsentIsUnknown => "orders never sent that have a status",
            Self::AcknowledgedIsRecorded => "202 answers without a record of the order",
            Self::RefusedIsNotRecorded => "refused orders that have a record",
            Self::LettersMatchEnds => {
                "failed payments and unknown items without a dead letter, or other ends with one"
            }
        }
    }
}

/// Which rule the status of an order breaks, given what was answered. Orders left in doubt may have no end or
/// one.
pub fn broken_rule(answers: Answers, status: Option<Status>) -> Option<Rule> {
    if answers.acknowledged() {
        let has_end = status.is_some_and(Status::is_end);
        return (!has_end).then_some(Rule::AcknowledgedEnds);
    }
    if answers.indeterminate() {
        return None;
    }
    // A send that is being refused with 429 holds the id briefly; a concurrent send then gets 409.
    if answers.duplicate() && !answers.limited() {
        return Some(Rule::DuplicateHasFirst);
    }
    if answers.nothing() {
        return status.map(|_| Rule::UnsentIsUnknown);
    }
    status.map(|_| Rule::RefusedLeavesNothing)
}

/// Whether an order of this status has a dead letter (contract, "Kafka").
pub fn wants_letter(status: Option<Status>) -> bool {
    matches!(status, Some(Status::FailedPayment | Status::FailedUnknownItem))
}

/// Which rules of the topics an order breaks.
pub fn broken_topic_rules(
    answers: Answers,
    status: Option<Status>,
    has_record: bool,
    has_letter: bool,
) -> impl Iterator<Item = Rule> {
    let is_refused = answers.refused() && !answers.acknowledged() && !answers.indeterminate();
    [
        (answers.acknowledged() && !has_record, Rule::AcknowledgedIsRecorded),
        (is_refused && has_record, Rule::RefusedIsNotRecorded),
        (wants_letter(status) != has_letter, Rule::LettersMatchEnds),
    ]
    .into_iter()
    .filter_map(|(is_broken, rule)| is_broken.then_some(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(outcomes: &[Outcome]) -> Answers {
        outcomes.iter().fold(Answers::default(), |all, &outcome| Answers(all.0 | Answers::of(outcome).0))
    }

    #[test]
    fn the_topics_must_say_the_same_as_the_answers() {
        use Outcome::{Accepted, SoldOut, Timeout};
        type Case<'a> = (&'a [Outcome], Option<Status>, bool, bool, &'a [Rule]);
        let paid = Some(Status::Completed);
        let failed = Some(Status::FailedPayment);
        let cases: &[Case<'_>] = &[
            (&[Accepted], paid, true, false, &[]),
            (&[Accepted], failed, true, true, &[]),
            (&[Accepted], paid, false, false, &[Rule::AcknowledgedIsRecorded]),
            (&[Accepted], failed, true, false, &[Rule::LettersMatchEnds]),
            (&[Accepted], paid, true, true, &[Rule::LettersMatchEnds]),
            (&[SoldOut], None, false, false, &[]),
            (&[SoldOut], None, true, false, &[Rule::RefusedIsNotRecorded]),
            (&[Timeout], paid, true, false, &[]),
            (&[Timeout], None, false, false, &[]),
        ];
        for &(outcomes, status, has_record, has_letter, broken) in cases {
            let found: Vec<Rule> =
                broken_topic_rules(answers(outcomes), status, has_record, has_letter).collect();
            assert_eq!(found, broken, "{outcomes:?} {status:?} {has_record} {has_letter}");
        }
    }

    #[test]
    fn each_rule_is_broken_by_what_it_forbids_and_by_nothing_else() {
        use Outcome::{Accepted, Duplicate, Limited, SoldOut, Timeout, Unavailable, Unsent};
        let pending = Some(Status::Pending);
        let sold = Some(Status::Completed);
        let cases: &[(&[Outcome], Option<Status>, Option<Rule>)] = &[
            (&[Accepted], sold, None),
            (&[Accepted], Some(Status::FailedSoldOut), None),
            (&[Accepted], pending, Some(Rule::AcknowledgedEnds)),
            (&[Accepted], None, Some(Rule::AcknowledgedEnds)),
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
            assert_eq!(broken_rule(answers(outcomes), *status), *rule, "{outcomes:?} {status:?}");
        }
    }
}
