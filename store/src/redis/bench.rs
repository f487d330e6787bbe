//! What a connection does with bytes, for the workspace's benches: a feature keeps it out of what others see.

use wire::resp;

use super::decode::decode;
use super::encode::Kind;
use super::scripts::Shas;
use super::step::{Step, encode};
use crate::tag::tag_of;
use crate::{Admit, Answer, Policy};

/// Commands and replies without a connection.
#[derive(Debug)]
pub struct Codec {
    shas: Shas,
    policy: Policy,
}

impl Codec {
    /// As a connection under `policy` has it, with names of scripts that no server knows.
    pub fn new(policy: Policy) -> Self {
        Self { shas: Shas::unknown(), policy }
    }

    /// Appends what is sent for an order: the two steps of an admission.
    pub fn encode(&self, admit: &Admit<'_>, out: &mut Vec<u8>) {
        let tag = tag_of(admit.owner, admit.sequence);
        for step in [Step::BeginWindow { user_id: admit.user_id, tag }, Step::TakeId(admit)] {
            let _kind = encode(out, &step, &self.shas, &self.policy);
        }
    }

    /// Reads the replies to those; true when the order is admitted without further steps.
    pub fn is_admitted(&self, mut bytes: &[u8]) -> bool {
        let mut answer = |kind| {
            let Ok(Some((reply, consumed))) = resp::parse(bytes) else { return None };
            bytes = &bytes[consumed..];
            decode(kind, &reply).ok()
        };
        answer(Kind::IsSet) == Some(Answer::Number(1)) && answer(Kind::Text) == Some(Answer::Text(None))
    }
}
