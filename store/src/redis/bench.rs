//! Encoder and decoder of a connection for the workspace's benchmarks, hidden behind a feature.

use wire::resp;

use super::decode::decode;
use super::reply_kind::Kind;
use super::scripts::Shas;
use super::step::{Step, encode};
use crate::tag::tag_of;
use crate::{Admit, Answer, Policy};

/// Encodes commands and decodes replies without a connection.
#[derive(Debug)]
pub struct Codec {
    shas: Shas,
    policy: Policy,
}

impl Codec {
    /// A codec as a connection with `policy` uses it, with script names that no server knows.
    pub fn new(policy: Policy) -> Self {
        Self { shas: Shas::unknown(), policy }
    }

    /// Appends the bytes sent for an order: the two steps of an admission.
    pub fn encode(&self, admit: &Admit<'_>, out: &mut Vec<u8>) {
        let tag = tag_of(admit.owner, admit.sequence);
        for step in [Step::BeginWindow { user_id: admit.user_id, tag }, Step::TakeId(admit)] {
            let _kind = encode(out, &step, &self.shas, &self.policy);
        }
    }

    /// Reads the replies to these steps; true if the order is admitted without further steps.
    pub fn is_admitted(&self, mut bytes: &[u8]) -> bool {
        let mut answer = |kind| {
            let Ok(Some((reply, consumed))) = resp::parse(bytes) else { return None };
            bytes = &bytes[consumed..];
            decode(kind, &reply).ok()
        };
        answer(Kind::IsSet) == Some(Answer::Number(1)) && answer(Kind::Text) == Some(Answer::Text(None))
    }
}
